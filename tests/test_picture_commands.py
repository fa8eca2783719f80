"""The commands on the user's own pictures: training, evaluation and prediction take the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman import cli

PIL = pytest.importorskip("PIL.Image")

SMALL: dict[str, Any] = {
    "encoder": "small", "image_size": 16, "embedding_size": 8, "hidden_size": 8, "picture_size": 8, "steps": 1,
    "precision": "float32", "progress": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, and a table of captions and one of questions about them."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "photos").mkdir()
    captions, questions = ["image\tcaption"], ["image\tquestion\tanswer"]
    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 255, (16, 16, 3)).astype(np.uint8)
        PIL.fromarray(pixels).save(folder / f"photos/{k}.png")
        captions.append(f"photos/{k}.png\tpicture {'ab'[k % 2]}")
        questions.append(f"photos/{k}.png\twhich one?\t{'ab'[k % 2]}")
    (folder / "captions.tsv").write_text("\n".join(captions))
    (folder / "questions.tsv").write_text("\n".join(questions))
    return folder


@pytest.fixture(scope="session")
def captions_run(photos: Path) -> str:
    elman.train("caption", photos / "captions.tsv", out=photos / "captions", **SMALL)
    return str(photos / "captions")


@pytest.fixture(scope="session")
def questions_run(photos: Path) -> str:
    elman.train("vqa", photos / "questions.tsv", out=photos / "questions", **SMALL)
    return str(photos / "questions")


def test_an_untrained_model_answers_with_a_word(captions_run: str, questions_run: str, photos: Path) -> None:
    for run, given in ((captions_run, f"{photos}/photos/0.png"), (questions_run, f"{photos}/photos/0.png\twhich?")):
        model = elman.load(run)
        model.network.head.bias.data[elman.data.tokenizer.Tokenizer.end_id] = 50.0
        for beam in (1, 5):
            assert model.predict([given], beam=beam)[0][0].text


def test_columns_have_an_effect_on_tables_only(photos: Path, tmp_path: Path) -> None:
    names = [{"id": k, "file_name": f"{k}.png"} for k in range(12)]
    coco = {"images": names, "annotations": [{"image_id": k, "caption": "a picture"} for k in range(12)]}
    asked = [{"question_id": k, "image_id": f"{k}.png", "question": "which?"} for k in range(12)]
    told = [{"question_id": k, "multiple_choice_answer": "a"} for k in range(12)]
    files = {"c.json": coco, "q.json": {"questions": asked}, "a.json": {"annotations": told}}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "token.txt").write_text("\n".join(f"{k}.png#0\ta picture" for k in range(12)))
    options = {**SMALL, "images": str(photos / "photos")}
    for data in ("c.json", "token.txt"):
        for option in ("caption", "image"):
            with pytest.raises(elman.ElmanError, match=f"{option}: has no effect here, it needs data in tables"):
                elman.train("caption", tmp_path / data, **options, **{option: "other"})
    for option in ("question", "answer", "image"):
        with pytest.raises(elman.ElmanError, match=f"{option}: has no effect here, it needs data in tables"):
            elman.train("vqa", [tmp_path / "q.json", tmp_path / "a.json"], **options, **{option: "other"})


def test_the_help_shows_one_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "caption", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Default: by the encoder. [default" not in shown
    assert "Size of an embedding. Default: by the encoder." in shown
    assert "Column with the caption, in tables. [default: caption]" in shown
