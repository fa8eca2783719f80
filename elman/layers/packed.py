"""Weights packed once, for a loop that runs a network many times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from elman.layers.recurrent import Recurrent


@contextmanager
def packed(module: object) -> Iterator[None]:
    """Packs the int8 weights of the recurrent layers in ``module`` for the time of a ``with`` block.

    `quantize` rounds weights to int8 precision; inside the block the cpu engine reads them as int8, a quarter of the
    bytes. Whoever opens the block promises that the weights stay as they are: a change inside it has no effect before
    the block ends. Decoding loops open it around all their steps. Layers that are not quantised read their parameters
    at every call and need no packing.

    Args:
        module: a network; only its `Recurrent` layers with ``int8`` set are packed. What is no module of torch has
            nothing to pack.

    Example::

        quantize(network)
        with torch.no_grad(), packed(network):
            for x in stream:
                y, state = network.step(x, state)
    """
    modules = module.modules() if isinstance(module, nn.Module) else ()
    with torch.no_grad():
        own = {m: m.pack() for m in modules if isinstance(m, Recurrent) and m.int8}
    for layer, weights in own.items():
        layer.packed = weights
    try:
        yield
    finally:
        for layer, weights in own.items():
            if layer.packed is weights:  # else another block has begun since, and goes on
                layer.packed = None
