"""Single steps of layers without gradients, from jobs that are kept ready, as a loop of steps in Python needs them."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from ctypes import c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from elman.cells import Cell
from elman.engines.compiler.settings import fixed, settings
from elman.engines.cpu.layers import BoundLayers, library
from elman.engines.cpu.library import Library
from elman.engines.scan import State
from elman.engines.writing import Layers, Place


class Stepper:
    """One step of recurrent layers, in float32.

    Jobs hold addresses and sizes, no values. `fits` compares them with those of the weights before every step, so that
    a step uses the values that the weights have then, however they were changed.

    Args:
        libraries (Sequence[Library]): the kernel of each layer.
        layers (Layers): a single step.
        places (Sequence[Place]): where the weights of all layers are kept, also those that are None.
    """

    def __init__(self, libraries: Sequence[Library], layers: Layers, places: Sequence[Place]) -> None:
        scans = layers.scans
        self._lock = threading.Lock()
        self._bound = BoundLayers(libraries, layers)
        self._bound.weights.clear()  # those of a step are the layers' own, and `fits` has seen them
        self._sizes = [(at, len(at)) for at in {id(at): at for at, _ in places}.values()]
        self._absent = [(at, name) for at, name in places if at[name] is None]
        self._places = [
            (at, name, weakref.ref(w), w.data_ptr(), w.shape) for at, name in places if (w := at[name]) is not None
        ]
        self._cells: list[tuple[Cell, Any]] = [(s.cell, None if fixed(s.cell) else settings(s.cell)) for s in scans]
        self._default = torch.get_default_dtype()
        B, _, D = scans[0].x.shape
        self._x = B, D
        self._states = [[tuple(part.shape) for part in scan.state] for scan in scans]
        count = sum(map(len, self._states))
        self._old, self._new = (c_void_p * count)(), (c_void_p * count)()
        self._struct, self._at_old, self._at_new = map(ctypes.addressof, (self._bound.struct, self._old, self._new))
        built = library()
        assert built is not None
        self._run = built.step_layers

    def fits(self) -> bool:
        """Return whether the weights lie where they lay, and the cells have the settings that they had."""
        for at, name, weight, address, shape in self._places:
            w = at.get(name)
            if w is None or w is not weight() or w.data_ptr() != address or w.shape != shape:
                return False
            if not w.is_contiguous() or w.dtype is not torch.float32:  # of other data at the same address
                return False
        for at, count in self._sizes:
            if len(at) != count:
                return False
        for at, name in self._absent:
            if at.get(name) is not None:
                return False
        for cell, values in self._cells:
            if not fixed(cell) if values is None else settings(cell) != values:
                return False
        return torch.get_default_dtype() is self._default

    def step(self, x: Any, states: Sequence[Any]) -> tuple[Tensor, list[State]] | None:
        """Return y (B, H) and the states after x (B, D); None if x or a state is not what a kernel can read."""
        if not _is(x, self._x) or len(states) != len(self._states):
            return None
        parts = []
        for state, shapes in zip(states, self._states, strict=True):
            if not isinstance(state, (tuple, list)) or len(state) != len(shapes):
                return None
            for part, shape in zip(state, shapes, strict=True):
                if not _is(part, shape):
                    return None
                parts.append(part)
        new = [torch.empty_like(part) for part in parts]  # costs half of what torch.empty does
        y = torch.empty_like(states[-1][0])
        if not self._lock.acquire(blocking=False):  # another thread is at it
            return None
        try:
            self._old[:] = [part.data_ptr() for part in parts]  # type: ignore[assignment]
            self._new[:] = [part.data_ptr() for part in new]  # type: ignore[assignment]
            self._bound.refresh()
            if self._run(self._struct, x.data_ptr(), y.data_ptr(), self._at_old, self._at_new):
                raise MemoryError("no memory for the kernels")
        finally:
            self._lock.release()
        each = iter(new)
        return y, [tuple([next(each) for _ in shapes]) for shapes in self._states]


def suits(t: Tensor) -> bool:
    """Return whether a kernel in float32 can read a tensor as it lies in memory."""
    kind = type(t)
    return (
        (kind is Parameter or kind is Tensor) and t.dtype is torch.float32 and t.is_cpu and t.is_contiguous()
        and not t.is_neg()
    )  # fmt: skip


def _is(t: Any, shape: tuple[int, ...]) -> bool:
    return type(t) is Tensor and t.shape == shape and suits(t)
