"""The arguments of layers, checked when a layer is built: what is wrong is refused in one line."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

import torch


def whole(name: str, value: Any) -> int:
    """value as an int. TypeError for what is no whole number, and for a bool; NumPy's integers are whole numbers."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} should be of type int, got: {type(value).__name__}") from None


def size(name: str, value: Any, least: int = 1) -> int:
    """value as an int of at least ``least``; TypeError or ValueError otherwise."""
    number = whole(name, value)
    if number < least:
        raise ValueError(f"{name} must be {'positive' if least == 1 else f'at least {least}'}, not {number}")
    return number


def flag(name: str, value: Any) -> bool:
    """value, True or False; TypeError otherwise: neither 1 nor "no" is one."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")
    return value


def probability(name: str, value: Any) -> float:
    """value, a number in [0, 1); ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= float(value) < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")
    return float(value)


def number(name: str, value: Any) -> float:
    """value, a finite number; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def real(dtype: Any) -> torch.dtype | None:
    """dtype, of real numbers, or None for the default; TypeError otherwise."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point torch.dtype, not {dtype!r}")
    return dtype
