"""Engines run a cell over time. This module registers them and chooses one for each scan."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import torch
from torch import Tensor, nn

from elman.cells import Cell
from elman.engines import torch_fused
from elman.engines.additive import reference
from elman.engines.associative import Associative, affine
from elman.engines.compiler.affine import Affine, Stage
from elman.engines.cpu import Cpu, additive
from elman.engines.cpu.stepping import Stepper
from elman.engines.eager import Eager
from elman.engines.modes import batched, exporting, transform, watched
from elman.engines.scan import Engine, Packing, Scan, State, constant, trains
from elman.engines.torch_fused import TorchFused
from elman.engines.writing import Choice, Layers, Linear, Place, Writer, Writing, Written
from elman.errors import ElmanError, unknown_name

#: Every engine by name, in the order in which they are tried. `register` adds to it.
ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Cpu(), TorchFused(), Associative(), Eager())}

_forced: ContextVar[tuple[str, bool] | None] = ContextVar("elman_engine", default=None)
_reported: set[tuple[str, str]] = set()
_log = logging.getLogger("elman")


def register(engine: Engine, before: str | None = None) -> None:
    """Add an engine.

    Args:
        engine: the engine. Its ``name`` consists of lower-case letters, digits and underscores.
        before: the name of the engine that it is tried before. None (default): it is the last, and as the eager engine
            refuses nothing, it runs only where `engine` or ELMAN_ENGINE names it.

    Raises:
        TypeError: ``engine`` is not an instance of `Engine`.
        ElmanError: the name is not valid or already registered, or there is no engine ``before``.

    Example::

        elman.engines.register(MyEngine(), before="cpu")
        with elman.engine("mine"):
            y, state = layer(x)
        elman.engines.unregister("mine")
    """
    if not isinstance(engine, Engine):
        raise TypeError(f"engine must be an instance of elman.engines.Engine, got: {engine!r}")
    name = getattr(engine, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ElmanError(f"engine name {name!r}: use lower-case letters, digits and underscores")
    if name in ENGINES:
        raise ElmanError(f"engine name {name!r} is already registered; choose another name")
    following = [] if before is None else list(ENGINES)[list(ENGINES).index(_checked(before)) :]
    ENGINES[name] = engine
    for later in following:
        ENGINES[later] = ENGINES.pop(later)


def unregister(name: str) -> None:
    """Remove an engine.

    Raises:
        ElmanError: there is no engine of this name, or it is the eager engine, which runs what all others refuse.
    """
    if _checked(name) == Eager.name:
        raise ElmanError("the eager engine cannot be removed: it runs what all other engines refuse")
    del ENGINES[name]


@contextmanager
def engine(name: str, strict: bool = False) -> Iterator[None]:
    """Use one engine inside a ``with`` block: ``with elman.engine("eager"): ...``.

    The environment variable ELMAN_ENGINE does the same for a whole process.

    Args:
        name: the name of the engine.
        strict: what to do if the engine cannot run a cell. False (default): the next engine that can runs it, and the
            logger ``elman`` reports this once. True: raise an ElmanError with the reason, for example to find out
            whether a cell of your own has a fast kernel: ``with elman.engine("cpu", strict=True): layer(x)``.

    Raises:
        ElmanError: there is no engine of this name.
    """
    _checked(name)
    token = _forced.set((name, strict))
    try:
        yield
    finally:
        _forced.reset(token)


@constant  # a compiled model keeps the engine that was forced when it was compiled
def _forced_engine() -> tuple[str | None, bool]:
    """Return the name of the forced engine, and whether it must run."""
    return _forced.get() or (os.environ.get("ELMAN_ENGINE"), False)


def choose(scan: Scan) -> Engine:
    """Return the engine that runs a scan: the forced one if it can, otherwise the first that can.

    Exported programs run without elman, so they use the first engine whose programs consist of operations of torch.
    These fix the number of steps. Where it is dynamic, the program contains the operation of elman's kernel.

    Raises:
        ElmanError: an engine is forced with ``strict``, and it cannot run the scan.
    """
    (name, strict), why = _forced_engine(), None
    if name:
        forced = ENGINES[_checked(name)]
        why = forced.refusal(scan)
        if why is None:
            return forced
        if strict:
            raise ElmanError(f"the engine {name!r} cannot run this: {why}")
    portable = exporting() and not isinstance(scan.x.shape[1], torch.SymInt)
    engines = ENGINES.values() if name is not None else _in_order(scan)
    chosen = next(e for e in engines if (e.portable or not portable) and e.refusal(scan) is None and _gains(e, scan))
    if name and why:
        _report(name, "a layer in a compiled program" if torch.compiler.is_compiling() else why, chosen.name)
    return chosen


def _gains(engine: Engine, scan: Scan) -> bool:
    """Return whether an engine is faster than those after it."""
    least = engine.least_steps
    return least is None or scan.x.shape[1] >= least.get(scan.x.device.type, math.inf)


def _in_order(scan: Scan) -> Iterable[Engine]:
    """Return the engines in the order in which they are tried where none is forced."""
    if torch.compiler.is_compiling() or exporting() or torch.is_autocast_enabled(scan.x.device.type):
        return ENGINES.values()
    if scan.x.shape[1] == 1 and trains(scan):  # building the graph may cost more than the step
        return sorted(ENGINES.values(), key=lambda e: not e.fast_single_steps)
    return ENGINES.values()


@constant  # torch.compile calls it without tracing it
def _report(name: str, why: str, chosen: str) -> None:
    if (name, why) not in _reported:
        _reported.add((name, why))
        _log.warning("the engine %r cannot run this: %s; the engine %r runs it", name, why, chosen)


def run(scan: Scan) -> tuple[Tensor, State]:
    """Run a scan on the engine that `choose` returns.

    Returns:
        y (B, T, P) and the final state.
    """
    return choose(scan).run(scan)


def pack(scan: Scan) -> object | None:
    """Return the weights of a scan in the order in which its engine reads them; None if the engine does not pack."""
    chosen = choose(scan)
    return chosen.pack(scan) if isinstance(chosen, Packing) else None


def writer(
    network: Written, choice: Choice, last: Tensor, seen: Tensor | None, ended: Tensor, written: int
) -> Writer | None:
    """Return a loop that writes without Python between the tokens; see `Writing.writer`.

    None: the engine that comes first, or the one that is forced, has none for the network, or a mode of torch watches.
    """
    if torch.compiler.is_compiling() or exporting() or transform() or watched():
        return None
    name = _forced_engine()[0]
    chosen = next(iter(ENGINES.values())) if name is None else ENGINES[_checked(name)]
    return chosen.writer(network, choice, last, seen, ended, written) if isinstance(chosen, Writing) else None


def undisturbed() -> bool:
    """Return whether steps without gradients concern nobody but the cpu engine: no mode of torch, no other engine."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or exporting() or transform() or watched():
        return False
    first = next(iter(ENGINES.values()))
    return isinstance(first, Cpu) and _forced_engine()[0] is None and not torch.is_autocast_enabled("cpu")


def stepper(steps: Layers, places: Sequence[Place]) -> Stepper | None:
    """Return single steps of layers in one call of C, to be kept by whoever owns the layers.

    The owner asks `undisturbed` and `Stepper.fits` before each step. None: each layer is run by `run`.

    Args:
        steps: a single step of each layer.
        places: where the weights of all layers are kept.
    """
    first = next(iter(ENGINES.values()))
    return first.stepper(steps, places) if isinstance(first, Cpu) else None


def additive_scores(query: Tensor, keys: Tensor, score: nn.Module) -> Tensor:
    """Return the scores of additive attention, e_ts = v . tanh(q_t + k_s), from the fastest code for the call.

    Under autocast the cpu engine computes in float32 and rounds the scores.

    Args:
        query (Tensor): The projected queries, (B, T, A).
        keys (Tensor): The projected values, (B, S, A).
        score (nn.Module): The layer with v, from hidden units (..., A) to scores (..., 1).

    Returns:
        Tensor: The scores, (B, T, S).
    """
    if torch.compiler.is_compiling() or not _additive_kernel(query, keys, score):
        return reference(query, keys, score)
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else query.dtype
    weight = cast(nn.Linear, score).weight
    return additive.scores(query.float(), keys.float(), weight.float()).to(dtype)


def _additive_kernel(query: Tensor, keys: Tensor, score: nn.Module) -> bool:
    """Return whether the cpu engine computes the scores of additive attention."""
    if type(score) is not nn.Linear or score.bias is not None or score._forward_hooks or score._forward_pre_hooks:
        return False
    weight, name = score.weight, _forced_engine()[0]
    if name not in (None, "cpu") or exporting() or transform():
        return False
    for t in (query, keys, weight):
        if t.device.type != "cpu" or watched(t) or batched(t):
            return False
    dtypes = {query.dtype, keys.dtype, weight.dtype}
    if torch.is_autocast_enabled("cpu"):
        if not dtypes <= {torch.float32, torch.bfloat16, torch.float16}:
            return False
    elif dtypes != {torch.float32}:
        return False
    (B, T, A), S = query.shape, keys.shape[1]
    if keys.shape != (B, S, A) or weight.shape != (1, A):
        return False
    least = 1 if name else additive.LEAST
    return least <= B * T * S * A and additive.library() is not None


def torch_cells(cell: Cell, x: Tensor, H: int) -> bool:
    """Return whether torch's own operation is the fastest for a single call of a cell with x (B, D).

    A single step consists of a few products, which torch calls from C++. Exported programs use torch's operation too,
    which does not depend on B.
    """
    if type(cell) not in torch_fused.STEPS or _forced_engine()[0] is not None:
        return False
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or exporting():
        return True
    B, D = x.shape
    return B > 4 or B * torch_fused.count(cell, D, H) < 2**22


def torch_steps(cell: Cell, B: int, D: int, H: int) -> bool:
    """Return whether torch's own operation, `torch_fused.step`, is the fastest for a single step of a layer."""
    if type(cell) not in torch_fused.STEPS or _forced_engine()[0] is not None:
        return False
    return B > 4 or torch_fused.short(cell, D, H, torch.is_grad_enabled()) >= 1


def torch_layers(cell: Cell, B: int, T: int, D: int, H: int) -> bool:
    """Return whether torch's own layer is the fastest over T steps of B rows, because calling a kernel costs more."""
    if type(cell) not in torch_fused.STEPS or B > 4 or _forced_engine()[0] is not None:
        return False
    steps = torch_fused.short(cell, D, H, torch.is_grad_enabled())
    return steps >= T and (T > 1 or len(cell.state) == 1 or H < 128)


def _checked(name: str) -> str:
    """Return the name of an engine, or raise the error for an unknown one."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    return name


__all__ = [
    "ENGINES",
    "Affine",
    "Associative",
    "Choice",
    "Cpu",
    "Eager",
    "Engine",
    "Layers",
    "Linear",
    "Packing",
    "Place",
    "Scan",
    "Stage",
    "State",
    "Stepper",
    "TorchFused",
    "Writer",
    "Writing",
    "Written",
    "additive_scores",
    "affine",
    "choose",
    "engine",
    "pack",
    "register",
    "run",
    "stepper",
    "torch_cells",
    "torch_layers",
    "torch_steps",
    "undisturbed",
    "unregister",
    "writer",
]
