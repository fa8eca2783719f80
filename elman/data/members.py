"""Read single files out of an archive, which is opened once."""

from __future__ import annotations

import os
import posixpath
import shutil
import struct
import tarfile
import tempfile
import threading
import unicodedata
import weakref
import zipfile
import zlib
from typing import IO, NamedTuple, final

from elman.data.archive import open_archive, split_member
from elman.data.source import is_system_file, local_path, printable
from elman.errors import ElmanError

#: The number of archives whose lists of files are kept.
_MAX_OPEN = 4


class _Entry(NamedTuple):
    """Where a file lies in an archive; ``method`` is None in a tar file, else zip's method of compression."""

    start: int
    stored: int
    size: int
    method: int | None = None


@final
class Members:
    """The files of an archive (``.zip``, ``.tar``, ``.tar.gz``, ...), found by name.

    A compressed tar file and an archive at a URL are copied to a temporary file first. Any number of threads and
    processes may read at the same time.

    Args:
        path (str): The path or URL of the archive.

    Attributes:
        names (list[str]): The names of the files, sorted.

    Raises:
        ElmanError: The archive does not exist or is damaged.

    Example::

        >>> files = Members("photos.tar")  # doctest: +SKIP
        >>> data = files.read("images/dog.jpg")  # doctest: +SKIP
    """

    def __init__(self, path: str) -> None:
        self._shown = printable(path)
        with open_archive(path) as (file, ending):
            local = local_path(path)
            if local is not None and path.lower().endswith((".tar", ".zip")):
                self._file = local
            else:
                self._file = self._copy(file, ending)
        try:
            with open(self._file, "rb") as stored:
                self._entries = _list_zip(stored) if ending == ".zip" else _list_tar(stored)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise ElmanError(f"{self._shown}: the archive cannot be read: {error}") from None
        self._by_form: dict[str, list[str]] = {}
        for name in self._entries:
            for form in {_form(name), _form(posixpath.basename(name))}:
                self._by_form.setdefault(form, []).append(name)
        self.names = sorted(self._entries)

    def find(self, name: str) -> str | None:
        """Return the full name of a file in the archive, or None.

        Args:
            name (str): The full name. The base name (without folders) is enough if only one file has it.
        """
        name = posixpath.normpath(name.replace("\\", "/"))
        if name in self._entries:
            return name
        for form in (_form(name), _form(posixpath.basename(name))):
            if len(found := self._by_form.get(form, [])) == 1:
                return found[0]
        return None

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Args:
            name (str): Its name; see `find`.

        Raises:
            ElmanError: The archive has no such file, has several, or is damaged.
        """
        found = self.find(name)
        if found is None:
            several = self._by_form.get(_form(posixpath.basename(name)), [])
            hint = f"; it has {len(several)} of this name, such as {several[0]} and {several[1]}" if several else ""
            raise ElmanError(f"{self._shown}::{printable(name)}: no such file in the archive{hint}")
        entry = self._entries[found]
        try:
            with open(self._file, "rb") as file:
                return _read_entry(file, entry)
        except (OSError, ValueError, struct.error, zlib.error) as error:
            raise ElmanError(f"{self._shown}::{printable(found)}: cannot be read: {error}") from None

    def _copy(self, file: IO[bytes], ending: str) -> str:
        """Copy the archive to a temporary file, which is removed with this object."""
        handle, copy = tempfile.mkstemp(ending, "elman-")
        weakref.finalize(self, os.remove, copy)
        with open(handle, "wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)
        return copy


def open_members(path: str) -> Members:
    """Return the files of an archive; the list of an archive that was opened before is used again.

    Raises:
        ElmanError: The archive does not exist or is damaged.
    """
    local = local_path(path)
    stamp: tuple[str, int, int] = (path, 0, 0)
    if local is not None and os.path.exists(local):
        status = os.stat(local)
        stamp = (path, status.st_mtime_ns, status.st_size)
    with _lock:
        if stamp not in _opened:
            members = Members(path)
            while len(_opened) >= _MAX_OPEN:
                del _opened[next(iter(_opened))]
            _opened[stamp] = members
        return _opened[stamp]


def read_member(path: str) -> bytes:
    """Return the content of a file in an archive.

    Args:
        path (str): ``archive.zip::name``.

    Raises:
        ElmanError: See `Members.read`.
    """
    archive, member = split_member(path)
    if member is None:
        raise ElmanError(f"{printable(path)}: not the name of a file in an archive; archive.zip::name is required")
    return open_members(archive).read(member)


_lock = threading.Lock()
_opened: dict[tuple[str, int, int], Members] = {}


def _form(name: str) -> str:
    """Return a name in the normal form of Unicode, in which the same letters are the same."""
    return unicodedata.normalize("NFC", name)


def _list_tar(file: IO[bytes]) -> dict[str, _Entry]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        return {
            posixpath.normpath(info.name): _Entry(info.offset_data, info.size, info.size)
            for info in archive
            if info.isreg() and not info.issparse() and not is_system_file(info.name)
        }


def _list_zip(file: IO[bytes]) -> dict[str, _Entry]:
    with zipfile.ZipFile(file) as archive:
        return {
            posixpath.normpath(info.filename): _Entry(
                info.header_offset, info.compress_size, info.file_size, -1 if info.flag_bits & 1 else info.compress_type
            )
            for info in archive.infolist()
            if not info.is_dir() and not is_system_file(info.filename)
        }


def _read_entry(file: IO[bytes], entry: _Entry) -> bytes:
    """Read and unpack a file of an archive.

    Raises:
        ValueError: It is encrypted, compressed in another way than Deflate, or damaged.
    """
    file.seek(entry.start)
    if entry.method is None:
        data = file.read(entry.stored)
    else:
        header = file.read(30)
        if header[:4] != b"PK\x03\x04":
            raise ValueError("the archive is damaged")
        file.seek(sum(struct.unpack("<HH", header[26:30])), os.SEEK_CUR)
        data = file.read(entry.stored)
        if entry.method == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.size or 1)
        elif entry.method == -1:
            raise ValueError("it is encrypted; unpack the archive with its password")
        elif entry.method != zipfile.ZIP_STORED:
            raise ValueError("it is compressed in an unusual way; unpack the archive")
    if len(data) != entry.size:
        raise ValueError("the archive is truncated or damaged")
    return data
