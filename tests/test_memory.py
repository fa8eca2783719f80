"""Data in memory, from pipes and from standard input, for every task."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import sys
import threading
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars
import pytest
import torch

import elman
import elman.cli.app
from elman.media.columns import Columns
from elman.media.labelled import read_labelled
from tests.conftest import some_text

TABLE = Columns("text", "label", "file", None, None, None, None)
CSV = "text,label\na,x\nb,y\n"

#: Each task's columns, and rows with them.
TASKS: dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]] = {
    "classify": (("text", "label"), [(f"film {'good' if k % 2 else 'bad'} {k}", k % 2) for k in range(40)]),
    "translate": (("source", "target"), [(f"a{k} b", f"b a{k}") for k in range(40)]),
    "tag": (("words", "tags"), [([f"w{k % 5}", "."], ["N", "P"]) for k in range(40)]),
    "answer": (
        ("story", "question", "answer"),
        [(f"Ann is in room {k}. Bo sleeps.", "Where is Ann?", f"room {k % 3}") for k in range(40)],
    ),
}
SMALL = {"steps": 1, "hidden_size": 8, "embedding_size": 8, "progress": False}


class Frame:
    """The part of the interface of a pandas DataFrame that is used."""

    iloc = dtypes = None

    def __init__(self, columns: dict[str, list]) -> None:
        self.columns, self._columns = list(columns), columns

    def __getitem__(self, name: str) -> list:
        return self._columns[name]

    def __len__(self) -> int:
        return len(self._columns[self.columns[0]])


@pytest.mark.parametrize("task", TASKS)
def test_data_in_memory(task: str, tmp_path: Path) -> None:
    names, rows = TASKS[task]
    columns = {name: [row[k] for row in rows] for k, name in enumerate(names)}
    Row = namedtuple("Row", names)  # type: ignore[misc]
    given = {
        "columns": columns,
        "tuples": rows,
        "lists": [list(row) for row in rows],
        "named": [Row(*row) for row in rows],
        "dicts": [dict(zip(names, row, strict=True)) for row in rows],
        "iterator": (dict(zip(names, row, strict=True)) for row in rows),
        "polars": polars.DataFrame(columns),
        "lazy": polars.DataFrame(columns).lazy(),
        "pandas": Frame(columns),
    }
    prints = set()
    for kind, data in given.items():
        model = elman.train(task, data, out=tmp_path / kind, **SMALL)
        assert model.sources.data == ["<data in memory, 40 rows>"]
        prints.add(model.sources.fingerprint)
        held = model.evaluate(model.held_out())
        assert held["loss"] > 0
    assert len(prints) == 1
    saved = elman.load(tmp_path / "columns")
    assert saved.evaluate(saved.read(polars.DataFrame(columns)))["loss"] > 0
    with pytest.raises(
        elman.ElmanError, match="<data in memory, 40 rows>: was read during training and cannot be read again"
    ):
        saved.held_out()
    assert elman.train(task, rows, out=tmp_path / "columns", resume=True, progress=False, steps=2).sources.examples
    with pytest.raises(elman.ElmanError, match="not the data that the run"):
        elman.train(task, rows[:30], out=tmp_path / "columns", resume=True, progress=False, steps=3)
    with pytest.raises(elman.ElmanError, match=f"has no column '{names[-1]}'"):
        elman.train(task, {name: cells for name, cells in columns.items() if name != names[-1]}, **SMALL)
    valid = elman.train(task, rows[:30], valid=rows[30:], **SMALL)
    assert valid.sources.valid == ["<data in memory, 10 rows>"]


@pytest.mark.parametrize("task", ["language", "fill", "punctuate"])
def test_texts_in_memory(task: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = some_text(3000)
    lines = text.removesuffix("\n").split("\n")
    (tmp_path / "a.txt").write_text("\n".join(lines))
    options = {"steps": 1, "hidden_size": 8, "progress": False}
    prints = {
        elman.train(task, data, **options).sources.fingerprint
        for data in (
            tmp_path / "a.txt", {"text": lines}, polars.Series("x", lines), polars.DataFrame({"y": lines}),
            [{"text": line} for line in lines], io.StringIO("\n".join(lines)), io.BytesIO("\n".join(lines).encode()),
        )
    }  # fmt: skip
    assert len(prints) == 1
    with pytest.raises(elman.ElmanError, match="has no column 'text' and more than one other: a, b"):
        elman.train(task, {"a": lines, "b": lines}, **options)
    (tmp_path / "a.csv").write_text("text\n" + text)
    elman.train(task, tmp_path / "a.csv", **options)
    assert "a.csv: the table is read as plain text, including its separators" in caplog.text


def test_predictions_for_data_in_memory() -> None:
    rows = TASKS["classify"][1]
    model = elman.train("classify", rows, **SMALL)
    texts = [text for text, _ in rows[:3]]
    said = [answer.record() for (answer,) in model.predict(texts)]
    for given in (
        polars.Series(texts), polars.DataFrame({"text": texts, "other": texts}), {"text": texts}, np.array(texts),
        np.array(texts, dtype=object), tuple(texts), Frame({"text": texts}),
    ):  # fmt: skip
        assert [answer.record() for (answer,) in model.predict(given)] == said
    with pytest.raises(elman.ElmanError, match="has no column 'text' and more than one other: a, b"):
        model.predict({"a": texts, "b": texts})
    with pytest.raises(elman.ElmanError, match="input 2 of 2: a text is needed, not int"):
        model.predict(["a", 1])


def test_series_in_memory() -> None:
    draw = np.random.default_rng(0)
    rows = [(draw.standard_normal((5 + k % 3, 2)) + k % 2, "ab"[k % 2]) for k in range(20)]
    found = read_labelled(rows, TABLE)
    assert found.medium == "series" and found.form.channels == ["1", "2"]
    assert found.inputs[1].tolist() == rows[1][0].tolist()
    model = elman.train("classify", rows, steps=1, hidden_size=4, progress=False)
    assert model.predict([rows[0][0]])[0][0].text in "ab"
    assert read_labelled([([1.0, 2.0], "a"), ([3.0], "b")], TABLE).inputs[0].tolist() == [[1], [2]]
    for kind in (
        torch.tensor, polars.DataFrame, lambda x: x.astype(object), lambda x: torch.tensor(x, requires_grad=True)
    ):  # fmt: skip
        again = read_labelled([(kind(x), label) for x, label in rows], TABLE)
        assert again.medium == "series" and [x.tolist() for x in again.inputs] == [x.tolist() for x, _ in rows]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": ["a"], "label": ["x", "y"]}, "the columns have unequal lengths: text 1, label 2"),
        ({"text": "a", "label": "x"}, "column 'text' is str; a list with one cell for each row is required"),
        ([("a", "x"), ("b",)], "row 2 of 2: 1 cells; rows are tuples such as"),
        ([("a", "x"), 3], "row 2 of 2: int; rows are tuples"),
        ((["a", "b", "c", "d", "e"], ["x"] * 5), "row 1 of 2: 5 cells; .* give columns as"),
        (7, "paths, a table or rows are required, not int"),
        (b"abc", "paths, a table or rows are required, not bytes"),
        ({"text": ["a", None], "label": ["x", "y"]}, "row 2: the text is empty"),
        ({"text": ["a", "b"], "label": ["x", float("nan")]}, "row 2: no label"),
        ({"text": [b"a", b"b"], "label": ["x", "y"]}, "column 'text' contains neither a text nor a series"),
        ({"text": ["a\ud800"], "label": ["x"]}, "column 'text' contains an unpaired surrogate"),
        ([("a", "x", 1), ("b", "y", 2)], "3 cells in each row; the 2 cells text, label are required"),
        ([("a", object()), ("b", "y")], "a cell is object, which is not a text, a number or an array"),
        ([[("The", "D"), ("dog", "N")]], r"row 1 of 1: a list of pairs .* a sentence is one pair, its words and its"),
        ([(np.ones((2, 2), complex), "x"), (np.ones((2, 2)), "y")], "row 1: column 'text' contains neither"),
        ([], "no data: give one file or more"),
        (polars.DataFrame(), "has no column 'text'"),
    ],
)
def test_wrong_data_in_memory(data: Any, message: str) -> None:
    with pytest.raises(elman.ElmanError, match=message) as caught:
        elman.train("classify", data, progress=False)
    assert "\n" not in str(caught.value)


def test_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    names, rows = TASKS["classify"]
    frame = pandas.DataFrame(rows, columns=list(names), index=range(7, 47))
    frame.loc[7, "label"] = None  # the labels become floats
    with pytest.raises(elman.ElmanError, match="row 1: no label"):
        elman.train("classify", frame, **SMALL)
    found = read_labelled(frame, TABLE._replace(skip_bad=True))
    assert found.inputs == [text for text, _ in rows[1:]]
    assert set(found.labels) == {("0.0",), ("1.0",)}
    assert elman.train("language", frame["text"], steps=1, hidden_size=4, progress=False).sources.examples == 1
    assert read_labelled(frame.dropna().astype({"label": "category"}), TABLE).inputs == found.inputs


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_pipes(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for data in (CSV.encode(), gzip.compress(CSV.encode()), b'{"text":"a","label":"x"}\n{"text":"b","label":"y"}\n'):
        writer = threading.Thread(target=path.write_bytes, args=(data,))
        writer.start()
        found = read_labelled(str(path), TABLE)
        writer.join()
        assert found.labels == [("x",), ("y",)]
        assert found.places[0] == f"<{path}>, row 1"


def standard_input(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    data = ("text;label\n" + "".join(f"{a};{b}\n" for a, b in TASKS["classify"][1])).encode()
    options = ["--steps", "1", "--hidden-size", "8", "--out", "run"]
    standard_input(monkeypatch, io.BytesIO(data))
    assert elman.cli.app.main(["train", "classify", "-", *options]) == 0
    standard_input(monkeypatch, io.BytesIO(data))
    assert elman.cli.app.main(["evaluate", "run", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["examples"] == 40
    assert elman.cli.app.main(["evaluate", "run"]) == 2
    message = "<standard input>: was read during training and cannot be read again; give the data"
    assert message in capsys.readouterr().err
    standard_input(monkeypatch, io.BytesIO(b""))
    assert elman.cli.app.main(["train", "classify", "-", "--out", "other"]) == 2
    assert "<standard input>: is empty" in capsys.readouterr().err


class Endless(io.RawIOBase):
    """A stream that never ends."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = b"y" * len(buffer)
        return len(buffer)


def test_endless_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.data.source.MAX_STREAM_BYTES", 1 << 20)
    monkeypatch.setattr("elman.data.source._MAX_ROWS", 1000)
    standard_input(monkeypatch, io.BufferedReader(Endless()))
    message = "<standard input>: gives more than 1 MiB and may never end; save it to a file first"
    with pytest.raises(elman.ElmanError, match=message):
        elman.train("language", "-", out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(elman.ElmanError, match="more than 1,000 rows, which may never end"):
        elman.train("classify", (("a", "x") for _ in itertools.count()), progress=False)
    if os.path.exists("/dev/zero"):
        with pytest.raises(elman.ElmanError, match="</dev/zero>: gives more than 1 MiB"):
            read_labelled("/dev/zero", TABLE)
