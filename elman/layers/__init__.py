"""Layers over sequences (B, T, ·): recurrent layers, stacks, attention, pooling and output layers."""

from elman.layers.bidirectional import Bidirectional, last_step, reverse
from elman.layers.block import Block, ShortConvolution
from elman.layers.crf import CRF
from elman.layers.dropout import SequenceDropout
from elman.layers.hierarchical import Hierarchical, MultiRate
from elman.layers.lengths import real_steps
from elman.layers.packed import packed
from elman.layers.pooling import (
    POOLINGS,
    AttentionPooling,
    LastPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
    pooling_class,
    register_pooling,
)
from elman.layers.quantize import quantize
from elman.layers.recurrent import Recurrent, RecurrentLayer
from elman.layers.stack import Connection, Stack, stack
from elman.layers.state import State, detach

__all__ = [
    "CRF", "POOLINGS", "AttentionPooling", "Bidirectional", "Block", "Connection", "Hierarchical", "LastPooling",
    "MaxPooling", "MeanPooling", "MultiRate", "Pooling", "Recurrent", "RecurrentLayer", "SequenceDropout",
    "ShortConvolution", "Stack", "State", "detach", "last_step", "packed", "pooling_class", "quantize", "real_steps",
    "register_pooling", "reverse", "stack",
]  # fmt: skip
