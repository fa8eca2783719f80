"""A cell at one position of a network, without its parameters: what `quantize`, `packed` and `Recorder` work on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elman import engines
from elman.cells import Cell, Weights

#: Runs a scan in place of `engines.run`.
Observer = Callable[["Recurrence", engines.Scan], tuple[Tensor, engines.State]]


class Recurrence:
    """A cell that a module runs over time.

    It holds no parameters. The module keeps them under its own names and passes them to every call, so that the
    parameters in use are always the module's current ones.

    Args:
        cell (Cell): the equations.
        heads (int): the number of equal groups of units that see only their own h; the hidden matrix is then given
            as its blocks, (G H, H / heads). Default: 1

    Attributes:
        rounded (torch.dtype | None): the dtype to which `quantize` has rounded all matrices.
        packed (object | None): the packed weights inside a `packed` block.
        observer (Observer | None): if given, called with the recurrence and the scan; it runs the scan.
    """

    def __init__(self, cell: Cell, heads: int = 1) -> None:
        self.cell = cell
        self.heads = heads
        self.rounded: torch.dtype | None = None
        self.packed: object | None = None
        self.observer: Observer | None = None

    def scan(
        self,
        weights: Weights,
        x: Tensor,
        state: engines.State,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> engines.Scan:
        """Return the scan of the cell over x (B, T, D), for `run`."""
        if self.heads > 1 and weights.weight_hh is not None:
            weights = weights._replace(weight_hh=_block_diagonal(weights.weight_hh, self.heads))
        return engines.Scan(
            self.cell, weights, x, state, lengths, resets, None, None, self.rounded, self.heads, self.packed
        )

    def run(self, scan: engines.Scan) -> tuple[Tensor, engines.State]:
        """Run a scan and return y (B, T, P) and the final state."""
        return engines.run(scan) if self.observer is None else self.observer(self, scan)

    def pack(self, weights: Weights) -> object | None:
        """Return the weights in the order in which the engine reads them; None if the engine does not pack."""
        if self.cell.memory:  # its matrices are read once a call
            return None
        w = weights.weight_ih
        H = w.shape[0] // len(self.cell.input_gates)
        sizes = [H if weights.weight_hr is None else weights.weight_hr.shape[0], *[H] * (len(self.cell.state) - 1)]
        x = w.new_zeros(1, 1, w.shape[1] + len(self.cell.raw))
        scan = self.scan(weights, x, tuple(w.new_zeros(1, size) for size in sizes))
        return engines.pack(scan)


class Bound(NamedTuple):
    """A recurrence of a module, with the weights that the module has now.

    Attributes:
        name: its name within the module; empty where the module is that recurrence and nothing else.
        recurrence: the recurrence.
        weights: its current weights.
        reverse: whether it reads the sequence from the end.
    """

    name: str
    recurrence: Recurrence
    weights: Weights
    reverse: bool = False


class HasRecurrences(ABC):
    """A module that runs cells over time. Modules outside `elman.layers` implement it to be quantised and recorded."""

    @abstractmethod
    def recurrences(self) -> list[Bound]:
        """Return the recurrences of this module itself, not those of its submodules."""


def recurrences_of(network: nn.Module) -> Iterator[tuple[str, Bound]]:
    """Yield all recurrences of a network, each with the path of its module, as in ``network.named_modules()``."""
    for path, module in network.named_modules():
        if isinstance(module, HasRecurrences):
            for bound in module.recurrences():
                yield path, bound


def _block_diagonal(weight: Tensor, heads: int) -> Tensor:
    """Return the hidden matrix (G H, H) of the blocks (G H, H / heads)."""
    size = weight.shape[1]
    blocks = weight.view(-1, heads, size, size)
    eye = torch.eye(heads, dtype=weight.dtype, device=weight.device)
    return torch.einsum("ghij,hk->ghikj", blocks, eye).reshape(-1, heads * size)
