"""Decoding: sampling, step-by-step generation, and beam search."""

from elman.decoding.beam import Hypothesis, Search, beam_search
from elman.decoding.sampling import Sampling, choose, penalise, top_k, top_p
from elman.decoding.stream import StopText, tokens

__all__ = [
    "Hypothesis",
    "Sampling",
    "Search",
    "StopText",
    "beam_search",
    "choose",
    "penalise",
    "tokens",
    "top_k",
    "top_p",
]
