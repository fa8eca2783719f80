"""The engine for the CPU: kernels in C, which are generated from a cell's equations and built on first use."""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from elman.cells import CELLS, Cell
from elman.engines.compiler import Plan, Program, TraceError, projection, raw, sizes, trace
from elman.engines.compiler.memory import trace as trace_memory
from elman.engines.compiler.per_cell import PerCell
from elman.engines.cpu import generate, inference, layers, memory, writing
from elman.engines.cpu.build import BuildError
from elman.engines.cpu.library import DTYPES, Library
from elman.engines.cpu.memory import MemoryKernel
from elman.engines.cpu.operation import LIBRARIES, carry
from elman.engines.cpu.stepping import Stepper, suits
from elman.engines.memory import Layout, layout
from elman.engines.modes import to_onnx, transform, watched
from elman.engines.scan import Engine, Packing, Scan, State, constant, owned, trains
from elman.engines.writing import Choice, Layers, Place, Writer, Writing, Written
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: The programs of all kernels by `Library.key`. Equal cells share a kernel.
_programs: dict[str, Program] = {}
#: Why a cell has no kernel.
_reasons: dict[tuple[type[Cell], torch.dtype], str] = {}
_building = threading.RLock()
_reported: set[str] = set()


class Cpu(Engine, Packing, Writing):
    """Kernels for every cell whose step can be traced, with or without projection, in float32, bfloat16 and float64."""

    name = "cpu"
    portable = False

    def refusal(self, scan: Scan) -> str | None:
        if scan.x.device.type != "cpu":
            return f"it runs on the CPU only, and x is on {scan.x.device.type}"
        if why := transform():
            return f"its kernels do not support {why}"
        if torch.jit.is_tracing():
            return "torch.jit.trace cannot record its kernels"
        if to_onnx():
            return "ONNX has no operation for its kernels"
        if scan.cell.projected and (why := projection.refusal(scan)):
            return why
        if not scan.x.shape[0] or not scan.x.shape[2] or not scan.state[0].shape[-1]:
            return "it does not support a batch, input or state of size 0"
        dtype = _dtype(scan)
        if dtype not in DTYPES:
            return f"it has no kernels for {dtype}"
        if scan.cell.memory:
            return memory.refusal(scan) or (None if _memory_kernel(scan) else _reasons[type(scan.cell), _real(dtype)])
        return None if _kernel(scan.cell, dtype) else _reasons[type(scan.cell), dtype]

    def run(self, scan: Scan) -> tuple[Tensor, State]:
        if scan.x.shape[1] == 0:
            return scan.x.new_zeros(*scan.x.shape[:2], scan.state[0].shape[-1]), owned(scan.state)
        if scan.cell.memory:
            kernel = _memory_kernel(scan)
            assert kernel is not None
            return memory.run(kernel, scan)
        scan = raw.as_gates(scan)
        if scan.weights.weight_hr is not None:
            return projection.unfold(scan, *self.run(projection.fold(scan)))
        scan = sizes.checked(scan)
        dtype = _dtype(scan)
        key = _kernel(scan.cell, dtype)
        assert key is not None
        w = scan.weights
        gradients = trains(scan)
        if not gradients and not torch.compiler.is_compiling() and not watched(scan.x, scan.state[0], w.weight_ih):
            return inference.run(LIBRARIES[key], scan)
        real = torch.float64 if dtype == torch.float64 else torch.float32
        weights = [None if p is None else p.to(real) for p in (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh)]
        state = torch.stack(scan.state).to(real)
        zoneout = scan.zoneout or (0.0,) * len(scan.state)
        zones = [k.to(real) if isinstance(k, Tensor) else state.new_empty(0) for k in zoneout]
        rates = [k if isinstance(k, float) else 0.0 for k in zoneout]
        vectors = torch.stack(w.vectors).to(real) if w.vectors else None
        mask = None if scan.hidden_mask is None else scan.hidden_mask.to(real)
        y, final = carry(
            key, scan.x.to(dtype), state, *weights, vectors, scan.lengths, scan.resets, mask, zones, rates,
            scan.heads, gradients,
        )  # fmt: skip
        parts: State = torch.unbind_copy(final)  # type: ignore[func-returns-value, assignment]  # copies, not views of one tensor
        return y, tuple(new.to(old.dtype) for new, old in zip(parts, scan.state, strict=True))

    def pack(self, scan: Scan) -> object | None:
        if scan.cell.projected:
            return None
        scan = sizes.checked(raw.as_gates(scan))
        kernel = _kernel(scan.cell, _dtype(scan))
        assert kernel is not None
        return inference.pack(LIBRARIES[kernel], scan)

    def writer(
        self, network: Written, choice: Choice, last: Tensor, seen: Tensor | None, ended: Tensor, written: int
    ) -> Writer | None:
        used = [network.embedding, *(t for one in network.linears for t in one if t is not None)]
        if not all(map(suits, used)):
            return None
        found = self._layers(network.layers)
        if found is None or not _chained(network):
            return None
        libraries, checked = found
        return writing.Loop(libraries, network._replace(layers=checked), choice, last, seen, ended, written)

    def stepper(self, steps: Layers, places: Sequence[Place]) -> Stepper | None:
        """Return single steps of layers whose weights are kept in these places; None if it has none for them."""
        found = self._layers(steps)
        if found is None or any(scan.weights.vectors for scan in steps.scans):  # values computed from vectors
            return None
        weights = [w for scan in steps.scans for w in scan.weights.tensors()]
        weights += [w for one in steps.carries for w in one if w is not None]
        kept = {id(at[name]) for at, name in places}
        if not all(id(w) in kept for w in weights):  # computed at every call
            return None
        return Stepper(*found, places)

    def _layers(self, steps: Layers) -> tuple[list[Library], Layers] | None:
        """Return the kernels for single steps, and the steps, checked; None if there are none in float32."""
        for scan in steps.scans:
            if (
                scan.cell.raw
                or scan.cell.projected
                or scan.cell.memory
                or self.refusal(scan)
                or _dtype(scan) is not torch.float32
            ):
                return None
            if not all(map(suits, (*scan.state, *scan.weights.tensors()))):
                return None
        for scan, one in zip(steps.scans[1:], steps.carries, strict=False):
            D = scan.x.shape[2]
            if one.weight.shape != (D, D) or not all(suits(w) for w in one if w is not None):
                return None
        keys = [_kernel(scan.cell, torch.float32) for scan in steps.scans]
        if layers.library() is None:
            return None
        checked = [sizes.checked(scan) for scan in steps.scans]
        return [LIBRARIES[key] for key in keys if key is not None], steps._replace(scans=checked)


def _chained(network: Written) -> bool:
    """Return whether each matrix reads as many features as the one before gives; C trusts them."""
    V, size = network.embedding.shape
    if network.layers.scans[0].x.shape[2] != size:
        return False
    size = network.layers.scans[-1].state[0].shape[1]
    for linear in network.linears:
        if linear.weight.dim() != 2 or linear.weight.shape[1] != size:
            return False
        size = len(linear.weight)
        if linear.bias is not None and linear.bias.shape != (size,):
            return False
    return size == V


def _dtype(scan: Scan) -> torch.dtype:
    """Return the dtype to compute in: that of autocast if it is enabled, otherwise that of x."""
    if torch.is_autocast_enabled("cpu") and scan.x.dtype in (torch.float32, torch.bfloat16):
        return torch.get_autocast_dtype("cpu")
    return scan.x.dtype


def _real(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that kernels compute in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@constant
def _kernel(cell: Cell, dtype: torch.dtype) -> str | None:
    """Return the key of a cell's kernel in LIBRARIES; None if it has none, for the reason in `_reasons`."""
    return _kernels(cell, dtype)


def _memory_kernel(scan: Scan) -> MemoryKernel | None:
    """Return the kernel of a cell with a matrix memory; None if it has none, for the reason in `_reasons`."""
    sizes = layout(scan)
    return _memory_kernels(scan.cell, _real(_dtype(scan)), sizes.U, sizes.K)


def _build_memory(cell: Cell, dtype: torch.dtype, U: int, K: int) -> MemoryKernel | None:
    """Build the kernel of a cell with a matrix memory; None if it cannot be built, which is logged once."""
    try:
        copied = _copied(cell)
        with _building:
            return MemoryKernel(Layout(copied, 1, U, K), trace_memory(copied, U, K, dtype), dtype)
    except (TraceError, BuildError) as error:
        _refuse(cell, dtype, error)
    except RecursionError:
        _refuse(cell, dtype, TraceError(f"{cell}: the step is a chain of too many operations for a kernel"))
    return None


def _refuse(cell: Cell, dtype: torch.dtype, error: Exception) -> None:
    """Keep the reason why a cell has no kernel, and log it once."""
    _reasons[type(cell), dtype] = str(error)
    if str(error) not in _reported:
        _reported.add(str(error))
        _log.warning("no fast kernel for %s, so it runs slower: %s", cell, error)


def _build(cell: Cell, dtype: torch.dtype) -> str | None:
    """Build the kernel of a cell and return its key; None if it cannot be built, which is logged once."""
    try:
        copied = _copied(cell)
        program = trace(copied, torch.float64 if dtype == torch.float64 else torch.float32)
        if cell.projected and "s_h" in program.used:
            raise TraceError(f"{cell}: the step reads the old h, which is projected; kernels do not support this")
        source = generate.source(copied, Plan(program), DTYPES[dtype])
        digest = hashlib.sha256(f"{source}\0{program.derive.text}".encode()).hexdigest()[:16]
        key = f"{type(cell).__name__}-{DTYPES[dtype]}-{digest}"
        with _building:
            while key in _programs and not _programs[key].derive.same(program.derive):
                key += "+"
            if key not in _programs:
                LIBRARIES[key] = Library(copied, program, dtype, source, key)
                _programs[key] = program
        return key
    except (TraceError, BuildError) as error:
        _refuse(cell, dtype, error)
        return None


#: The kernels of a cell by dtype: their keys in LIBRARIES.
_kernels = PerCell(_build)
#: The kernels of a cell with a matrix memory, by dtype and the sizes of a head.
_memory_kernels = PerCell(_build_memory)


def _copied(cell: Cell) -> Cell:
    """Return a copy of the cell, which does not change when attributes of the cell are set later."""
    try:
        return copy.deepcopy(cell)
    except Exception as error:  # in copying an attribute that the author has set
        raise TraceError(f"{cell} cannot be copied: {error}") from error


def _find(key: str) -> Library:
    """Return the kernel that a program exported by another process needs, from the registered cells."""
    for cell in CELLS.values():
        for dtype, name in DTYPES.items():
            if key.startswith(f"{type(cell).__name__}-{name}-") and _kernel(cell, dtype) == key:
                return LIBRARIES[key]
    raise ElmanError(
        f"the program needs the kernel {key}, which no registered cell has: register its cell with "
        "elman.cells.register, or export the program again with this version of elman"
    )


LIBRARIES.find = _find

__all__ = ["Cpu"]
