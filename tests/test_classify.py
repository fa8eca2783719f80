"""Labels for texts, series and sounds: it learns, says how sure it is, shows what it saw, and says what is wrong."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman import cli
from elman.config import parse
from elman.media import Content, Text
from elman.media.augment import add_noise_floor
from elman.media.frames import frame_features
from elman.media.labelled import Columns
from elman.metrics.entities import entity_scores
from elman.metrics.labels import label_scores
from elman.metrics.words import error_scores
from elman.tasks.classify.options import ClassifyConfig
from tests.test_labelled import wave

SMALL = {"embedding_size": 16, "hidden_size": 16, "learning_rate": 1e-2, "progress": False}
NUMBERS = {key: value for key, value in SMALL.items() if key != "embedding_size"}
FLAGS = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items() if key != "progress"]


def reviews(path: Path, count: int, seed: int = 0) -> None:
    """Good films are good unless they are not."""
    draw, rows = random.Random(seed), ["text,label"]
    for _ in range(count):
        good, negated = draw.random() < 0.5, draw.random() < 0.5
        word = draw.choice(["fine", "great", "lovely"] if good else ["bad", "dull", "awful"])
        filler = " ".join(draw.choices(["film", "plot", "actor", "music", "we", "saw"], k=draw.randint(1, 6)))
        rows.append(f'"{filler}. It was {"not " * negated}{word}.",{"up" if good != negated else "down"}')
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("classify")
    reviews(folder / "train.csv", 400)
    reviews(folder / "test.csv", 100, 1)
    path = str(folder / "run")
    data = ["train", "classify", str(folder / "train.csv"), "--out", path, "--steps=150", "--dropout=0.2"]
    assert cli.main([*data, "--pooling=attention", *FLAGS]) == 0
    return path


def test_it_learns_texts(run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    test = str(Path(run).parent / "test.csv")
    picture = tmp_path / "confusion.png"
    assert cli.main(["evaluate", run, test, "--json", "--baseline", "--plot", str(picture)]) == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["accuracy"] > 0.95
    assert metrics["confusion"]["up"]["up"] > 30
    assert metrics["labels"]["up"].keys() == {"precision", "recall", "f1", "count"}
    assert metrics["baseline_majority"] < 0.65
    assert 0.5 < metrics["baseline_tfidf"] <= 1.0
    assert picture.stat().st_size > 5000
    assert cli.main(["evaluate", run, test]) == 0
    assert "a row for each true label" in capsys.readouterr().out
    assert cli.main(["predict", run, "We saw music. It was not bad.", "Plot. It was not great."]) == 0
    assert capsys.readouterr().out == "up\ndown\n"


def test_answers(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = elman.load(run)
    ((first, second),) = model.predict("It was awful.", top=5)
    assert (first.text, second.text) == ("down", "up")
    assert first.probability + second.probability == pytest.approx(1.0, abs=1e-5)
    assert first.probabilities == {"down": first.probability, "up": second.probability}
    texts = ["It was awful.", "film film film plot. It was not awful.", "music. It was fine."]
    together = [answer.probability for (answer,) in model.predict(texts)]
    alone = [model.predict(text)[0][0].probability for text in texts]
    assert together == pytest.approx(alone, abs=1e-4)
    assert cli.main(["predict", run, "It was awful.", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["answers"][0].keys() == {"text", "probability", "probabilities"}
    assert cli.main(["predict", run, "a", " "]) == 2
    assert "input 2 of 2 is empty" in capsys.readouterr().err
    assert cli.main(["predict", run, "a", "--beam", "3"]) == 2
    assert "unknown option '--beam'" in capsys.readouterr().err
    assert model.held_out().texts


def test_small_letters(run: str, tmp_path: Path) -> None:
    model = elman.load(run)
    said = [model.predict(text)[0][0].probability for text in ("It was AWFUL.", "it was awful.")]
    assert said[0] == said[1]
    assert model.medium.pieces("It was AWFUL.") == [" It", " was", " AWFUL", "."]
    (tmp_path / "v.txt").write_text("Paris 1 2\nfilm 2 1\nThe 0 1\n")
    (tmp_path / "t.csv").write_text("text,label\n" + "The film of PARIS it is,up\nthe film of paris it was,down\n" * 10)
    for lowercase, known in ((True, "3 of 7"), (False, "5 of 9")):
        model = elman.train(
            "classify",
            tmp_path / "t.csv",
            steps=0,
            vectors=str(tmp_path / "v.txt"),
            lowercase=lowercase,
            progress=False,
        )
        assert model.about()["vectors"] == f"v.txt covers {known} tokens"


def test_words_that_only_the_vectors_know(tmp_path: Path) -> None:
    """Rare words and those of the file alone keep their vectors, and are read by what they share with others."""
    reviews(tmp_path / "t.csv", 300)
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(text + '"Splendid film.",up\n')
    kinds = {
        "fine great lovely splendid superb": (1.0, 0.0),
        "bad dull awful dreadful": (0.0, 1.0),
        "it was film plot actor music we saw .": (0.5, 0.5),
        "not": (-1.0, -1.0),
    }
    rows = [(word, (*kind, 0.1 * k)) for words, kind in kinds.items() for k, word in enumerate(words.split())]
    vectors = tmp_path / "v.txt"
    vectors.write_text("".join(f"{w} {' '.join(map(str, v))}\n" for w, v in rows))
    settings = {k: v for k, v in SMALL.items() if k != "embedding_size"} | {"vectors": str(vectors), "dropout": 0.1}
    start = elman.train("classify", tmp_path / "t.csv", steps=0, **settings)
    model = elman.train("classify", tmp_path / "t.csv", steps=150, out=tmp_path / "run", **settings)
    assert model.about()["vectors"] == "v.txt covers 17 of 17 tokens"
    ids = [start.medium.tokenizer.inner.token_to_id(w) for w in ("superb", "dreadful", "splendid", "fine")]
    assert torch.equal(model.network.source(torch.tensor(ids[:3])), start.network.source(torch.tensor(ids[:3])))
    assert not torch.equal(model.network.source(torch.tensor(ids[3])), start.network.source(torch.tensor(ids[3])))
    for again in (model, elman.load(tmp_path / "run")):
        said = again.predict(["It was superb.", "It was dreadful.", "It was not dreadful."])
        assert [row[0].text for row in said] == ["up", "down", "up"]
    fewer = elman.train("classify", tmp_path / "t.csv", steps=0, extra_words=0, **settings)
    assert fewer.medium.tokenizer.vocab_size == model.medium.tokenizer.vocab_size - 2
    all_learn = elman.train("classify", tmp_path / "t.csv", steps=0, extra_words=0, rare=1, **settings)
    assert all_learn.network.source.fixed is None
    vectors.write_text("gut 1 2 3\nschlecht 3 2 1\n")
    with pytest.raises(elman.ElmanError, match=r"v.txt: has none of the 17 tokens; are they words of the same"):
        elman.train("classify", tmp_path / "t.csv", steps=0, **settings)


def test_it_shows_what_it_saw(run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for how in ("attention", "gradient"):
        assert cli.main(["predict", run, "film plot. It was awful.", "--show", how]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert shown[0] == "down"
        assert shown[1].split() == ["down", "film", "plot.", "It", "was", "awful."]
    pieces, weights = elman.load(run).explain("film plot. It was awful.")
    assert pieces[int(weights.argmax())].strip() in ("awful", "was", ".")
    assert cli.main(["predict", run, "It was awful.", "--plot", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "last"}, {"pooling": "mean", "bidirectional": False}, {"periods": [1, 2]}, {"tokens": "char"},
        {"hierarchical": True, "pooling": "attention"}, {"tokens": "bpe", "vocab_size": 300},
        {"cell": "lstm", "num_layers": 2}, {"class_weights": "balanced"},
    ],
)  # fmt: skip
def test_every_kind_of_model(options: dict[str, Any], tmp_path: Path) -> None:
    reviews(tmp_path / "t.csv", 60)
    model = elman.train("classify", tmp_path / "t.csv", out=tmp_path / "run", steps=4, **SMALL | options)
    text = "We saw plot. It was dull! We saw."
    again = elman.load(tmp_path / "run").predict(text)[0][0]
    assert again.probabilities == model.predict(text)[0][0].probabilities
    if options.get("pooling") in (None, "attention", "mean"):
        assert again.weights.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert len(again.weights) == len(again.attention.source.pieces)


def test_sentences_begin_behind_full_stops(tmp_path: Path) -> None:
    reviews(tmp_path / "t.csv", 60)
    model = elman.train("classify", tmp_path / "t.csv", steps=0, hierarchical=True, **SMALL)
    ids = torch.from_numpy(model.medium.read(["We saw. It was dull. We"])[0])[None]
    assert model.medium.boundaries(ids)[0].tolist() == [True, False, False, True, False, False, False, True]
    assert model.medium.boundaries(torch.full((1, 500), 5))[0].nonzero()[:, 0].tolist() == [0, 200, 400]


def test_several_labels(tmp_path: Path) -> None:
    draw, rows = random.Random(0), []
    for _ in range(300):
        words = draw.sample(["red", "blue", "green"], draw.randint(0, 3))
        rows.append({"text": " ".join(["a", *words, "b"]), "label": sorted(words)})
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = SMALL | {"steps": 150, "label_separator": "+", "dropout": 0.1, "tokens": "word", "label_smoothing": 0.0}
    model = elman.train("classify", tmp_path / "m.jsonl", **settings)
    assert model.predict("a green red b")[0][0].text == "green+red"
    assert model.predict("a b")[0][0].text == ""
    metrics = model.evaluate(model.held_out())
    assert metrics["accuracy"] > 0.9 and "confusion" not in metrics


def series(path: Path, seed: int = 0) -> None:
    draw, lines = np.random.default_rng(seed), ["@classLabel true up down", "@data"]
    for k in range(60):
        T, sign = draw.integers(5, 12), 1 if k % 2 else -1
        x = sign * np.linspace(0, 1, T) + 0.1 * draw.standard_normal(T)
        y = draw.standard_normal(T)
        lines.append(f"{','.join(map(str, x))}:{','.join(map(str, 1000 + y))}:{'up' if k % 2 else 'down'}")
    path.write_text("\n".join(lines))


def test_it_learns_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series(tmp_path / "train.ts")
    series(tmp_path / "test.ts", 1)
    model = elman.train("classify", tmp_path / "train.ts", steps=80, out=tmp_path / "run", **NUMBERS)
    assert model.evaluate(model.read([str(tmp_path / "test.ts")]))["accuracy"] > 0.9
    (tmp_path / "one.csv").write_text("1,2\n" + "".join(f"{-k / 6},1000\n" for k in range(7)))
    assert cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "one.csv")]) == 0
    assert capsys.readouterr().out == "down\n"
    (tmp_path / "one.csv").write_text("x\n1\n")
    assert cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "one.csv")]) == 2
    assert "one.csv: 1 channels: x; 2 are required: 1, 2" in capsys.readouterr().err
    assert cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "none.csv")]) == 2
    assert "none.csv: no such file" in capsys.readouterr().err
    array = np.array([[0.0, 1000.0], [np.nan, 1000.0]], dtype=np.float32)
    with pytest.raises(elman.ElmanError, match=r"step 2 of channel 1 is nan"):
        model.predict(array)
    ((answer,),) = model.predict(np.nan_to_num(array))
    with pytest.raises(elman.ElmanError, match="attention is shown on texts only"):
        answer.attention.by_words()


def test_it_learns_sounds(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    draw = np.random.default_rng(0)
    rows = ["file,label,speaker"]
    for k in range(40):
        pitch = draw.uniform(200, 400) if k % 2 else draw.uniform(1500, 2500)
        samples = wave(draw.uniform(0.2, 0.4), pitch) + 0.01 * draw.standard_normal(1).astype(np.float32)
        soundfile.write(tmp_path / f"{k}.wav", samples, 8000)
        rows.append(f"{k}.wav,{'low' if k % 2 else 'high'},{k % 5}")
    (tmp_path / "sounds.csv").write_text("\n".join(rows))
    model = elman.train(
        "classify", tmp_path / "sounds.csv", group="speaker", steps=60, out=tmp_path / "run", **NUMBERS
    )  # fmt: skip
    assert model.evaluate(model.held_out())["accuracy"] > 0.9
    again = elman.load(tmp_path / "run")
    assert again.predict([tmp_path / "1.wav", tmp_path / "2.wav"])[0][0].text == "low"
    ((heard,),) = again.predict([wave(0.3, 2000)])
    assert heard.text == "high"
    (row,) = (x.astype(np.float32) for x in again.medium.read([wave(0.3, 2000)]))
    assert again.config.decibels == 26 and np.array_equal(
        again.medium.features(row), frame_features(add_noise_floor(row, 26))
    )
    again.medium.options = again.config.model_copy(update={"decibels": None})  # as runs of before have it
    assert np.array_equal(again.medium.features(row), frame_features(row))


def test_what_is_wrong(tmp_path: Path, run: str) -> None:
    (tmp_path / "one.csv").write_text("text,label\na,x\nb,x\n")
    with pytest.raises(elman.ElmanError, match=r"one.csv, row \d: all 1 examples have one label, 'x'"):
        elman.train("classify", tmp_path / "one.csv", steps=1, **SMALL)
    model = elman.load(run)
    (tmp_path / "new.csv").write_text("text,label\na,sideways\n")
    (tmp_path / "two.csv").write_text("text,label\na,x\nb,y\n" * 3)
    with pytest.raises(elman.ElmanError, match=r"new.csv, row 1: no held-out example has a label that is learnt"):
        elman.train("classify", tmp_path / "two.csv", valid=tmp_path / "new.csv", steps=1, **SMALL)
    series(tmp_path / "s.ts")
    with pytest.raises(elman.ElmanError, match=r"s.ts, line 3: series; the model reads text"):
        model.read([str(tmp_path / "s.ts")])
    for options, message in (
        ({"hierarchical": True}, "hierarchical: has no effect here, it needs texts"),
        ({"vectors": "x.txt"}, "vectors: has no effect here, it needs texts"),
        ({"label_separator": ""}, "label_separator: string should have at least 1 character"),
        ({"pooling": "men"}, "pooling: unknown pooling 'men': did you mean mean"),
        ({"hierarchical": True, "periods": "1,2"}, "give one"),
    ):
        with pytest.raises(elman.ElmanError, match=message):
            elman.train("classify", tmp_path / "s.ts", steps=1, **NUMBERS | options)


def test_labels_that_are_not_known(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    reviews(tmp_path / "known.csv", 20, 2)
    known = elman.load(run).evaluate(elman.load(run).read([str(tmp_path / "known.csv")]))
    assert known["unseen_labels"] == 0
    text = (tmp_path / "known.csv").read_text()
    (tmp_path / "some.csv").write_text(text + "It was odd.,sideways\n" * 4 + "It was odd.,zigzag\n")
    assert cli.main(["evaluate", run, str(tmp_path / "some.csv"), "--json", "--baseline"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["loss"] == pytest.approx(known["loss"], rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(known["accuracy"] * 20 / 25)
    assert (metrics["examples"], metrics["unseen_labels"]) == (25, 5)
    assert metrics["labels"]["sideways"] == {"precision": None, "recall": 0.0, "f1": 0.0, "count": 4}
    assert sum(metrics["confusion"]["sideways"].values()) == 4
    assert metrics["macro_f1"] == pytest.approx(np.mean([one["f1"] for one in metrics["labels"].values()]))
    assert "some.csv, row 21: the label 'sideways' is not one that the model learnt (down, up); 5 of 25" in caplog.text
    (tmp_path / "all.csv").write_text("text,label\nIt was odd.,sideways\n")
    assert cli.main(["evaluate", run, str(tmp_path / "all.csv"), "--int8", "--plot", str(tmp_path / "a.png")]) == 0
    shown = capsys.readouterr().out
    assert "loss                 undefined" in shown and "unseen labels        1" in shown
    assert re.search(r"sideways +undefined +0.000 +0.000 +1", shown)


def test_scores_over_nothing_are_none() -> None:
    nothing = np.zeros((0, 2), dtype=np.int8)
    scores = label_scores(nothing, nothing, ["a", "b"])
    assert scores["accuracy"] is None and scores["macro_f1"] is None
    assert scores["labels"]["a"] == {"precision": None, "recall": None, "f1": None, "count": 0}
    assert entity_scores([["O"]], [["O"]]) == {"entity_precision": None, "entity_recall": None, "entity_f1": None}
    assert entity_scores([["B-A"]], [["O"]]) == {"entity_precision": None, "entity_recall": 0.0, "entity_f1": 0.0}
    assert error_scores([], [], [], "words") == {"exact": None, "word_error_rate": None}


def test_scores_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    truth, guess = draw.integers(0, 4, 200), draw.integers(0, 4, 200)
    scores = label_scores(np.eye(5, dtype=np.int8)[truth], np.eye(5, dtype=np.int8)[guess], list("abcde"))
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(truth, guess, average="macro"))
    matrix = metrics.confusion_matrix(truth, guess)
    assert all(scores["confusion"]["abcd"[i]].get("abcd"[j], 0) == matrix[i, j] for i in range(4) for j in range(4))


def test_tokens_follow_the_texts() -> None:
    def chosen(*texts: str) -> str | None:
        return Text.learn(parse(ClassifyConfig, {}), Content(list(texts))).options.tokens

    assert chosen("Murphy", "O Neill") == "char"
    assert chosen("A film of great power.", "Not for me, I think.") == "word"
    assert ClassifyConfig().columns() == Columns("text", "label", "file", None, None, None, None)
