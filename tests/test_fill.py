"""Fill-in models: predictions, options and wrong data."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman import cli
from elman.cli.predict import predict
from tests.test_tagging import sentences


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, draw = tmp_path_factory.mktemp("fill"), random.Random(0)
    pairs = {"cat": "meows", "dog": "barks", "cow": "moos"}
    lines = [f"The {animal} {pairs[animal]} loudly." for animal in draw.choices(list(pairs), k=300)]
    (folder / "text.txt").write_text("\n".join(lines))
    flags = ["--steps=150", "--embedding-size=16", "--hidden-size=16", "--batch-size=200", "--learning-rate=0.01"]
    assert cli.main(["train", "fill", str(folder / "text.txt"), "--out", str(folder / "run"), *flags]) == 0
    return str(folder / "run")


def test_words_from_both_sides(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = elman.load(filled)
    for text, word in (
        ("The ___ barks loudly.", "dog"), ("The cow ____ loudly.", "moos"), ("___ cat meows loudly.", "The"),
        ("The cat meows loudly___", "."),
    ):  # fmt: skip
        assert model.predict(text)[0][0].text == word
    (both,) = model.predict("The ___ ___ loudly.", top=2)
    assert [guess.blank for guess in both] == [1, 1, 2, 2]
    metrics = model.evaluate(model.held_out())
    assert metrics["pseudo_perplexity"] == pytest.approx(np.exp(metrics["loss"]))
    assert metrics["accuracy"] > 0.95 and metrics["unknown_words"] == 0
    words = model.tokenizer.encode(" zzz The zzz")
    odd = model.evaluate([words, words[:1]])
    assert odd["words"] == 4 and odd["unknown_words"] == 3 and odd["accuracy"] <= 0.25
    assert model.evaluate([words[:1]]) == {
        "loss": None, "pseudo_perplexity": None, "accuracy": 0.0, "words": 1, "unknown_words": 1
    }  # fmt: skip
    assert cli.main(["predict", filled, "The ___ barks loudly.", "--json", "--top", "2"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["answers"][0].keys() == {"text", "probability", "blank"}
    assert cli.main(["predict", filled, "The dog barks."]) == 2
    assert "no blank in 'The dog barks.'; write ___ where a word is missing" in capsys.readouterr().err
    assert cli.main(["predict", filled, "The dog barks.", "The dog moos.", "--vectors"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["The", "dog", "barks", ".", "", "The", "dog", "moos", ".", ""]
    assert len(lines[0]) == 1 + 32
    assert lines[1][1:17] == lines[6][1:17]  # what is before is the same
    assert lines[1][17:] != lines[6][17:]  # what is behind is not


def test_wrong_fill_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.txt").write_text("Just one line.\n")
    settings: dict[str, Any] = {"steps": 1, "progress": False}
    with pytest.raises(elman.ElmanError, match=r"one.txt: too few lines"):
        elman.train("fill", tmp_path / "one.txt", **settings)
    sentences(tmp_path / "t.txt", 20, 0)
    elman.train("tag", tmp_path / "t.txt", out=tmp_path / "run", **settings)
    with pytest.raises(elman.ElmanError, match="has no contextual embeddings"):
        predict(str(tmp_path / "run"), ["a"], vectors=True)
