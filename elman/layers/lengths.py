"""The lengths of the rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elman.engines.modes import readable, shape_of

#: The types accepted for the lengths of rows.
Lengths = Tensor | Sequence[int] | np.ndarray | None
_NOT_INTEGER = (torch.bool, torch.complex64, torch.complex128)


def check_lengths(lengths: Lengths, x: Tensor) -> Tensor:
    """Return lengths (B,) on the device of x (B, T, D), from a tensor, an array or a list.

    Raises:
        ValueError: lengths are not B integers in 0..T.
    """
    if not isinstance(lengths, Tensor):
        lengths = _as_tensor(lengths)
    if shape_of(lengths) != shape_of(x)[:1] or lengths.dtype.is_floating_point or lengths.dtype in _NOT_INTEGER:
        raise ValueError(
            f"lengths must be {x.shape[0]} integers, one per row; it is {lengths.dtype} of shape {tuple(lengths.shape)}"
        )
    if readable(lengths) and lengths.device.type == "cpu" and lengths.numel():
        low, high = lengths.long().aminmax()
        if int(low) < 0 or int(high) > x.shape[1]:
            raise ValueError(f"lengths must be between 0 and T = {x.shape[1]}, they are {lengths.tolist()}")
    return lengths.to(x.device, torch.long)


def _as_tensor(lengths: Any) -> Tensor:
    """Return lengths that are not a tensor as one."""
    try:
        values = torch.as_tensor(lengths)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"lengths must be integers, one per row: a tensor or a list, not {lengths!r}") from None
    return values if values.numel() else values.long()  # an empty list has no dtype


def real_steps(lengths: Tensor, T: int) -> Tensor:
    """Return a mask (B, T), true on the steps within each row's length."""
    return torch.arange(T, device=lengths.device) < lengths[:, None]
