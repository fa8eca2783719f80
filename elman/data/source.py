"""Turn what a user gives as data into sources: paths, URLs, pipes, standard input, and data in memory."""

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

#: The maximum number of bytes read from a pipe, standard input or a device, which may never end.
MAX_STREAM_BYTES = 1 << 30
#: The maximum number of rows taken from a Python iterator, which may never end either.
_MAX_ROWS = 10_000_000

#: Names of standard input.
_STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")

#: Formats that cannot be read, with a remedy and their endings.
_REFUSED = {
    "an old Excel workbook": ("save it as .xlsx or .csv", (".xls", ".xlsb")),
    "an OpenDocument spreadsheet": ("save it as .xlsx or .csv", (".ods",)),
    "a document": ("save it as plain text", (".doc", ".docx", ".odt", ".rtf", ".pdf", ".epub", ".ppt", ".pptx")),
    "a pickle file, and elman never unpickles": ("save it as .parquet or .csv", (".pkl", ".pickle", ".joblib")),
    "a database": ("export a table as .csv", (".db", ".sqlite", ".sqlite3", ".mdb", ".accdb")),
    "an HDF5 file": ("save it as .parquet or .csv", (".h5", ".hdf5")),
    "a file of a statistics program": ("save it as .csv", (".sav", ".dta", ".sas7bdat", ".rds", ".rdata", ".mat")),
    "an archive in an unsupported format": ("unpack it", (".7z", ".rar", ".cab", ".lz4", ".lzh")),
    "a table in an unsupported format": ("save it as .parquet", (".orc", ".avro")),
}


class InMemory(str):
    """Data in memory, under a name that is used like a path in messages and in the sources of a run.

    Args:
        name (str): The name, for example ``<data in memory, 40 rows>``.
        content (bytes | polars.DataFrame): The bytes of a stream, or a table.
        positional (bool): Whether the columns of the table have only an order and no names. Default: ``False``.
    """

    content: bytes | polars.DataFrame
    positional: bool

    def __new__(cls, name: str, content: bytes | polars.DataFrame, positional: bool = False) -> InMemory:
        self = super().__new__(cls, name)
        self.content, self.positional = content, positional
        return self


def sources(data: Any) -> list[str]:
    """Return the sources of the data that a user gives.

    Paths (``~`` is expanded) and URLs stay strings. Everything else becomes an `InMemory` source: pipes, devices and
    standard input (``-``) are read here, because they can be read only once.

    Args:
        data: A path or a sequence of paths; or data in memory: a DataFrame (pandas, polars, Arrow), a Series of texts,
            a dict of columns, a list of rows (dicts, or tuples in the order of the task's columns), or an open file.

    Returns:
        list[str]: One source for each file or table.

    Raises:
        ElmanError: A file has an unsupported format, a stream is too long, rows or columns have unequal lengths, or
            the type of ``data`` is not supported.

    Example::

        >>> sources(["train.csv", "more.csv"])
        ['train.csv', 'more.csv']
        >>> sources({"text": ["good", "bad"], "label": ["pos", "neg"]})
        ['<data in memory, 2 rows>']
    """
    if isinstance(data, (str, os.PathLike)):
        data = [data]
    elif (held := to_memory(data)) is not None:
        return [held]
    elif isinstance(data, Iterator):
        data = _take_rows(data)
    if not isinstance(data, (Sequence, Iterable)) or isinstance(data, (bytes, bytearray)):
        raise ElmanError(f"data: paths, a table or rows are required, not {type(data).__name__}")
    items = list(data)
    if not items:
        return []
    if all(isinstance(item, (str, os.PathLike)) for item in items):
        if sum(item in _STANDARD_INPUT for item in items) > 1:
            raise ElmanError("-: standard input can be read only once")
        return [_path_source(item) for item in items]
    if any(isinstance(item, (str, os.PathLike)) for item in items):
        mixed = [item if isinstance(item, (str, os.PathLike)) else to_memory(item) for item in items]
        if all(item is not None for item in mixed):
            return [item if isinstance(item, InMemory) else _path_source(item) for item in mixed]  # type: ignore[arg-type]
    tables = [to_memory(item) for item in items if not isinstance(item, Mapping)]
    if len(tables) == len(items) and all(table is not None for table in tables):
        return [table for table in tables if table is not None]
    frame, positional = frame_from_rows(items)
    return [InMemory(f"<data in memory, {len(frame):,} rows>", frame, positional)]


def expand_home(path: str | os.PathLike[str]) -> str:
    """Return the path as a string, with a leading ``~`` replaced by the home folder."""
    return os.path.expanduser(os.fspath(path))


def absolute(path: str) -> str:
    """Return the absolute form of a path; URLs and in-memory sources stay unchanged.

    A path whose name is not valid UTF-8 becomes a ``file://`` URL, which can be saved in JSON.
    """
    if isinstance(path, InMemory) or "://" in path or is_unavailable(path):
        return path
    full = os.path.abspath(expand_home(path))
    return full if full == printable(full) else Path(full).as_uri()


def local_path(path: str) -> str | None:
    """Return the path of a file on this machine, or None for a remote URL."""
    if "://" not in path:
        return expand_home(path)
    if not path.startswith("file://") or "::" in path:
        return None
    plain = path.removeprefix("file://")
    return plain if os.path.exists(plain) else os.fsdecode(unquote_to_bytes(plain))


def printable(name: str) -> str:
    """Return a file name as valid UTF-8, with escapes for bytes that are not."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_unavailable(path: str) -> bool:
    """Return whether a path stands for data that a run read from a stream or from memory and that no longer exist."""
    return not isinstance(path, InMemory) and re.fullmatch(r"<.*>", path) is not None and not os.path.exists(path)


def is_system_file(name: str) -> bool:
    """Return whether a file is hidden or left by an operating system or program: Thumbs.db, __MACOSX, ~$..."""
    parts = name.replace("\\", "/").strip("/").split("/")
    return any(part[:1] == "." and part not in (".", "..") for part in parts) or (
        "__MACOSX" in parts or parts[-1].lower() in ("thumbs.db", "ehthumbs.db", "desktop.ini") or parts[-1][:2] == "~$"
    )


def files_below(folder: str) -> list[str]:
    """Return the files of a folder and its subfolders, without system files, in alphabetical order.

    Links to folders are followed, each folder once.

    Args:
        folder (str): The path of the folder.

    Returns:
        list[str]: Their paths, relative to the folder.

    Raises:
        ElmanError: A subfolder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ElmanError(f"{printable(str(error.filename))}: cannot be read: {error.strerror}") from None

    seen, found = set(), []
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders.sort()
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [os.path.relpath(os.path.join(place, name), folder) for name in files]
    return sorted(name for name in found if not is_system_file(name))


def read_all(file: IO[bytes], name: str) -> bytes:
    """Read a binary stream to its end.

    Raises:
        ElmanError: The stream gives more than `MAX_STREAM_BYTES`.
    """
    content = bytearray()
    while piece := file.read(1 << 20):
        content += piece
        if len(content) > MAX_STREAM_BYTES:
            raise ElmanError(
                f"{name}: gives more than {MAX_STREAM_BYTES >> 20:,} MiB and may never end; save it to a file first"
            )
    return bytes(content)


def to_memory(data: Any) -> InMemory | None:
    """Return a table, a column of texts or an open file as an in-memory source; None for any other type."""
    if isinstance(data, InMemory):
        return data
    if callable(getattr(data, "read", None)):
        return _read_open_file(data)
    table = _to_table(data)
    return None if table is None else InMemory(f"<data in memory, {len(table):,} rows>", table)


def _path_source(item: str | os.PathLike[str]) -> str:
    """Check a path and return it; read it if it can be read only once."""
    path = os.fspath(item)
    if isinstance(path, InMemory):
        return path
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if is_unavailable(path):
        raise ElmanError(f"{path}: was read during training and cannot be read again; give the data")
    if path in _STANDARD_INPUT:
        return _read_stream(sys.stdin.buffer, "<standard input>")
    if not path.strip() or "\0" in path:
        raise ElmanError(f"{path!r} is not the name of a file")
    path = path if "://" in path else expand_home(path)
    ending = os.path.splitext(path)[1].lower()
    for kind, (remedy, endings) in _REFUSED.items():
        if ending in endings:
            raise ElmanError(f"{printable(path)}: {kind}; {remedy}")
    local = local_path(path)
    if local is None:
        return path
    try:
        mode = os.stat(local).st_mode
    except (OSError, ValueError):
        return path  # the error is raised when the file is read
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)):
        return path
    try:
        with open(local, "rb") as file:
            return _read_stream(file, f"<{path}>")
    except OSError as error:
        raise ElmanError(f"{path}: cannot be read: {error.strerror}") from None


def _read_stream(file: Any, name: str) -> InMemory:
    content = read_all(file, name)
    if not content:
        raise ElmanError(f"{name}: is empty; a stream can be read only once")
    return InMemory(name, content)


def _read_open_file(file: Any) -> InMemory:
    name = f"<{getattr(file, 'name', 'open file')}>"
    if isinstance(file.read(0), bytes):
        return _read_stream(file, name)
    text = file.read(MAX_STREAM_BYTES + 1)
    if len(text) > MAX_STREAM_BYTES:
        raise ElmanError(
            f"{name}: gives more than {MAX_STREAM_BYTES:,} characters and may never end; save it to a file first"
        )
    if not text:
        raise ElmanError(f"{name}: is empty; a stream can be read only once")
    try:
        return InMemory(name, text.encode())
    except UnicodeEncodeError:
        raise ElmanError(f"{name}: contains an unpaired surrogate, which is not valid text") from None


def _to_table(data: Any) -> polars.DataFrame | None:
    if isinstance(data, polars.LazyFrame):
        data = data.collect()
    if isinstance(data, polars.DataFrame):
        return data
    if isinstance(data, polars.Series):
        return data.to_frame(data.name or "text")
    if isinstance(data, Mapping):
        return frame_from_columns(dict(data))
    if hasattr(data, "columns") and hasattr(data, "dtypes") and hasattr(data, "iloc"):  # a pandas-like data frame
        repeated = [str(name) for name in data.columns if list(data.columns).count(name) > 1]
        if repeated:
            raise ElmanError(f"data: more than one column is named {repeated[0]!r}")
        return frame_from_columns({str(name): data[name] for name in data.columns})
    if hasattr(data, "iloc"):  # a pandas-like Series
        return frame_from_columns({str(getattr(data, "name", None) or "text"): data})
    if hasattr(data, "__arrow_c_stream__"):
        return polars.DataFrame(data)
    return None


def _take_rows(rows: Iterator[Any]) -> list[Any]:
    taken = []
    for row in rows:
        taken.append(row)
        if len(taken) > _MAX_ROWS:
            raise ElmanError(f"data: more than {_MAX_ROWS:,} rows, which may never end; save them to a file first")
    return taken
