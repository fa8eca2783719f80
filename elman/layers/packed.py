"""Pack rounded weights once, for a loop that runs a network many times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from elman.layers.recurrence import recurrences_of


@contextmanager
def packed(module: object) -> Iterator[None]:
    """Pack the rounded weights of the recurrent layers of a network for the duration of a ``with`` block.

    `quantize` rounds weights to int8 or bfloat16; inside the block the cpu engine reads them as such, a quarter or half
    of the bytes. The caller promises that the weights do not change inside the block: a change has no effect until the
    block ends. Decoding loops open the block around all their steps. Layers that are not quantised read their
    parameters at every call and are not packed.

    Args:
        module (object): a network. Only the recurrent layers that `quantize` has rounded are packed. An object that
            is not a ``torch.nn.Module`` has nothing to pack.

    Example::

        quantize(network)
        with torch.no_grad(), packed(network):
            for x in stream:
                y, state = network.step(x, state)
    """
    layers = [bound for _, bound in recurrences_of(module)] if isinstance(module, nn.Module) else []
    with torch.no_grad():
        weights = {
            layer.recurrence: layer.recurrence.pack(layer.weights) for layer in layers if layer.recurrence.rounded
        }
    for recurrence, pack in weights.items():
        recurrence.packed = pack
    try:
        yield
    finally:
        for recurrence, pack in weights.items():
            if recurrence.packed is pack:  # otherwise another block has started since, and goes on
                recurrence.packed = None
