"""The one door through which a cell is carried through time."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from elman.cells import Cell
from elman.engines import torch_fused
from elman.engines.cpu import Cpu
from elman.engines.eager import Eager
from elman.engines.modes import exporting
from elman.engines.scan import Engine, Scan, State, constant, trains
from elman.engines.torch_fused import TorchFused
from elman.errors import ElmanError, unknown_name

#: Every engine, the preferred first. The last one refuses nothing.
ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Cpu(), TorchFused(), Eager())}

_forced: ContextVar[tuple[str, bool] | None] = ContextVar("elman_engine", default=None)
_told: set[tuple[str, str]] = set()
_log = logging.getLogger("elman")


@contextmanager
def engine(name: str, strict: bool = False) -> Iterator[None]:
    """Forces an engine inside a ``with`` block: ``with elman.engine("eager"): ...``.

    The environment variable ELMAN_ENGINE does the same for a whole process. Where the named engine
    cannot run a cell, the next one that can is used, and one line of the log ``elman`` says so; with
    ``strict`` an ElmanError says why instead: ``with elman.engine("cpu", strict=True): layer(x)`` shows
    whether a cell of one's own has a fast kernel.
    """
    _known(name)
    token = _forced.set((name, strict))
    try:
        yield
    finally:
        _forced.reset(token)


def forced_here() -> str | None:
    """The engine that a ``with`` block around this call forces."""
    forced = _forced.get()
    return forced[0] if forced else None


@constant  # in a compiled model: as it was when it was compiled
def _wanted() -> tuple[str | None, bool]:
    return _forced.get() or (os.environ.get("ELMAN_ENGINE"), False)


def choose(scan: Scan) -> Engine:
    """The engine that runs this scan: the forced one if it can, else the first that can.

    Exported programs are for machines without elman: the first that can with operations of torch alone. These fix
    the number of steps; where it is left open, the kernel's own operation runs.
    """
    (name, strict), why = _wanted(), None
    if name:
        wanted = ENGINES[_known(name)]
        why = wanted.refusal(scan)
        if why is None:
            return wanted
        if strict:
            raise ElmanError(f"the engine {name!r} cannot run this: {why}")
    alone = name is None and not torch.compiler.is_compiling() and not exporting()
    alone = alone and not torch.is_autocast_enabled(scan.x.device.type)  # there states keep their dtype
    if alone and scan.x.shape[1] == 1 and trains(scan) and ENGINES["torch"].refusal(scan) is None:
        return ENGINES["torch"]  # the graph of one step costs more than the step: torch makes it in C++
    portable = exporting() and not isinstance(scan.x.shape[1], torch.SymInt)
    chosen = next(e for e in ENGINES.values() if (e.portable or not portable) and e.refusal(scan) is None)
    if name and why:
        _tell(name, "a layer in a compiled program" if torch.compiler.is_compiling() else why, chosen.name)
    return chosen


@constant  # torch.compile calls it, and does not look into it
def _tell(name: str, why: str, chosen: str) -> None:
    if (name, why) not in _told:
        _told.add((name, why))
        _log.warning("the engine %r cannot run this: %s; the engine %r does", name, why, chosen)


def run(scan: Scan) -> tuple[Tensor, State]:
    """Carries ``scan.cell`` over ``scan.x`` (B, T, D): y (B, T, P) and the final state."""
    return choose(scan).run(scan)


def torch_cells(cell: Cell, x: Tensor, H: int) -> bool:
    """Whether a cell that is called by itself, with x (B, D), is best run by torch's own operation.

    A step alone is a few products: there is nothing to carry through time, and torch calls them from C++. A program
    that is made for others is made of torch's operation too, and does not depend on B.
    """
    if type(cell) not in torch_fused.STEPS or _wanted()[0] is not None:
        return False
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or exporting():
        return True
    B, D = x.shape
    return B > 4 or B * torch_fused.count(cell, D, H) < 2**22


def torch_steps(cell: Cell, B: int, D: int, H: int) -> bool:
    """The same for one step of a layer: `torch_fused.step`."""
    if type(cell) not in torch_fused.STEPS or _wanted()[0] is not None:
        return False
    return B > 4 or torch_fused.short(cell, D, H, torch.is_grad_enabled()) >= 1


def torch_layers(cell: Cell, B: int, T: int, D: int, H: int) -> bool:
    """Whether torch's own layer is the fastest over T steps of B rows: so few that to call a kernel costs more."""
    if type(cell) not in torch_fused.STEPS or B > 4 or _wanted()[0] is not None:
        return False
    steps = torch_fused.short(cell, D, H, torch.is_grad_enabled())
    return steps >= T and (T > 1 or len(cell.state) == 1 or H < 128)


def _known(name: str) -> str:
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    return name


__all__ = [
    "ENGINES",
    "Cpu",
    "Eager",
    "Engine",
    "Scan",
    "State",
    "TorchFused",
    "choose",
    "engine",
    "forced_here",
    "run",
    "torch_cells",
    "torch_layers",
    "torch_steps",
]
