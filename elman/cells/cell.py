"""The cell: one step of a recurrence, written as its equations."""

from __future__ import annotations

import keyword
from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

#: Where a per-unit weight starts: a number, the (low, high) of a uniform draw, or a function from H to a tensor (H,).
Start = float | tuple[float, float] | Callable[[int], Tensor]


class Weights(NamedTuple):
    """The parameters of one cell, in torch.nn's layout (G gates of H units, one below the other).

    ============== ================== ======================================================
    weight_ih      (G_in H, D)        W, rows in the order of ``input_gates``; D less the raw columns of x
    weight_hh      (G_hid H, P)       R, rows in the order of ``hidden_gates + inner_gates``
    bias_ih        (G_in H,)          added to W x
    bias_hh        (G_hid H,)         added to R h
    weight_hr      (P, H)             the projection of h; None (and P = H) where there is none
    vectors        each (H,)          per-unit weights, in the order of ``Cell.weights``
    ============== ================== ======================================================
    """

    weight_ih: Tensor
    weight_hh: Tensor | None = None
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    vectors: tuple[Tensor, ...] = ()

    def tensors(self) -> list[Tensor]:
        """All there are."""
        return [p for p in (*self[:5], *self.vectors) if p is not None]


class Cell(ABC):
    """One step of a recurrence. Subclass it, declare the gates, write ``step``; nothing else.

    Declarations
        input_gates: names of the gates fed by ``W x + b_ih``.
        hidden_gates: names of the gates fed by ``R h + b_hh``.
        state: names of the carried values. The first is ``h``, the output.
        weights: per-unit vectors: name to where it starts: a number, the (low, high) of a uniform draw, or a
            function of the number of units, ``lambda H: torch.linspace(0, 1, H)``.
        raw: names of the last columns of x, in their order. They reach the step as they are, not through W: a time
            step, a mask. The layer's ``input_size`` counts them.

    Declarations for a step that is not pointwise
        inner_gates: gates whose product the step asks for itself, by ``h.n(v) = R_n v + b_hn``.
        projected: the step's h is multiplied by ``weight_hr`` before it is carried and given out.
        mixes_units: the step reads across units (a norm over H, say).

    And three for a good start
        gate_bias: whether the gates have biases at all.
        open_gates: gates whose bias starts at the layer's open_bias (1), so that memory is kept until training
            says otherwise (Jozefowicz et al. 2015, http://proceedings.mlr.press/v37/jozefowicz15.html).

        biases: where the input biases of gates start, as for ``weights``; by the name of a gate, or by a tuple of
            names for a function that gives a row to each: ``{("f", "i"): chrono(1000)}`` (`elman.cells.chrono`).

    A leaky network with a learnt leak for each unit::

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

    InputGates: ClassVar[type[Any]]
    HiddenGates: ClassVar[type[Any]]
    State: ClassVar[type[Any]]
    Vectors: ClassVar[type[Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("input_gates", "hidden_gates", "inner_gates", "state", "open_gates", "raw"):
            if isinstance(getattr(cls, name), str):
                raise TypeError(f'{cls.__name__}.{name} must be a tuple of names: ("{getattr(cls, name)}",)')
        if not cls.input_gates:
            raise TypeError(f"{cls.__name__} declares no input_gates: nothing of x would reach its step")
        if cls.state[:1] != ("h",):
            raise TypeError(f"{cls.__name__}.state must begin with 'h', the output; it is {cls.state}")
        gates = cls.hidden_gates + cls.inner_gates
        if unknown := set(cls.open_gates) - set(cls.input_gates + gates):
            raise TypeError(f"{cls.__name__}.open_gates names no gate of the cell: {sorted(unknown)}")
        if unknown := {g for key in cls.biases for g in _gates(key)} - set(cls.input_gates):
            raise TypeError(f"{cls.__name__}.biases names no input gate of the cell: {sorted(unknown)}")
        if cls.biases and not cls.gate_bias:
            raise TypeError(f"{cls.__name__}.biases has no meaning where gate_bias is False")
        cls.InputGates = _bundle(cls, "inputs", cls.input_gates + cls.raw)
        cls.HiddenGates = _bundle(cls, "hidden_gates", gates)
        cls.State = _bundle(cls, "state", cls.state)
        cls.Vectors = _bundle(cls, "weights", tuple(cls.weights))

    @abstractmethod
    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor | tuple[Tensor, ...]:
        """One step: the new state, in the order of ``state`` (a bare tensor where that is h alone).

        Arguments, each with its parts by name, each part (B, H):
            x: ``x.i`` is ``W_i x + b_i`` for every name in ``input_gates``; ``x.dt`` is a column of x, the same
                for all units, for every name in ``raw``.
            h: ``h.i`` is ``R_i h + b_hi`` for every name in ``hidden_gates``;
                ``h.n(v)`` is ``R_n v + b_hn`` for every name in ``inner_gates``.
            state: the old values, ``state.h`` and so on.
            w: the per-unit vectors (H,), ``w.p_i`` and so on.
        """

    @property
    def pointwise(self) -> bool:
        """Whether every unit's step depends on no other unit's gates (so that kernels can fuse it)."""
        return not (self.inner_gates or self.projected or self.mixes_units)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all that a step has of x: the gates, then the raw columns."""
        return self.input_gates + self.raw

    def bias_starts(self) -> dict[tuple[str, ...], Start]:
        """``biases``, each by a tuple of gates."""
        return {_gates(key): start for key, start in self.biases.items()}

    def __repr__(self) -> str:
        return type(self).__name__


def _gates(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def chrono(longest: int) -> Callable[[int], Tensor]:
    """The start of the biases of a forget gate and an input gate, for memories of up to ``longest`` steps.

    To be used as ``biases = {("f", "i"): chrono(1000)}``: the forget gate's start is log u with u uniform in
    [1, longest - 1], the input gate's is its negative, so that units forget in 1 to ``longest`` steps.

    Tallec & Ollivier 2018, https://arxiv.org/abs/1804.11188

    Raises:
        ValueError: ``longest`` is below 3.
    """
    if longest < 3:
        raise ValueError(f"chrono: the longest memory must be 3 steps or more, not {longest}")

    def start(H: int) -> Tensor:
        log = torch.empty(H, dtype=torch.float32, device="cpu").uniform_(1, longest - 1).log()
        return torch.stack((log, -log))

    return start


def _bundle(cell: type, what: str, names: Sequence[str]) -> type[Any]:
    """A named tuple type with the given parts; names that cannot be one are the author's error."""
    bad = [n for n in names if not n.isidentifier() or keyword.iskeyword(n) or n.startswith("_")]
    if bad or len(set(names)) != len(names):
        raise TypeError(f"{cell.__name__}.{what} must be different Python names, not {tuple(names)}")
    return namedtuple(f"{cell.__name__}_{what}", names)
