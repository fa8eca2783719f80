"""Checks of the arguments of layers, each with a one-line error."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

import torch


def integer(name: str, value: Any) -> int:
    """Return value, of any integer type but bool, as an int; raise a TypeError otherwise."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} should be of type int, got: {type(value).__name__}") from None


def size(name: str, value: Any, minimum: int = 1) -> int:
    """Return value as an int of at least ``minimum``; raise a TypeError or ValueError otherwise."""
    number = integer(name, value)
    if number < minimum:
        raise ValueError(f"{name} must be {'positive' if minimum == 1 else f'at least {minimum}'}, not {number}")
    return number


def flag(name: str, value: Any) -> bool:
    """Return value if it is a bool; raise a TypeError otherwise."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")
    return value


def probability(name: str, value: Any) -> float:
    """Return value as a float in [0, 1); raise a ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= float(value) < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")
    return float(value)


def number(name: str, value: Any) -> float:
    """Return value as a finite float; raise a ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def floating_dtype(dtype: Any) -> torch.dtype | None:
    """Return dtype if it is a floating-point dtype or None; raise a TypeError otherwise."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point torch.dtype, not {dtype!r}")
    return dtype
