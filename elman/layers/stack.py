"""Layers on top of each other: deep recurrent networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from elman import cells
from elman.cells import Cell
from elman.errors import unknown_name
from elman.layers.arguments import flag, size
from elman.layers.bidirectional import Bidirectional
from elman.layers.dropout import SequenceDropout
from elman.layers.recurrent import Lengths, Recurrent, RecurrentLayer, is_layer
from elman.layers.state import Sizes, State

Connection = Literal["plain", "residual", "dense", "highway"]


class Stack(RecurrentLayer):
    """Layers on top of each other; the state is the tuple of theirs.

    Arguments:
        layers: the lowest first. They may differ in cell, size and direction.
        connection: how a layer's y_k is joined to its input x_k, from the second layer on.

            ======== ===================================== ====================================
            plain    x_{k+1} = y_k
            residual x_{k+1} = y_k + x_k                   He et al. 2016, arXiv:1512.03385
            highway  x_{k+1} = t y_k + (1 - t) x_k,        Srivastava et al. 2015,
                     t = sigma(W_t x_k + b_t)              arXiv:1505.00387; b_t starts at -1
            dense    x_{k+1} = [x_1, y_1, ..., y_k];       Ding et al. 2018, arXiv:1802.00889
                     the stack's y is that of the last
            ======== ===================================== ====================================
        dropout: of what goes from one layer to the next.
        variational: one dropout mask through time instead of one a step.

    Cells that read raw columns of x (`Cell.raw`) get those of the stack's x in every layer: the first layer must have
    them, and the ``input_size`` of the others counts them too.
    """

    def __init__(
        self,
        layers: Sequence[RecurrentLayer],
        connection: Connection = "plain",
        dropout: float = 0.0,
        variational: bool = False,
    ) -> None:
        super().__init__()
        layers = [is_layer(f"layer {k} of a stack", layer) for k, layer in enumerate(layers)]
        if not layers:
            raise ValueError("a stack needs at least one layer")
        if connection not in get_args(Connection):
            raise unknown_name("connection", connection, get_args(Connection))
        self.layers = nn.ModuleList(layers)
        self.connection = connection
        self.dropout = SequenceDropout(dropout, variational)
        self.input_size, self.output_size = layers[0].input_size, layers[-1].output_size
        self.causal = all(layer.causal for layer in layers)

        self.raw = layers[0].raw
        features = self._features = self.input_size - len(self.raw)
        for k, layer in enumerate(layers):
            if layer.raw not in ((), self.raw):
                raise ValueError(f"layer {k} reads the raw columns {layer.raw} of x, but the first layer {self.raw}")
            if layer.input_size - len(layer.raw) != features:
                raise ValueError(
                    f"layer {k} reads {layer.input_size - len(layer.raw)} features but is given {features}"
                )
            if k and connection in ("residual", "highway") and layer.output_size != features:
                raise ValueError(f"{connection}: layer {k} must give as many features as it reads, {features}")
            features = layer.output_size + (features if connection == "dense" else 0)
        self.carry = nn.ModuleList()
        if connection == "highway":
            self.carry.extend(nn.Linear(n, n) for n in (layer.input_size - len(layer.raw) for layer in layers[1:]))
            for gate in self.carry:
                nn.init.constant_(gate.bias, -1.0)  # type: ignore[arg-type]

    def sizes(self) -> Sizes:
        return tuple(layer.sizes() for layer in self.layers)  # type: ignore[operator]

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        x, lengths, resets = self.check(x, lengths, resets)
        self.check_state(x, state)
        states = [None] * len(self.layers) if state is None else state
        x, raw = self._parts(x)
        y, new = x, []
        for k, (layer, old) in enumerate(zip(self.layers, states, strict=True)):
            y, after = layer(_with(x, raw, layer), old, lengths, resets)
            new.append(after)
            if k + 1 < len(self.layers):
                x = self._join(k, x, self.dropout(y))
            elif self.connection != "dense":
                y = self._join(k, x, y)
        return y, tuple(new)

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        whole = isinstance(state, (tuple, list)) and len(state) == len(self.layers)
        if not whole or any(part is None for part in state):  # of the rest each layer sees to its own part
            self.check_state(x, state)
        states = [None] * len(self.layers) if state is None else state
        x, raw = self._parts(x)
        y, new = x, []
        for k, (layer, old) in enumerate(zip(self.layers, states, strict=True)):
            y, after = layer.step(_with(x, raw, layer), old)  # type: ignore[operator]
            new.append(after)
            if k + 1 < len(self.layers):
                x = self._join(k, x, self.dropout(y.unsqueeze(1)).squeeze(1) if self.dropout.active else y)
            elif self.connection != "dense":
                y = self._join(k, x, y)
        return y, tuple(new)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The features of x, and its raw columns."""
        return (x[..., : self._features], x[..., self._features :]) if self.raw else (x, None)

    def _join(self, k: int, x: Tensor, y: Tensor) -> Tensor:
        if self.connection == "dense":
            return torch.cat((x, y), -1)
        if self.connection == "plain" or k == 0:
            return y
        if self.connection == "residual":
            return x + y
        t = torch.sigmoid(self.carry[k - 1](x))
        return t * y + (1 - t) * x

    def extra_repr(self) -> str:
        return f"connection={self.connection}"


def _with(x: Tensor, raw: Tensor | None, layer: nn.Module) -> Tensor:
    """What a layer reads: the features, and the raw columns if it has any."""
    return torch.cat((x, raw), -1) if raw is not None and layer.raw else x


def stack(
    cell: str | Cell | type[Cell] | Sequence[str | Cell | type[Cell]],
    input_size: int,
    hidden_size: int | Sequence[int],
    num_layers: int | None = None,
    *,
    bidirectional: bool = False,
    backward_size: int | Sequence[int] | None = None,
    connection: Connection = "plain",
    dropout: float = 0.0,
    variational: bool = False,
    bias: bool = True,
    proj_size: int = 0,
    open_bias: float = 1.0,
    weight_drop: float = 0.0,
    recurrent_dropout: float = 0.0,
    zoneout: float | dict[str, float] = 0.0,
    heads: int = 1,
) -> Stack:
    """A `Stack` of `Recurrent` layers, from the sizes alone.

    Arguments:
        cell: one for all layers, or a list, one a layer.
        hidden_size: one for all layers, or a list, one a layer.
        num_layers: L; by default as many as a list has, else 1.
        bidirectional: read from both ends in every layer.
        backward_size: hidden size of the backward direction, where it differs; number or list.
        connection, dropout, variational: see `Stack`.
        bias, proj_size, open_bias, weight_drop, recurrent_dropout, zoneout, heads: see `Recurrent`.
    """

    lists = [value for value in (cell, hidden_size, backward_size) if isinstance(value, (list, tuple))]
    num_layers = size("num_layers", num_layers if num_layers is not None else len(lists[0]) if lists else 1)
    flag("bidirectional", bidirectional)

    def each(name: str, value: object) -> list:
        values = list(value) if isinstance(value, (list, tuple)) else [value] * num_layers
        if len(values) != num_layers:
            raise ValueError(f"{name} has {len(values)} entries for {num_layers} layers")
        return values

    kinds, sizes = [cells.get(one) for one in each("cell", cell)], each("hidden_size", hidden_size)
    backward_sizes = each("backward_size", hidden_size if backward_size is None else backward_size)
    if backward_size is not None and not bidirectional:
        raise ValueError("backward_size is for bidirectional stacks")
    if proj_size and not any(kind.projected for kind in kinds):
        raise ValueError(f"proj_size is for cells that project their output, such as projected_lstm, not {kinds}")
    layers: list[RecurrentLayer] = []
    features = input_size - len(kinds[0].raw)
    for kind, forward_size, size_back in zip(kinds, sizes, backward_sizes, strict=True):
        ways = [
            Recurrent(
                kind, features + len(kind.raw), units, bias=bias, proj_size=proj_size if kind.projected else 0,
                open_bias=open_bias, weight_drop=weight_drop, recurrent_dropout=recurrent_dropout, zoneout=zoneout,
                heads=heads,
            )
            for units in ([forward_size, size_back] if bidirectional else [forward_size])
        ]  # fmt: skip
        layer = Bidirectional(*ways) if bidirectional else ways[0]
        layers.append(layer)
        features = layer.output_size + (features if connection == "dense" else 0)
    return Stack(layers, connection, dropout, variational)
