"""Pictures are opened once and up front, and what cannot be read is refused with its place."""

from __future__ import annotations

import gzip
import logging
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import elman.data.pictures as module
from elman.data.pictures import (
    MAX_PIXELS,
    Picture,
    open_picture,
    read_pictures,
)
from elman.errors import ElmanError
from tests.picture_files import (
    RANDOM,
    RGB,
    check,
    encoded,
    photo,
    png,
    refused,
)

TRUNCATED = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "TIFF": "tif", "BMP": "bmp", "PPM": "ppm"}


@pytest.mark.parametrize("form", TRUNCATED)
def test_truncated_files(form: str, tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels).quantize() if form == "GIF" else pixels, form)
    for share in (0.6, 0.95):
        path = tmp_path / f"a.{TRUNCATED[form]}"
        path.write_bytes(data[: int(share * len(data))])
        assert refused(path) == f"{path}: the file is truncated"
    path.write_bytes(data[:30] if form != "PPM" else b"P6 9")
    assert "broken" in refused(path) or "truncated" in refused(path) or form == "PPM"


def test_broken_files() -> None:
    data = bytearray(encoded(RGB))
    data[len(data) // 2] ^= 255
    assert "a broken PNG file (broken data stream" in refused(bytes(data))
    pixels = RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert "a broken WebP file" in refused(encoded(pixels, "WEBP", lossless=True)[:2000])
    assert "a broken PNG file" in refused(png(0, 5, 8, 2, b""))


def box(brand: bytes, others: bytes) -> bytes:
    return struct.pack(">I", 16 + len(others)) + b"ftyp" + brand + bytes(4) + others + b"x" * 100


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0" * 3000, "the file contains only zero bytes"),
        (b" \n\n", "the file contains only white space"),
        (b"A dog runs.\n" * 900, "a text file, not a picture"),
        (("Grüße\n" * 900).encode(), "a text file, not a picture"),
        ("dog".encode("utf-16"), "a text file, not a picture"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b"\n\n<HTML><head>", "an HTML page"),
        (b"<?xml version='1.0'?><!-- x --><svg/>", "an SVG drawing; convert it to PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing; convert it to PNG"),
        (b"<?xml version='1.0'?><a/>", "an XML file"),
        (gzip.compress(b"<svg/>", mtime=0), "a compressed file; unpack it"),
        (box(b"heic", b"mif1heic"), "a HEIC photograph; convert it to JPEG"),
        (box(b"mif1", b"mif1heic"), "a HEIC photograph; convert it to JPEG"),
        (box(b"isom", b"isomavc1"), "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a sound file"),
        (b"%PDF-1.4\n", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "an EPS drawing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a pointer of Git LFS"),
        (b"PK\3\4aaaa", "a zip archive"),
        (b"\xff\x0aaaa", "a JPEG XL picture"),
        (bytes(range(255, 0, -1)) * 20, "not a picture in a format that can be read"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    assert refused(path).startswith(f"{path}: {reason}")


def test_the_size_is_limited() -> None:
    bomb = png(50_000, 50_000, 8, 6, b"")
    icon = b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(bomb), 22) + bomb
    for data in (bomb, png(12_000, 12_000, 8, 2, b""), icon):
        assert f"more than {MAX_PIXELS:,} pixels" in refused(data)
    assert "1 x 1 pixels; at least 8 x 8 are required" in refused(png(1, 1, 8, 2, b"\0\1\2\3"))
    assert "100 x 7 pixels; at least 8 x 8" in refused(np.zeros((7, 100), dtype=np.uint8))
    assert open_picture(np.zeros((8, 8), dtype=np.uint8)).size == (8, 8)
    check(np.zeros((1, 8, 1), dtype=np.uint8).repeat(8, 0), np.zeros((8, 8, 3)))


def test_settings_of_pillow_are_restored(tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{k}.png", k) for k in range(4)]
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(open_picture, paths * 20))
    assert list(warnings.filters) == filters and limit == Image.MAX_IMAGE_PIXELS
    assert threading.active_count() < 20


def test_each_picture_is_opened_once_and_has_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = module._bytes_of
    monkeypatch.setattr(module, "_bytes_of", lambda path: opened.append(path) or real(path))
    paths = [photo(tmp_path / "a.png"), photo(tmp_path / "b.png", 1), photo(tmp_path / "a.png")]
    first, second, third = read_pictures(paths, ["row 1", "row 2", "row 3"])
    assert first is not None and second is not None and first == third
    assert first.digest != second.digest and len(first.digest) == 64
    assert sorted(opened) == sorted(set(paths))
    check(first, np.asarray(Image.open(paths[0])))
    assert read_pictures([first], ["x"]) == [first] and read_pictures([], []) == []


def test_pictures_that_cannot_be_read_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "b.png").write_bytes(b"")
    paths = [photo(tmp_path / "a.png"), str(tmp_path / "b.png"), str(tmp_path / "no.jpg"), str(tmp_path / "no.jpg")]
    places = [f"t.tsv, row {k}" for k in range(1, 5)]
    reason = f"t.tsv, row 2: {paths[1]}: the file is empty"
    with pytest.raises(ElmanError) as error:
        read_pictures(paths, places)
    assert str(error.value) == f"{reason}; 2 of 3 pictures cannot be read; --skip-broken leaves them out"
    first, *others = read_pictures(paths, places, skip=True)
    assert first == Picture(paths[0], first.digest if first else "") and others == [None, None, None]
    assert caplog.messages == [f"left out 2 of 3 pictures, which cannot be read; the first, {reason}"]
    with pytest.raises(ElmanError, match=r"row 3: .*no\.jpg: no such file; none of the 2 pictures can be read$"):
        read_pictures([*paths[2:], paths[1]], [*places[2:], places[1]], skip=True)
    with pytest.raises(ElmanError, match=r"^[^:]*no\.jpg: no such file$"):
        read_pictures(paths[2:3], paths[2:3])


def test_pillow_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ElmanError, match=r"pictures need Pillow: pip install 'elman\[vision\]'"):
        open_picture(b"")
    with pytest.raises(ElmanError, match="pictures need Pillow"):
        read_pictures(["a.png"], ["row 1"], skip=True)


def test_progress_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_LOG_SECONDS", -1.0)
    read_pictures([photo(tmp_path / "a.png"), photo(tmp_path / "b.png", 1)], ["", ""])
    assert caplog.messages == ["opened 1 of 2 pictures", "opened 2 of 2 pictures"]
    assert caplog.records[0].levelno == logging.WARNING
