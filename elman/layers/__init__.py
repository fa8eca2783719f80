"""Layers over (B, T, ·): recurrent ones and what goes with them."""

from elman.layers.bidirectional import Bidirectional, last_step, reverse
from elman.layers.crf import CRF
from elman.layers.dropout import SequenceDropout
from elman.layers.hierarchical import Hierarchical, MultiRate
from elman.layers.packed import packed
from elman.layers.pooling import Pooling
from elman.layers.quantize import quantize
from elman.layers.recurrent import Recurrent, RecurrentLayer, real_steps
from elman.layers.stack import Connection, Stack, stack
from elman.layers.state import State, detach

__all__ = [
    "CRF", "Bidirectional", "Connection", "Hierarchical", "MultiRate", "Pooling", "Recurrent", "RecurrentLayer",
    "SequenceDropout", "Stack", "State", "detach", "last_step", "packed", "quantize", "real_steps", "reverse", "stack",
]  # fmt: skip
