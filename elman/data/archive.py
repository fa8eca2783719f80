"""Open files as stored: plain, compressed, in an archive, at a URL, or in memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from typing import IO, Any, cast

import fsspec
import polars

from elman.data.source import InMemory, is_system_file, is_unavailable, local_path, printable
from elman.errors import ElmanError

#: Endings of Excel workbooks.
BOOKS = (".xlsx", ".xlsm")

#: A compressed file may unpack to this many bytes, or to this multiple of its own size, whichever is larger.
_MAX_UNPACKED, _MAX_RATIO = 1 << 28, 100
#: The maximum depth of archives inside archives.
_MAX_DEPTH = 4

_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".lzma": "xz", ".zst": "zstd", ".zstd": "zstd"}
_TARS = {".tgz": ".gz", ".tbz": ".bz2", ".tbz2": ".bz2", ".txz": ".xz", ".tzst": ".zst"}
_MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst", b"PK\x03\x04": ".zip"}

#: The exceptions that opening, unpacking and reading can raise.
_READ_ERRORS = (
    OSError, EOFError, ValueError, ImportError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError,
    zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip


@contextmanager
def open_unpacked(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """Open a file and unpack it, as the endings of its name say.

    An archive (``.zip``, ``.tar``, also compressed) must contain a single file, or the path names one of its files:
    ``archive.zip::name``. Files that operating systems add (``__MACOSX``, ``.DS_Store``, ``Thumbs.db``) are ignored.

    Args:
        path (str): A path, a URL or an `InMemory` source.

    Yields:
        The unpacked bytes as a stream, and the file's name without the endings of the compression.

    Raises:
        ElmanError: The file does not exist, is damaged or encrypted, unpacks to more than 256 MiB and more than a
            hundred times its size, or is an archive of several files.

    Example::

        >>> with open_unpacked("corpus.txt.gz") as (file, name):  # doctest: +SKIP
        ...     print(name, len(file.read()))
        corpus.txt 1115394
    """
    shown = printable(path)
    try:
        with ExitStack() as stack:
            file, name, member = _open_stored(path, stack)
            size = _size(file)
            for _ in range(_MAX_DEPTH):
                inner = _unpack_layer(file, name, member, shown, max(_MAX_UNPACKED, _MAX_RATIO * size), stack)
                if inner is None:
                    break
                file, name, member = inner
            else:
                raise ElmanError(f"{shown}: archives are nested more than {_MAX_DEPTH} deep; unpack it first")
            yield file, name
    except FileNotFoundError:
        raise ElmanError(f"{_shortened(shown)}: no such file{_text_hint(path)}") from None
    except IsADirectoryError:
        raise ElmanError(f"{shown}: this is a folder; give the files in it") from None
    except _READ_ERRORS as error:
        if isinstance(error, ElmanError):
            raise
        if _text_hint(path):
            raise ElmanError(f"{_shortened(shown)}: no such file{_text_hint(path)}") from None
        raise ElmanError(f"{shown}: cannot be read: {error}") from None


@contextmanager
def open_archive(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """Open an archive as a whole, without its compression.

    Args:
        path (str): The path or URL of a ``.zip`` or ``.tar`` file; the latter may be compressed.

    Yields:
        The bytes of the archive as a stream, and its kind, ``".zip"`` or ``".tar"``.

    Raises:
        ElmanError: The file does not exist, cannot be unpacked, or is no archive.
    """
    shown = printable(path)
    try:
        with ExitStack() as stack:
            file, name, _ = _open_stored(path, stack)
            if not name.lower().endswith((".zip", ".tar")):
                inner = _unpack_layer(file, name, None, shown, max(_MAX_UNPACKED, _MAX_RATIO * _size(file)), stack)
                file, name, _ = inner or (file, "", None)
            if not name.lower().endswith((".zip", ".tar")):
                raise ElmanError(f"{shown}: an archive (.zip, .tar, .tar.gz, ...) is required")
            yield file, name[-4:].lower()
    except FileNotFoundError:
        raise ElmanError(f"{shown}: no such file") from None
    except _READ_ERRORS as error:
        if isinstance(error, ElmanError):
            raise
        raise ElmanError(f"{shown}: cannot be read: {error}") from None


def name_inside(path: str) -> str:
    """Return the name of the file that a path leads to, without the endings of a compression.

    For a file in an archive, this is the file's own name and not that of the archive.
    """
    name = PurePosixPath(split_member(path)[0].replace("\\", "/")).name
    if isinstance(path, InMemory) or is_archive(path):
        with open_unpacked(path) as (_, inner):
            return inner if PurePosixPath(inner).suffix else PurePosixPath(name).stem
    return without_compression(name)


def without_compression(name: str) -> str:
    """Return the name of a file without the endings of a compression.

    Example::

        >>> without_compression("speech.wav.gz")
        'speech.wav'
    """
    while os.path.splitext(name)[1].lower() in _COMPRESSIONS:
        name = os.path.splitext(name)[0]
    return name


def is_archive(path: str) -> bool:
    """Return whether a path names an archive of files, or a file in one."""
    return _has_archive_ending(split_member(path)[0])


def split_member(path: str) -> tuple[str, str | None]:
    """Split a path of the form ``archive.zip::name`` or ``book.xlsx::sheet``.

    Returns:
        tuple[str, str | None]: The path of the archive or workbook and the name in it. The name is None for any other
        path, and where a file with the whole name exists.
    """
    if isinstance(path, InMemory) or "::" not in path or "://" in path or os.path.exists(local_path(path) or ""):
        return path, None
    archive, _, member = path.partition("::")
    is_container = _has_archive_ending(archive) or archive.lower().endswith(BOOKS)
    return (archive, member) if is_container else (path, None)


def table_in_memory(path: str) -> polars.DataFrame | None:
    """Return the table of an in-memory source, or None if the source is not a table in memory."""
    return path.content if isinstance(path, InMemory) and isinstance(path.content, polars.DataFrame) else None


def _open_stored(path: str, stack: ExitStack) -> tuple[IO[bytes], str, str | None]:
    """Return the file as stored, its name, and the name of the archive's member to read."""
    if isinstance(path, InMemory):
        if not isinstance(path.content, bytes):
            raise ElmanError(f"{path}: is a table; a text is required")
        data = path.content
        ending = next((e for magic, e in _MAGIC.items() if data.startswith(magic)), "")
        return io.BytesIO(data), f"data{ending}", None
    if is_unavailable(path):
        raise ElmanError(f"{path}: was read during training and cannot be read again; give the data")
    archive, member = split_member(path)
    local = local_path(archive)
    if local is not None:
        file: Any = stack.enter_context(open(local, "rb"))  # noqa: SIM115
    else:
        file = stack.enter_context(fsspec.open(archive, "rb", compression=None).open())
        file = file if file.seekable() else io.BytesIO(file.read())
    return file, PurePosixPath(archive.replace("\\", "/")).name, member


def _has_archive_ending(path: str) -> bool:
    name = PurePosixPath(path.replace("\\", "/"))
    suffixes = [suffix.lower() for suffix in name.suffixes[-2:]]
    return suffixes[-1:] == [".zip"] or ".tar" in suffixes or bool(set(suffixes[-1:]) & set(_TARS))


def _unpack_layer(
    file: IO[bytes], name: str, member: str | None, shown: str, max_bytes: int, stack: ExitStack
) -> tuple[IO[bytes], str, str | None] | None:
    """Remove one layer of compression or one archive; None if there is none."""
    stem, ending = os.path.splitext(name)
    ending = ending.lower()
    if ending in _TARS:
        stem, ending = f"{stem}.tar", _TARS[ending]
    if ending in _COMPRESSIONS:
        plain = _BoundedStream(_decompress(file, ending), shown, max_bytes)
        return cast(IO[bytes], stack.enter_context(io.BufferedReader(plain))), stem, member
    if ending == ".zip":
        return _open_in_zip(file, member, shown, max_bytes, stack)
    if ending == ".tar":
        return _open_in_tar(file, member, shown, stack)
    return None


def _decompress(file: IO[bytes], ending: str) -> Any:
    kind = _COMPRESSIONS[ending]
    if kind == "zstd":
        try:
            import zstandard
        except ImportError:
            raise ElmanError(f"{ending} files need the zstandard package: pip install zstandard") from None
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    opener: Any = {"gzip": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}[kind]
    return opener(fileobj=file) if kind == "gzip" else opener(file)


def _open_in_zip(
    file: IO[bytes], member: str | None, shown: str, max_bytes: int, stack: ExitStack
) -> tuple[IO[bytes], str, str | None] | None:
    archive = stack.enter_context(zipfile.ZipFile(file))
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if member is None and any(name == "[Content_Types].xml" for name in names):  # an Office document from a pipe
        file.seek(0)
        return file, "data.xlsx", None
    info = archive.getinfo(_choose_member(names, member, shown))
    if info.flag_bits & 1:
        raise ElmanError(f"{shown}: {info.filename} is encrypted; unpack it with its password and give the file")
    if info.file_size > max_bytes:
        raise _too_large(shown, max_bytes)
    plain = _BoundedStream(archive.open(info), shown, max_bytes)
    return cast(IO[bytes], stack.enter_context(io.BufferedReader(plain))), PurePosixPath(info.filename).name, None


def _open_in_tar(file: IO[bytes], member: str | None, shown: str, stack: ExitStack) -> tuple[IO[bytes], str, None]:
    seekable: Any = file if isinstance(file, io.BufferedReader) and _is_seekable(file) else io.BytesIO(file.read())
    archive = stack.enter_context(tarfile.open(fileobj=seekable, mode="r:"))  # noqa: SIM115
    chosen = _choose_member([info.name for info in archive.getmembers() if info.isfile()], member, shown)
    inner = archive.extractfile(chosen)
    assert inner is not None
    return stack.enter_context(inner), PurePosixPath(chosen).name, None


def _is_seekable(file: Any) -> bool:
    return file.seekable() and not isinstance(getattr(file, "raw", None), _BoundedStream)


def _choose_member(names: Sequence[str], member: str | None, shown: str) -> str:
    """Return the named member of an archive, or its only file."""
    if member is not None:
        named = next((name for name in names if posixpath.normpath(name) == posixpath.normpath(member)), None)
        if named is None:
            raise ElmanError(f"{shown}: the archive has no {member!r}; it has {_listed(names)}")
        return named
    files = [name for name in names if not is_system_file(name)]
    if not files:
        raise ElmanError(f"{shown}: the archive contains no file")
    if len(files) > 1:
        raise ElmanError(
            f"{shown}: contains {len(files):,} files: {_listed(files)}; name one, {shown}::{files[0]}, or unpack it"
        )
    return files[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f", and {len(names) - 10:,} more" if len(names) > 10 else "")


def _size(file: Any) -> int:
    position = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(position)
    return size


def _shortened(path: str) -> str:
    line = " ".join(path.split())
    return repr(path) if not line else path if path == line and len(path) <= 200 else f"{line[:60]}..."


def _text_hint(path: str) -> str:
    """Return a hint for a path that seems to be a text."""
    if len(path) > 200 or "\n" in path:
        return "; a text in memory is given as {'text': [...]}"
    return ""


def _too_large(shown: str, max_bytes: int) -> ElmanError:
    return ElmanError(
        f"{shown}: unpacks to more than {max_bytes >> 20:,} MiB, {_MAX_RATIO} times its size or more; if this is "
        "intended, unpack it first and give the file"
    )


class _BoundedStream(io.RawIOBase):
    """A stream that raises an error after more than ``max_bytes`` bytes."""

    def __init__(self, inner: Any, shown: str, max_bytes: int) -> None:
        self._inner, self._shown, self._max_bytes, self._count = inner, shown, max_bytes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._inner.read(len(buffer))
        self._count += len(piece)
        if self._count > self._max_bytes:
            raise _too_large(self._shown, self._max_bytes)
        buffer[: len(piece)] = piece
        return len(piece)
