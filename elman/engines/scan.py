"""What every engine is given, and what an engine is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from elman.cells import Cell, Weights

#: The state of one cell: its parts in the order of ``Cell.state``, each (B, size).
State = tuple[Tensor, ...]


Function = TypeVar("Function", bound=Callable)


def constant(function: Function) -> Function:
    """Lets torch.compile call a function once and take what it gives for granted.

    As torch.compiler.assume_constant_result, which takes a second to import the compiler.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class Scan(NamedTuple):
    """One cell to be carried through time.

    Attributes:
        cell: the equations.
        weights: its parameters.
        x: (B, T, D), any strides; beyond a row's length it may hold anything, even NaN.
        state: the parts of the state before the first step, each (B, size).
        lengths: (B,) integers, the real steps of each row; None: all T.
        resets: (B, T) bool, true where the state is zeroed before that step, never beyond a row's
            length; None: nowhere.
        hidden_mask: (B, P), multiplies h on its way into R h at every step; None: ones.
        zoneout: for each part of the state, how much of the old value stays: new + k (old - new),
            with k a number or (B, T, size) of zeros and ones; None: nothing stays.
        int8: every row of the weights lies on a grid of 255 values (`elman.layers.quantize`), so that
            an engine may pack them as such.
        heads: the hidden matrices are 0 but for so many blocks of equal size along their diagonal.
        packed: the same weights as `Engine.pack` gave them, by whoever promises that they have not changed since;
            an engine that did not make them passes over them.
    """

    cell: Cell
    weights: Weights
    x: Tensor
    state: State
    lengths: Tensor | None = None
    resets: Tensor | None = None
    hidden_mask: Tensor | None = None
    zoneout: tuple[float | Tensor, ...] | None = None
    int8: bool = False
    heads: int = 1
    packed: object | None = None

    def wiped(self) -> Scan:
        """The same with x 0 beyond each row's length, for engines that compute there."""
        if self.lengths is None:
            return self
        padding = torch.arange(self.x.shape[1], device=self.x.device) >= self.lengths[:, None]
        return self._replace(x=self.x.masked_fill(padding[..., None], 0.0))


def trains(scan: Scan) -> bool:
    """Whether a graph is to be kept."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in (scan.x, *scan.state, *scan.weights.tensors()))


def owned(state: State) -> State:
    """The state in tensors of its own, which may be changed in place: nothing else needs them as they are."""
    return tuple(part.clone() for part in state)


class Engine(ABC):
    """A way to carry a cell through time. Forward and backward must equal the eager engine's.

    ``portable``: whether a program that is exported or traced holds operations of torch alone.
    """

    name: str
    portable: bool = True

    @abstractmethod
    def refusal(self, scan: Scan) -> str | None:
        """Why this engine cannot run the scan, in a few words; None if it can."""

    @abstractmethod
    def run(self, scan: Scan) -> tuple[Tensor, State]:
        """y (B, T, P) and the state after each row's last real step; y is 0 beyond it."""

    def pack(self, scan: Scan) -> object | None:
        """The weights of a scan in an order of this engine's own, for `Scan.packed`; None: it has none."""
        return None
