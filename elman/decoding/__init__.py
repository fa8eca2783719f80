"""From scores to an answer: sampling, and the loop that streams."""

from elman.decoding.sampling import Sampling, choose, penalise, top_k, top_p
from elman.decoding.stream import StopText, tokens

__all__ = ["Sampling", "StopText", "choose", "penalise", "tokens", "top_k", "top_p"]
