"""Text files, and every way in which they can be wrong."""

from __future__ import annotations

import hashlib
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable

import fsspec

from elman.errors import ElmanError

#: What a file in another encoding begins with.
_MARKS = {b"\xff\xfe": "UTF-16LE", b"\xfe\xff": "UTF-16BE"}


def read_text(path: str) -> str:
    """The text of a UTF-8 file; path or fsspec URL, decompressed by its ending (.gz, .bz2, .xz, ...).

    A byte order mark is dropped and line ends become "\\n". ElmanError names the file, and the byte
    offset where the bytes are not text.
    """
    data = read_bytes(path)
    if not data.strip():
        raise ElmanError(f"{path}: the file is empty" if not data else f"{path}: the file holds only white space")
    if encoding := _MARKS.get(data[:2]):
        raise ElmanError(f"{path}: not UTF-8 at byte 0: this is {encoding}; try iconv -f {encoding} -t UTF-8")
    if (zero := data.find(b"\0")) >= 0:
        raise ElmanError(f"{path}: not text: a zero byte at byte {zero}; a UTF-8 text file is needed")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ElmanError(
            f"{path}: not UTF-8 at byte {error.start} (0x{data[error.start]:02x}); "
            "if it is Latin-1, try iconv -f ISO-8859-1 -t UTF-8"
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: str) -> bytes:
    """The bytes of a file; ElmanError with the file's name where they cannot be had."""
    try:
        with fsspec.open(str(path), "rb", compression="infer") as file:
            return file.read()
    except FileNotFoundError:
        raise ElmanError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ElmanError(f"{path}: this is a folder; give the files in it") from None
    except (OSError, EOFError, ValueError, ImportError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise ElmanError(f"{path}: cannot be read: {error}") from None


def absolute(path: str) -> str:
    """The path from the root on, so that it is found from anywhere; a URL as it is."""
    return path if "://" in path else os.path.abspath(path)


def fingerprint(texts: Iterable[str]) -> str:
    """Changes with every character of the texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
