"""Pictures of all formats become RGB, and what is none is refused with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elman.data.pictures import open_picture, read_pictures
from elman.errors import ElmanError


def photo(path: Path, seed: int = 0) -> str:
    """Write a picture of random pixels and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def test_each_picture_is_opened_once_and_has_a_digest(tmp_path: Path) -> None:
    paths = [photo(tmp_path / "a.png"), photo(tmp_path / "b.png", 1), photo(tmp_path / "a.png")]
    first, second, third = read_pictures(paths, ["row 1", "row 2", "row 3"])
    assert first is not None and second is not None and first == third
    assert first.digest != second.digest and len(first.digest) == 64
    assert open_picture(first).size == (16, 12)


def test_pictures_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    paths = [photo(tmp_path / "a.png"), str(tmp_path / "c.png")]
    with pytest.raises(ElmanError, match=r"t\.tsv, row 2: .*c\.png: no such file; 1 of 2 pictures cannot be read"):
        read_pictures(paths, ["t.tsv, row 1", "t.tsv, row 2"])
