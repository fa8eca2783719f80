"""Keeps what is made of a cell, until a value changes that its step depends on."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar, final

import torch

from elman.cells import Cell
from elman.engines.compiler.settings import fixed, settings
from elman.engines.modes import unwatched, watched

Made = TypeVar("Made")


@final
class PerCell(Generic[Made]):
    """A function of a cell and further arguments that is computed once for each of the cell's settings.

    Args:
        make: the function. No mode of torch is active while it runs.
    """

    def __init__(self, make: Callable[..., Made]) -> None:
        self._make = make
        self._made: weakref.WeakKeyDictionary[Cell, dict[Hashable, Made]] = weakref.WeakKeyDictionary()
        self._unhashable: dict[int, tuple[Cell, dict[Hashable, Made]]] = {}  # for example dataclasses, by id

    def __call__(self, cell: Cell, *more: Any) -> Made:
        """Return the result of the function for a cell as it is now."""
        try:
            made = self._made.setdefault(cell, {})
        except TypeError:
            made = self._unhashable.setdefault(id(cell), (cell, {}))[1]
        values = unwatched(settings, cell) if watched() and not fixed(cell) else settings(cell)
        key = more, values, torch.get_default_dtype()
        if key not in made:
            made[key] = unwatched(self._make, cell, *more)
        return made[key]
