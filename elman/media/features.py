"""Rows of pictures, from the cache or computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from elman.data.cache import cache_folder
from elman.data.pictures import Picture, open_again
from elman.media.store import Rows, RowStore, computed
from elman.media.views import View, square


class Recipe(NamedTuple):
    """How pictures become rows.

    Attributes:
        name (str): of the folder in the cache; differs between recipes that differ.
        size (int): pixels a side.
        shape (tuple[int, int]): S and C of a row.
        dtype: the type of its numbers.
        compute: from pixels (N, size, size, 3) uint8 to rows (N, S, C); called in several threads at once.
        at_once (int): the number of pictures of one call. Default: 4.
    """

    name: str
    size: int
    shape: tuple[int, int]
    dtype: type
    compute: Callable[[np.ndarray], np.ndarray]
    at_once: int = 4


class PictureRows:
    """The rows of pictures, from the cache, or computed and then kept there.

    Args:
        recipe (Recipe): how they are computed.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._folder = cache_folder("pictures") / recipe.name
        self._stores: dict[str, RowStore] = {}

    def read(
        self, pictures: Sequence[Picture], views: Sequence[Sequence[View]], places: Sequence[str]
    ) -> list[tuple[np.ndarray, ...]]:
        """Return the rows of pictures.

        Args:
            pictures (Sequence[Picture]): the pictures.
            views (Sequence[Sequence[View]]): the views that are wanted of each.
            places (Sequence[str]): the origin of each, for messages.

        Raises:
            ElmanError: a picture cannot be read.
        """
        wanted: dict[str, dict[str, None]] = {}
        for picture, own in zip(pictures, views, strict=True):
            for view in own:
                wanted.setdefault(view.name, {})[picture.digest] = None
        found = {name: self._store(name).find(list(digests)) for name, digests in wanted.items()}
        missing: dict[str, _Job] = {}
        for picture, own, place in zip(pictures, views, places or [""] * len(pictures), strict=True):
            absent = [view for view in own if picture.digest not in found[view.name]]
            if absent:
                missing.setdefault(picture.digest, _Job(picture, place, {})).views.update({v.name: v for v in absent})
        jobs, n = list(missing.values()), self.recipe.at_once
        parts = [jobs[k : k + n] for k in range(0, len(jobs), n)]
        for name, rows in computed(parts, self._compute, self._store, len(jobs), "pictures"):
            found[name].update(rows)
        return [
            tuple(found[view.name][picture.digest] for view in own)
            for picture, own in zip(pictures, views, strict=True)
        ]

    def _store(self, view: str) -> RowStore:
        if view not in self._stores:
            self._stores[view] = RowStore(self._folder / view, self.recipe.shape, self.recipe.dtype)
        return self._stores[view]

    def _compute(self, jobs: Sequence[_Job]) -> list[tuple[str, Rows]]:
        """The rows of a few pictures, by view."""
        pixels, owners = [], []
        for job in jobs:
            picture = open_again(job.picture, job.place, 2 * self.recipe.size)
            for view in job.views.values():
                pixels.append(square(picture, self.recipe.size, view))
                owners.append((job.picture.digest, view.name))
        rows: dict[str, Rows] = {job.picture.digest: {} for job in jobs}
        with torch.inference_mode():
            n = self.recipe.at_once
            for k in range(0, len(pixels), n):
                values = self.recipe.compute(np.stack(pixels[k : k + n]))
                for (digest, name), row in zip(owners[k : k + n], values, strict=True):
                    rows[digest][name] = row
        return list(rows.items())


class _Job(NamedTuple):
    """A picture, where it comes from, and the views that are wanted of it by name."""

    picture: Picture
    place: str
    views: dict[str, View]
