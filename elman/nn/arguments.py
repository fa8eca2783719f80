"""Checks of the arguments of `elman.nn`'s modules, with the error types of torch.nn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elman.layers.state import shapes

Device = torch.device | str | int | None


def is_state(hx: Any, count: int, dim: int) -> bool:
    """Return whether hx is one tensor (count 1) or a pair of tensors (count 2) of ``dim`` dimensions."""
    if count == 1:
        return isinstance(hx, Tensor) and hx.dim() == dim
    return type(hx) is tuple and len(hx) == 2 and all(isinstance(h, Tensor) and h.dim() == dim for h in hx)


def state_parts(name: str, x: Tensor, hx: Any, expected: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Return hx as a tuple of ``len(expected)`` tensors with the dtype and device of x. Sizes are not checked.

    Raises:
        ValueError: hx is not one tensor, or not a pair where two are expected.
        RuntimeError: a dtype or device differs from that of x, as in torch.
    """
    parts = (hx,) if len(expected) == 1 else hx
    if (
        not isinstance(parts, (tuple, list))
        or len(parts) != len(expected)
        or not all(isinstance(part, Tensor) for part in parts)
    ):
        form = f"one tensor {expected[0]}" if len(expected) == 1 else f"a pair of tensors (h, c), {tuple(expected)}"
        raise ValueError(f"{name}: hx must be {form}; it is {shapes(hx)}")
    for part in parts:
        if part.device != x.device:
            raise RuntimeError(
                "Input and hidden tensors are not at the same device, found input tensor at "
                f"{x.device} and hidden tensor at {part.device}"
            )
        if part.dtype is not x.dtype and not (part.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
            raise RuntimeError(
                "Input and hidden tensors are not the same dtype, found input tensor with "
                f"{x.dtype} and hidden tensor with {part.dtype}"
            )
    return tuple(parts)


def refuse_projection(proj_size: Any) -> None:
    """Raise torch's ValueError if a proj_size is given."""
    if proj_size is not None:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


def cell_name(nonlinearity: str) -> str:
    """Return the name in `elman.cells.CELLS` of the RNN with this nonlinearity."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
    return f"rnn_{nonlinearity}"
