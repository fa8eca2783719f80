"""The interface of all recurrent layers, and `Recurrent`, which runs one cell over a batch of sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from elman import cells, engines
from elman.cells import Cell, Weights
from elman.cells.cell import Start
from elman.engines.memory import Layout
from elman.engines.modes import shape_of
from elman.errors import ElmanError
from elman.layers.arguments import flag, floating_dtype, number, probability, size
from elman.layers.lengths import Lengths, check_lengths, real_steps
from elman.layers.recurrence import Bound, HasRecurrences, Recurrence
from elman.layers.starting import orthogonal_
from elman.layers.state import Sizes, State, fits, misfit, zeros
from elman.layers.stepping import HasSteps, Steps


class RecurrentLayer(nn.Module, ABC):
    """The interface of all recurrent layers: ``y, state = layer(x, state=None, lengths=None, resets=None)``.

    Layers keep no state between calls.

    Attributes:
        input_size (int): the number of features of x, D.
        output_size (int): the number of features of y, H.
        causal (bool): whether y at a step depends on no later x, so that the layer can run step by step.
        raw (tuple[str, ...]): the names of the last columns of x, if the cells read them without a matrix.
    """

    input_size: int
    output_size: int
    causal: bool = True
    raw: tuple[str, ...] = ()

    @abstractmethod
    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run the layer over a batch of sequences.

        Args:
            x (Tensor): (B, T, D). Beyond a row's length it may hold anything, even NaN.
            state (State): the state before the first step, nested like `sizes`, of tensors (B, ·) with the dtype and
                on the device of x; None: zeros. Default: None
            lengths (Tensor | Sequence[int] | ndarray | None): (B,) integers in 0..T, the number of real steps of each
                row. Default: None, all T
            resets (Tensor | None): (B, T) bool; where true, the state is set to zero before that step. Default: None

        Returns:
            tuple[Tensor, State]: y (B, T, H), 0 beyond a row's length, and the state after each row's last real step.

        Raises:
            TypeError: x or resets is not a tensor.
            ValueError: a shape, a dtype, a length or the structure of the state is wrong.
        """

    @abstractmethod
    def sizes(self) -> Sizes:
        """Return the size of each part of the state, nested like the state."""

    @abstractmethod
    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Run one step: x (B, D) to y (B, H) and the next state."""

    def initial_state(self, x: Tensor) -> State:
        """Return zeros for the batch of x, with its dtype and device."""
        return zeros(self.sizes(), x)

    def check_state(self, x: Tensor, state: State) -> None:
        """Raise a ValueError if a state is not nested like `sizes`, or not of the batch size, dtype and device of x."""
        if state is not None and not fits(state, sizes := self.sizes(), x):
            raise ValueError(misfit(state, sizes, x))

    def check(self, x: Tensor, lengths: Lengths, resets: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Check x, lengths and resets and return them; resets beyond a row's length are cleared."""
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor (B, T, {self.input_size}), it is a {type(x).__name__}")
        shape = shape_of(x)
        if x.dim() != 3 or shape[-1] != self.input_size:
            raise ValueError(f"x must be (B, T, {self.input_size}), it is {tuple(x.shape)}")
        if resets is not None:
            if not isinstance(resets, Tensor):
                raise TypeError(f"resets must be a bool tensor {tuple(x.shape[:2])}, it is a {type(resets).__name__}")
            if shape_of(resets) != shape[:2] or resets.dtype != torch.bool:
                raise ValueError(
                    f"resets must be bool {tuple(x.shape[:2])}; it is {resets.dtype} of shape {tuple(resets.shape)}"
                )
            resets = resets.to(x.device)
        if lengths is not None:
            lengths = check_lengths(lengths, x)
            resets = None if resets is None else resets & real_steps(lengths, x.shape[1])
        return x, lengths, resets


def check_layer(name: str, layer: Any) -> RecurrentLayer:
    """Return a layer if it is a RecurrentLayer; raise a TypeError otherwise."""
    if not isinstance(layer, RecurrentLayer):
        raise TypeError(f"{name} must be a layer such as Recurrent or Stack, got: {type(layer).__name__}")
    return layer


class Recurrent(RecurrentLayer, HasRecurrences, HasSteps):
    """A layer that runs one cell over time.

    With G gates, the parameters are ``weight_ih`` (G H, D less the raw columns), ``weight_hh`` (G H, P), ``bias_ih``
    and ``bias_hh`` (G H,), ``weight_hr`` (P, H) for a cell that projects its output, and one vector (H,) for each of
    the cell's ``weights``; those that a cell does not have are None. ``weight_ih`` is initialised Glorot-uniform,
    ``weight_hh`` orthogonal for each gate (`elman.layers.starting`), and biases to 0, except for ``open_bias``.

    Args:
        cell (str | Cell | type[Cell]): a name of `elman.cells.CELLS`, or a cell of your own.
        input_size (int): the number of features of x, D, including the cell's raw columns.
        hidden_size (int): the number of units, H.
        bias (bool): whether the gates have biases. Default: True
        proj_size (int): the size of y, P, for a cell that projects its output; 0 for all others, P = H. Default: 0
        open_bias (float): the initial bias of the cell's ``open_gates``, such as the forget gate. Default: 1.0
        weight_drop (float): the dropout probability of the recurrent matrix, with one mask per call, in [0, 1)
            (Merity et al. 2018, https://arxiv.org/abs/1708.02182). Default: 0.0
        recurrent_dropout (float): the dropout probability of h where it enters the recurrent matrix, with one mask for
            all steps, in [0, 1) (Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287). Default: 0.0
        zoneout (float | dict[str, float]): the probability that a unit keeps its old value in a step, in [0, 1); in
            evaluation, its expectation is used. A number for the whole state, or one for each part,
            ``{"h": 0.05, "c": 0.5}`` (Krueger et al. 2017, https://arxiv.org/abs/1606.01305). Default: 0.0
        heads (int | None): the number of equal groups of units that see only their own h. The recurrent matrix is then
            block-diagonal, and ``weight_hh`` is (G H, H / heads) (Beck et al. 2024,
            https://arxiv.org/abs/2405.04517). With a matrix memory, the number of memories. Default: 1; with a matrix
            memory, H / 64 where 64 divides H, otherwise 1
        key_size (int): the number of keys of a head, K, for a cell with a matrix memory; 0 for the units of a head.
            Default: 0
        device (torch.device | str | None): of the parameters; None: torch's default. Default: None
        dtype (torch.dtype | None): of the parameters; None: torch's default. Default: None

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or is not for this cell.

    Example::

        >>> layer = elman.layers.Recurrent("lstm", 8, 16)
        >>> x = torch.randn(4, 10, 8)
        >>> y, (h, c) = layer(x, lengths=[10, 7, 3, 1])
        >>> y.shape, h.shape
        (torch.Size([4, 10, 16]), torch.Size([4, 16]))
        >>> y, state = layer.step(x[:, 0], (h, c))
    """

    def __init__(
        self,
        cell: str | Cell | type[Cell],
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        proj_size: int = 0,
        open_bias: float = 1.0,
        weight_drop: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | dict[str, float] = 0.0,
        heads: int | None = None,
        key_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        cell = cells.get(cell)
        self.input_size = input_size = size("input_size", input_size)
        self.hidden_size = hidden_size = size("hidden_size", hidden_size)
        if heads is None:
            heads = hidden_size // 64 if cell.memory and hidden_size % 64 == 0 else 1
        heads, key_size = size("heads", heads), size("key_size", key_size, 0)
        self.recurrence = Recurrence(cell, heads)
        self._steps = Steps()
        proj_size, dtype = size("proj_size", proj_size, 0), floating_dtype(dtype)
        if self.cell.projected != (proj_size > 0):
            needs = "needs a proj_size above 0" if self.cell.projected else "projects nothing: proj_size must be 0"
            raise ValueError(f"{self.cell} {needs}, not {proj_size}")
        self.output_size, self.raw = proj_size or hidden_size, self.cell.raw
        if input_size <= len(self.raw):
            raise ValueError(
                f"{self.cell}: input_size includes the raw columns of x ({', '.join(self.raw)}); it must be above "
                f"{len(self.raw)}, not {input_size}"
            )
        self.open_bias = number("open_bias", open_bias)
        self.weight_drop = probability("weight_drop", weight_drop)
        self.recurrent_dropout = probability("recurrent_dropout", recurrent_dropout)
        self.zoneout = self._zoneouts(zoneout)
        if hidden_size % heads:
            raise ValueError(f"heads must divide hidden_size, {hidden_size}; {heads} does not")
        if heads > 1 and not cell.memory and (proj_size or self.cell.inner_gates or not self._hidden_gates):
            raise ValueError(f"{self.cell}: heads are for cells with a plain recurrent matrix or a matrix memory")
        if key_size and not cell.memory:
            raise ValueError(f"{self.cell} has no matrix memory: key_size must be 0, not {key_size}")
        if cell.memory and any(self.zoneout):
            raise ValueError(f"{self.cell} has a matrix memory: zoneout must be 0")
        self.key_size = key_size or hidden_size // heads if cell.memory else 0
        if (weight_drop or recurrent_dropout) and not self._hidden_gates:
            raise ValueError(f"{self.cell} has no recurrent matrix: weight_drop and recurrent_dropout must be 0")

        gates_in = sum(self._rows)
        gates_hid = (len(self.cell.hidden_gates) + len(self.cell.inner_gates)) * hidden_size
        bias = flag("bias", bias) and self.cell.gate_bias

        def parameter(*shape: int) -> nn.Parameter | None:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if min(shape) else None

        self.weight_ih = parameter(gates_in, input_size - len(self.raw))
        self.weight_hh = parameter(gates_hid, self.output_size // heads)
        self.bias_ih = parameter(gates_in) if bias else None
        self.bias_hh = parameter(gates_hid) if bias else None
        self.weight_hr = parameter(proj_size, hidden_size)
        for name in self.cell.weights:
            self.register_parameter(name, parameter(hidden_size))
        self.reset_parameters()

    def _zoneouts(self, zoneout: float | dict[str, float]) -> tuple[float, ...]:
        """Return the rate of each part of the state."""
        parts = self.cell.state
        rates = zoneout if isinstance(zoneout, dict) else dict.fromkeys(parts, zoneout)
        if set(rates) - set(parts):
            raise ValueError(f"zoneout names {sorted(set(rates) - set(parts))}; the state of {self.cell} is {parts}")
        return tuple(probability("zoneout", rates.get(part, 0.0)) for part in parts)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise all parameters again, as described for the class."""
        w = self.weights()
        assert w.weight_ih is not None
        for block in w.weight_ih.split(self._rows):
            nn.init.xavier_uniform_(block)
        if w.weight_hh is not None:
            for block in w.weight_hh.chunk(len(self._hidden_gates) * self.heads):
                orthogonal_(block)
        for bias in (w.bias_ih, w.bias_hh):
            if bias is not None:
                bias.zero_()
        if w.bias_ih is not None:
            parts = dict(zip(self.cell.gates, w.bias_ih.split(self._rows), strict=True))
            for gate, part in parts.items():
                part.fill_(self.open_bias if gate in self.cell.open_gates else 0.0)
            for gates, start_at in self.cell.bias_starts().items():
                self._start([parts[gate] for gate in gates], start_at, f"biases of {', '.join(gates)}")
        if w.weight_hr is not None:
            nn.init.xavier_uniform_(w.weight_hr)
        for (name, start_at), vector in zip(self.cell.weights.items(), w.vectors, strict=True):
            self._start([vector], start_at, f"weight {name}")

    def _start(self, vectors: list[Tensor], start_at: Start, what: str) -> None:
        """Initialise vectors (H,) in place."""
        if callable(start_at):
            if len({len(vector) for vector in vectors}) > 1:
                raise ValueError(f"{self.cell}: the {what} start together, so they need the same number of values")
            wanted = (len(vectors), len(vectors[0]))
            values = torch.as_tensor(start_at(wanted[1]))
            if values.shape != wanted and (len(vectors) > 1 or values.shape != wanted[1:]):
                raise ValueError(f"{self.cell}: the start of the {what} must be {wanted}, it is {tuple(values.shape)}")
            for vector, value in zip(vectors, values.reshape(wanted), strict=True):
                vector.copy_(value)
            return
        low, high = start_at if isinstance(start_at, tuple) else (start_at, start_at)
        for vector in vectors:
            vector.uniform_(low, high) if high > low else vector.fill_(low)

    @property
    def cell(self) -> Cell:
        """The equations."""
        return self.recurrence.cell

    @property
    def heads(self) -> int:
        """The number of groups of units that see only their own h."""
        return self.recurrence.heads

    @property
    def _hidden_gates(self) -> tuple[str, ...]:
        return self.cell.hidden_gates + self.cell.inner_gates

    def weights(self) -> Weights:
        """Return the parameters in the form that engines take."""
        vectors = tuple(getattr(self, name) for name in self.cell.weights)
        return Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.weight_hr, vectors)  # type: ignore[arg-type]

    @property
    def _layout(self) -> Layout:
        return Layout(self.cell, self.heads, self.hidden_size // self.heads, self.key_size)

    @property
    def _rows(self) -> list[int]:
        """The rows of ``weight_ih`` that belong to each gate."""
        return self._layout.rows if self.cell.memory else [self.hidden_size] * len(self.cell.input_gates)

    def sizes(self) -> tuple[int | torch.Size, ...]:
        if self.cell.memory:
            return self.cell.State(*self._layout.shapes)
        return self.cell.State(self.output_size, *[self.hidden_size] * (len(self.cell.state) - 1))

    def recurrences(self) -> list[Bound]:
        """Return the layer's one recurrence."""
        return [Bound("", self.recurrence, self.weights())]

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        x, lengths, resets = self.check(x, lengths, resets)
        self.check_state(x, state)
        state = self.initial_state(x) if state is None else tuple(state)
        scan = self.recurrence.scan(self.weights(), x, state, lengths, resets)
        if self.weight_drop and self.training and scan.weights.weight_hh is not None:
            dropped = dropout(scan.weights.weight_hh, self.weight_drop)
            scan = scan._replace(weights=scan.weights._replace(weight_hh=dropped), packed=None)
        if self.recurrent_dropout and self.training:
            scan = scan._replace(hidden_mask=dropout(torch.ones_like(state[0]), self.recurrent_dropout))
        if any(self.zoneout):
            scan = scan._replace(zoneout=self._zoned(x))
        return self.recurrence.run(scan)

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        if state is not None and (done := self._steps.run(self, x, state, (state,))) is not None:
            return done[0], done[1][0]
        y, state = self(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def parts(self) -> list[nn.Module]:
        return [self]

    def options(self) -> tuple[Any, ...] | None:
        recurrence = self.recurrence
        cell = recurrence.cell
        if type(self) is not Recurrent or recurrence.observer is not None or recurrence.heads > 1:
            return None
        w = self._parameters.get("weight_ih")  # None also where it is computed from other parameters
        if cell.raw or cell.projected or cell.memory or w is None or w.dtype is not torch.float32 or not w.is_cpu:
            return None
        return recurrence, cell, recurrence.packed, recurrence.rounded, self.zoneout

    def single(self, state: State) -> engines.Layers:
        x = state[0].new_empty(len(state[0]), 1, self.input_size)
        scan = self.recurrence.scan(self.weights(), x, tuple(state))
        scan = scan._replace(zoneout=self.zoneout) if any(self.zoneout) else scan
        return engines.Layers([scan], "plain", [])

    def _zoned(self, x: Tensor) -> tuple[float | Tensor, ...]:
        """Return zoneout for each part of the state: drawn masks in training, rates in evaluation."""
        if not self.training:
            return self.zoneout
        shapes = [(*x.shape[:2], size) for size in self.sizes()]  # type: ignore[misc]
        return tuple(torch.bernoulli(x.new_full(shape, rate)) for shape, rate in zip(shapes, self.zoneout, strict=True))

    def extra_repr(self) -> str:
        options = {
            "proj_size": self.output_size if self.cell.projected else 0,
            "weight_drop": self.weight_drop,
            "recurrent_dropout": self.recurrent_dropout,
            "heads": self.heads if self.heads > 1 else 0,
            "key_size": self.key_size,
            "zoneout": dict(zip(self.cell.state, self.zoneout, strict=True)) if any(self.zoneout) else 0,
        }
        given = "".join(f", {k}={v}" for k, v in options.items() if v)
        return f"{self.cell}, {self.input_size}, {self.hidden_size}{given}"


def features_only(*layers: RecurrentLayer) -> None:
    """Raise an ElmanError if a layer's cell reads raw columns of x, for networks whose x consists of embeddings."""
    for layer in layers:
        if layer.raw:
            raise ElmanError(
                f"cell: it reads raw columns of its input ({', '.join(layer.raw)}), which this network does not give; "
                "choose another cell, or build the network from elman.layers"
            )
