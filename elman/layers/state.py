"""The state of recurrent layers: tensors in nested tuples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from elman.engines.modes import shape_of

#: (h,) or (h, c) of one cell, each (B, ·); a tuple of those for a stack; None for zeros.
State = Any
#: Nested as a state is, with the size of each part in its place; named tuples where the parts have names.
Sizes = Any


def zeros(sizes: Sizes, x: Tensor) -> State:
    """The state of these sizes that is 0, for the batch of x, with its dtype and device."""
    if isinstance(sizes, int):
        return x.new_zeros(x.shape[0], sizes)
    return tuple([zeros(part, x) for part in sizes])


def fits(state: State, sizes: Sizes, x: Tensor) -> bool:
    """Whether a state is nested as ``sizes`` is, of tensors (B, size) that go with the batch of x.

    Lists do as tuples do; a tensor is never taken for a tuple of its rows. Dtype and device are those of x; under
    autocast, where layers differ in what they compute with, any floating-point dtype goes.
    """
    if isinstance(sizes, int):
        return (
            isinstance(state, Tensor)
            and shape_of(state) == (shape_of(x)[0], sizes)
            and (state.dtype is x.dtype or (state.is_floating_point() and torch.is_autocast_enabled(x.device.type)))
            and state.device == x.device
        )
    if not isinstance(state, (tuple, list)) or len(state) != len(sizes):
        return False
    return all(fits(part, wanted, x) for part, wanted in zip(state, sizes, strict=True))


def misfit(state: State, sizes: Sizes, x: Tensor) -> str:
    """What is wrong with a state that does not fit: the structure that is wanted, and the one that is given."""
    wanted, given = shapes(zeros(sizes, x.new_empty(x.shape[0], 0, device="meta"))), shapes(state)
    about = f"the state {_names(sizes)} must be"
    if wanted != given:
        return f"{about} {wanted}, it is {given}"
    kinds = sorted({f"{part.dtype} on {part.device}" for part in flatten(state).values()})
    return f"{about} {x.dtype} on {x.device}, as x is; it is {', '.join(kinds)}"


def shapes(state: State) -> str:
    """How a state, or what was given for one, is nested, with the shapes of its tensors."""
    if isinstance(state, Tensor):
        return str(tuple(state.shape))
    if not isinstance(state, (tuple, list)):
        return "None" if state is None else f"a {type(state).__name__}"
    return _tuple([shapes(part) for part in state])


def _names(sizes: Sizes, name: str = "") -> str:
    if isinstance(sizes, int):
        return name
    names = getattr(sizes, "_fields", [""] * len(sizes))
    return _tuple([_names(part, name) for part, name in zip(sizes, names, strict=True)])


def _tuple(parts: list[str]) -> str:
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


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
