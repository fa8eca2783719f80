"""Deep recurrent networks: stacks of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from elman import cells
from elman.cells import Cell
from elman.engines import Layers, Linear
from elman.errors import unknown_name
from elman.layers.arguments import flag, size
from elman.layers.bidirectional import Bidirectional
from elman.layers.block import Block
from elman.layers.dropout import SequenceDropout
from elman.layers.lengths import Lengths
from elman.layers.recurrent import Recurrent, RecurrentLayer, check_layer
from elman.layers.state import Sizes, State
from elman.layers.stepping import HasSteps, Steps

Connection = Literal["plain", "residual", "dense", "highway"]


class Stack(RecurrentLayer, HasSteps):
    """Stack layers, each of which reads the output of the one below.

    Args:
        layers (Sequence[RecurrentLayer]): The layers, lowest first. They may differ in cell, size and direction.
        connection (str): How the input of the next layer follows from the output y_k and the input x_k of a layer, from
            the second layer on. Default: ``"plain"``.

            ======== ===================================== ====================================
            plain    x_{k+1} = y_k
            residual x_{k+1} = y_k + x_k                   He et al. 2016, arXiv:1512.03385
            highway  x_{k+1} = t y_k + (1 - t) x_k,        Srivastava et al. 2015,
                     t = sigma(W_t x_k + b_t)              arXiv:1505.00387; b_t starts at -1
            dense    x_{k+1} = [x_1, y_1, ..., y_k];       Ding et al. 2018, arXiv:1802.00889
                     the last y_k is the output
            ======== ===================================== ====================================
        dropout (float): The dropout probability between layers. Default: 0.0.
        variational (bool): Whether all steps of a row share one dropout mask. Default: ``False``.

    Shapes:
        - x: (B, T, D), D = ``input_size`` of the first layer.
        - y: (B, T, H), H = ``output_size`` of the last layer.
        - state: A tuple of the states of the layers.
        - lengths, resets: See `RecurrentLayer`.

    If a cell reads raw columns of x (`Cell.raw`), the first layer must read them. Other layers may read the same
    columns; their ``input_size`` includes them.

    Raises:
        TypeError: A layer is not a `RecurrentLayer`.
        ValueError: There is no layer, or the sizes or raw columns of the layers do not fit.
        ElmanError: The connection is unknown.

    Example::

        >>> from elman.layers import Recurrent
        >>> layer = Stack([Recurrent("lstm", 8, 16), Recurrent("gru", 16, 16)], connection="residual")
        >>> y, state = layer(torch.randn(4, 10, 8))
        >>> y.shape
        torch.Size([4, 10, 16])
    """

    def __init__(
        self,
        layers: Sequence[RecurrentLayer],
        connection: Connection = "plain",
        dropout: float = 0.0,
        variational: bool = False,
    ) -> None:
        super().__init__()
        layers = [check_layer(f"layer {k} of a stack", layer) for k, layer in enumerate(layers)]
        if not layers:
            raise ValueError("a stack needs at least one layer")
        if connection not in get_args(Connection):
            raise unknown_name("connection", connection, get_args(Connection))
        self.layers = nn.ModuleList(layers)
        self.connection = connection
        self._steps = Steps()
        self.dropout = SequenceDropout(dropout, variational)
        self.input_size, self.output_size = layers[0].input_size, layers[-1].output_size
        self.causal = all(layer.causal for layer in layers)

        self.raw = layers[0].raw
        features = self._features = self.input_size - len(self.raw)
        for k, layer in enumerate(layers):
            if layer.raw not in ((), self.raw):
                raise ValueError(f"layer {k} must have the raw columns of the first layer, {self.raw}, or none")
            if (reads := layer.input_size - len(layer.raw)) != features:
                raise ValueError(f"layer {k} must read the {features} features of the layer below, got: {reads}")
            if k and connection in ("residual", "highway") and layer.output_size != features:
                raise ValueError(
                    f"connection {connection!r} needs output_size {features} in layer {k}, got: {layer.output_size}"
                )
            features = layer.output_size + (features if connection == "dense" else 0)
        self.carry = nn.ModuleList()
        if connection == "highway":
            self.carry.extend(nn.Linear(n, n) for n in (layer.input_size - len(layer.raw) for layer in layers[1:]))
            for gate in self.carry:
                nn.init.constant_(gate.bias, -1.0)  # type: ignore[arg-type]

    def sizes(self) -> Sizes:
        """Return the sizes of the states of the layers."""
        return tuple(layer.sizes() for layer in self.layers)  # type: ignore[operator]

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return y (B, T, H) and the new state."""
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
        """Return y (B, H) and the new state for one step x (B, D)."""
        if state is not None and (done := self._steps.run(self, x, state, state)) is not None:
            return done[0], tuple(done[1])
        complete = isinstance(state, (tuple, list)) and len(state) == len(self.layers)
        if not complete or any(part is None for part in state):  # otherwise each layer checks its own part
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

    def parts(self) -> list[nn.Module]:
        kept: dict[str, Any] = self._modules  # nn.Module takes a microsecond for an attribute
        return [self, kept["dropout"], *kept["layers"]._modules.values(), *kept["carry"]._modules.values()]

    def options(self) -> tuple[Any, ...] | None:
        kept: dict[str, Any] = self._modules
        found = [layer.options() if type(layer) is Recurrent else None for layer in kept["layers"]._modules.values()]
        own = type(self) is Stack and all(type(one) is nn.Linear for one in kept["carry"]._modules.values())
        return None if not own or None in found else (self.connection, *found)

    def single(self, state: State) -> Layers:
        layers = [layer.single(old) for layer, old in zip(self.layers, state, strict=True)]  # type: ignore[operator]
        carries = [Linear(one.weight, one.bias) for one in self.carry]  # type: ignore[arg-type]
        return Layers([layer.scans[0] for layer in layers], self.connection, carries)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split x into features and raw columns."""
        return (x[..., : self._features], x[..., self._features :]) if self.raw else (x, None)

    def _join(self, k: int, x: Tensor, y: Tensor) -> Tensor:
        """Return the input of layer k + 1 for the input x and the output y of layer k."""
        if self.connection == "dense":
            return torch.cat((x, y), -1)
        if self.connection == "plain" or k == 0:
            return y
        if self.connection == "residual":
            return x + y
        t = torch.sigmoid(self.carry[k - 1](x))
        return t * y + (1 - t) * x

    def extra_repr(self) -> str:
        """Return the options, as ``repr`` prints them."""
        return f"connection={self.connection}"


def _with(x: Tensor, raw: Tensor | None, layer: nn.Module) -> Tensor:
    """Return the input of a layer: the features, and the raw columns if it reads them."""
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
    heads: int | None = None,
    blocks: bool = False,
) -> Stack:
    """Construct a `Stack` of `Recurrent` or `Bidirectional` layers of matching sizes.

    Args:
        cell (str | Cell | type[Cell] | Sequence): The cell of all layers, or one for each layer.
        input_size (int): D, the number of input features.
        hidden_size (int | Sequence[int]): H, the units of all layers, or of each layer; in each direction.
        num_layers (int, optional): L, the number of layers. Default: ``None``, the length of the first sequence among
            ``cell``, ``hidden_size`` and ``backward_size``, or 1.
        bidirectional (bool): Whether every layer is bidirectional. Default: ``False``.
        backward_size (int | Sequence[int], optional): The units of the backward direction. Default: ``None``,
            ``hidden_size``.
        connection (str): See `Stack`. Default: ``"plain"``.
        dropout (float): The dropout probability between layers. Default: 0.0.
        variational (bool): Whether all steps of a row share one dropout mask. Default: ``False``.
        bias (bool): See `Recurrent`, likewise the following. Default: ``True``.
        proj_size (int): P, the output features of cells that project their output. Default: 0.
        open_bias (float): The initial bias of open gates, such as the forget gate. Default: 1.0.
        weight_drop (float): The dropout probability of recurrent weights. Default: 0.0.
        recurrent_dropout (float): The dropout probability of h in the recurrent product. Default: 0.0.
        zoneout (float | dict[str, float]): The zoneout probability, or one for each part of the state. Default: 0.0.
        heads (int, optional): The number of blocks of a block-diagonal recurrent matrix, or of matrix memories.
            Default: ``None``, see `Recurrent`.
        blocks (bool): Whether every layer is inside a `Block` of its size, with ``dropout`` also inside; for the plain
            connection. Default: ``False``.

    Returns:
        Stack: The layers.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or a sequence does not have ``num_layers`` entries.
        ElmanError: A cell or the connection is unknown.

    Example::

        >>> layer = stack(["lstm", "gru"], input_size=8, hidden_size=16, bidirectional=True)
        >>> y, state = layer(torch.randn(4, 10, 8), lengths=[10, 7, 3, 1])
        >>> y.shape
        torch.Size([4, 10, 32])
    """

    lists = [value for value in (cell, hidden_size, backward_size) if isinstance(value, (list, tuple))]
    num_layers = size("num_layers", num_layers if num_layers is not None else len(lists[0]) if lists else 1)
    flag("bidirectional", bidirectional), flag("blocks", blocks)
    if blocks and connection != "plain":
        raise ValueError(f"blocks have residual connections of their own; connection must be plain, got: {connection}")

    def each(name: str, value: object) -> list:
        values = list(value) if isinstance(value, (list, tuple)) else [value] * num_layers
        if len(values) != num_layers:
            raise ValueError(f"{name} must have {num_layers} entries, one for each layer, got: {len(values)}")
        return values

    kinds, sizes = [cells.get(entry) for entry in each("cell", cell)], each("hidden_size", hidden_size)
    backward_sizes = each("backward_size", hidden_size if backward_size is None else backward_size)
    if backward_size is not None and not bidirectional:
        raise ValueError("backward_size needs bidirectional=True")
    if proj_size and not any(kind.projected for kind in kinds):
        raise ValueError(f"proj_size needs a cell that projects its output, such as projected_lstm, got: {kinds}")
    layers: list[RecurrentLayer] = []
    features = input_size - len(kinds[0].raw)
    for kind, forward_size, size_back in zip(kinds, sizes, backward_sizes, strict=True):
        directions = [
            Recurrent(
                kind, (units if blocks else features) + len(kind.raw), units, bias=bias,
                proj_size=proj_size if kind.projected else 0, open_bias=open_bias, weight_drop=weight_drop,
                recurrent_dropout=recurrent_dropout, zoneout=zoneout, heads=heads,
            )
            for units in ([forward_size, size_back] if bidirectional else [forward_size])
        ]  # fmt: skip
        layer: RecurrentLayer = Bidirectional(*directions) if bidirectional else directions[0]
        if blocks:
            last = len(layers) + 1 == num_layers
            layer = Block(layer, features, layer.output_size, dropout=dropout, normalized=last)
        layers.append(layer)
        features = layer.output_size + (features if connection == "dense" else 0)
    return Stack(layers, connection, dropout, variational)
