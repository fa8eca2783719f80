"""Files as they are stored: plain, compressed, in an archive, at a URL, or in memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
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

#: How the name of a workbook of tables ends.
BOOKS = (".xlsx", ".xlsm")

#: What is compressed may unpack to so many bytes, or to so many times its own size, whichever is more.
_MAX_UNPACKED, _MAX_RATIO = 1 << 28, 100
#: Archives in archives are unpacked so deep.
_MAX_DEPTH = 4

_PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".lzma": "xz", ".zst": "zstd", ".zstd": "zstd"}
_TARS = {".tgz": ".gz", ".tbz": ".bz2", ".tbz2": ".bz2", ".txz": ".xz", ".tzst": ".zst"}
_MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst", b"PK\x03\x04": ".zip"}


@contextmanager
def open_unpacked(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """The bytes of a file, unpacked by the endings of its name, and its name without them.

    An archive (.zip, .tar, also compressed) is read where it holds one file; ``archive.zip::name`` says which one of
    several. What systems add (``__MACOSX``, ``.DS_Store``, ``Thumbs.db``) does not count.

    Raises:
        ElmanError: there is no such file, it is damaged or encrypted, unpacks to more than a hundred times its size
            (and more than 256 MiB), or is an archive of several files, which are named.
    """
    shown = printable(path)
    try:
        with ExitStack() as stack:
            file, name, wanted = _raw(path, stack)
            size = _size(file)
            for _ in range(_MAX_DEPTH):
                after = _layer(file, name, wanted, shown, max(_MAX_UNPACKED, _MAX_RATIO * size), stack)
                if after is None:
                    break
                file, name, wanted = after
            else:
                raise ElmanError(f"{shown}: an archive in an archive in an archive; unpack it")
            yield file, name
    except FileNotFoundError:
        raise ElmanError(f"{_short(shown)}: no such file{_guess(path)}") from None
    except IsADirectoryError:
        raise ElmanError(f"{shown}: this is a folder; give the files in it") from None
    except _BROKEN as error:
        if isinstance(error, ElmanError):
            raise
        if _guess(path):
            raise ElmanError(f"{_short(shown)}: no such file{_guess(path)}") from None
        raise ElmanError(f"{shown}: cannot be read: {error}") from None


#: What opening, unpacking and reading can raise.
_BROKEN = (
    OSError, EOFError, ValueError, ImportError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError,
    zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip


def name_inside(path: str) -> str:
    """The name of the file behind a path: in an archive, the name that it has there; without what compresses it."""
    name = PurePosixPath(split_member(path)[0].replace("\\", "/")).name
    if isinstance(path, InMemory) or is_archive(path):
        with open_unpacked(path) as (_, found):
            return found if PurePosixPath(found).suffix else PurePosixPath(name).stem
    while PurePosixPath(name).suffix.lower() in _PACKED:
        name = PurePosixPath(name).stem
    return name


def is_archive(path: str) -> bool:
    """Whether a path names an archive of files, or a file in one."""
    return _is_archive(split_member(path)[0])


def _raw(path: str, stack: ExitStack) -> tuple[IO[bytes], str, str | None]:
    """The file as it is stored, its name, and the name of what is wanted of an archive."""
    if isinstance(path, InMemory):
        if not isinstance(path.content, bytes):
            raise ElmanError(f"{path}: is a table; a text is needed")
        data = path.content
        ending = next((e for magic, e in _MAGIC.items() if data.startswith(magic)), "")
        return io.BytesIO(data), f"data{ending}", None
    if is_unavailable(path):
        raise ElmanError(f"{path}: was read in training and cannot be read again; give the data")
    archive, inside = split_member(path)
    there = local_path(archive)
    if there is not None:
        file: Any = stack.enter_context(open(there, "rb"))  # noqa: SIM115
    else:
        file = stack.enter_context(fsspec.open(archive, "rb", compression=None).open())
        file = file if file.seekable() else io.BytesIO(file.read())
    return file, PurePosixPath(archive.replace("\\", "/")).name, inside


def split_member(path: str) -> tuple[str, str | None]:
    """A path and what is wanted of it: ``archive.zip::name`` or ``book.xlsx::sheet``, where no file has that name."""
    if isinstance(path, InMemory) or "::" not in path or "://" in path or os.path.exists(local_path(path) or ""):
        return path, None
    archive, _, inside = path.partition("::")
    return (archive, inside) if _is_archive(archive) or archive.lower().endswith(BOOKS) else (path, None)


def _is_archive(path: str) -> bool:
    name = PurePosixPath(path.replace("\\", "/"))
    suffixes = [suffix.lower() for suffix in name.suffixes[-2:]]
    return suffixes[-1:] == [".zip"] or ".tar" in suffixes or bool(set(suffixes[-1:]) & set(_TARS))


def _layer(
    file: IO[bytes], name: str, wanted: str | None, shown: str, most: int, stack: ExitStack
) -> tuple[IO[bytes], str, str | None] | None:
    """What is inside one layer of packing: its bytes, its name, what is still wanted of it; None where none is left."""
    stem, ending = os.path.splitext(name)
    ending = ending.lower()
    if ending in _TARS:
        stem, ending = f"{stem}.tar", _TARS[ending]
    if ending in _PACKED:
        plain = _Bounded(_unpacked(file, ending), shown, most)
        return cast(IO[bytes], stack.enter_context(io.BufferedReader(plain))), stem, wanted
    if ending == ".zip":
        return _in_zip(file, wanted, shown, most, stack)
    if ending == ".tar":
        return _in_tar(file, wanted, shown, stack)
    return None


def _unpacked(file: IO[bytes], ending: str) -> Any:
    kind = _PACKED[ending]
    if kind == "zstd":
        try:
            import zstandard
        except ImportError:
            raise ElmanError(f"{ending} files need the zstandard package: pip install zstandard") from None
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    opener: Any = {"gzip": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}[kind]
    return opener(fileobj=file) if kind == "gzip" else opener(file)


def _in_zip(
    file: IO[bytes], wanted: str | None, shown: str, most: int, stack: ExitStack
) -> tuple[IO[bytes], str, str | None] | None:
    archive = stack.enter_context(zipfile.ZipFile(file))
    names = [one.filename for one in archive.infolist() if not one.is_dir()]
    if wanted is None and any(name == "[Content_Types].xml" for name in names):  # an Office document on a pipe
        file.seek(0)
        return file, "data.xlsx", None
    info = archive.getinfo(_chosen(names, wanted, shown))
    if info.flag_bits & 1:
        raise ElmanError(f"{shown}: {info.filename} is encrypted; unpack it with its password and give the file")
    if info.file_size > most:
        raise _bomb(shown, most)
    plain = _Bounded(archive.open(info), shown, most)
    return cast(IO[bytes], stack.enter_context(io.BufferedReader(plain))), PurePosixPath(info.filename).name, None


def _in_tar(file: IO[bytes], wanted: str | None, shown: str, stack: ExitStack) -> tuple[IO[bytes], str, str | None]:
    whole: Any = file if isinstance(file, io.BufferedReader) and _seekable(file) else io.BytesIO(file.read())
    archive = stack.enter_context(tarfile.open(fileobj=whole, mode="r:"))  # noqa: SIM115
    chosen = _chosen([one.name for one in archive.getmembers() if one.isfile()], wanted, shown)
    inside = archive.extractfile(chosen)
    assert inside is not None
    return stack.enter_context(inside), PurePosixPath(chosen).name, None


def _seekable(file: Any) -> bool:
    return file.seekable() and not isinstance(getattr(file, "raw", None), _Bounded)


def _chosen(names: Sequence[str], wanted: str | None, shown: str) -> str:
    """The one file of an archive that is meant."""
    if wanted is not None:
        if wanted not in names:
            raise ElmanError(f"{shown}: the archive has no {wanted!r}; it has {_listed(names)}")
        return wanted
    kept = [name for name in names if not is_system_file(name)]
    if not kept:
        raise ElmanError(f"{shown}: there is no file in the archive")
    if len(kept) > 1:
        raise ElmanError(
            f"{shown}: holds {len(kept):,} files: {_listed(kept)}; name one, {shown}::{kept[0]}, or unpack it"
        )
    return kept[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f", and {len(names) - 10:,} more" if len(names) > 10 else "")


def _size(file: Any) -> int:
    place = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(place)
    return size


def _short(path: str) -> str:
    line = " ".join(path.split())
    return repr(path) if not line else path if path == line and len(path) <= 200 else f"{line[:60]}..."


def _guess(path: str) -> str:
    """What may be meant by a path that leads nowhere."""
    if len(path) > 200 or "\n" in path:
        return "; a text in memory is given as {'text': [...]}"
    return ""


def _bomb(shown: str, most: int) -> ElmanError:
    return ElmanError(
        f"{shown}: unpacks to more than {most >> 20:,} MiB, {_MAX_RATIO} times its size or more; if this is "
        "intended, unpack it first and give the file"
    )


class _Bounded(io.RawIOBase):
    """A stream that ends with an error where it gives more than it may."""

    def __init__(self, inner: Any, shown: str, most: int) -> None:
        self._inner, self._shown, self._most, self._given = inner, shown, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._inner.read(len(buffer))
        self._given += len(found)
        if self._given > self._most:
            raise _bomb(self._shown, self._most)
        buffer[: len(found)] = found
        return len(found)


def table_in_memory(path: str) -> polars.DataFrame | None:
    """The table that a source is, where it is one that is in memory."""
    return path.content if isinstance(path, InMemory) and isinstance(path.content, polars.DataFrame) else None
