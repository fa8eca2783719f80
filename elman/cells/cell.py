"""The base class of cells, their parameters, and chrono initialisation."""

from __future__ import annotations

import keyword
from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

#: The initial value of a per-unit parameter: a number, the (low, high) of a uniform distribution, or a function that
#: maps the number of units H to a tensor (H,).
Start = float | tuple[float, float] | Callable[[int], Tensor]


class Weights(NamedTuple):
    """The parameters of one cell, in the layout of torch.nn: the rows of G gates of H units are concatenated.

    Args:
        weight_ih (Tensor): W, (G_in H, D), rows in the order of ``input_gates``. D does not count the raw columns of x.
        weight_hh (Tensor, optional): R, (G_hid H, P), rows in the order of ``hidden_gates + inner_gates``.
        bias_ih (Tensor, optional): (G_in H,), added to W x.
        bias_hh (Tensor, optional): (G_hid H,), added to R h.
        weight_hr (Tensor, optional): (P, H), projects h. Without it, P = H.
        vectors (tuple[Tensor, ...]): Per-unit parameters (H,), in the order of ``Cell.weights``. Default: ``()``.
    """

    weight_ih: Tensor
    weight_hh: Tensor | None = None
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    vectors: tuple[Tensor, ...] = ()

    def tensors(self) -> list[Tensor]:
        """Return all parameters that are present."""
        return [p for p in (*self[:5], *self.vectors) if p is not None]


class Cell(ABC):
    """Base class of cells: one step of a recurrence, written as its equations.

    A subclass declares its gates and state as class attributes and implements `step`. Nothing else is needed: the
    engines compute the products W x and R h, and derive fast kernels and gradients from `step`.

    Attributes:
        input_gates (tuple[str, ...]): Names of the gates that receive ``W x + b_ih``. Required.
        hidden_gates (tuple[str, ...]): Names of the gates that receive ``R h + b_hh``. Default: ``()``.
        state (tuple[str, ...]): Names of the state tensors. The first is ``h``, the output. Default: ``("h",)``.
        weights (Mapping[str, Start]): Per-unit parameters by name, with their initial value: a number, the
            ``(low, high)`` of a uniform distribution, or a function of the number of units such as
            ``lambda H: torch.linspace(0, 1, H)``. Default: ``{}``.
        raw (tuple[str, ...]): Names of the last columns of x, in order, that `step` reads directly instead of through
            W, for example a time step or a mask. The layer's ``input_size`` includes them. Default: ``()``.
        inner_gates (tuple[str, ...]): Names of the gates whose product `step` requests itself:
            ``h.n(v)`` is ``R_n v + b_hn``. Default: ``()``.
        projected (bool): Whether the new h is multiplied by ``weight_hr`` before it is output and carried over.
            Default: ``False``.
        mixes_units (bool): Whether `step` combines different units, for example in a norm over H. Default: ``False``.
        gate_bias (bool): Whether the gates have biases. Default: ``True``.
        open_gates (tuple[str, ...]): Gates whose input bias is initialised to the layer's ``open_bias`` (1), so that
            the cell keeps its memory at the start of training (Jozefowicz et al. 2015,
            http://proceedings.mlr.press/v37/jozefowicz15.html). Default: ``()``.
        biases (Mapping[str | tuple[str, ...], Start]): Initial values of input biases, in the form of ``weights``. The
            key is a gate, or a tuple of gates whose function returns one row per gate:
            ``{("f", "i"): chrono(1000)}``, see `chrono`. Default: ``{}``.
        memory (tuple[str, ...]): Names of state matrices, of U values by K keys in each head. A cell that declares one
            is computed head by head, with the parts below, and has no recurrent matrix; see `elman.cells.MLSTM`.
            Default: ``()``.
        key_gates (tuple[str, ...]): Names of gates ``W x + b`` with one number for each of the K keys of a head.
            Default: ``()``.
        head_gates (tuple[str, ...]): Names of gates ``W x + b`` with one number for each head. Default: ``()``.
        key_state (tuple[str, ...]): Names of state vectors over the keys of a head. Default: ``()``.
        head_state (tuple[str, ...]): Names of state numbers of a head. Default: ``()``.

    Raises:
        TypeError: A declaration of the subclass is invalid.

    Example: a leaky network that learns a leak for each unit::

        class Leaky(Cell):
            '''a = sigmoid(l);  h' = a h + (1 - a) tanh(W x + R h)'''
            input_gates = hidden_gates = ("n",)
            weights = {"l": 0.0}

            def step(self, x, h, state, w):
                a = torch.sigmoid(w.l)
                return a * state.h + (1 - a) * torch.tanh(x.n + h.n)
    """

    input_gates: ClassVar[tuple[str, ...]] = ()
    hidden_gates: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ("h",)
    weights: ClassVar[Mapping[str, Start]] = {}
    raw: ClassVar[tuple[str, ...]] = ()

    inner_gates: ClassVar[tuple[str, ...]] = ()
    projected: ClassVar[bool] = False
    mixes_units: ClassVar[bool] = False

    gate_bias: ClassVar[bool] = True
    open_gates: ClassVar[tuple[str, ...]] = ()
    biases: ClassVar[Mapping[str | tuple[str, ...], Start]] = {}

    memory: ClassVar[tuple[str, ...]] = ()
    key_gates: ClassVar[tuple[str, ...]] = ()
    head_gates: ClassVar[tuple[str, ...]] = ()
    key_state: ClassVar[tuple[str, ...]] = ()
    head_state: ClassVar[tuple[str, ...]] = ()

    InputGates: ClassVar[type[Any]]
    HiddenGates: ClassVar[type[Any]]
    State: ClassVar[type[Any]]
    Vectors: ClassVar[type[Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _NAMES:
            if isinstance(getattr(cls, name), str):
                raise TypeError(f'{cls.__name__}.{name} must be a tuple of names: ("{getattr(cls, name)}",)')
            if not isinstance(getattr(cls, name), tuple):
                raise TypeError(f"{cls.__name__}.{name} must be a tuple of names, got: {getattr(cls, name)!r}")
        if not cls.input_gates:
            raise TypeError(f"{cls.__name__} declares no input_gates; declare at least one")
        for name in ("key_gates", "head_gates", "key_state", "head_state"):
            if getattr(cls, name) and not cls.memory:
                raise TypeError(f"{cls.__name__}.{name} belongs to a matrix memory; declare memory, too")
        for name in _NO_MEMORY:
            if cls.memory and getattr(cls, name):
                raise TypeError(f"{cls.__name__}: a cell with a matrix memory has no {name}")
        if cls.state[:1] != ("h",):
            raise TypeError(f"{cls.__name__}.state must begin with 'h', the output, got: {cls.state}")
        gates = cls.hidden_gates + cls.inner_gates
        inputs = cls.input_gates + cls.key_gates + cls.head_gates
        if unknown := set(cls.open_gates) - set(inputs + gates):
            raise TypeError(f"{cls.__name__}.open_gates contains names that are not gates: {sorted(unknown)}")
        if unknown := {g for key in cls.biases for g in _gates(key)} - set(inputs):
            raise TypeError(f"{cls.__name__}.biases contains names that are not input gates: {sorted(unknown)}")
        if cls.biases and not cls.gate_bias:
            raise TypeError(f"{cls.__name__}.biases needs gate_bias = True")
        cls.InputGates = _bundle(cls, "inputs", inputs + cls.raw)
        cls.HiddenGates = _bundle(cls, "hidden_gates", gates)
        cls.State = _bundle(cls, "state", cls.state + cls.memory + cls.key_state + cls.head_state)
        cls.Vectors = _bundle(cls, "weights", tuple(cls.weights))

    @abstractmethod
    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor | tuple[Tensor, ...]:
        """Compute one step of a batch. Every tensor is (B, H) unless stated otherwise.

        With a matrix memory, a step computes all heads of a batch, R = B heads: gates and states of units are
        (R, U, 1), those of keys (R, 1, K), those of heads (R, 1, 1), and the memory is (R, U, K). U and K are the
        units and the keys of a head.

        Args:
            x: The input: ``x.i`` is ``W_i x + b_i`` for a gate ``i`` in ``input_gates``. ``x.dt`` is the column ``dt``
                of ``raw``, with the same value for all units.
            h: The recurrent products: ``h.i`` is ``R_i h + b_hi`` for a gate ``i`` in ``hidden_gates``. ``h.n(v)``
                computes ``R_n v + b_hn`` for a gate ``n`` in ``inner_gates``.
            state: The previous state: ``state.h`` and the other names in ``state``.
            w: The per-unit parameters (H,): ``w.p_i`` for a name ``p_i`` in ``weights``.

        Returns:
            Tensor | tuple[Tensor, ...]: The new state in the order of ``parts``, or the tensor alone if the state is h
            alone.
        """

    @property
    def pointwise(self) -> bool:
        """Whether each unit depends on its own gates and state only, so that a kernel can fuse the step."""
        return not (self.inner_gates or self.projected or self.mixes_units or self.memory)

    @property
    def gates(self) -> tuple[str, ...]:
        """The names of all gates of x: ``input_gates``, ``key_gates``, ``head_gates``."""
        return self.input_gates + self.key_gates + self.head_gates

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all parts of the state: ``state``, ``memory``, ``key_state``, ``head_state``."""
        return self.state + self.memory + self.key_state + self.head_state

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the parts of x in `step`: the input gates, then the raw columns."""
        return self.input_gates + self.raw

    def bias_starts(self) -> dict[tuple[str, ...], Start]:
        """Return ``biases`` with every key as a tuple of gates."""
        return {_gates(key): start for key, start in self.biases.items()}

    def __repr__(self) -> str:
        return type(self).__name__


#: The declarations that are tuples of names.
_NAMES = (
    "input_gates", "hidden_gates", "inner_gates", "state", "open_gates", "raw", "memory", "key_gates", "head_gates",
    "key_state", "head_state",
)  # fmt: skip
#: What a cell with a matrix memory cannot declare.
_NO_MEMORY = ("hidden_gates", "inner_gates", "weights", "raw", "projected", "mixes_units")


def _gates(key: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return a key of ``biases`` as a tuple of gates."""
    return (key,) if isinstance(key, str) else key


def chrono(longest: int) -> Callable[[int], Tensor]:
    """Return the chrono initialisation of the biases of a forget gate and an input gate.

    The bias of the forget gate starts at log u, with u uniform in [1, ``longest`` - 1], and that of the input gate at
    -log u. The time scales of the units then range from 1 to ``longest`` steps.

    Tallec & Ollivier 2018, https://arxiv.org/abs/1804.11188

    Args:
        longest (int): The longest dependency in the data, in steps; at least 3.

    Returns:
        Callable[[int], Tensor]: A function from the number of units H to biases (2, H).

    Raises:
        ValueError: ``longest`` is below 3.

    Example::

        class ChronoLSTM(Cell):
            ...
            biases = {("f", "i"): chrono(1000)}
    """
    if longest < 3:
        raise ValueError(f"chrono: longest must be 3 steps or more, not {longest}")

    def start(H: int) -> Tensor:
        log = torch.empty(H, dtype=torch.float32, device="cpu").uniform_(1, longest - 1).log()
        return torch.stack((log, -log))

    return start


def _bundle(cell: type, field: str, names: Sequence[str]) -> type[Any]:
    """Return a named tuple type with the given fields; refuse names that a named tuple cannot have."""
    invalid = [n for n in names if not n.isidentifier() or keyword.iskeyword(n) or n.startswith("_")]
    if invalid or len(set(names)) != len(names):
        raise TypeError(f"{cell.__name__}.{field} must be distinct Python identifiers, got: {tuple(names)}")
    return namedtuple(f"{cell.__name__}_{field}", names)
