"""The state of recurrent layers: tensors in nested tuples, and functions on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from elman.engines.modes import shape_of

#: The state of a layer: (h,) or (h, c) for one cell, each (B, ·); a tuple of states for a stack; None for zeros.
State = Any
#: The sizes of the tensors of a state, nested like the state: numbers, or a torch.Size where a tensor has more
#: dimensions. Named tuples where the parts have names.
Sizes = Any


def zeros(sizes: Sizes, x: Tensor) -> State:
    """Return a state of zeros.

    Args:
        sizes (Sizes): The sizes of its tensors.
        x (Tensor): An input (B, ...), which gives the batch size, dtype and device.

    Returns:
        State: Tensors (B, size) or (B, *size), nested like ``sizes``.
    """
    if isinstance(sizes, (int, torch.Size)):
        return x.new_zeros(x.shape[0], *_dimensions(sizes))
    return tuple([zeros(part, x) for part in sizes])


def fits(state: State, sizes: Sizes, x: Tensor) -> bool:
    """Return whether a state has the nesting and sizes in ``sizes``, and the batch size, dtype and device of x.

    Lists are accepted for tuples, but a tensor is not accepted for the tuple of its rows. Under autocast, any
    floating-point dtype is accepted, since layers compute in different ones.

    Args:
        state (State): The state to check.
        sizes (Sizes): The sizes of its tensors.
        x (Tensor): The input (B, ...).

    Returns:
        bool: Whether the state fits.
    """
    if isinstance(sizes, (int, torch.Size)):
        return (
            isinstance(state, Tensor)
            and shape_of(state) == (shape_of(x)[0], *_dimensions(sizes))
            and (state.dtype is x.dtype or (state.is_floating_point() and torch.is_autocast_enabled(x.device.type)))
            and state.device == x.device
        )
    if not isinstance(state, (tuple, list)) or len(state) != len(sizes):
        return False
    return all(fits(part, wanted, x) for part, wanted in zip(state, sizes, strict=True))


def _dimensions(size: int | torch.Size) -> tuple[int, ...]:
    """Return the dimensions of a tensor of a state after the first."""
    return (size,) if isinstance(size, int) else size


def misfit(state: State, sizes: Sizes, x: Tensor) -> str:
    """Return the error message for a state that does not pass `fits`.

    Args:
        state (State): The state.
        sizes (Sizes): The sizes that its tensors should have.
        x (Tensor): The input (B, ...).

    Returns:
        str: The expected structure and the actual one, or the dtype and device if only these differ.
    """
    wanted, given = shapes(zeros(sizes, x.new_empty(x.shape[0], 0, device="meta"))), shapes(state)
    if wanted != given:
        return f"the state {_names(sizes)} must have the shapes {wanted}, got: {given}"
    kinds = sorted({f"{part.dtype} on {part.device}" for part in flatten(state).values()})
    return f"the state {_names(sizes)} must be {x.dtype} on {x.device}, like x, got: {', '.join(kinds)}"


def shapes(state: State) -> str:
    """Return the nesting of a state and the shapes of its tensors as text, for messages.

    Args:
        state (State): A state, or any other object that was given for one.

    Returns:
        str: The text.

    Example::

        >>> shapes((torch.zeros(2, 4), torch.zeros(2, 6)))
        '((2, 4), (2, 6))'
    """
    if isinstance(state, Tensor):
        return str(tuple(state.shape))
    if not isinstance(state, (tuple, list)):
        return "None" if state is None else f"a {type(state).__name__}"
    return _tuple([shapes(part) for part in state])


def _names(sizes: Sizes, name: str = "") -> str:
    """Return the names of the parts of a state, nested like the state."""
    if isinstance(sizes, (int, torch.Size)):
        return name
    names = getattr(sizes, "_fields", [""] * len(sizes))
    return _tuple([_names(part, name) for part, name in zip(sizes, names, strict=True)])


def _tuple(parts: list[str]) -> str:
    """Format parts like a tuple."""
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def map_state(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """Apply a function to every tensor of a state.

    Args:
        state (State): A nested tuple of tensors, which may include named tuples.
        function (Callable[[Tensor], Tensor]): The function.

    Returns:
        State: The results, nested like ``state``.

    Example::

        >>> map_state((torch.zeros(2, 4), (torch.zeros(2, 4),)), lambda h: h[:1])
        (tensor([[0., 0., 0., 0.]]), (tensor([[0., 0., 0., 0.]]),))
    """
    if isinstance(state, Tensor):
        return function(state)
    parts = tuple(map_state(part, function) for part in state)
    return type(state)(*parts) if hasattr(state, "_fields") else parts


def join_rows(states: Sequence[State]) -> State:
    """Concatenate states by rows.

    Args:
        states (Sequence[State]): One or more states with the same nesting and sizes.

    Returns:
        State: The rows of all states, in this order.

    Example::

        >>> join_rows([(torch.zeros(2, 4),), (torch.zeros(1, 4),)])[0].shape
        torch.Size([3, 4])
    """
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(list(states))
    parts = tuple(join_rows(part) for part in zip(*states, strict=True))
    return type(first)(*parts) if hasattr(first, "_fields") else parts


def detach(state: State) -> State:
    """Return the state without its history, for truncated backpropagation through time.

    Args:
        state (State): A state.

    Returns:
        State: The same values, detached from the graph of gradients.

    Example::

        for x in chunks:
            y, state = layer(x, state)
            y.sum().backward()
            state = elman.detach(state)
    """
    return map_state(state, Tensor.detach)


def flatten(state: State, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a state by their path.

    Args:
        state (State): A state.
        prefix (str): The path of the state itself. Default: ``""``.

    Returns:
        dict[str, Tensor]: The tensors. Those of ((h, c), (h, c)) have the keys "0.0", "0.1", "1.0" and "1.1".
    """
    if isinstance(state, Tensor):
        return {prefix: state}
    flat: dict[str, Tensor] = {}
    for index, part in enumerate(state):
        flat |= flatten(part, f"{prefix}.{index}" if prefix else str(index))
    return flat


def unflatten(flat: dict[str, Tensor]) -> State:
    """Return the state for tensors by their path; the inverse of `flatten`.

    Args:
        flat (dict[str, Tensor]): The result of `flatten`.

    Returns:
        State: The state.
    """
    if set(flat) == {""}:
        return flat[""]
    parts: dict[int, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        index, _, rest = key.partition(".")
        parts.setdefault(int(index), {})[rest] = tensor
    return tuple(unflatten(parts[index]) for index in range(len(parts)))
