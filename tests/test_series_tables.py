"""Series of numbers: scales, missing values, file formats and predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import elman
from elman import cli
from elman.data.series import fill_missing
from elman.media.columns import Columns
from elman.media.labelled import read_labelled
from tests.test_series import FLAGS, SMALL, read, wide


@pytest.mark.parametrize("offset", [3e7, -1.7e9, 1e12])
def test_large_offsets_are_kept(offset: float, tmp_path: Path) -> None:
    wide(tmp_path / "t.csv", 60, offset)
    wide(tmp_path / "e.csv", 20, offset, 1)
    lines = (tmp_path / "t.csv").read_text().splitlines()[1:]
    data = ["@classLabel true down up", "@data"] + [":".join(line.rsplit(",", 1)) for line in lines]
    (tmp_path / "t.ts").write_text("\n".join(data))
    for name in ("t.csv", "t.ts"):
        model = elman.train("classify", tmp_path / name, steps=60, out=tmp_path / f"{name}-run", **SMALL)
        for one in (model, elman.load(tmp_path / f"{name}-run")):
            assert [best.text for (best,) in one.predict(tmp_path / "e.csv")] == ["down", "up"] * 10
            arrays = [offset + np.arange(4.0), offset - np.arange(4.0)]
            assert [best.text for (best,) in one.predict(arrays)] == ["up", "down"]


def test_constant_channels_and_huge_scales(tmp_path: Path) -> None:
    draw, rows = np.random.default_rng(0), ["id,a,b,c,d,e,label"]
    for k in range(60):
        for t in range(4):
            x = (t if k % 2 else -t) + 0.1 * draw.standard_normal()
            rows.append(f"{k},{x * 1e290!r},3e7,{x * 1e-290!r},{1.7e9 + x!r},{0.1},{'up' if k % 2 else 'down'}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    model = elman.train("classify", tmp_path / "t.csv", series="id", steps=60, **SMALL)
    source = model.network.source
    assert source.deviation[1] == source.deviation[4] == 1.0 and source.mean[4] == 0.1
    assert 1e290 < source.deviation[0] < 1e291 and 1e-290 < source.deviation[2] < 1e-289
    assert model.evaluate(model.held_out())["accuracy"] == 1.0
    far = np.array([[1e300, 1e300, 1e300, -1e300, 1e300]] * 2)
    assert np.isfinite(list(model.predict(far)[0][0].probabilities.values())).all()


@pytest.mark.parametrize("missing", ["interpolate", "zero", "mask"])
def test_missing_values(missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw, rows = np.random.default_rng(0), ["id,x,z,label"]
    for k in range(60):
        for t in range(6):
            x = str((t if k % 2 else -t) + 0.1 * draw.standard_normal()) if draw.random() < 0.6 else "?"
            rows.append(f"{k},{x},{'' if k % 5 == 0 else 7 + t},{'up' if k % 2 else 'down'}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    run = str(tmp_path / "run")
    train = ["train", "classify", str(tmp_path / "t.csv"), "--series=id", "--out", run, "--steps=80", *FLAGS]
    assert cli.main(train) == 2
    assert "is nan, not a number; for missing values give --missing" in capsys.readouterr().err
    assert cli.main([*train, "--missing", missing]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.8
    model = elman.load(run)
    assert model.network.source(torch.zeros(1, 1, 2)).shape[-1] == (4 if missing == "mask" else 2)
    gaps = np.array([[0.0, 7], [np.nan, np.nan], [2, 9], [np.nan, 10], [4, 11]])
    full = np.array([[0.0, 7], [1, 8], [2, 9], [3, 10], [4, 11]])
    ((seen,), (plain,)) = model.predict([gaps, full])
    assert seen.text == plain.text == "up"
    assert (seen.probability == pytest.approx(plain.probability, abs=1e-5)) == (missing == "interpolate")


def test_fill_missing() -> None:
    x = np.array([[np.nan, 1.0, np.nan], [2.0, np.nan, np.nan], [np.nan, np.nan, np.nan], [4.0, 4.0, np.nan]])
    np.testing.assert_array_equal(fill_missing(x, "zero"), np.nan_to_num(x))
    wanted = [[2, 1, np.nan], [2, 2, np.nan], [3, 3, np.nan], [4, 4, np.nan]]
    np.testing.assert_array_equal(fill_missing(x, "interpolate"), wanted)
    assert fill_missing(x, "mask") is x


@pytest.mark.parametrize(
    ("text", "shape", "labels"),
    [
        ("\ufeff@problemName a\r\n@classLabel true u v\r\n@data\r\n1,2:u\r\n3,4,5:v\r\n", (2, 1), ["u", "v"]),
        ("# c\n% c\n@timestamps false\n@missing true\n@univariate true\n@equallength false\n@classlabel true u\n@data\n"
         "1,2:u\n# between\n2,3,4:u\n", (2, 1), ["u", "u"]),
        ("@DIMENSIONS 2\n@equalLength true\n@seriesLength 2\n@classLabel\ttrue\tu\n@data\n1,2:3,4:u\n", (2, 2), ["u"]),
        ('@dimension 1\n@classLabel true "a b" c\n@data\n1, 2 ,3:"a b"\n1:c\n', (3, 1), ["a b", "c"]),
        ("@classLabel true u\n@DATA\n  30000000.25,1e-3:u  \n", (2, 1), ["u"]),
        ("@univariate true\n@data\n1,2:u\n", (2, 1), ["u"]),
    ],
)  # fmt: skip
def test_headers_of_ts_files(text: str, shape: tuple[int, int], labels: list[str], tmp_path: Path) -> None:
    found = read(tmp_path / "a.ts", text)
    assert found.inputs[0].shape == shape and found.inputs[0].dtype == np.float64
    assert [label for (label,) in found.labels] == labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@univariate true\n@data\n1:2:u\n", "line 3: 2 channels, but the header says 1"),
        ("@dimensions 3\n@data\n1:2:u\n", "line 3: 2 channels, but the header says 3"),
        ("@equalLength true\n@data\n1,2:u\n1:u\n", "line 4: 1 steps, but the header says that all series have 2"),
        ("@equalLength true\n@seriesLength 3\n@data\n1,2:u\n", "line 4: 2 steps, but the header says .* have 3"),
        ("@targetLabel true\n@data\n1,2:0.5\n", r"line 1: .*numbers to predict \(@targetLabel\), not class labels"),
        ("@relation x\n@data\n1,2:u\n", "line 1: unknown header @relation"),
        ("@univariate maybe\n@data\n1:u\n", "line 1: @univariate must be true or false, not 'maybe'"),
        ("@dimensions two\n@data\n1:u\n", "line 1: @dimensions must be a number, not 'two'"),
        ("1,2:u\n", "line 1: this line comes before @data; series must come after it"),
        ("@data\n1,2::u\n", "line 2: channel 2 has no values"),
        ("@data\n1,x:u\n", "line 2: channel 1 must be numbers separated by commas"),
        ("@data\n1_0,2:u\n", "line 2: channel 1 must be numbers separated by commas"),
        ("@data\n1,inf:u\n", "line 2: step 2 of channel 1 is inf, not a number"),
        ("@data\n1,,2:u\n", "line 2: step 2 of channel 1 is nan, not a number"),
        ("@classLabel true u\n@data\n1,2:U\n", "line 3: the label 'U' is not one of @classLabel: u"),
    ],
)
def test_ts_files_that_are_wrong(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(elman.ElmanError, match=rf"a\.ts, {message}"):
        read(tmp_path / "a.ts", text)


def test_missing_values_of_ts_files(tmp_path: Path) -> None:
    found = read(tmp_path / "a.ts", "@missing true\n@data\n1,?,3:?,?,?:u\n", missing=True)
    np.testing.assert_array_equal(found.inputs[0], [[1, np.nan], [np.nan, np.nan], [3, np.nan]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decimal": ","}, "decimal: has no effect here, it needs series"),
        ({"wide": True}, "wide: has no effect here, it needs series"),
        ({"channels": "x"}, "channels: has no effect here, it needs series"),
        ({"time": "t"}, "time: has no effect here, it needs series"),
        ({"bands": 12}, "bands: has no effect here, it needs sounds"),
        ({"decibels": 3.0}, "decibels: has no effect here, it needs sounds"),
        ({"rare": 5}, "rare: has no effect here, it needs vectors; .*vocab_size, vectors"),
        ({"extra_words": 5}, "extra_words: has no effect here, it needs vectors"),
        ({"missing": "zero"}, "missing: has no effect here, it needs series"),
        ({"missing": "drop"}, "missing: should be 'refuse', 'interp"),
        ({"wide": True, "time": "t"}, "wide: each row is a series"),
        ({"decimal": ";"}, "decimal: should be '.' or ','"),
    ],
)
def test_options_without_effect_are_refused(options: dict, message: str, tmp_path: Path) -> None:
    for name in ("Irish", "Greek"):
        (tmp_path / f"{name}.txt").write_text("O'Neill\nMurphy\n" * 5)
    with pytest.raises(elman.ElmanError, match=message):
        elman.train("classify", [tmp_path / "Irish.txt", tmp_path / "Greek.txt"], steps=1, **SMALL | options)


def test_options_of_texts_do_not_apply_to_series(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("@data\n" + "1,2:u\n3,4:v\n" * 5)
    for options in ({"tokens": "char"}, {"lowercase": True}, {"word_dropout": 0.5}):
        with pytest.raises(
            elman.ElmanError, match=f"{next(iter(options))}: has no effect here, it needs texts; .*missing"
        ):
            elman.train("classify", tmp_path / "a.ts", steps=1, **SMALL | options)


@pytest.mark.parametrize("option", ["series", "group"])
def test_options_that_name_columns_need_tables(option: str, tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("@data\n" + "1,2:u\n3,4:v\n" * 5)
    with pytest.raises(elman.ElmanError, match=rf"{option}: has no effect here, it needs (tables|a table)"):
        elman.train("classify", tmp_path / "a.ts", steps=1, **SMALL, **{option: "id"})


def test_names_that_are_numbers_match_any_channel(tmp_path: Path) -> None:
    """A wide table with columns 0, 1, 2, ... is not taken for a table with the channel "1" of the model."""
    rows = [",".join(str(t if k % 2 else -t) for t in range(5)) + f",{'up' if k % 2 else 'down'}" for k in range(40)]
    (tmp_path / "t.csv").write_text("0,1,2,3,4,label\n" + "\n".join(rows))
    model = elman.train("classify", tmp_path / "t.csv", steps=60, **SMALL)
    assert [best.text for (best,) in model.predict(tmp_path / "t.csv")] == ["down", "up"] * 20
    assert model.evaluate(model.read([str(tmp_path / "t.csv")]))["accuracy"] == 1.0
    (tmp_path / "t.csv").write_text("x\n0\n1\n2\n")
    assert model.predict(tmp_path / "t.csv")[0][0].text == "up"
    with pytest.raises(elman.ElmanError, match="input 1 of 1: not a series of numbers"):
        model.predict([["a", "b"]])


def test_tables_of_one_series_each(tmp_path: Path) -> None:
    for k in range(20):
        label = "up" if k % 2 else "down"
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        steps = [(t, 3e7 + (t if k % 2 else -t)) for t in (2, 10, 0, 1)]
        text = "t;x".replace(";", ",") + "".join(f"\nt{t},{x}" for t, x in steps)
        (tmp_path / "data" / label / f"{k}.csv").write_text(text)
    model = elman.train("classify", tmp_path / "data", time="t", steps=60, **SMALL)
    assert model.medium.state().channels == ["x"]
    path = tmp_path / "data" / "up" / "1.csv"
    assert model.medium.read([path])[0][:, 0].tolist() == [3e7, 3e7 + 1, 3e7 + 2, 3e7 + 10]
    assert model.predict(path)[0][0].text == "up"


Case = Callable[[np.random.Generator], np.ndarray]


@pytest.mark.parametrize("offset", [0.0, 3e7, 1e12])
def test_scikit_learn_keeps_large_offsets(offset: float) -> None:
    pytest.importorskip("sklearn")
    X = [offset + (1 if k % 2 else -1) * np.arange(4.0)[:, None] for k in range(40)]
    y = [k % 2 for k in range(40)]
    options = {"steps": 60, "hidden_size": 8, "learning_rate": 0.02, "dropout": 0.0, "device": "cpu"}
    model = elman.SequenceClassifier(**options).fit(X, y)
    assert model.predict(X).tolist() == y
    X[0] = X[0].copy()
    X[0][1] = np.nan
    with pytest.raises(elman.ElmanError, match=r"X\[0\]: step 2 of channel 1 is nan"):
        elman.SequenceClassifier(**options).fit(X, y)
    assert elman.SequenceClassifier(**options, missing="mask").fit(X, y).predict(X).tolist() == y


def test_spellings_of_series_are_merged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.csv").write_text("id,x,label\n3,1,u\n 3,2,u\n4,1,v\n4,2,v\n")
    columns = Columns("text", "label", "file", None, "id", None, None)
    with caplog.at_level(logging.WARNING, "elman"):
        found = read_labelled(str(tmp_path / "a.csv"), columns)
    assert [x[:, 0].tolist() for x in found.inputs] == [[1, 2], [1, 2]]
    assert "column 'id': '3' and ' 3' are merged" in caplog.text
