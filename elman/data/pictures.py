"""Read pictures of any format as RGB, with errors that say what is wrong with a file."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import stat
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import fsspec
import numpy as np

from elman.data.archive import split_member
from elman.data.broken import BrokenFile, located, report_broken
from elman.data.media_paths import FileInMemory, hint_for
from elman.data.members import read_member
from elman.data.picture_formats import PICTURES, describe, formats_of
from elman.data.pixels import from_array, to_rgb
from elman.data.source import local_path, printable
from elman.errors import ElmanError

if TYPE_CHECKING:
    from PIL.Image import Image

_log = logging.getLogger("elman")

#: The maximum number of pixels of a picture, and the minimum of its width and height.
MAX_PIXELS, MIN_SIDE = 1 << 27, 8
#: The maximum size of a file in bytes.
_MAX_BYTES = 1 << 30
#: The maximum number of characters of a name that messages show whole.
_MAX_NAME = 1000
#: Formats of which a file may hold several pictures, of which the first is read.
_SEVERAL = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")
#: The seconds between two log lines while many pictures are opened.
_LOG_SECONDS = 10.0


class Picture(NamedTuple):
    """A picture that can be read.

    Attributes:
        path (str): The file, URL, or ``pictures.tar::name.jpg``; a name for messages if the picture is in memory.
        digest (str): The SHA-256 hash of the file's bytes, or of the pixels, as hexadecimal digits.
        mirror (bool): Whether training may mirror the picture. Default: ``False``.
        content (Any): What `open_picture` takes, if the picture is in memory. Default: ``None``.
    """

    path: str
    digest: str
    mirror: bool = False
    content: Any = None


def open_picture(given: Any, place: str = "", side: int = 0) -> Image:
    """Return a picture in mode RGB, upright.

    EXIF orientation is applied. Transparent parts become white. CMYK is converted. 16-bit values are scaled from 0 to
    65,535; 32-bit integers and floats in files are scaled from their smallest to their largest value. Of an animation
    or of pages, the first one is read, which is logged once.

    Args:
        given: A path, a URL, ``archive.zip::name``, a `Picture`, the bytes of a file, a PIL image, or an array of
            shape (H, W) or (H, W, 3): uint8, or floats from 0 to 1.
        place (str): The location of the picture in the data, for messages: ``table.tsv, row 3``.
        side (int): A JPEG picture may be decoded at a smaller size, whose sides have at least this many pixels, which
            is faster. Default: 0, the full size.

    Returns:
        PIL.Image.Image: The picture.

    Raises:
        ElmanError: Pillow is missing, or the picture does not exist, is empty, truncated, broken, of another format,
            larger than 2**27 pixels, or smaller than 8 pixels a side.

    Example::

        >>> import numpy as np
        >>> open_picture(np.zeros((20, 30), dtype=np.uint8)).size
        (30, 20)
    """
    name, content = _named(given)
    try:
        return _decoded(content, name, side)
    except ElmanError as error:
        raise ElmanError(located(place, name, str(error)) + _hint(str(error), content)) from None


def open_again(picture: Picture, place: str = "", side: int = 0) -> Image:
    """Return a picture that was opened before, as `open_picture` does.

    Raises:
        ElmanError: The picture cannot be read, or its file has changed since it was opened.
    """
    name, content = _named(picture)
    if not isinstance(content, str):
        return open_picture(picture, place, side)
    try:
        data = _bytes_of(content)
        if hashlib.sha256(data).hexdigest() != picture.digest:
            raise ElmanError("the file has changed since it was opened; start again")
        return _decoded(data, name, side)
    except ElmanError as error:
        raise BrokenFile(located(place, name, str(error))) from None


def read_pictures(paths: Sequence[Any], places: Sequence[str], skip: bool | None = False) -> list[Picture | None]:
    """Open all pictures, and report those that cannot be read together.

    Each path is opened once, in as many threads as there are processors.

    Args:
        paths (Sequence): Paths, or anything else that `open_picture` takes.
        places (Sequence[str]): The location of each in the data, for messages: ``table.tsv, row 3``.
        skip (bool, optional): Whether to leave out pictures that cannot be read, and to log their number. ``None``:
            they are errors, and the message does not suggest ``--skip-broken``. Default: ``False``.

    Returns:
        list[Picture | None]: One for each path; None where the picture cannot be read.

    Raises:
        ElmanError: A picture cannot be read; with ``skip``, none can be read. The message has the number of such
            pictures and the reason for the first.
    """
    if not len(paths):
        return []
    _pillow()
    keys = [_key(path) for path in paths]
    first: dict[Any, int] = {}
    for k, key in enumerate(keys):
        first.setdefault(key, k)
    results = _read_all([paths[k] for k in first.values()])
    wrong = [(k, result) for k, result in zip(first.values(), results, strict=True) if isinstance(result, str)]
    if wrong:
        k, reason = wrong[0]
        name, content = _named(paths[k])
        hint = _hint(reason, content, skip is not None)
        report_broken(located(places[k], name, reason), len(wrong), len(first), "pictures", skip, hint)
    opened = dict(zip(first, results, strict=True))
    return [picture if isinstance(picture, Picture) else None for picture in map(opened.__getitem__, keys)]


def _read_all(given: list[Any]) -> list[Picture | str]:
    """Open pictures in threads; what cannot be read becomes the reason."""
    results: list[Picture | str] = []
    logged = time.monotonic()
    with _settings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for result in pool.map(_read, given):
            results.append(result)
            if time.monotonic() - logged > _LOG_SECONDS:
                logged = time.monotonic()
                _log.warning("opened %s of %s pictures", f"{len(results):,}", f"{len(given):,}")
    return results


def _read(given: Any) -> Picture | str:
    """Open a picture to check it, as small as possible."""
    try:
        name, content = _named(given)
        data = _bytes_of(content) if isinstance(content, str) else content
        picture = _decoded(data, name, MIN_SIDE)
    except ElmanError as error:
        return str(error)
    if isinstance(given, Picture):
        return given
    if isinstance(data, bytes):
        digest = hashlib.sha256(data).hexdigest()
    else:
        digest = hashlib.sha256(f"{picture.size} ".encode() + picture.tobytes()).hexdigest()
    return Picture(name, digest) if isinstance(content, str) else Picture(name, digest, False, content)


def _named(given: Any) -> tuple[str, Any]:
    """Return the name of a picture for messages, and its path or content."""
    if isinstance(given, Picture):
        return (given.path, given.path) if given.content is None else (given.path, given.content)
    if isinstance(given, FileInMemory):
        return str(given), given.content
    if isinstance(given, (str, os.PathLike)):
        path = os.fspath(given)
        path = os.fsdecode(path)
        return printable(path if len(path) <= _MAX_NAME else f"{path[:60]}..."), path
    return "<picture in memory>", bytes(given) if isinstance(given, (bytearray, memoryview)) else given


def _key(given: Any) -> Any:
    """Return what is equal for the same picture."""
    if isinstance(given, FileInMemory):
        return id(given.content)
    return os.fspath(given) if isinstance(given, (str, os.PathLike)) else id(given)


def _hint(reason: str, path: Any, listed: bool = True) -> str:
    """Return where a missing picture may be."""
    return hint_for(path, listed) if reason == _MISSING and isinstance(path, str) else ""


def _bytes_of(path: str) -> bytes:
    """Return the content of a file, of a URL or of a file in an archive."""
    if not path.strip():
        raise ElmanError("the name of the picture is empty")
    if split_member(path)[1] is not None:
        return read_member(path)
    local = local_path(path)
    try:
        if local is None:
            with fsspec.open(path, "rb") as file:
                return file.read()
        status = os.stat(local)
        if stat.S_ISDIR(status.st_mode):
            raise ElmanError("this is a folder; a picture is required")
        if not stat.S_ISREG(status.st_mode):
            raise ElmanError("not a regular file; a picture is required")
        if status.st_size > _MAX_BYTES:
            raise ElmanError(f"{status.st_size:,} bytes, too large for a picture; at most {_MAX_BYTES:,} are read")
        with open(local, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ElmanError(_MISSING) from None
    except ElmanError:
        raise
    except ImportError:
        remedy = " (http needs aiohttp and requests)" if path.startswith("http") else ""
        raise ElmanError(f"the package of fsspec that reads such URLs is missing{remedy}; download the file") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise ElmanError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _decoded(given: Any, name: str, side: int) -> Image:
    """Return a picture in mode RGB.

    Raises:
        ElmanError: It cannot be read. The message is the reason alone.
    """
    image = _pillow()
    if isinstance(given, str):
        given = _bytes_of(given)
    if isinstance(given, bytes):
        with _settings():
            return to_rgb(_loaded(given, name, side))
    if isinstance(given, image.Image):
        with _settings():
            _check_size(given)
            return to_rgb(_with_pixels(given))
    if not hasattr(given, "__array__") and not isinstance(given, np.ndarray):
        raise ElmanError(
            f"{type(given).__name__} is not a picture; a path, bytes, a PIL image or an array (height, width, 3) is"
        )
    picture = from_array(given)
    _check_size(picture)
    return to_rgb(picture)


def _loaded(data: bytes, name: str, side: int) -> Image:
    """Return a picture from the bytes of a file, with its pixels loaded."""
    image = _pillow()
    try:
        formats = [known for known in formats_of(name) if known in image.OPEN]  # an older Pillow knows fewer
        picture = image.open(io.BytesIO(data), formats=formats)
    except (image.DecompressionBombError, image.DecompressionBombWarning):
        raise ElmanError(f"more than {MAX_PIXELS:,} pixels; make the picture smaller") from None
    except Exception:  # each format raises others
        raise ElmanError(describe(data)) from None
    _check_size(picture)
    if side and picture.format in ("JPEG", "MPO"):
        picture.draft(None, (side, side))  # type: ignore[arg-type]
    return _with_pixels(_first(picture, name))


def _with_pixels(picture: Image) -> Image:
    """Load the pixels of a picture."""
    image = _pillow()
    try:
        picture.load()
    except (image.DecompressionBombError, image.DecompressionBombWarning):
        raise ElmanError(f"more than {MAX_PIXELS:,} pixels; make the picture smaller") from None
    except MemoryError:
        raise ElmanError(f"{picture.width} x {picture.height} pixels do not fit into memory") from None
    except Exception as error:  # each format raises others
        truncated = "truncated" in str(error)
        reason = (
            "the file is truncated"
            if truncated
            else f"a broken {picture.format or 'picture'} file ({_first_line(error)})"
        )
        raise ElmanError(reason) from None
    return picture


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_size(picture: Image) -> None:
    """Refuse a picture that is too large or too small."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ElmanError(
            f"{width:,} x {height:,} pixels; at most {MAX_PIXELS:,} in all are read; make the picture smaller"
        )
    if min(width, height) < MIN_SIDE:
        raise ElmanError(f"{width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are required")


def _first(picture: Image, name: str) -> Image:
    """Log once in a process that only the first picture of a file is read."""
    global _said_first
    if _said_first or picture.format not in _SEVERAL:
        return picture
    try:
        several = getattr(picture, "is_animated", False)
    except Exception:  # what is wrong with a later picture does not matter
        several = False
    if several:
        with _lock:
            said, _said_first = _said_first, True
        if not said:
            _log.warning("%s: has several pictures; of such files the first is read (logged once)", name)
    return picture


@contextmanager
def _settings() -> Iterator[None]:
    """Set Pillow's limit of pixels and silence its warnings while any thread reads a picture."""
    global _readers, _restore
    image = _pillow()
    with _lock:
        if not _readers:
            caught, limit = warnings.catch_warnings(), image.MAX_IMAGE_PIXELS
            caught.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.filterwarnings("error", category=image.DecompressionBombWarning)
            image.MAX_IMAGE_PIXELS = MAX_PIXELS
            _restore = (caught, limit)
        _readers += 1
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if not _readers and _restore is not None:
                (caught, limit), _restore = _restore, None
                image.MAX_IMAGE_PIXELS = limit
                caught.__exit__(None, None, None)


def _pillow() -> Any:
    """Return Pillow's module of pictures."""
    try:
        from PIL import Image
    except ImportError:
        raise ElmanError("pictures need Pillow: pip install 'elman[vision]'") from None
    logging.getLogger("PIL").addHandler(_quiet)  # otherwise errors are printed, which are raised too
    with _loading:
        Image.init()  # loads the formats, which two threads cannot do at once
    return Image


_MISSING = "no such file"
_quiet = logging.NullHandler()
_lock, _loading = threading.Lock(), threading.Lock()
_readers = 0
_restore: Any = None
_said_first = False

__all__ = [
    "MAX_PIXELS", "MIN_SIDE", "PICTURES", "FileInMemory", "Picture", "open_again", "open_picture", "read_pictures",
]  # fmt: skip
