"""The state of recurrent layers: tensors in nested tuples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

#: (h,) or (h, c) of one cell, each (B, ·); a tuple of those for a stack; None for zeros.
State = Any


def over(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """The same nested tuples, named ones too, with ``function`` of each tensor."""
    if isinstance(state, Tensor):
        return function(state)
    parts = tuple(over(part, function) for part in state)
    return type(state)(*parts) if hasattr(state, "_fields") else parts


def detach(state: State) -> State:
    """The same state, cut off from the steps that made it: for truncated backpropagation through time."""
    return over(state, Tensor.detach)


def flatten(state: State, prefix: str = "") -> dict[str, Tensor]:
    """The tensors by their place: ((h, c), (h, c)) has "0.0", "0.1", "1.0" and "1.1"."""
    if isinstance(state, Tensor):
        return {prefix: state}
    flat: dict[str, Tensor] = {}
    for index, part in enumerate(state):
        flat |= flatten(part, f"{prefix}.{index}" if prefix else str(index))
    return flat


def unflatten(flat: dict[str, Tensor]) -> State:
    """The state that `flatten` took apart."""
    if set(flat) == {""}:
        return flat[""]
    parts: dict[int, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        index, _, rest = key.partition(".")
        parts.setdefault(int(index), {})[rest] = tensor
    return tuple(unflatten(parts[index]) for index in range(len(parts)))
