"""Rows that are costly to compute: computed by several threads, and kept in memory-mapped files of a cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
import torch

_log = logging.getLogger("elman")

#: What the names of complete files end with.
_ENDING = ".safetensors"
#: The form of the files; another one is never read.
_FORMAT = 1
#: Rows that are fewer and smaller in all (in bytes) are computed again, rather than kept in a file of their own.
FEWEST, _SMALL = 16, 4 << 20
#: The size of a file of the cache in bytes, about.
_SHARD_BYTES = 32 << 20
#: Seconds between two log lines.
_LOG_SECONDS = 10.0

#: Rows by the hash that stands for their input.
Rows = dict[str, np.ndarray]
Job = TypeVar("Job")


class RowStore:
    """Rows (S, C) in a folder, by a hash.

    A file of the folder is complete or absent: it is written under another name and then renamed, so that several
    processes can fill the folder at once. Each row has a checksum. A file that is damaged is removed, and its rows are
    absent.

    Args:
        folder (Path): the folder; its name says how the rows were computed. It is created.
        shape (tuple[int | None, int]): S and C; S is None where it differs from row to row.
        dtype: the type of the numbers.
    """

    def __init__(self, folder: Path, shape: tuple[int | None, int], dtype: type) -> None:
        self.folder, self.shape, self.dtype = folder / f"v{_FORMAT}", shape, np.dtype(dtype)
        self._read: dict[str, list[bytes]] = {}  # the files that are open, and the hashes in each
        self._places: dict[bytes, tuple[np.ndarray, int]] = {}  # the rows in them, and their checksums
        self._failed = False

    def find(self, digests: Sequence[str]) -> Rows:
        """Return the rows that are there, as views of the files."""
        self._open_new()
        found = {}
        for digest in digests:
            place = self._places.get(bytes.fromhex(digest))
            if place is None:
                continue
            row, check = place
            if _checksum(digest, row) == check:
                found[digest] = row
            else:
                self._forget(bytes.fromhex(digest))
        return found

    def add(self, rows: Rows) -> Rows:
        """Write rows to a file; return them, as views of the file if it could be written."""
        few = len(rows) < FEWEST and sum(row.nbytes for row in rows.values()) < _SMALL
        if few or self._failed:
            return rows
        digests, values = list(rows), list(rows.values())
        content: Rows = {
            "digests": np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(len(digests), 32),
            "checks": np.array([_checksum(digest, rows[digest]) for digest in digests], np.uint32),
            "rows": (np.stack if self.shape[0] else np.concatenate)(values).astype(self.dtype, copy=False),
        }
        if not self.shape[0]:
            content["lengths"] = np.array([len(row) for row in values], np.uint32)
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
            _log.warning("%s: what was computed cannot be kept: %s", self.folder, error.strerror)
            return rows
        self._open(name)
        return {digest: self._places.get(bytes.fromhex(digest), (row, 0))[0] for digest, row in rows.items()}

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
        rows = content["rows"]
        each = list(rows) if self.shape[0] else np.split(rows, np.cumsum(content["lengths"].astype(np.int64))[:-1])
        digests = [digest.tobytes() for digest in content["digests"]]
        self._read[name] = digests
        self._places |= zip(digests, zip(each, content["checks"].tolist(), strict=True), strict=True)

    def _fits(self, content: Rows) -> bool:
        forms = {name: (array.dtype, array.shape[1:]) for name, array in content.items()}
        wanted: dict[str, Any] = {"digests": (np.uint8, (32,)), "checks": (np.uint32, ())}
        if self.shape[0]:
            wanted["rows"] = (self.dtype, self.shape)
            return forms == wanted and len({len(array) for array in content.values()}) == 1
        wanted |= {"rows": (self.dtype, self.shape[1:]), "lengths": (np.uint32, ())}
        counts = {len(content[name]) for name in ("digests", "checks", "lengths") if name in content}
        return forms == wanted and len(counts) == 1 and int(content["lengths"].sum(dtype=int)) == len(content["rows"])

    def _forget(self, digest: bytes) -> None:
        """Remove the file of a row that is damaged."""
        for name in [name for name, digests in self._read.items() if digest in digests]:
            for one in self._read.pop(name):
                self._places.pop(one, None)
            with contextlib.suppress(OSError):
                os.remove(self.folder / name)


def computed(
    parts: Sequence[Sequence[Job]],
    compute: Callable[[Sequence[Job]], list[tuple[str, Rows]]],
    store: Callable[[str], RowStore],
    total: int,
    plural: str,
) -> Iterator[tuple[str, Rows]]:
    """Compute rows in threads and keep them; the log says how far it is.

    Args:
        parts (Sequence[Sequence[Job]]): jobs; those of a part are computed together.
        compute: returns, for each input of a part, its hash and its rows by the name of their store; called in several
            threads at once.
        store: returns the store of a name.
        total (int): the number of inputs, for the log.
        plural (str): what they are: ``"pictures"``.

    Yields:
        tuple[str, Rows]: The name of a store and rows by hash, some at a time.
    """
    fresh: dict[str, Rows] = {}
    sizes: Counter[str] = Counter()
    told = started = time.monotonic()
    for done, (digest, rows) in enumerate(_in_threads(parts, compute), 1):
        for name, row in rows.items():
            fresh.setdefault(name, {})[digest] = row
            sizes[name] += row.nbytes
            if sizes[name] >= _SHARD_BYTES:
                yield name, store(name).add(fresh.pop(name))
                del sizes[name]
        now = time.monotonic()
        if now - told >= _LOG_SECONDS:
            told, rate = now, done / (now - started)
            _log.warning("encoded %s of %s %s, %.1f a second", f"{done:,}", f"{total:,}", plural, rate)
    for name, rest in fresh.items():
        yield name, store(name).add(rest)


def _in_threads(parts: Sequence[Sequence[Job]], compute: Callable) -> Iterator[tuple[str, Rows]]:
    """Compute the rows of each job, in as many threads as torch uses.

    Each thread computes with one thread of torch: small products gain little from more, and waiting costs much.
    """
    threads = min(torch.get_num_threads(), len(parts))
    if threads < 2:
        for part in parts:
            yield from compute(part)
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        waiting: deque[Future] = deque()
        for part in parts:
            waiting.append(pool.submit(compute, part))
            if len(waiting) > 4 * threads:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _checksum(digest: str, row: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(row).data, zlib.crc32(bytes.fromhex(digest)))


#: The types of safetensors that are written here.
_TYPES = {"U8": np.uint8, "U32": np.uint32, "F16": np.float16}


def _mapped(path: Path) -> Rows | None:
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
