"""Where data come from: paths, URLs, pipes, standard input, and data that are in memory already."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_to_bytes

import polars

from elman.data.records import frame_from_columns, frame_from_rows
from elman.errors import ElmanError

#: A pipe, standard input or a device gives so many bytes at most: it may have no end.
MAX_STREAM_BYTES = 1 << 30
#: So many rows at most are taken from a Python iterator, which may have no end either.
_MAX_ROWS = 10_000_000

#: What standard input is called.
_STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")

#: Formats that are not read, and what to do.
_REFUSED = {
    "an old Excel workbook": ("save it as .xlsx or .csv", (".xls", ".xlsb")),
    "an OpenDocument spreadsheet": ("save it as .xlsx or .csv", (".ods",)),
    "a document": ("save it as plain text", (".doc", ".docx", ".odt", ".rtf", ".pdf", ".epub", ".ppt", ".pptx")),
    "pickled, and nothing is ever unpickled": ("save it as .parquet or .csv", (".pkl", ".pickle", ".joblib")),
    "a database": ("export a table as .csv", (".db", ".sqlite", ".sqlite3", ".mdb", ".accdb")),
    "an HDF5 file": ("save it as .parquet or .csv", (".h5", ".hdf5")),
    "a file of a statistics program": ("save it as .csv", (".sav", ".dta", ".sas7bdat", ".rds", ".rdata", ".mat")),
    "an archive of a kind that is not read": ("unpack it", (".7z", ".rar", ".cab", ".lz4", ".lzh")),
    "a columnar format that is not read": ("save it as .parquet", (".orc", ".avro")),
}


class InMemory(str):
    """Data that are in memory, under a name that stands where a path would: in messages and in a run's sources.

    Attributes:
        content: the bytes of a pipe; or a table.
        positional: whether the columns of the table have no names, only an order.
    """

    content: bytes | polars.DataFrame
    positional: bool

    def __new__(cls, name: str, content: bytes | polars.DataFrame, positional: bool = False) -> InMemory:
        self = super().__new__(cls, name)
        self.content, self.positional = content, positional
        return self


def sources(data: Any) -> list[str]:
    """The data that a user gives, one source each: paths, with ``~`` expanded, URLs, and `InMemory` for the rest.

    Arguments:
        data: a path or several; ``-`` is standard input, and a pipe or a device is read here, once. Or data in memory:
            a DataFrame (pandas, polars, Arrow), a Series of texts, a dict of columns, a list of rows (tuples in the
            order of the task's columns, or dicts), or an open file.

    Raises:
        ElmanError: a file is not there or of a format that is not read; a pipe gives too much; rows or columns are of
            unequal length; it is none of the above.
    """
    if isinstance(data, (str, os.PathLike)):
        data = [data]
    elif (held := to_memory(data)) is not None:
        return [held]
    elif isinstance(data, Iterator):
        data = _bounded(data)
    if not isinstance(data, (Sequence, Iterable)) or isinstance(data, (bytes, bytearray)):
        raise ElmanError(f"data: paths, a table or rows are needed, not {type(data).__name__}")
    given = list(data)
    if not given:
        return []
    if all(isinstance(one, (str, os.PathLike)) for one in given):
        if sum(one in _STANDARD_INPUT for one in given) > 1:
            raise ElmanError("-: standard input can be read once")
        return [_path(one) for one in given]
    if any(isinstance(one, (str, os.PathLike)) for one in given):
        several = [one if isinstance(one, (str, os.PathLike)) else to_memory(one) for one in given]
        if all(one is not None for one in several):
            return [one if isinstance(one, InMemory) else _path(one) for one in several]  # type: ignore[arg-type]
    tables = [to_memory(one) for one in given if not isinstance(one, Mapping)]
    if given and len(tables) == len(given) and all(one is not None for one in tables):
        return [one for one in tables if one is not None]
    table, positional = frame_from_rows(given)
    return [InMemory(f"<data in memory, {len(table):,} rows>", table, positional)]


def expand_home(path: str | os.PathLike[str]) -> str:
    """The path as text, ``~`` at its start replaced by the home folder."""
    return os.path.expanduser(os.fspath(path))


def absolute(path: str) -> str:
    """The path from the root on, so that it is found from anywhere; a URL, or data in memory, as it is.

    A name that is not UTF-8 becomes a file:// URL, which can be written anywhere.
    """
    if isinstance(path, InMemory) or "://" in path or is_unavailable(path):
        return path
    full = os.path.abspath(expand_home(path))
    return full if full == printable(full) else Path(full).as_uri()


def local_path(path: str) -> str | None:
    """The path of a file on this machine; None for other URLs."""
    if "://" not in path:
        return expand_home(path)
    if not path.startswith("file://") or "::" in path:
        return None
    plain = path.removeprefix("file://")
    return plain if os.path.exists(plain) else os.fsdecode(unquote_to_bytes(plain))


def printable(name: str) -> str:
    """A file's name as text that can be printed and written, also where it is not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_unavailable(path: str) -> bool:
    """Whether this names data that a run read from a pipe or from memory, and that cannot be read again."""
    return not isinstance(path, InMemory) and re.fullmatch(r"<.*>", path) is not None and not os.path.exists(path)


def is_system_file(name: str) -> bool:
    """Whether a file is one that systems leave in folders and archives: hidden ones, Thumbs.db, __MACOSX, ..."""
    parts = name.replace("\\", "/").strip("/").split("/")
    return any(part[:1] == "." and part not in (".", "..") for part in parts) or (
        "__MACOSX" in parts or parts[-1].lower() in ("thumbs.db", "ehthumbs.db", "desktop.ini") or parts[-1][:2] == "~$"
    )


def read_all(file: IO[bytes], name: str) -> bytes:
    """All that a stream gives; ElmanError where that is more than `MAX_STREAM_BYTES` bytes."""
    found = bytearray()
    while piece := file.read(1 << 20):
        found += piece
        if len(found) > MAX_STREAM_BYTES:
            raise ElmanError(
                f"{name}: gives more than {MAX_STREAM_BYTES >> 20:,} MiB and may have no end; write it into a file"
            )
    return bytes(found)


def _path(given: str | os.PathLike[str]) -> str:
    """One path, checked; what can be read only once is read."""
    path = os.fspath(given)
    if isinstance(path, InMemory):
        return path
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if is_unavailable(path):
        raise ElmanError(f"{path}: was read in training and cannot be read again; give the data")
    if path in _STANDARD_INPUT:
        return _stream(sys.stdin.buffer, "<standard input>")
    if not path.strip() or "\0" in path:
        raise ElmanError(f"{path!r} is not the name of a file")
    path = path if "://" in path else expand_home(path)
    ending = os.path.splitext(path)[1].lower()
    for kind, (what, endings) in _REFUSED.items():
        if ending in endings:
            raise ElmanError(f"{printable(path)}: {kind}; {what}")
    there = local_path(path)
    if there is None:
        return path
    try:
        mode = os.stat(there).st_mode
    except (OSError, ValueError):
        return path  # reading says what is wrong
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)):
        return path
    try:
        with open(there, "rb") as file:
            return _stream(file, f"<{path}>")
    except OSError as error:
        raise ElmanError(f"{path}: cannot be read: {error.strerror}") from None


def _stream(file: Any, name: str) -> InMemory:
    found = read_all(file, name)
    if not found:
        raise ElmanError(f"{name}: is empty; it can be read once")
    return InMemory(name, found)


def to_memory(data: Any) -> InMemory | None:
    """A table, a column of texts or an open file, under a name; None for what is none of these."""
    if isinstance(data, InMemory):
        return data
    if callable(getattr(data, "read", None)):
        return _open_file(data)
    table = _table(data)
    return None if table is None else InMemory(f"<data in memory, {len(table):,} rows>", table)


def _open_file(file: Any) -> InMemory:
    name = f"<{getattr(file, 'name', 'open file')}>"
    if isinstance(file.read(0), bytes):
        return _stream(file, name)
    text = file.read(MAX_STREAM_BYTES + 1)
    if len(text) > MAX_STREAM_BYTES:
        raise ElmanError(
            f"{name}: gives more than {MAX_STREAM_BYTES:,} characters and may have no end; write it into a file"
        )
    if not text:
        raise ElmanError(f"{name}: is empty; it can be read once")
    try:
        return InMemory(name, text.encode())
    except UnicodeEncodeError:
        raise ElmanError(f"{name}: holds half of a surrogate pair, which is no text") from None


def _table(data: Any) -> polars.DataFrame | None:
    if isinstance(data, polars.LazyFrame):
        data = data.collect()
    if isinstance(data, polars.DataFrame):
        return data
    if isinstance(data, polars.Series):
        return data.to_frame(data.name or "text")
    if isinstance(data, Mapping):
        return frame_from_columns(dict(data))
    if hasattr(data, "columns") and hasattr(data, "dtypes") and hasattr(data, "iloc"):  # pandas and its kind
        repeated = [str(name) for name in data.columns if list(data.columns).count(name) > 1]
        if repeated:
            raise ElmanError(f"data: the column {repeated[0]!r} is there twice")
        return frame_from_columns({str(name): data[name] for name in data.columns})
    if hasattr(data, "iloc"):  # a Series of these
        return frame_from_columns({str(getattr(data, "name", None) or "text"): data})
    if hasattr(data, "__arrow_c_stream__"):
        return polars.DataFrame(data)
    return None


def _bounded(rows: Iterator[Any]) -> list[Any]:
    found = []
    for row in rows:
        found.append(row)
        if len(found) > _MAX_ROWS:
            raise ElmanError(f"data: more than {_MAX_ROWS:,} rows, and may have no end; write them into a file")
    return found
