"""Text files, and every way in which they can be wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from elman.data.archive import open_unpacked, table_in_memory
from elman.data.encoding import decode_utf8
from elman.data.records import column
from elman.data.source import InMemory, absolute, expand_home, printable
from elman.errors import ElmanError


def read_text(path: str) -> str:
    """The text of a UTF-8 file; a path or fsspec URL, unpacked by its ending (.gz, .bz2, .xz, .zip, .tar, ...).

    Of a table in memory: its column ``text``, or the only one, a line a cell. A byte order mark is dropped and line
    ends become "\\n". ElmanError names the file, the encoding that it seems to have, and the byte and line where the
    bytes are not text.
    """
    if isinstance(path, InMemory) and table_in_memory(path) is not None:
        return "\n".join(texts_in_memory(path))
    data = read_bytes(path)
    if not data.strip():
        raise ElmanError(
            f"{printable(path)}: " + ("the file is empty" if not data else "the file holds only white space")
        )
    return decode_utf8(data, printable(path)).replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: str) -> bytes:
    """The bytes of a file; ElmanError with the file's name where they cannot be had."""
    with open_unpacked(path) as (file, _):
        return file.read()


def fingerprint(texts: Iterable[str]) -> str:
    """Changes with every character of the texts."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def texts_in_memory(source: InMemory, name: str = "text") -> list[str]:
    """The texts of a table in memory: the cells of the column of that name, or of the only one; else its lines."""
    table = table_in_memory(source)
    if table is None:
        return read_text(source).removesuffix("\n").split("\n")
    if name not in table.columns and table.width != 1:
        raise ElmanError(f"{source}: has {', '.join(table.columns)}; texts are a column {name!r}, or the only one")
    return column(table, name if name in table.columns else table.columns[0])


__all__ = ["absolute", "fingerprint", "expand_home", "read_bytes", "read_text", "texts_in_memory"]
