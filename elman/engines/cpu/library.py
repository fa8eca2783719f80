"""A cell's kernel in memory, and how it is called."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_int64, c_uint, c_void_p
from typing import Any

import torch
from torch import Tensor

from elman.cells import Cell
from elman.engines.cpu.build import BuildError, load
from elman.engines.cpu.generate import source
from elman.engines.trace import Program, trace

_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float64: "float64"}


class Library:
    """The compiled kernel of one cell for one dtype.

    Attributes:
        cell, program: what it was made from.
        dtype: of x, y and what is kept; ``real``: of the weights, the state and the gradients of both.
    """

    def __init__(self, cell: Cell, program: Program, dtype: torch.dtype) -> None:
        self.cell, self.program, self.dtype = cell, program, dtype
        self.real = torch.float64 if dtype == torch.float64 else torch.float32
        self._c = load(source(cell, program, _DTYPES[dtype]), f"{type(cell).__name__}_{_DTYPES[dtype]}")
        self.Job = _job(len(cell.state), c_double if dtype == torch.float64 else c_float)
        for name in ("lanes", "padded_units", "packed_size"):
            getattr(self._c, name).restype = c_int64
        self._c.packed_size.argtypes = [c_int64] * 3
        self._c.padded_units.argtypes = [c_int64]
        self._c.pack_weights.argtypes = [c_void_p, c_void_p, c_int64, c_int64, c_int64]
        for name in ("forward", "backward"):
            getattr(self._c, name).argtypes = [c_void_p]
        self.columns = self._columns()
        self.distinct = len(set(self.columns[0] + self.columns[1]))
        self.sums = len(program.unit_grads)
        self.saved = c_int.in_dll(self._c, "saved_values").value
        self.key = f"{cell}-{_DTYPES[dtype]}-{id(self):x}"
        self._lanes = self._c.lanes()

    def _columns(self) -> tuple[list[int], list[int]]:
        """Which of the different gradients of gates is that of each input gate, and of each hidden gate."""
        grads = [id(n) for n in (*self.program.input_grads, *self.program.hidden_grads)]
        order = list(dict.fromkeys(grads))
        places = [order.index(g) for g in grads]
        return places[: len(self.cell.input_gates)], places[len(self.cell.input_gates) :]

    def padded(self, H: int) -> int:
        """H, up to a whole number of vectors."""
        return (H + self._lanes - 1) // self._lanes * self._lanes

    def forward(self, fields: dict[str, Any]) -> None:
        self._call(self._c.forward, fields)

    def backward(self, fields: dict[str, Any]) -> None:
        self._call(self._c.backward, fields)

    def _call(self, function: Callable[[Any], int], fields: dict[str, Any]) -> None:
        job = self.Job(threads=torch.get_num_threads(), **fields, **threads())
        if function(ctypes.addressof(job)):
            raise MemoryError(f"{self.cell}: no memory for the kernel")


def _job(states: int, real: Any) -> type[Structure]:
    """The C struct Job of a cell with so many parts of the state."""
    sizes = "B T D H threads x_b x_t y_b y_t dy_b dy_t dx_b dx_t".split()
    given = "order lengths resets x w_ih w_hh b_ih b_hh units state0 mask".split()
    rest = "y state1 saved packed_ih packed_hh dy dstate1 dx dstate0 dw_ih dw_hh db dunits".split()
    fields = [
        *((name, c_int64) for name in sizes),
        *((name, c_void_p) for name in given),
        ("zone", c_void_p * states),
        ("rate", real * states),
        *((name, c_void_p) for name in rest),
        *((name, c_void_p) for name in ("parallel", "thread_number", "thread_count")),
    ]
    return type("Job", (Structure,), {"_fields_": fields})


@functools.cache
def _openmp() -> dict[str, int]:
    """The functions of the OpenMP runtime that torch itself uses: one pool of threads for both."""
    loaded = ctypes.CDLL(torch._C.__file__)
    names = {"parallel": "GOMP_parallel", "thread_number": "omp_get_thread_num", "thread_count": "omp_get_num_threads"}
    return {field: ctypes.cast(getattr(loaded, name), c_void_p).value or 0 for field, name in names.items()}


def threads() -> dict[str, int]:
    """Where the kernels' threads come from."""
    return _openmp()
