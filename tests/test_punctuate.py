"""Punctuation: words and marks of a text, windows of running text, metrics, training, wrong data."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman import cli
from elman.data.punctuated import MARKS, case_of, mark_of, read_punctuated, with_case
from elman.metrics.punctuation import punctuation_scores
from elman.networks.tagger import SentenceTagger
from elman.tasks.punctuate.examples import Punctuation, Windows, passage

SMALL: dict[str, Any] = {"hidden_size": 8, "embedding_size": 8, "character_size": 4, "progress": False}


@pytest.mark.parametrize(
    ("text", "words", "marks"),
    [
        ('"Well," he said, "it\'s 3:30."', "Well he said it's 3:30", ", _ , _ ."),
        ("hello ,world", "hello world", ", _"),
        ("the house\u2014which I saw... ok", "the house which I saw ok", "_ _ _ _ ... _"),
        ("Bonjour ! \u00c7a va\u00a0?", "Bonjour \u00c7a va", "! _ ?"),
        ("'Tis the 'best' dogs' day", "'Tis the best dogs' day", "_ _ _ _ _"),
        ("-5 .5 $3 #1 50% (see) [it]. U.S., -- no", "-5 .5 $3 #1 50% see it U.S no", "_ _ _ _ _ _ . , _"),
        ("What?! No!!! Yes....", "What No Yes", "? ! ..."),
        ("so :) I left <3", "so :) I left <3", "_ _ _ _ _"),
        ("e-mail me at a.b@c.de, o.k.?", "e-mail me at a.b@c.de o.k", "_ _ _ , ?"),
        ("- one\n- two", "one two", "_ _"),
        ("... and so on", "and so on", "_ _ _"),
        ("cafe\u0301.", "caf\u00e9", "."),
    ],
)
def test_words_and_marks(text: str, words: str, marks: str) -> None:
    found = read_punctuated(text)
    assert found.words == words.split()
    assert found.marks == ["" if mark == "_" else mark for mark in marks.split()]
    plain = read_punctuated(" ".join(found.words))
    assert (plain.words, set(plain.marks)) == (found.words, {""})  # what is restored is read as it was


def test_characters_without_spaces() -> None:
    found = read_punctuated(
        "\u4f60\u597d\uff0c\u6211\u662fiPhone\u7528\u6237\u3002 \u300c\u8c22\u8c22\uff01\u300d", "char"
    )
    assert found.words == [*"\u4f60\u597d\u6211\u662f", "iPhone", *"\u7528\u6237\u8c22\u8c22"]
    assert found.marks == ["", "\uff0c", "", "", "", "", "\u3002", "", "\uff01"]
    assert found.spaces == [""] * 7 + [" ", ""]
    assert found.dropped.total() == 2


def test_white_space_stays() -> None:
    found = read_punctuated("a  b\n\n- c \u2014 d--e\n")
    assert found.spaces == ["", "  ", "\n\n", " ", " "]


def test_case() -> None:
    forms = {"iphone": "iPhone"}
    for word in ("the", "I", "Paris", "USA", "iPhone", "42", "'Tis", "\u00c9tat", "U.S", "3D", "\u4f60", "stra\u00dfe"):
        assert with_case(word.lower(), case_of(word), forms) == word
    assert [case_of(word) for word in ("McDonald", "CDs", "3D")] == ["Mixed", "Mixed", "Capitalised"]
    assert with_case("new", "Mixed", forms) == "new"
    assert all(mark_of(mark) == mark for mark in MARKS)


def test_scores() -> None:
    marks = ["", ".", ",", "?"]
    truth, said = np.array([1, 0, 2, 2, 3, 0]), np.array([3, 0, 2, 0, 3, 1])
    scores = punctuation_scores(truth, said, marks, ".?")
    labels = scores["labels"]
    assert [labels[","][key] for key in ("precision", "recall", "f1", "count")] == [1.0, 0.5, 2 / 3, 2]
    assert labels["."]["f1"] == 0.0 and labels["?"]["f1"] == 2 / 3
    assert scores["mark_f1"] == 2 * 2 / (4 + 4)
    assert scores["macro_mark_f1"] == pytest.approx((0 + 2 / 3 + 2 / 3) / 3)
    assert scores["sentence_f1"] == 2 * 2 / (2 + 3)
    none = punctuation_scores(np.zeros(3, dtype=int), np.zeros(3, dtype=int), marks, ".?")
    assert none["mark_f1"] is none["sentence_f1"] is none["macro_mark_f1"] is None


def some_sentences(count: int, seed: int = 0) -> str:
    """Questions begin with "do", statements with a name; a comma stands before "but"; acronyms and "iPod"."""
    draw, lines = random.Random(seed), []
    things = ["cats", "dogs", "tea", "the BBC", "an iPod", "old films"]
    for _ in range(count):
        name, one, other = draw.choice(["Anna", "Bob", "Clara"]), *draw.sample(things, 2)
        asks = draw.random() < 0.4
        lines.append(f"Do you like {one}?" if asks else f"{name} likes {one}, but hates {other}.")
    return " ".join(lines)


def learnt_of(*texts: str) -> tuple[Punctuation, Any]:
    passages = [passage("x", read_punctuated(text)) for text in texts]
    learnt = Punctuation.learn(passages, {".": ".", ",": ",", "?": "?"}, 1000)
    return learnt, learnt.encode(passages)


def test_tags_are_the_text() -> None:
    texts = [some_sentences(20), "It ends here. And iPods, too, do"]
    learnt, text = learnt_of(*texts)
    for tags, words, whole in zip(text.examples.tags, text.examples.texts, texts, strict=True):
        cases, marks = learnt.divided(tags)
        written = learnt.written(words[1:-1], cases[1:-1])
        assert " ".join(w + learnt.marks[m] for w, m in zip(written, marks[2:], strict=True)) == whole


def test_windows_are_pieces_of_the_running_text() -> None:
    texts = [some_sentences(9), some_sentences(7, 1), "One more sentence here. No end"]
    learnt, text = learnt_of(*texts)
    windows = Windows(learnt, text, 12, 16, 0, 0, 1)
    running = [one.lower() for part in texts for one in read_punctuated(part).words]
    end = int(learnt.vocabulary.words.encode_words(["\n"])[0])
    whole = 0
    for k in range(20):
        batch, again = windows.batch(k), Windows(learnt, text, 12, 16, 0, 0, 1).batch(k)
        assert all(bool((a == b).all()) for a, b in zip(batch, again, strict=True))
        for words, tags, n in zip(batch.words.tolist(), batch.tags.numpy(), batch.lengths.tolist(), strict=True):
            names = [learnt.vocabulary.words.decode([i]) for i in words[:n]]
            cases, marks = learnt.divided(tags[:n])
            if words[0] == end:
                whole += 1
                assert tags[0] == 0 and not marks[1] and cases[1] == learnt.cases.index("Capitalised")
                assert n <= 14
                if words[n - 1] == end:
                    assert learnt.marks[marks[n - 1]] in ".?" and not cases[n - 1]
                names = [name for name in names if name != "\n"]
            else:
                assert n == 12 and end not in words[:n]
            assert any(running[i : i + len(names)] == names for i in range(len(running)))
    assert 120 < whole < 200
    parts = [Windows(learnt, text, 12, 16, 0, rank, 2).batch(0).words.tolist() for rank in (0, 1)]
    assert parts[0] != parts[1]


def test_every_word_knows_the_mark_that_ends_its_sentence() -> None:
    learnt, text = learnt_of("Do you? Anna, I do. It", "No end")
    words = learnt.vocabulary.collate(text.examples, range(2))
    kinds = learnt.sentence_marks(words)
    names = [[learnt.marks[k] if k >= 0 else "-" for k in row] for row in kinds.tolist()]
    assert names[0] == ["?", "?", "?", ".", ".", ".", "", "-"]
    assert names[1] == ["", "", "", "-", "-", "-", "-", "-"]
    inside = learnt.vocabulary.collate(text.examples.cut([(0, 1, 6)]), range(1))  # do you anna i do
    assert [learnt.marks[k] if k >= 0 else "-" for k in learnt.sentence_marks(inside)[0].tolist()] == ["?", "?", *"---"]


def test_windows_without_the_end_of_a_sentence_have_gradients() -> None:
    """Processes that train together need a gradient for every parameter."""
    network = SentenceTagger(9, 5, 4, 3, embedding_size=4, hidden_size=4, character_size=0)
    loss = network.kinds_loss(torch.randn(2, 5, 8), torch.full((2, 5), -1))
    loss.backward()
    assert loss.item() == 0 and network.kinds.weight.grad is not None and not network.kinds.weight.grad.any()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("punctuate")
    (folder / "train.txt").write_text(some_sentences(400))
    flags = ["--steps=80", "--embedding-size=16", "--hidden-size=32", "--character-size=8", "--learning-rate=0.01"]
    flags += ["--dropout=0.1", "--average=0.9", "--window=16", "--batch-size=32"]
    command = ["train", "punctuate", str(folder / "train.txt"), "--out", str(folder / "run"), *flags]
    assert cli.main(command) == 0
    return folder / "run"


def test_it_restores(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(trained), "--json", "--baseline"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["mark_f1"] > 0.95 and scores["case_accuracy"] > 0.97 and scores["sentence_f1"] > 0.95
    assert scores["labels"]["?"]["count"] > 3
    assert scores["baseline_unrestored_mark_f1"] == 0.0
    assert scores["baseline_unrestored_case_accuracy"] < scores["baseline_most_frequent_case_accuracy"]
    assert scores["baseline_most_frequent_mark_f1"] < scores["mark_f1"]
    assert cli.main(["evaluate", str(trained)]) == 0
    assert "mark f1" in capsys.readouterr().out
    assert cli.main(["evaluate", str(trained), "--answers", str(tmp_path / "sentences.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "sentences.jsonl").read_text().splitlines()]
    assert sum(row["predicted"] == row["target"] for row in rows) > 0.9 * len(rows)
    assert all(row["input"] == " ".join(read_punctuated(row["target"]).words).lower() for row in rows)
    capsys.readouterr()
    (tmp_path / "lines.txt").write_text("do you like tea\n\nanna likes the bbc but hates an ipod\n")
    assert cli.main(["predict", str(trained), str(tmp_path / "lines.txt")]) == 0
    assert capsys.readouterr().out == "Do you like tea?\n\nAnna likes the BBC, but hates an iPod.\n"
    model = elman.load(trained)
    ((answer,),) = model.predict("CLARA: likes (tea)\n  but hates dogs!\n\n \n  do you - like, Cats.")
    assert answer.text == "Clara likes tea,\n  but hates dogs.\n\n \n  Do you like cats?"
    assert len(answer.words) == len(answer.probabilities) == 10 and 0.5 < answer.score <= 1
    assert answer.words[-1] == "cats?"
    many, few = (model.predict("do you like tea", threshold=t)[0][0].text for t in (1e-9, 1 - 1e-9))
    assert sum(not c.isalnum() for c in many) > sum(not c.isalnum() for c in few) == 3
    assert cli.main(["evaluate", str(trained), "--threshold=1e-9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"][","]["precision"] < scores["labels"][","]["precision"]
    with pytest.raises(elman.ElmanError, match=r"input 2 of 2: no words in '\.\.\.'"):
        model.predict(["do you", "..."])


def test_evaluate_measures_what_predict_writes(trained: Path, tmp_path: Path) -> None:
    """An empty line ends a text for both; a line break does not."""
    text = (
        "Bob likes tea,\nbut hates dogs\n\nDo you like\ncats? Anna likes tea, but hates dogs.\n \n\nclara likes tea\n"
    )
    (tmp_path / "held.txt").write_text(text)
    assert cli.main(["evaluate", str(trained), str(tmp_path / "held.txt"), "--answers", str(tmp_path / "a.tsv")]) == 0
    rows = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()[1:]]
    assert [row[1] for row in rows] == [
        "Bob likes tea, but hates dogs", "Do you like cats?", "Anna likes tea, but hates dogs.", "clara likes tea",
    ]  # fmt: skip
    ((answer,),) = elman.load(trained).predict(text)
    assert " ".join(row[2] for row in rows) == " ".join(answer.text.split())


def test_long_texts_are_read_in_windows(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of many windows is restored as in one, whatever the number of windows that are read at a time."""
    model, text = elman.load(trained), some_sentences(150, 5)
    plain = " ".join(read_punctuated(text).words).lower()
    whole = model.predict(plain)[0][0].text
    assert len(plain.split()) > 10 * 64
    assert sum(a != b for a, b in zip(whole.split(), text.split(), strict=True)) < 10
    for at_once in (1, 3):
        monkeypatch.setattr("elman.tasks.punctuate.model._AT_ONCE", at_once)
        assert [a.text for (a,) in model.predict([plain, "do you like tea", plain])] == [
            whole,
            "Do you like tea?",
            whole,
        ]
    monkeypatch.setattr("elman.tasks.punctuate.model._LONGER", 1000)
    one = model.predict(plain)[0][0].text
    assert sum(a != b for a, b in zip(one.split(), whole.split(), strict=True)) < 10


def test_files_and_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "books" / "deep").mkdir(parents=True)
    (tmp_path / "books" / "a.txt").write_text(some_sentences(60))
    (tmp_path / "books" / "deep" / "b.txt.gz").write_bytes(
        gzip.compress(f"\u201c{some_sentences(60, 1)}\u201d".encode())
    )
    model = elman.train("punctuate", tmp_path / "books", steps=1, **SMALL)
    assert sum("dropped 2 quotation marks" in one for one in caplog.messages) == 1
    both = elman.train(
        "punctuate", [tmp_path / "books" / "a.txt", tmp_path / "books" / "deep" / "b.txt.gz"], steps=1, **SMALL
    )
    assert model.sources.fingerprint == both.sources.fingerprint
    held = model.held_out()
    assert min(map(len, held.examples.words)) >= 20 and model.evaluate(held)["words"] > 40
    with pytest.raises(elman.ElmanError, match="inside the data"):
        elman.train("punctuate", tmp_path / "books", out=tmp_path / "books" / "run", steps=1, **SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(elman.ElmanError, match="empty: the folder has no files"):
        elman.train("punctuate", tmp_path / "empty", steps=1, **SMALL)


def test_writing_without_spaces(tmp_path: Path) -> None:
    text = "\u4f60\u597d\u5417\uff1f\u6211\u5f88\u597d\uff0c\u8c22\u8c22\u4f60\u3002" * 60
    (tmp_path / "zh.txt").write_text(text)
    with pytest.raises(elman.ElmanError, match=r"zh.txt: no spaces between words; --tokens char"):
        elman.train("punctuate", tmp_path / "zh.txt", steps=1, **SMALL)
    settings = SMALL | {"hidden_size": 16, "learning_rate": 0.02, "dropout": 0.1, "batch_size": 32}
    model = elman.train("punctuate", tmp_path / "zh.txt", tokens="char", steps=60, **settings)
    plain = text[:24].translate(dict.fromkeys(map(ord, "\uff1f\uff0c\u3002")))
    assert model.predict(plain)[0][0].text == text[:24]


def test_wrong_data(tmp_path: Path) -> None:
    for text, message in (
        ("one two three\n" * 30, "x.txt: no punctuation to learn from; give punctuated text"),
        ("One. Two.", "x.txt: too few words to hold some out"),
        ("... -- !!!\n", "x.txt: has no words"),
    ):
        (tmp_path / "x.txt").write_text(text)
        with pytest.raises(elman.ElmanError, match=message):
            elman.train("punctuate", tmp_path / "x.txt", steps=1, **SMALL)


def test_marks_are_written_as_in_the_data(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_text("Bonjour\u00a0! Que dit-il\u00a0? Rien\u2026 " * 60)
    model = elman.train("punctuate", tmp_path / "fr.txt", steps=1, **SMALL)
    assert model.learnt.spellings.marks == {"?": "\u00a0?", "!": "\u00a0!", "...": "\u2026"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"marks": {".": "."}}, "tags.json: does not fit .*punctuation.json"),
        ({"marks": {"x": "x"}}, "punctuation.json: marks: 'x' is none of"),
        ({"forms": ["a"]}, "punctuation.json: forms: should be a valid dictionary"),
    ],
)
def test_damaged_runs(trained: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    file = tmp_path / "punctuation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(elman.ElmanError, match=message):
        elman.load(tmp_path)
