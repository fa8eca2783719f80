"""Pictures of all kinds of pixels become upright RGB; each value is compared."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import elman.data.pictures as module
from elman.data.pictures import (
    FileInMemory,
    open_picture,
    read_pictures,
)
from tests.picture_files import (
    ALPHA,
    CMYK,
    DEEP,
    GREY,
    RANDOM,
    REALS,
    RGB,
    STORED,
    check,
    encoded,
    grey,
    on_white,
    png,
    refused,
    scaled,
    tiff,
    without_black,
)


@pytest.fixture(autouse=True)
def _nothing_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_said_first", False)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "PCX", "SGI", "ICO", "QOI", "DDS", "JPEG2000", "WEBP"])
def test_formats_without_loss(form: str) -> None:
    check(encoded(RGB, form, **({"lossless": True} if form == "WEBP" else {})), RGB)


def test_tga_is_known_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tga"
    Image.fromarray(RGB).save(path)
    check(path, RGB)
    assert "not a picture" in refused(path.read_bytes())


def test_sixteen_bits_are_divided_by_257() -> None:
    expected = grey(np.rint(DEEP / 257))
    check(encoded(DEEP), expected)
    check(encoded(DEEP, "TIFF"), expected)
    check(encoded(DEEP, "JPEG2000"), expected)
    check(encoded(Image.frombytes("I;16B", (14, 10), DEEP.astype(">u2").tobytes()), "TIFF"), expected)
    check(b"P5 14 10 65535\n" + DEEP.astype(">u2").tobytes(), expected)
    check(tiff(DEEP, 1, photometric=0), 255 - expected)
    check(DEEP, expected)


@pytest.mark.parametrize("bands", [3, 4])
def test_sixteen_bits_of_colour(bands: int) -> None:
    values = RANDOM.integers(0, 65536, (10, 14, bands)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    alpha = values[..., 3:] / 257 if bands == 4 else np.full((10, 14, 1), 255)
    check(png(14, 10, 16, 2 if bands == 3 else 6, rows), on_white(values[..., :3] / 257, alpha), 2)
    if bands == 3:
        check(tiff(values, 1, photometric=2), values / 257, 1)


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (RANDOM.integers(-1000, 100_000, (10, 14)).astype(np.int32), 2),
        (RANDOM.integers(0, 2**32, (10, 14)).astype(np.uint32), 1),
        (RANDOM.integers(-30_000, 30_000, (10, 14)).astype(np.int16), 2),
        (REALS, 3),
    ],
    ids=["int32", "uint32", "int16", "float"],
)
def test_large_values_are_scaled_to_their_range(values: np.ndarray, form: int) -> None:
    check(tiff(values, form), scaled(values))


def test_floats() -> None:
    check(encoded(REALS, "TIFF"), scaled(REALS))
    check(tiff(REALS, 3, photometric=0), 255 - scaled(REALS))
    check(b"Pf\n14 10\n-1.0\n" + REALS[::-1].astype("<f4").tobytes(), scaled(REALS))
    check(encoded(np.full((10, 14), 3, dtype=np.float32), "TIFF"), np.zeros((10, 14, 3)))
    for scale in (1e-44, 1e38):
        values = np.float32([[0, scale], [scale, 0]]).repeat(8, 0).repeat(8, 1)
        check(encoded(values, "TIFF"), grey((values > 0) * 255))
    wide = np.float32([[-1.7e38, 1.7e38]]).repeat(8, 0).repeat(8, 1)
    check(encoded(wide, "TIFF"), grey(np.repeat([[0] * 8 + [255] * 8], 8, 0)))
    for wrong in (np.nan, np.inf):
        values = REALS.copy()
        values[3, 4] = wrong
        assert "values that are not finite" in refused(encoded(values, "TIFF"))
    assert "a TIFF file that is broken or of a kind" in refused(tiff(REALS[..., None].repeat(3, 2), 3, photometric=2))


def test_transparent_parts_become_white() -> None:
    with_alpha = np.concatenate([RGB, ALPHA], 2)
    check(encoded(with_alpha), on_white(RGB, ALPHA), 1)
    check(encoded(with_alpha, "TIFF"), on_white(RGB, ALPHA), 1)
    check(encoded(with_alpha, "WEBP", lossless=True, exact=True), on_white(RGB, ALPHA), 1)
    two = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA[:, :, 0])])
    check(encoded(two), on_white(grey(GREY), ALPHA), 1)
    check(two.convert("La"), on_white(grey(GREY), ALPHA), 4)
    check(
        encoded(RGB, transparency=tuple(map(int, RGB[0, 0]))),
        np.where((RGB[:1, :1] == RGB).all(-1, keepdims=True), 255, RGB),
    )
    check(encoded(GREY, transparency=int(GREY[2, 2])), grey(np.where(GREY[2, 2] == GREY, 255, GREY)))
    deep = np.where(DEEP[2, 2] == DEEP, 255, np.rint(DEEP / 257))
    check(encoded(DEEP, transparency=int(DEEP[2, 2])), grey(deep))


def test_palettes() -> None:
    picture = Image.fromarray(RGB).quantize(8)
    colours, index = np.array(picture.getpalette()).reshape(-1, 3)[:8], np.asarray(picture)
    check(encoded(picture), colours[index])
    check(encoded(picture, "GIF"), colours[index])
    check(encoded(picture, transparency=3), np.where(index[..., None] == 3, 255, colours[index]))
    alpha = np.array([0, 64, 128, 255, 255, 255, 30, 255], dtype=np.uint8)
    check(encoded(picture, transparency=alpha.tobytes()), on_white(colours[index], alpha[index][..., None]), 1)
    with Image.open(io.BytesIO(encoded(picture, "GIF", transparency=3))) as again:
        shown = np.asarray(again.convert("RGBA"))
    check(encoded(picture, "GIF", transparency=3), on_white(shown[..., :3], shown[..., 3:]), 1)
    check(encoded(Image.fromarray(GREY > 100)), grey((GREY > 100) * 255))


def test_inks() -> None:
    inks = Image.frombytes("CMYK", (14, 10), CMYK.tobytes())
    check(encoded(inks, "TIFF"), without_black(CMYK), 1)
    flat = np.full((16, 16, 4), (200, 30, 60, 20), dtype=np.uint8)
    data = encoded(Image.frombytes("CMYK", (16, 16), flat.tobytes()), "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in data  # whose programs write the values inverted
    check(data, without_black(flat), 2)
    deep = RANDOM.integers(0, 65536, (10, 14, 4)).astype(np.uint16)
    check(tiff(deep, 1, photometric=5), without_black(deep / 257), 2)


def test_other_colour_spaces() -> None:
    picture = Image.fromarray(RGB)
    check(picture.convert("YCbCr"), RGB, 3)
    check(picture.convert("HSV"), RGB, 6)
    lab = Image.merge("LAB", [Image.new("L", (14, 10), value) for value in (128, 128, 128)])
    check(lab, np.full((10, 14, 3), 119), 2)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_orientation(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    data = encoded(STORED[orientation](RGB), form, exif=exif, **options)
    check(data, RGB)
    check(Image.open(io.BytesIO(data)), RGB)
    if form != "WEBP":
        check(encoded(STORED[orientation](DEEP), form, exif=exif), grey(np.rint(DEEP / 257)))


@pytest.mark.parametrize("orientation", STORED)
def test_orientation_of_photographs(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = RGB.repeat(16, 0).repeat(16, 1)
    data = encoded(STORED[orientation](large), "JPEG", quality=100, subsampling=0, exif=exif)
    check(data, large, 6)
    small = np.asarray(open_picture(data, side=20)).astype(int)  # decoded at an eighth of the size
    assert small.shape == (20, 28, 3)
    assert np.abs(small[::2, ::2] - RGB).max() <= 6


def test_broken_exif_data_do_not_matter() -> None:
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\3\0\0\0\1\0", b"Exif\0\0rubbish"):
        check(encoded(np.full((16, 16, 3), 50, dtype=np.uint8), "JPEG", exif=exif), np.full((16, 16, 3), 50), 1)
    for orientation in (0, 99):
        exif = Image.Exif()
        exif[0x0112] = orientation
        check(encoded(RGB, exif=exif), RGB)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "GIF"])
def test_the_first_picture_of_several(form: str, caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.fromarray(RANDOM.integers(0, 256, (10, 14, 3), dtype=np.uint8)) for _ in range(3)]
    frames = [frame.quantize(256) for frame in frames] if form == "GIF" else frames
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    for _ in range(2):
        check(data, np.asarray(frames[0].convert("RGB")))
    assert [record.getMessage() for record in caplog.records] == [
        "<picture in memory>: has several pictures; of such files the first is read (logged once)"
    ]


def test_pictures_in_memory() -> None:
    check(RGB, RGB)
    check(torch.from_numpy(RGB), RGB)
    check(GREY, grey(GREY))
    check(GREY[..., None], grey(GREY))
    check(GREY > 99, grey((GREY > 99) * 255))
    check(np.concatenate([RGB, ALPHA], 2), on_white(RGB, ALPHA), 1)
    check(bytearray(encoded(RGB)), RGB)
    check(FileInMemory("mine", RGB), RGB)
    assert "shape (3, 10, 14); (height, width, 3)" in refused(RGB.transpose(2, 0, 1))
    check(RGB / 255, RGB)
    check((GREY / 255).astype(np.float32), grey(GREY))
    assert "float64 from 0 to 2; floats from 0 to 1 are required" in refused(np.linspace(0, 2, 140).reshape(10, 14))
    assert "float64 from nan to nan; floats from 0 to 1" in refused(np.full((10, 14, 3), np.nan))
    assert "int64; uint8 values from 0 to 255" in refused(RGB.astype(np.int64))
    assert "NoneType is not a picture" in refused(None)
    assert "<U1" in refused(np.array([["a"]]))
    a, b, again = read_pictures([RGB, Image.fromarray(RGB), RGB], ["row 1", "row 2", "row 3"])
    assert a is not None and b is not None and a is not b and a.digest == b.digest and again == a
    check(a, RGB)
    check(b, RGB)
