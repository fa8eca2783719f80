"""What torch.nn's recurrent modules are given: states, and options that some of them do not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elman.layers.state import shapes

Device = torch.device | str | int | None


def is_state(hx: Any, parts: int, dim: int) -> bool:
    """Whether hx is a state of so many parts of ``dim`` dimensions, of whatever sizes."""
    if parts == 1:
        return isinstance(hx, Tensor) and hx.dim() == dim
    return type(hx) is tuple and len(hx) == 2 and all(isinstance(h, Tensor) and h.dim() == dim for h in hx)


def parts_of(name: str, x: Tensor, hx: Any, wanted: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """hx as a tuple of so many tensors, of the kind of x; their sizes are the caller's to check.

    ValueError where it is nested in another way: a tensor is no pair, whatever its size. RuntimeError where dtype or
    device differ, as in torch.
    """
    parts = (hx,) if len(wanted) == 1 else hx
    if (
        not isinstance(parts, (tuple, list))
        or len(parts) != len(wanted)
        or not all(isinstance(part, Tensor) for part in parts)
    ):
        form = f"one tensor {wanted[0]}" if len(wanted) == 1 else f"a pair of tensors (h, c), {tuple(wanted)}"
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


def no_projection(proj_size: Any) -> None:
    if proj_size is not None:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


def rnn_cell(nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
    return f"rnn_{nonlinearity}"
