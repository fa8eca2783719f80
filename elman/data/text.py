"""Text files, and every way in which they can be wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import polars

from elman.data.archive import opened, table_in_memory
from elman.data.encoding import decoded
from elman.data.records import column
from elman.data.source import absolute, home, readable
from elman.errors import ElmanError


def read_text(path: str) -> str:
    """The text of a UTF-8 file; a path or fsspec URL, unpacked by its ending (.gz, .bz2, .xz, .zip, .tar, ...).

    Of a table in memory: its column ``text``, or the only one, a line a cell. A byte order mark is dropped and line
    ends become "\\n". ElmanError names the file, the encoding that it seems to have, and the byte and line where the
    bytes are not text.
    """
    table = table_in_memory(path)
    if table is not None:
        return _of_table(path, table)
    data = read_bytes(path)
    if not data.strip():
        raise ElmanError(
            f"{readable(path)}: " + ("the file is empty" if not data else "the file holds only white space")
        )
    return decoded(data, readable(path)).replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: str) -> bytes:
    """The bytes of a file; ElmanError with the file's name where they cannot be had."""
    with opened(path) as (file, _):
        return file.read()


def fingerprint(texts: Iterable[str]) -> str:
    """Changes with every character of the texts."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def _of_table(path: str, table: polars.DataFrame) -> str:
    name = "text" if "text" in table.columns else table.columns[0] if len(table.columns) == 1 else None
    if name is None:
        raise ElmanError(f"{path}: has {', '.join(table.columns)}; texts are a column 'text', or the only one")
    return "\n".join(column(table, name))


__all__ = ["absolute", "fingerprint", "home", "read_bytes", "read_text"]
