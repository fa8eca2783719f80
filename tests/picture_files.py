"""Pictures for tests: files of all kinds of pixels, and the pixels that they must have."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elman.data.pictures import open_picture
from elman.errors import ElmanError

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (10, 14, 3), dtype=np.uint8)
ALPHA = RANDOM.integers(0, 256, (10, 14, 1), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (10, 14), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (10, 14)).astype(np.uint16)
CMYK = RANDOM.integers(0, 256, (10, 14, 4), dtype=np.uint8)
REALS = RANDOM.normal(size=(10, 14)).astype(np.float32)
#: The array that turns into itself when a viewer applies each EXIF orientation.
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}


def encoded(pixels: Any, form: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file with these pixels."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def grey(values: np.ndarray) -> np.ndarray:
    """(H, W) as (H, W, 3)."""
    return values[..., None].repeat(3, 2)


def scaled(values: np.ndarray) -> np.ndarray:
    """The range of the values as 0 to 255."""
    low, high = float(values.min()), float(values.max())
    return grey(np.rint((values.astype(float) - low) * (255 / (high - low))))


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha / 255
    return np.rint(pixels * share + 255 * (1 - share))


def without_black(cmyk: np.ndarray) -> np.ndarray:
    """The colours of ink of 0 to 255."""
    share = cmyk / 255
    return np.rint(255 * (1 - share[..., :3]) * (1 - share[..., 3:]))


def png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    """A PNG file of any header; ``pixels``: the rows, each after a zero byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, form: int, photometric: int = 1) -> bytes:
    """A TIFF file of the numbers of an array; ``form``: 1 unsigned, 2 signed, 3 float."""
    bands = pixels.shape[2] if pixels.ndim == 3 else 1
    raw, bits = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(), pixels.dtype.itemsize * 8
    tags = {
        256: pixels.shape[1], 257: pixels.shape[0], 258: bits, 259: 1, 262: photometric, 273: 0, 277: bands,
        278: pixels.shape[0], 279: len(raw), 339: form,
    }  # fmt: skip
    several, entries, after = 2 * bands if bands > 2 else 0, b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273] = start + 2 * several
    for tag, value in tags.items():
        if tag in (258, 339) and several:
            entries += struct.pack("<HHII", tag, 3, bands, start + len(after))
            after += struct.pack(f"<{bands}H", *[value] * bands)
        else:
            entries += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + after + raw


def photo(path: Path, seed: int = 0) -> str:
    """Write a picture of random pixels and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def check(given: Any, expected: np.ndarray, tolerance: int = 0) -> None:
    """The pixels of a picture are those expected."""
    picture = open_picture(given)
    assert picture.mode == "RGB"
    np.testing.assert_allclose(np.asarray(picture).astype(int), expected, rtol=0, atol=tolerance)


def refused(given: Any) -> str:
    """The message for a picture that cannot be read."""
    with pytest.raises(ElmanError) as error:
        open_picture(given)
    assert "\n" not in str(error.value)
    return str(error.value)
