"""The contract of engines: what they are given, and what they return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from elman.cells import Cell, Weights

#: The state of one cell: its parts in the order of ``Cell.state``, each (B, size).
State = tuple[Tensor, ...]


Function = TypeVar("Function", bound=Callable)


def constant(function: Function) -> Function:
    """Mark a function whose result torch.compile may treat as a constant.

    It does the same as torch.compiler.assume_constant_result, whose import of the compiler takes a second.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class Scan(NamedTuple):
    """A cell and its inputs over all time steps.

    Attributes:
        cell: the equations.
        weights: the parameters of the cell.
        x: the input (B, T, D), with any strides. Beyond a row's length it may contain anything, even NaN.
        state: the state before the first step, each part (B, size).
        lengths: the number of steps of each row, (B,) integers. None: all rows have T steps.
        resets: (B, T) bool, true where the state is zeroed before that step, and never beyond a row's length.
            None: nowhere.
        hidden_mask: (B, P), multiplies h before the product R h at every step. None: no mask.
        zoneout: for each part of the state, the share of the old value that is kept: new + k (old - new), where k is a
            number or a mask (B, T, size) of zeros and ones. None: nothing is kept.
        rounded: the dtype, torch.int8 or torch.bfloat16, to whose numbers the matrices have been rounded
            (`elman.layers.quantize`), so that an engine may pack them as such. None: they have not.
        heads: the number of equal blocks on the diagonal of the hidden matrices, which are 0 elsewhere.
        packed: the same weights as returned by `Packing.pack`. The caller guarantees that the weights have not changed
            since. Other engines than the one that packed them ignore them.
    """

    cell: Cell
    weights: Weights
    x: Tensor
    state: State
    lengths: Tensor | None = None
    resets: Tensor | None = None
    hidden_mask: Tensor | None = None
    zoneout: tuple[float | Tensor, ...] | None = None
    rounded: torch.dtype | None = None
    heads: int = 1
    packed: object | None = None

    def wiped(self) -> Scan:
        """Return the scan with x set to 0 beyond each row's length, for engines that compute there."""
        if self.lengths is None:
            return self
        padding = torch.arange(self.x.shape[1], device=self.x.device) >= self.lengths[:, None]
        return self._replace(x=self.x.masked_fill(padding[..., None], 0.0))


def trains(scan: Scan) -> bool:
    """Return whether autograd records the scan."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in (scan.x, *scan.state, *scan.weights.tensors()))


def owned(state: State) -> State:
    """Return a copy of the state, which the caller may change in place."""
    return tuple(part.clone() for part in state)


class Engine(ABC):
    """A way to run a cell over time. Its outputs, final state and gradients equal those of the eager engine.

    A further engine implements `refusal` and `run`, and `elman.engines.register` adds it::

        class Mine(Engine):
            name = "mine"

            def refusal(self, scan):
                return None if scan.x.is_cuda else "it runs on CUDA only"

            def run(self, scan):
                ...
                return y, state

        elman.engines.register(Mine(), before="torch")

    Attributes:
        name: the name for `elman.engine` and ELMAN_ENGINE.
        portable: whether exported and traced programs contain operations of torch alone. Default: True.
        fast_single_steps: whether a single step with gradients costs less than in engines that are registered before
            it. Then it comes first for such steps. Default: False.
        least_steps: by type of device, the number of steps from which it is faster than the engines after it. Shorter
            sequences, and those on other devices, run on it only where it is forced. None: it always is. Default: None.
    """

    name: str
    portable: bool = True
    fast_single_steps: bool = False
    least_steps: ClassVar[Mapping[str, int] | None] = None

    @abstractmethod
    def refusal(self, scan: Scan) -> str | None:
        """Return in a few words why this engine cannot run the scan; None if it can."""

    @abstractmethod
    def run(self, scan: Scan) -> tuple[Tensor, State]:
        """Run the scan.

        Returns:
            y (B, T, P), which is 0 beyond each row's length, and the state after each row's last step.
        """


class Packing(ABC):
    """An engine that can arrange weights in advance in the order in which it reads them."""

    @abstractmethod
    def pack(self, scan: Scan) -> object | None:
        """Return the packed weights of a scan, for `Scan.packed`; None if they cannot be packed."""
