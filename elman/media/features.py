"""Rows of pictures: computed by several threads, and kept in memory-mapped files of a cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
import torch

from elman.data.cache import cache_folder
from elman.data.pictures import Picture, open_again
from elman.media.views import View, square

_log = logging.getLogger("elman")

#: What the names of complete files end with.
_ENDING = ".safetensors"
#: The form of the files; another one is never read.
_FORMAT = 1
#: Pictures that are fewer are encoded again, rather than kept in a file of their own.
FEWEST = 16
#: The size of a file of the cache, about.
_SHARD_BYTES = 32 << 20
#: Seconds between two log lines.
_LOG_SECONDS = 10.0

_Place = tuple[np.ndarray, np.ndarray, int]  # rows (N, S, C), checksums (N,), and which


class FeatureStore:
    """Rows (S, C) of pictures in a folder, by the hash of their file.

    A file of the folder is complete or absent: it is written under another name and then renamed, so that several
    processes can fill the folder at once. Each row has a checksum. A file that is damaged is removed, and its rows are
    absent.

    Args:
        folder (Path): the folder; its name says how the rows were computed. It is created.
        shape (tuple[int, int]): S and C.
        dtype: the type of the numbers.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], dtype: type) -> None:
        self.folder, self.shape, self.dtype = folder / f"v{_FORMAT}", shape, np.dtype(dtype)
        self._read: dict[str, list[bytes]] = {}  # the files that are open, and the hashes in each
        self._places: dict[bytes, _Place] = {}
        self._failed = False

    def find(self, digests: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the rows that are there, as views of the files."""
        self._open_new()
        found = {}
        for digest in digests:
            place = self._places.get(bytes.fromhex(digest))
            if place is None:
                continue
            rows, checks, k = place
            if _checksum(digest, rows[k]) == checks[k]:
                found[digest] = rows[k]
            else:
                self._forget(bytes.fromhex(digest))
        return found

    def add(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Write rows to a file; return them, as views of the file if it could be written."""
        if len(rows) < FEWEST or self._failed:
            return rows
        digests = list(rows)
        content: dict[str, np.ndarray] = {
            "digests": np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(len(digests), 32),
            "checks": np.array([_checksum(digest, rows[digest]) for digest in digests], np.uint32),
            "rows": np.stack([rows[digest] for digest in digests]).astype(self.dtype),
        }
        name = hashlib.sha256(content["digests"].tobytes()).hexdigest()[:32] + _ENDING
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, partial = tempfile.mkstemp(".partial", "", self.folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(safetensors.numpy.save(content))
                os.replace(partial, self.folder / name)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.remove(partial)
                raise
        except OSError as error:
            self._failed = True
            _log.warning("%s: the encoded pictures cannot be kept: %s", self.folder, error.strerror)
            return rows
        self._open(name)
        return {digest: self._row(digest, row) for digest, row in rows.items()}

    def _row(self, digest: str, row: np.ndarray) -> np.ndarray:
        place = self._places.get(bytes.fromhex(digest))
        return row if place is None else place[0][place[2]]

    def _open_new(self) -> None:
        """Open the files that this or another process has added."""
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self.folder)):
                if name.endswith(_ENDING) and name not in self._read:
                    self._open(name)

    def _open(self, name: str) -> None:
        content = _mapped(self.folder / name)
        if content is None or not self._fits(content):
            with contextlib.suppress(OSError):
                os.remove(self.folder / name)
            return
        digests = [row.tobytes() for row in content["digests"]]
        self._read[name] = digests
        for k, digest in enumerate(digests):
            self._places[digest] = content["rows"], content["checks"], k

    def _fits(self, content: dict[str, np.ndarray]) -> bool:
        forms = {name: (array.dtype, array.shape[1:]) for name, array in content.items()}
        wanted = {"digests": (np.uint8, (32,)), "checks": (np.uint32, ()), "rows": (self.dtype, self.shape)}
        return forms == wanted and len({len(array) for array in content.values()}) == 1

    def _forget(self, digest: bytes) -> None:
        """Remove the file of a row that is damaged."""
        for name in [name for name, digests in self._read.items() if digest in digests]:
            for one in self._read.pop(name):
                self._places.pop(one, None)
            with contextlib.suppress(OSError):
                os.remove(self.folder / name)


def _checksum(digest: str, row: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(row).data, zlib.crc32(bytes.fromhex(digest)))


#: The types of safetensors that are written here.
_TYPES = {"U8": np.uint8, "U32": np.uint32, "F16": np.float16}


def _mapped(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a safetensors file, mapped into memory; None if it is not whole."""
    try:
        whole = np.memmap(path, np.uint8, "r")
        data = 8 + int.from_bytes(whole[:8].tobytes(), "little")
        header = json.loads(whole[8:data].tobytes())
        found, end = {}, data
        for name, about in header.items():
            start, stop = (data + int(k) for k in about["data_offsets"])
            kind = np.dtype(_TYPES[about["dtype"]])
            found[name] = np.asarray(whole[start:stop]).view(kind).reshape(about["shape"])
            end = max(end, stop)
        return found if end == len(whole) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


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
        self._stores: dict[str, FeatureStore] = {}

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
        for name, rows in self._computed(list(missing.values())):
            found[name].update(rows)
        return [
            tuple(found[view.name][picture.digest] for view in own)
            for picture, own in zip(pictures, views, strict=True)
        ]

    def _store(self, view: str) -> FeatureStore:
        if view not in self._stores:
            self._stores[view] = FeatureStore(self._folder / view, self.recipe.shape, self.recipe.dtype)
        return self._stores[view]

    def _computed(self, jobs: list[_Job]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Compute rows and keep them in the cache; yield them by view, some at a time."""
        most = max(
            FEWEST, _SHARD_BYTES // (self.recipe.shape[0] * self.recipe.shape[1] * np.dtype(self.recipe.dtype).itemsize)
        )
        fresh: dict[str, dict[str, np.ndarray]] = {}
        started = told = time.monotonic()
        for done, (digest, rows) in enumerate(self._in_threads(jobs), 1):
            for name, row in rows.items():
                fresh.setdefault(name, {})[digest] = row
                if len(fresh[name]) == most:
                    yield name, self._store(name).add(fresh.pop(name))
            now = time.monotonic()
            if now - told >= _LOG_SECONDS:
                told, rate = now, done / (now - started)
                _log.warning("encoded %s of %s pictures, %.0f a second", f"{done:,}", f"{len(jobs):,}", rate)
        for name, rest in fresh.items():
            yield name, self._store(name).add(rest)

    def _in_threads(self, jobs: list[_Job]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Compute the rows of each job, in as many threads as torch uses.

        Each thread computes with one thread of torch: small products gain little from more, and waiting costs much.
        """
        n = self.recipe.at_once
        parts = [jobs[k : k + n] for k in range(0, len(jobs), n)]
        threads = min(torch.get_num_threads(), len(parts))
        if threads < 2:
            for part in parts:
                yield from self._compute(part)
            return
        before = torch.get_num_threads()
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            waiting: deque[Future] = deque()
            for part in parts:
                waiting.append(pool.submit(self._compute, part))
                if len(waiting) > 4 * threads:
                    yield from waiting.popleft().result()
            for future in waiting:
                yield from future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)

    def _compute(self, jobs: list[_Job]) -> list[tuple[str, dict[str, np.ndarray]]]:
        """The rows of a few pictures, by view."""
        pixels, owners = [], []
        for job in jobs:
            picture = open_again(job.picture, job.place, 2 * self.recipe.size)
            for view in job.views.values():
                pixels.append(square(picture, self.recipe.size, view))
                owners.append((job.picture.digest, view.name))
        rows: dict[str, dict[str, np.ndarray]] = {job.picture.digest: {} for job in jobs}
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
