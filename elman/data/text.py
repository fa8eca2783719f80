"""Read UTF-8 text files, with errors that say what is wrong with a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from elman.data.archive import open_unpacked, table_in_memory
from elman.data.encoding import decode_utf8
from elman.data.records import column
from elman.data.source import InMemory, absolute, expand_home, printable
from elman.errors import ElmanError


def read_text(path: str) -> str:
    """Read a UTF-8 text file.

    A byte order mark is dropped, and line ends become ``"\\n"``. Of a table in memory, the text is the column ``text``
    or the only column, one cell a line.

    Args:
        path (str): A path, an fsspec URL or an in-memory source. Compressed files and archives are unpacked (``.gz``,
            ``.bz2``, ``.xz``, ``.zip``, ``.tar``, ...).

    Raises:
        ElmanError: The file cannot be read, is empty, or is not UTF-8. The message names the encoding that the file
            seems to have, and the byte and the line that are wrong.

    Example::

        >>> text = read_text("corpus.txt.gz")  # doctest: +SKIP
    """
    if isinstance(path, InMemory) and table_in_memory(path) is not None:
        return "\n".join(texts_in_memory(path))
    data = read_bytes(path)
    if not data.strip():
        raise ElmanError(
            f"{printable(path)}: " + ("the file is empty" if not data else "the file contains only white space")
        )
    return decode_utf8(data, printable(path)).replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: str) -> bytes:
    """Read the bytes of a file, unpacked.

    Raises:
        ElmanError: The file cannot be read; see `elman.data.archive.open_unpacked`.
    """
    with open_unpacked(path) as (file, _):
        return file.read()


def fingerprint(texts: Iterable[str]) -> str:
    """Return the SHA-256 hash of texts, as hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def texts_in_memory(source: InMemory, name: str = "text") -> list[str]:
    """Return the texts of an in-memory source.

    Args:
        source (InMemory): A table, or bytes whose lines are the texts.
        name (str): The column of a table; if there is no such column, the table's only column is used. Default:
            ``"text"``.

    Raises:
        ElmanError: The table has several columns and none has this name.
    """
    table = table_in_memory(source)
    if table is None:
        return read_text(source).removesuffix("\n").split("\n")
    if name not in table.columns and table.width != 1:
        raise ElmanError(f"{source}: has no column {name!r} and more than one other: {', '.join(table.columns)}")
    return column(table, name if name in table.columns else table.columns[0])


def wrong_text(text: Any, what: str = "text") -> str:
    """Return what is wrong with a text, such as a caption or an answer; ``""`` if it can be used."""
    if text is not None and not isinstance(text, str):
        return f"the {what} is {type(text).__name__}; a text is required"
    if text is None or not text.strip():
        return f"the {what} is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"the {what} contains an unpaired surrogate, which is not valid text"
    return ""


def one_line(text: str) -> str:
    """Return a text on one line, with single spaces."""
    return " ".join(text.split())


__all__ = [
    "absolute",
    "expand_home",
    "fingerprint",
    "one_line",
    "read_bytes",
    "read_text",
    "texts_in_memory",
    "wrong_text",
]
