"""Reads all values that a cell's step depends on besides its arguments. Other values require another kernel."""

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
    """Return whether a cell has no settings: it is a built-in cell without attributes of its own."""
    return type(cell).__module__.startswith("elman.cells.") and not vars(cell)


def settings(cell: Cell) -> Hashable:
    """Return a hashable copy of all values that a cell's step depends on.

    These are the attributes of the cell and of its class, and the global and enclosing variables that its functions
    name. Two copies are equal only if all values are equal, down to the last element of an array.
    """
    return () if fixed(cell) else _Reader().read(vars(cell), *chain.from_iterable(_classes(type(cell))))


#: Attributes that are read when a class is created. Changing them later has no effect.
_DECLARED = frozenset(
    {"input_gates", "hidden_gates", "inner_gates", "state", "weights", "raw", "open_gates", "gate_bias", "biases",
     "memory", "key_gates", "head_gates", "key_state", "head_state",
     "InputGates", "HiddenGates", "State", "Vectors", "_abc_impl", "__abstractmethods__"}
)  # fmt: skip


def _classes(kind: type) -> Iterator[tuple[str, Any]]:
    for base in kind.__mro__:
        if base is Cell:
            return
        for name, value in () if base.__module__.startswith("elman.cells.") else vars(base).items():
            if name not in _DECLARED and name[:2] != "__":
                yield name, value


#: Packages whose functions do not depend on settings of a cell.
_LIBRARIES = {"elman", "torch", "numpy"} | sys.stdlib_module_names
#: Types whose values are hashable and immutable, and types of numbers.
_IMMUTABLE, _NUMBERS = {str, bytes, type(None), ModuleType, CodeType}, {bool, int, float, complex}


class _Reader:
    """Creates a hashable copy of values. An object that occurs again is copied once."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is reused

    def read(self, *values: Any) -> tuple[Hashable, ...]:
        return tuple([self._read(value) for value in values])

    def _read(self, value: Any) -> Hashable:
        kind = type(value)
        if kind in _IMMUTABLE:
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
        """Return the code and the variables that a function reads; for functions of libraries the code alone."""
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
    metadata = str(t.dtype), str(t.device), tuple(t.shape)
    if t.is_meta:
        return metadata
    if t.layout is not torch.strided or t.is_quantized:
        return *metadata, repr(t)
    return *metadata, t.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()


@functools.lru_cache(maxsize=1000)
def _named(code: CodeType) -> tuple[str, ...]:
    """Return the names that code and its nested functions look up."""
    inner = chain.from_iterable(_named(c) for c in code.co_consts if isinstance(c, CodeType))
    return tuple(dict.fromkeys((*code.co_names, *inner)))


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(n for n in slots if n not in ("__dict__", "__weakref__"))
