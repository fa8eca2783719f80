"""Names of the rows and columns of weights: tokens, labels, channels, so that weights can move to another model."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from elman.layers.bidirectional import Bidirectional
from elman.layers.block import Block
from elman.layers.hierarchical import Hierarchical, MultiRate
from elman.layers.recurrent import Recurrent, RecurrentLayer
from elman.layers.stack import Stack

#: The names along a dimension of a tensor, all different; None where its positions have no meaning outside the network.
Axis = Sequence[Hashable] | None


class Named(NamedTuple):
    """A parameter or buffer of a network, and the names along each of its dimensions."""

    tensor: Tensor
    axes: tuple[Axis, ...]


def named_rows(names: Axis, *tensors: Tensor | None) -> list[Named]:
    """Name the rows of tensors, such as the weight and the bias of an output layer; None is skipped.

    Args:
        names (Sequence[Hashable]): the name of each row.
        *tensors (Tensor): parameters or buffers, (len(names), ...).
    """
    return [Named(t, (names, *[None] * (t.dim() - 1))) for t in tensors if t is not None]


def named_inputs(names: Axis, layer: RecurrentLayer) -> list[Named]:
    """Name the columns of the matrices by which a layer reads its input x (B, T, D).

    Args:
        names (Sequence[Hashable]): the name of each of the D numbers. None: they have none.
        layer (RecurrentLayer): the layer.
    """
    if names is None:
        return []
    return [Named(t, (None, names) if t.dim() > 1 else (names,)) for t in _first(layer)]


def _first(layer: RecurrentLayer) -> Iterator[Tensor]:
    """Yield the weights that read the input of a layer: matrices (·, D), and vectors (D,)."""
    if isinstance(layer, Recurrent):
        yield from (w for w in (layer.weight_ih,) if w is not None)
    elif isinstance(layer, Block):
        yield from (layer.norm.weight, layer.inward.weight, layer.gate.weight)
        yield from layer.skip.parameters()
    elif isinstance(layer, Bidirectional):
        for direction in layer.directions:
            yield from _first(direction)  # type: ignore[arg-type]
    elif isinstance(layer, (Stack, MultiRate)):
        yield from _first(layer.layers[0])  # type: ignore[arg-type]
    else:
        assert isinstance(layer, Hierarchical)
        yield from _first(layer.lower)
