"""Punctuation from the pauses between words: records with times, training, prediction, chains, wrong data."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import elman
from elman import cli
from elman.chains import Stage
from elman.data.inputs import InputFile
from elman.data.timed import TimedText, pauses_after, timed_text
from elman.decoding.subtitles import Word
from elman.tasks.abilities import Predicts
from elman.tasks.punctuate.options import Marking
from elman.tasks.transcribe.answers import Transcript

SMALL: dict[str, Any] = {"hidden_size": 32, "embedding_size": 16, "character_size": 0, "window": 16, "progress": False}
#: The pause before each mark, in seconds.
PAUSES = {"": 0.0, ",": 0.3, ".": 1.0}


def said(draw: random.Random, count: int = 12) -> dict[str, Any]:
    """A record with random words and marks; only the pauses tell which marks."""
    written, words, now, begins = [], [], 0.0, True
    for k in range(count):
        word, mark = draw.choice(["ba", "de", "ki", "lo"]), "." if k == count - 1 else draw.choice(["", "", ",", "."])
        written.append((word.capitalize() if begins else word) + mark)
        words.append({"text": word, "start": now, "end": now + 0.25, "confidence": 0.9})
        now, begins = now + 0.25 + PAUSES[mark], mark == "."
    return {"text": " ".join(written), "score": -1.5, "words": words}


def plain(record: dict[str, Any]) -> str:
    return " ".join(word["text"] for word in record["words"])


def write_lines(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in records))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learned from records and plain text."""
    folder, draw = tmp_path_factory.mktemp("pauses"), random.Random(0)
    data = write_lines(folder / "said.jsonl", [said(draw) for _ in range(120)])
    (folder / "plain.txt").write_text(" ".join(said(draw)["text"] for _ in range(3)))
    options = {"learning_rate": 0.03, "dropout": 0.0, "word_dropout": 0.0, "batch_size": 16, "average": 0.9}
    options["sentence_weight"] = 0.0
    elman.train("punctuate", [data, folder / "plain.txt"], out=folder / "run", steps=80, **SMALL, **options)
    return folder / "run"


def records(count: int = 10) -> list[dict[str, Any]]:
    draw = random.Random(1)
    return [said(draw) for _ in range(count)]


def agreement(texts: Sequence[str], right: Sequence[dict[str, Any]]) -> float:
    """The fraction of words that are written with the right letters and mark."""
    pairs = zip(" ".join(texts).split(), " ".join(one["text"] for one in right).split(), strict=True)
    same = [a == b for a, b in pairs]
    return sum(same) / len(same)


def test_pauses_tell_the_marks(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, given = elman.load(run), records()
    heard = [one | {"text": plain(one)} for one in given]
    assert agreement([found[0].text for found in model.predict(heard)], given) > 0.97
    unknown = [found[0].text for found in model.predict([plain(one) for one in given])]
    assert agreement(unknown, given) < 0.7 and all(one.endswith(".") for one in unknown)
    assert model.predict(heard[0])[0][0].text == model.predict(heard[:1])[0][0].text
    assert cli.main(["evaluate", str(run), str(write_lines(tmp_path / "held.jsonl", given)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mark_f1"] > 0.95
    assert cli.main(["info", str(run)]) == 0
    assert "reads: words and the pauses after them" in capsys.readouterr().out


def test_files_and_standard_input(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = [one | {"text": plain(one)} for one in records(3)]
    right = [found[0].text for found in elman.load(run).predict(heard)]
    assert cli.main(["predict", str(run), str(write_lines(tmp_path / "heard.jsonl", heard))]) == 0
    assert capsys.readouterr().out.splitlines() == right
    assert cli.main(["predict", str(run), str(tmp_path / "heard.jsonl"), "--out", str(tmp_path / "out.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["predicted"] for row in rows] == right and [row["words"] for row in rows] == [h["words"] for h in heard]
    answers = [{"input": "a.wav", "answers": [heard[0]]}, heard[1], {"input": "b.wav", "answers": None}, heard[2]]
    lines = [*map(json.dumps, answers), "ba {de"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    capsys.readouterr()
    assert cli.main(["predict", str(run)]) == 0
    found = capsys.readouterr().out.splitlines()
    assert found[:4] == [*right[:2], "", right[2]] and found[4].lower().startswith("ba")
    for text, count in ((f"ba\n{json.dumps(heard[0])}\n", 2), (f"{json.dumps(answers[0])}\n\nba\n", 3)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert cli.main(["predict", str(run), "-"]) == 0
        found = capsys.readouterr().out.splitlines()
        assert right[0] in found and len(found) == count
    monkeypatch.setattr("sys.stdin", io.StringIO('ba de\n{"text": "ba de", "words": [3]}\n'))
    assert cli.main(["predict", str(run)]) == 2
    assert "standard input, line 2: words: 3 is not of the form" in capsys.readouterr().err


class Hears(Predicts):
    """A recogniser that knows what is said in each recording."""

    Options = Marking
    reads, writes, reads_paths = "sound", "text", True

    def predict(self, inputs: Any, **options: Any) -> list[list[Transcript]]:
        every = records()
        return [
            [Transcript(plain(every[k]), -1.0, -1.0, [Word(**word) for word in every[k]["words"]], 9.0)] for k in inputs
        ]

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        return None


def test_a_chain_hands_over_the_times(run: Path) -> None:
    found = elman.Chain([Stage(Hears()), elman.load(run)]).predict([0, 1, 2])
    assert agreement([answers[0].text for answers in found], records(3)) > 0.97


def test_pauses_of_words_that_are_parted_otherwise() -> None:
    words = [
        ("it", 0.0, 0.5),
        ("-", 0.5, 0.6),
        ("s", 0.75, 1.0),
        ("e mail", 1.5, 2.0),
        ("ok", 1.9, 3.0),
        ("so", 4.0, 5.0),
    ]
    found = pauses_after(TimedText("IT'S e-mail, OK: ... so", words), ["IT'S", "e", "mail", "OK", "...", "so"])
    assert found == [0.5, 0.0, 0.0, 1.0, None, None]
    assert pauses_after("a b", ["a", "b"]) == pauses_after(timed_text({"text": "a b"}), ["a", "b"]) == [None, None]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "Ba. De.", "words": [{"text": "ba", "start": 0, "end": 1}, {"text": "di", "start": 1, "end": 2}]},
         "the words with times are not those of the text: they have 'di' where the text has 'De'"),
        ({"text": "Ba.", "words": [{"text": "ba de", "start": 0, "end": 1}]}, "'de' where the text has nothing"),
        ({"text": "Ba de.", "words": [{"text": "ba", "start": 0, "end": 1}]}, "nothing where the text has 'de'"),
        ({"text": "Ba.", "words": [{"text": "ba", "start": 0}]}, "words: .* is not of the form"),
        ({"text": "Ba.", "words": "ba"}, "words: a list is required, not str"),
        ({"words": []}, "an object with the key 'text' is required"),
        ([], "an object with the key 'text' is required"),
        ({"text": "..."}, "has no words"),
    ],
)  # fmt: skip
def test_wrong_records(tmp_path: Path, record: Any, message: str) -> None:
    path = write_lines(tmp_path / "said.jsonl", [*records(2), record])
    with pytest.raises(elman.ElmanError, match=rf"said.jsonl, line 3: .*{message}"):
        elman.train("punctuate", path, steps=1, **SMALL)


def test_misfits_in_prediction(run: Path) -> None:
    with pytest.raises(elman.ElmanError, match="input 2 of 2: the words with times are not those of the text"):
        elman.load(run).predict(["ba de", {"text": "ba", "words": [{"text": "de", "start": 0, "end": 1}]}])
    with pytest.raises(elman.ElmanError, match="input 1 of 1: words: a list is required"):
        elman.load(run).predict([{"text": "ba", "words": 3}])


def test_times_in_memory_are_refused() -> None:
    with pytest.raises(elman.ElmanError, match=r"the times of words are read from a file .*\.jsonl"):
        elman.train("punctuate", records(9), steps=1, **SMALL)


def test_without_pauses_nothing_changes(run: Path, tmp_path: Path) -> None:
    """Plain text gives the weights that it always gave, and a run that reads pauses can start from one."""
    text = [one["text"] for one in records(20)]
    (tmp_path / "plain.txt").write_text(" ".join(text))
    write_lines(tmp_path / "texts.jsonl", [{"text": " ".join(text)}])
    one, other = (elman.train("punctuate", tmp_path / name, steps=2, **SMALL) for name in ("plain.txt", "texts.jsonl"))
    assert one.network.pauses is None and one.about()["reads"] == "words, without pauses"
    assert one.sources.fingerprint == other.sources.fingerprint
    states = one.network.state_dict(), other.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    one.save(tmp_path / "run")
    file = tmp_path / "run" / "punctuation.json"
    before = json.loads(file.read_text())
    del before["pauses"]
    file.write_text(json.dumps(before))  # as runs were saved before pauses were read
    heard = [record | {"text": plain(record)} for record in records(2)]
    found = [elman.load(tmp_path / "run").predict(given)[0][0].text for given in (heard[0], heard[0]["text"])]
    assert found[0] == found[1] == one.predict(heard[0]["text"])[0][0].text
    started = elman.train("punctuate", run.parent / "said.jsonl", init=tmp_path / "run", steps=0, progress=False)
    assert started.network.pauses is not None and started.sources.init.afresh[0] == "pauses"


def test_damaged_pauses(run: Path, tmp_path: Path) -> None:
    for path in run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    file = tmp_path / "punctuation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pauses": [0.5, 0.1]}))
    with pytest.raises(elman.ElmanError, match=r"punctuation.json: pauses: \[0.5, 0.1\] are not ascending"):
        elman.load(tmp_path)
