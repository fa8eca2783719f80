"""The CPU engine: kernels in C, generated from a cell's own equations, built when first needed."""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
import weakref

import torch
from torch import Tensor

from elman.cells import CELLS, Cell
from elman.engines.compiler import Plan, Program, TraceError, projection, raw, sizes, trace
from elman.engines.compiler.settings import fixed, settings
from elman.engines.cpu import generate, inference
from elman.engines.cpu.build import BuildError
from elman.engines.cpu.library import DTYPES, Library
from elman.engines.cpu.operation import LIBRARIES, carry
from elman.engines.modes import to_onnx, transform, unwatched, watched
from elman.engines.scan import Engine, Scan, State, constant, owned, trains
from elman.errors import ElmanError

_log = logging.getLogger("elman")

_kernels: weakref.WeakKeyDictionary[Cell, dict[tuple, str | None]] = weakref.WeakKeyDictionary()
#: By `Library.key`: cells that are alike share a kernel.
_made: dict[str, Program] = {}
_unhashable: dict[int, tuple[Cell, dict[tuple, str | None]]] = {}
_reasons: dict[tuple[type[Cell], torch.dtype], str] = {}
_building = threading.RLock()
_told: set[str] = set()


class Cpu(Engine):
    """Runs every cell whose step can be traced, projected or not, in float32, bfloat16 and float64."""

    name = "cpu"
    portable = False

    def refusal(self, scan: Scan) -> str | None:
        if scan.x.device.type != "cpu":
            return f"it is for the CPU, not {scan.x.device.type}"
        if why := transform():
            return f"its kernels know no {why}"
        if torch.jit.is_tracing():
            return "torch.jit.trace does not see its kernels"
        if to_onnx():
            return "ONNX has no operation for its kernels"
        if scan.cell.projected and (why := projection.refusal(scan)):
            return why
        if not scan.x.shape[0] or not scan.x.shape[2] or not scan.state[0].shape[-1]:
            return "it takes no batch, input or state of size 0"
        dtype = _dtype(scan)
        if dtype not in DTYPES:
            return f"it has no kernels for {dtype}"
        return None if _kernel(scan.cell, dtype) else _reasons[type(scan.cell), dtype]

    def run(self, scan: Scan) -> tuple[Tensor, State]:
        if scan.x.shape[1] == 0:
            return scan.x.new_zeros(*scan.x.shape[:2], scan.state[0].shape[-1]), owned(scan.state)
        scan = raw.as_gates(scan)
        if scan.weights.weight_hr is not None:
            return projection.unfold(scan, *self.run(projection.fold(scan)))
        scan = sizes.checked(scan)
        dtype = _dtype(scan)
        kernel = _kernel(scan.cell, dtype)
        assert kernel is not None
        w = scan.weights
        gradients = trains(scan)
        if not gradients and not torch.compiler.is_compiling() and not watched(scan.x, scan.state[0], w.weight_ih):
            return inference.run(LIBRARIES[kernel], scan)
        real = torch.float64 if dtype == torch.float64 else torch.float32
        weights = [None if p is None else p.to(real) for p in (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh)]
        state = torch.stack(scan.state).to(real)
        zoneout = scan.zoneout or (0.0,) * len(scan.state)
        zones = [k.to(real) if isinstance(k, Tensor) else state.new_empty(0) for k in zoneout]
        rates = [k if isinstance(k, float) else 0.0 for k in zoneout]
        vectors = torch.stack(w.vectors).to(real) if w.vectors else None
        mask = None if scan.hidden_mask is None else scan.hidden_mask.to(real)
        y, final = carry(
            kernel, scan.x.to(dtype), state, *weights, vectors, scan.lengths, scan.resets, mask, zones, rates,
            scan.heads, gradients,
        )  # fmt: skip
        parts: State = torch.unbind_copy(final)  # type: ignore[func-returns-value, assignment]  # no views of one tensor
        return y, tuple(new.to(old.dtype) for new, old in zip(parts, scan.state, strict=True))

    def pack(self, scan: Scan) -> object | None:
        if scan.cell.projected:
            return None
        scan = sizes.checked(raw.as_gates(scan))
        kernel = _kernel(scan.cell, _dtype(scan))
        assert kernel is not None
        return inference.pack(LIBRARIES[kernel], scan)


def _dtype(scan: Scan) -> torch.dtype:
    """What is computed with: what autocast says, else that of x."""
    if torch.is_autocast_enabled("cpu") and scan.x.dtype in (torch.float32, torch.bfloat16):
        return torch.get_autocast_dtype("cpu")
    return scan.x.dtype


@constant
def _kernel(cell: Cell, dtype: torch.dtype) -> str | None:
    """The name in LIBRARIES of a cell's kernel; None where there can be none, for the reason in `_reasons`."""
    try:
        kernels = _kernels.setdefault(cell, {})
    except TypeError:  # a cell that has no hash: a dataclass
        kernels = _unhashable.setdefault(id(cell), (cell, {}))[1]
    set_here = unwatched(settings, cell) if watched() and not fixed(cell) else settings(cell)
    key = dtype, set_here, torch.get_default_dtype()
    if key not in kernels:
        kernels[key] = unwatched(_build, cell, dtype)
    return kernels[key]


def _build(cell: Cell, dtype: torch.dtype) -> str | None:
    try:
        own = _copied(cell)
        program = trace(own, torch.float64 if dtype == torch.float64 else torch.float32)
        if cell.projected and "s_h" in program.used:
            raise TraceError(f"{cell}: h is projected, so that a step that reads the old h is not pointwise")
        source = generate.source(own, Plan(program), DTYPES[dtype])
        digest = hashlib.sha256(f"{source}\0{program.derive.text}".encode()).hexdigest()[:16]
        key = f"{type(cell).__name__}-{DTYPES[dtype]}-{digest}"
        with _building:
            while key in _made and not _made[key].derive.same(program.derive):
                key += "+"
            if key not in _made:
                LIBRARIES[key] = Library(own, program, dtype, source, key)
                _made[key] = program
        return key
    except (TraceError, BuildError) as error:
        _reasons[type(cell), dtype] = str(error)
        if str(error) not in _told:
            _told.add(str(error))
            _log.warning("no fast kernel for %s, which runs slower: %s", cell, error)
        return None


def _copied(cell: Cell) -> Cell:
    """The cell as it is now: what is set on it later makes another kernel."""
    try:
        return copy.deepcopy(cell)
    except Exception as error:  # of what the author has set on it
        raise TraceError(f"{cell} cannot be copied: {error}") from error


def _find(key: str) -> Library:
    """The kernel of a program that was exported by another process: that of a cell known by name."""
    for cell in CELLS.values():
        for dtype, name in DTYPES.items():
            if key.startswith(f"{type(cell).__name__}-{name}-") and _kernel(cell, dtype) == key:
                return LIBRARIES[key]
    raise ElmanError(
        f"the program needs the kernel {key}, which no known cell has: make its cell known by "
        "elman.cells.register, or export the program again with this version of elman"
    )


LIBRARIES.find = _find

__all__ = ["Cpu"]
