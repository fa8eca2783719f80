"""Decoding: sampling, step-by-step generation, beam search, and the search for what was said."""

from elman.decoding.alignment import Alignment, align
from elman.decoding.beam import Hypothesis, Search, beam_search
from elman.decoding.ctc import PrefixBeam, greedy
from elman.decoding.fusion import Fusion, LanguageModelFusion
from elman.decoding.heard import CTCSearch, Heard
from elman.decoding.hotwords import Hotwords
from elman.decoding.sampling import Sampling, choose, penalise, top_k, top_p
from elman.decoding.stream import StopText, tokens
from elman.decoding.transducer import TransducerBeam

__all__ = [
    "Alignment",
    "CTCSearch",
    "Fusion",
    "Heard",
    "Hotwords",
    "Hypothesis",
    "LanguageModelFusion",
    "PrefixBeam",
    "Sampling",
    "Search",
    "StopText",
    "TransducerBeam",
    "align",
    "beam_search",
    "choose",
    "greedy",
    "penalise",
    "tokens",
    "top_k",
    "top_p",
]
