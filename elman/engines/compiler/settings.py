"""What a cell's step reads beside its arguments: a kernel holds for these values, and others make another kernel."""

from __future__ import annotations

import functools
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Hashable, Iterator
from itertools import chain
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from elman.cells import Cell


def fixed(cell: Cell) -> bool:
    """Whether nothing can be set on a cell: it is one of elman's own, as it comes."""
    return type(cell).__module__.startswith("elman.cells.") and not vars(cell)


def settings(cell: Cell) -> Hashable:
    """All values that the author has set: on the cell, on its class, and the global and enclosing variables that its
    functions name. Equal only where all of them are equal, down to the last number of an array."""
    return () if fixed(cell) else _Reader().read(vars(cell), *chain.from_iterable(_classes(type(cell))))


#: What is taken from a class when it is made; a change later has no effect.
_DECLARED = frozenset(
    {"input_gates", "hidden_gates", "inner_gates", "state", "weights", "raw", "open_gates", "gate_bias", "biases",
     "InputGates", "HiddenGates", "State", "Vectors", "_abc_impl", "__abstractmethods__"}
)  # fmt: skip


def _classes(kind: type) -> Iterator[tuple[str, Any]]:
    for base in kind.__mro__:
        if base is Cell:
            return
        for name, value in () if base.__module__.startswith("elman.cells.") else vars(base).items():
            if name not in _DECLARED and name[:2] != "__":
                yield name, value


#: Packages whose functions look at nothing that is set for a cell.
_LIBRARIES = {"elman", "torch", "numpy"} | sys.stdlib_module_names
#: Kinds of values that stand for themselves, and numbers.
_AS_THEY_ARE, _NUMBERS = {str, bytes, type(None), ModuleType, CodeType}, {bool, int, float, complex}


class _Reader:
    """Makes a hashable copy of values, each object once."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is used twice

    def read(self, *values: Any) -> tuple[Hashable, ...]:
        return tuple([self._read(value) for value in values])

    def _read(self, value: Any) -> Hashable:
        kind = type(value)
        if kind in _AS_THEY_ARE:
            return value
        if kind in _NUMBERS:
            return kind, repr(value)  # True is not 1, -0.0 is not 0.0, and NaN is NaN
        if isinstance(value, type):
            return value
        if id(value) in self._numbers:
            return "again", self._numbers[id(value)]
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return kind, *self._parts(value)

    def _parts(self, value: Any) -> tuple[Hashable, ...]:
        kind = type(value)
        if kind in (Tensor, Parameter):
            return _values(value)
        if kind is np.ndarray and value.dtype != object:
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, np.ndarray):
            return self.read(*value.flat)
        if isinstance(value, dict):
            return self.read(*value, *value.values(), *(vars(value).items() if hasattr(value, "__dict__") else ()))
        if isinstance(value, (list, tuple, deque)):
            return self.read(*value)
        if isinstance(value, (set, frozenset)):
            return self.read(*sorted(value, key=repr))
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return self.read(value.__func__, value.__self__)
        if isinstance(value, functools.partial):
            return self.read(value.func, value.args, value.keywords)
        if isinstance(value, (classmethod, staticmethod)):
            return self.read(value.__func__)
        if isinstance(value, property):
            return self.read(value.fget)
        library = kind.__module__.partition(".")[0] in sys.stdlib_module_names
        if isinstance(value, Tensor) or (library and kind not in (Namespace, SimpleNamespace)):
            return (repr(value),)
        slots = [name for base in kind.__mro__ for name in _names(vars(base).get("__slots__", ()))]
        own = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
        return self.read(own) if own or hasattr(value, "__dict__") else (repr(value),)

    def _function(self, function: FunctionType) -> tuple[Hashable, ...]:
        """Its code, and what it finds outside: of other modules' functions, the code alone."""
        read: list[Any] = [function.__code__, function.__defaults__, function.__kwdefaults__]
        for cell in function.__closure__ or ():
            try:
                read.append(cell.cell_contents)
            except ValueError:  # not set yet
                read.append(None)
        outside = function.__globals__
        if (function.__module__ or "").partition(".")[0] not in _LIBRARIES:
            read += [outside[name] for name in _named(function.__code__) if name in outside]
        return self.read(*read)


def _values(t: Tensor) -> tuple[Hashable, ...]:
    about = str(t.dtype), str(t.device), tuple(t.shape)
    if t.is_meta:
        return about
    if t.layout is not torch.strided or t.is_quantized:
        return *about, repr(t)
    return *about, t.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()


@functools.lru_cache(maxsize=1000)
def _named(code: CodeType) -> tuple[str, ...]:
    """The names that code, and the functions in it, look up."""
    inner = chain.from_iterable(_named(c) for c in code.co_consts if isinstance(c, CodeType))
    return tuple(dict.fromkeys((*code.co_names, *inner)))


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(n for n in slots if n not in ("__dict__", "__weakref__"))
