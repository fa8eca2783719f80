"""The loaded kernel of a cell, and its calls."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import weakref
from collections.abc import Callable, Iterator
from ctypes import Structure, c_double, c_float, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elman.cells import Cell
from elman.engines.compiler.program import Program
from elman.engines.cpu.build import load

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float64: "float64"}


class Library:
    """The compiled kernel of one cell for one dtype.

    Attributes:
        cell, program: what it was made from. ``key``: its name, the same in every process.
        dtype: of x, y and what is kept; ``real``: of the weights, the state and the gradients of both.
    """

    def __init__(self, cell: Cell, program: Program, dtype: torch.dtype, source: str, key: str) -> None:
        self.cell, self.program, self.dtype, self.key = cell, program, dtype, key
        self.real = torch.float64 if dtype == torch.float64 else torch.float32
        self._c = load(source, f"{type(cell).__name__}_{DTYPES[dtype]}")
        self.Job = _job(len(cell.state), c_double if dtype == torch.float64 else c_float)
        for name in ("lanes", "padded_units"):
            getattr(self._c, name).restype = c_int64
        self._c.padded_units.argtypes = [c_int64]
        for form in ("", "_int8", "_bfloat16") if dtype == torch.float32 else ("",):
            size = getattr(self._c, f"packed_size{form}")
            size.argtypes, size.restype = [c_int64] * 3, c_int64
            for name in ("input", "recurrent"):
                pointers = 3 if form == "_int8" else 2
                getattr(self._c, f"pack_{name}{form}").argtypes = [c_void_p] * pointers + [c_int64] * 2
        for name in ("forward", "backward"):
            getattr(self._c, name).argtypes = [c_void_p]
        self.columns = self._columns()
        self.distinct = len(set(self.columns[0] + self.columns[1]))
        self.sums = len(program.unit_grads)
        self._saved = [c_int.in_dll(self._c, f"saved_{kind}").value for kind in ("values", "row_values")]
        self.run_forward = self._c.forward
        self._lanes = self._c.lanes()

    def _columns(self) -> tuple[list[int], list[int]]:
        """Return the index of the gradient of each input gate and of each hidden gate among the distinct gradients."""
        order = self.program.gate_grads
        both = self.program.input_grads, self.program.hidden_grads
        inputs, hidden = ([order.index(g) for g in grads] for grads in both)
        return inputs, hidden

    def padded(self, H: int) -> int:
        """Return H as the kernel pads it."""
        return self._c.padded_units(H)

    def saved(self, H: int) -> int:
        """Return how many numbers of each row and step backward needs."""
        return self._saved[0] * self.padded(H) + self._saved[1] * self._lanes

    def units(self, vectors: Tensor | None) -> Tensor | None:
        """Return the per-unit values (U, H) of the step, computed from the vectors (V, H) of the cell."""
        if vectors is None or not self.sums:
            return None
        return torch.stack(self.program.derive(vectors.unbind()))

    def vector_gradients(self, vectors: Tensor, dunits: Tensor) -> Tensor:
        """Return the gradients of the vectors (V, H), given those of the per-unit values."""
        if not self.sums:
            return torch.zeros_like(vectors)
        with torch.enable_grad():
            leaf = vectors.detach().requires_grad_()
            units = torch.stack(self.program.derive(leaf.unbind()))
            return torch.autograd.grad(units, leaf, dunits)[0]

    def forward(self, fields: dict[str, Any]) -> None:
        self._call(self._c.forward, fields)

    def backward(self, fields: dict[str, Any]) -> None:
        self._call(self._c.backward, fields)

    def _call(self, function: Callable[[Any], int], fields: dict[str, Any]) -> None:
        job = self.Job(threads=threads(), amx=self.amx(), source=source(), **fields)
        if function(ctypes.addressof(job)):
            raise MemoryError(f"{self.cell}: no memory for the kernel")

    def amx(self) -> bool:
        """Return whether products run in the matrix unit of the processor (Intel AMX), if the compiler knows it too."""
        return self.dtype == torch.bfloat16 and permitted_amx()

    def pack(self, which: str, weight: Tensor, H: int, to: torch.dtype | None = None) -> dict[str, Tensor] | None:
        """Return W ("input") or R ("recurrent"), (gates H, N), in the order in which the kernel reads it.

        Args:
            to: the dtype to store the weights in, torch.int8 or torch.bfloat16; None: their own.

        Returns:
            The weights, "packed", and for int8 their scales, "scale"; None if they have not been rounded to ``to``.
        """
        gates, N, form = weight.shape[0] // H, weight.shape[1], "" if to is None else f"_{DTYPES.get(to, 'int8')}"
        size = getattr(self._c, f"packed_size{form}")(gates, H, N)
        tensors = {"packed": torch.empty(size, dtype=torch.uint8, device="cpu")}
        if to == torch.int8:
            tensors["scale"] = torch.empty(2 * size // (-(-N // 4) * 4), dtype=torch.float32, device="cpu")
        at = [t.data_ptr() for t in tensors.values()]
        fits = getattr(self._c, f"pack_{which}{form}")(*at, weight.data_ptr(), H, N)
        return tensors if fits or to is None else None


class Source(Structure):
    """The functions for threads and memory: the C struct of that name."""

    _fields_ = [(name, c_void_p) for name in ("parallel", "thread_number", "thread_count", "take", "give")]


def _job(states: int, real: Any) -> type[Structure]:
    """Return the C struct Job for a number of parts of the state."""
    each = c_void_p * states
    groups: list[tuple[str, Any]] = [
        ("B T D H heads threads amx x_b x_t y_b y_t dy_b dy_t dx_b dx_t", c_int64),
        ("order lengths resets x w_ih w_hh b_ih b_hh units mask", c_void_p),
        ("state0 zone", each),
        ("rate", real * states),
        ("y", c_void_p),
        ("state1", each),
        ("saved packed_ih packed_hh scale_ih scale_hh", c_void_p),
        ("bfloat16", c_int64),
        ("dy", c_void_p),
        ("dstate1", each),
        ("dx", c_void_p),
        ("dstate0", each),
        ("dw_ih dw_hh db dunits", c_void_p),
        ("source", Source),
    ]
    return type("Job", (Structure,), {"_fields_": [(n, kind) for names, kind in groups for n in names.split()]})


@functools.cache
def _runtime() -> ctypes.CDLL:
    """Load runtime.c, which has the memory of all kernels and a thread pool."""
    runtime = load((Path(__file__).parent / "runtime.c").read_text(encoding="utf-8"), "runtime")
    runtime.take.argtypes, runtime.take.restype = [ctypes.c_size_t], c_void_p
    runtime.give.argtypes = [c_void_p]
    runtime.in_large_pages.argtypes = [c_void_p, ctypes.c_size_t]
    runtime.permit_amx.restype = c_int
    return runtime


@functools.cache
def _openmp() -> Source | None:
    """Return the OpenMP runtime that torch uses, so that both share one thread pool."""
    try:
        return _source(ctypes.CDLL(torch._C.__file__), "GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    except (OSError, AttributeError):  # torch without OpenMP, or with another
        return None


@functools.cache
def _own() -> Source:
    """Return the thread pool of runtime.c."""
    return _source(_runtime(), "parallel", "thread_number", "thread_count")


def _source(threads: ctypes.CDLL, *names: str) -> Source:
    functions = [*(getattr(threads, name) for name in names), _runtime().take, _runtime().give]
    return Source(*(ctypes.cast(function, c_void_p) for function in functions))


@functools.cache
def permitted_amx() -> bool:
    """Ask the operating system for the matrix unit of the processor (Intel AMX); return whether it permits its use."""
    return bool(_runtime().permit_amx())


def in_large_pages(t: Tensor) -> Tensor:
    """Ask for large pages for the memory of a new tensor if it is large; return the tensor."""
    if t.nbytes >= 4 << 20:
        _runtime().in_large_pages(t.data_ptr(), t.nbytes)
    return t


def reused(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return an empty tensor whose memory returns to the pool of the kernels when it is no longer used."""
    size = math.prod(shape) * dtype.itemsize
    if not size:
        return torch.empty(shape, dtype=dtype, device="cpu")
    address = _runtime().take(size)
    if address is None:
        raise MemoryError(f"no memory for {size:,} bytes that a gradient needs")
    memory = (ctypes.c_char * size).from_address(address)
    weakref.finalize(memory, _runtime().give, address).atexit = False
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(shape)).view(shape)


def threads() -> int:
    """Return the number of threads of a kernel: that of torch, at most the number of available cores."""
    return min(torch.get_num_threads(), cores())


@functools.cache
def cores() -> int:
    """Return the number of cores of this process, by its CPU affinity and the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota in _quotas():
        count = min(count, max(1, math.ceil(quota)))
    return count


def _quotas() -> Iterator[float]:
    """Yield the numbers of cores that the control groups of this process allow (Linux, versions 1 and 2)."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            place = Path("/sys/fs/cgroup", "cpu" if "cpu" in controllers.split(",") else "", group.lstrip("/"))
            for folder in (place, *place.parents):
                with contextlib.suppress(OSError, ValueError):
                    quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
                    yield int(quota) / int(period)  # "max" is no number
                with contextlib.suppress(OSError, ValueError):
                    quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
                    if int(quota) > 0:
                        yield int(quota) / int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
                if folder == Path("/sys/fs/cgroup"):
                    break


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True  # OpenMP's threads stayed with the parent, and it would wait for them for ever


os.register_at_fork(after_in_child=_after_fork)


def source() -> Source:
    """Return the functions for threads and memory in this process."""
    return (None if _forked else _openmp()) or _own()
