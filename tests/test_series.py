"""Series of numbers in tables and .ts files: order, numbers and missing values."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

import elman
from elman import cli
from elman.data.series import SeriesFormat
from elman.media.columns import Columns
from elman.media.labelled import Labelled, read_labelled

LONG = Columns("text", "label", "file", None, "id", None, None)
SMALL: dict[str, Any] = {"hidden_size": 8, "learning_rate": 0.02, "dropout": 0.0, "progress": False, "device": "cpu"}
FLAGS = ["--hidden-size=8", "--learning-rate=0.02", "--dropout=0", "--device=cpu"]


def read(path: Path, text: str, columns: Columns = LONG, **reading: Any) -> Labelled:
    path.write_text(text)
    return read_labelled([str(path)], columns._replace(reading=columns.reading._replace(**reading)))


def long(times: list[str]) -> str:
    """A series whose only channel is the number of the row."""
    return "id,when,x,label\n" + "".join(f'a,"{time}",{k},u\n' for k, time in enumerate(times))


@pytest.mark.parametrize(
    ("times", "order"),
    [
        ([f"t{k}" for k in range(12)], range(12)),
        (["step 10", "step 9", "step 100"], [1, 0, 2]),
        (["10s", "9s", "100s"], [1, 0, 2]),
        (["10", "9", "1e1", "-3.5"][:2], [1, 0]),
        (["10", "9", "-3.5", "1e3"], [2, 1, 0, 3]),
        (["1700000000000000002", "1700000000000000001"], [1, 0]),
        (["9:59", "10:00", "10:01"], [0, 1, 2]),
        (["10:00:00.5", "9:59:59", "10:00:00.25"], [1, 2, 0]),
        (["12:30 PM", "1:15 pm", "12:01 AM", "9:59 am"], [2, 3, 0, 1]),
        (["10am", "9am", "12 PM"], [1, 0, 2]),
        (["2020-01-10", "2020-01-09", "2019-12-31"], [2, 1, 0]),
        (["2020/1/10", "2020/1/9"], [1, 0]),
        (["2020-10", "2020-9"], [1, 0]),
        (["2020-01-02T10:00:00Z", "2020-01-02T11:30:00+02:00"], [1, 0]),
        (["2020-01-02 10:00:00+0000", "2020-01-02 04:30:00-0500"], [1, 0]),
        (["31/12/2019", "1/1/2020", "2/1/2020", "1/2/2020"], [0, 1, 2, 3]),
        (["12/31/2019", "1/1/2020", "2/1/2020", "1/2/2020"], [0, 1, 3, 2]),
        (["31.12.2019 23:00", "1.1.2020 1:00"], [0, 1]),
        (["12/31/2020 9:59 PM", "1/2/2021 10:00 AM"], [0, 1]),
        (["1/2/2020", "1/3/2020", "1/4/2020"], [0, 1, 2]),
        (["2 Jan 2020", "1 Feb 2020", "31-Dec-2019"][:2], [0, 1]),
        (["Feb 1, 2020", "Jan 2, 2020"], [1, 0]),
        (["Tue, 3 Mar 2020 10:00:00 GMT", "Mon, 2 Mar 2020 11:00:00 GMT"], [1, 0]),
    ],
)  # fmt: skip
def test_steps_are_in_the_order_of_time(times: list[str], order: list[int], tmp_path: Path) -> None:
    found = read(tmp_path / "t.csv", long(times), LONG._replace(time="when"))
    assert found.inputs[0][:, 0].tolist() == list(order)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["1/2/2020", "2/1/2020"], "row 1: column 'when' contains '1/2/2020': no date of the column shows"),
        (["13/1/2020", "1/13/2020"], "'1/13/2020', a date with the month first; .* has the day first"),
        (["9:59", "10:00:30"], "row 2: column 'when' contains '10:00:30' .* use a single form"),
        (["9:59", "10:00 PM"], "use a single form"),
        (["2020-01-02", "2020-01-02 10:00"], "use a single form"),
        (["2020-01-02", "1/13/2020"], "use a single form"),
        (["2020-01-02T10:00:00Z", "2020-01-02T10:00:00"], "use a single form"),
        (["t1", "2"], "row 1: column 'when' contains 't1' among numbers|use a single form|contains '2'"),
        (["t1", "T2"], "use a single form"),
        (["1h", "30m"], "use a single form"),
        (["Monday", "Tuesday"], "row 1: column 'when' contains 'Monday', which is not a number, time or date"),
        (["t-1", "t-2"], "which is not a number, time or date"),
        (["1/2/20", "2/2/20"], "which is not a number, time or date"),
        (["2020-02-30", "2020-02-01"], "'2020-02-30', which is not a number, time or date"),
        (["2020-01-01 10:00 CET", "2020-01-01 09:00 CET"], "which is not a number, time or date"),
        (["1", "2", "1"], "rows 1 and 3 of series 'a': both have '1' in column 'when'"),
        (["9:00", "9:00"], "rows 1 and 2 of series 'a': both have '9:00'"),
        (["2020-01-01T10:00Z", "2020-01-01T12:00+02:00"], "rows 1 and 2 of series 'a': both have"),
        (["1", ""], "row 2: column 'when' is empty"),
        (["1", "NA"], "row 2: column 'when' is empty"),
        (["23:58", "23:59", "0:00", "0:01"], "row 3: the times of column 'when' continue past midnight"),
        (["1e99999999999999999999", "1"], "column 'when' contains a number that is too large"),
        (["t" + "9" * 5000, "t1"], r"row 1: column 'when' contains 't9{59}\.\.\.', which is not a number"),
        (["1,5", "2,5"], "row 1: column 'when' contains '1,5', which has a decimal comma"),
    ],
)  # fmt: skip
def test_times_that_do_not_sort(times: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(elman.ElmanError, match=rf"t\.csv.*{message}|{message}"):
        read(tmp_path / "t.csv", long(times), LONG._replace(time="when"))


def test_dates_are_read_as_in_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["id,when,x,label"]
    for k in range(20):
        times = ("13/1/2020", "3/2/2020", "4/1/2020")
        rows += [f"{k},{time},{x if k % 2 else -x},{'up' if k % 2 else 'down'}" for time, x in zip(times, (2, 3, 1))]  # noqa: B905
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with caplog.at_level(logging.WARNING, "elman"):
        model = elman.train("classify", tmp_path / "t.csv", series="id", time="when", steps=3, **SMALL)
    assert "when: dates are read with the day first" in caplog.text
    (tmp_path / "p.csv").write_text("id,when,x\n1,3/2/2020,3\n1,4/1/2020,1\n")
    assert model.medium.read([tmp_path / "p.csv"])[0][:, 0].tolist() == [1, 3]
    (tmp_path / "p.csv").write_text("id,when,x\n1,1/13/2020,3\n1,4/1/2020,1\n")
    with pytest.raises(elman.ElmanError, match="a date with the month first; the training data has the day first"):
        model.predict([tmp_path / "p.csv"])


def test_typed_times(tmp_path: Path) -> None:
    table = polars.DataFrame({"id": [1, 1], "label": ["u", "u"], "x": [0, 1]})
    for times in (
        polars.Series(["2020-01-10", "2020-01-09"]).str.to_date(),
        polars.Series(["2020-01-10 10:00", "2020-01-10 09:59"]).str.to_datetime(time_zone="UTC"),
        polars.Series([2**60 + 1, 2**60]), polars.Series([1.5, -1.5]),
    ):  # fmt: skip
        table.with_columns(when=times).write_parquet(tmp_path / "t.parquet")
        found = read_labelled([str(tmp_path / "t.parquet")], LONG._replace(time="when"))
        assert found.inputs[0].tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("cells", "reading", "values"),
    [
        (["1.5", "-2e3", "+3"], {}, [1.5, -2000, 3]),
        (["1,5", "2,25"], {"decimal": ","}, [1.5, 2.25]),
        (["1.234,5", "2"], {"decimal": ","}, [1234.5, 2]),
        (["1 234,5", "2\u00a0000"], {"decimal": ","}, [1234.5, 2000]),
        (["1,234.5", "2,000"], {}, [1234.5, 2000]),
        (["1,234,567", "2"], {}, [1234567, 2]),
        (["1,234", "2"], {"decimal": "."}, [1234, 2]),
        (["1'234.5", "2"], {}, [1234.5, 2]),
        (["\u22121.5", " 2 "], {}, [-1.5, 2]),
        (["true", "FALSE"], {}, [1, 0]),
        (["yes", "No"], {}, [1, 0]),
        (["y", "n"], {}, [1, 0]),
        (["30000000.25", "30000000.5"], {}, [30000000.25, 30000000.5]),
        (["?", "1", "NA", "", "nan"], {"missing": True}, [np.nan, 1, np.nan, np.nan, np.nan]),
        (["true", "?", "N/A"], {"missing": True}, [1, np.nan, np.nan]),
    ],
)  # fmt: skip
def test_valid_numbers(cells: list[str], reading: dict, values: list[float], tmp_path: Path) -> None:
    text = "id,x,label\n" + "".join(f'a,"{cell}",u\n' for cell in cells)
    found = read(tmp_path / "t.csv", text, **reading)
    np.testing.assert_array_equal(found.inputs[0][:, 0], values)
    assert found.inputs[0].dtype == np.float64


@pytest.mark.parametrize(
    ("cells", "decimal", "message"),
    [
        (["1,5", "2,25"], None, r"row 1: column 'x' contains '1,5', which has a decimal comma: give --decimal ,"),
        (["1,234", "2"], None, r"row 1: column 'x' contains '1,234': give --decimal , for a decimal comma"),
        (["1.5", "2"], ",", r"row 1: column 'x' contains '1.5', which is not a number with a decimal comma"),
        (["1,5", "1.5"], None, r"row 1: column 'x' contains '1,5' and '1.5': decimal commas and points in one column"),
        (["1", "?", "?", "?"], None, r"step 2 of channel x is nan, not a number; for missing values give --missing"),
        (["a", "b", "c", "4"], None, r"row 1: column 'x' contains 'a' among numbers"),
        (["1", "true"], None, r"row 2: column 'x' contains 'true' among numbers"),
        (["inf", "1"], None, r"row 1: column 'x' contains 'inf' among numbers"),
        (["1e400", "1"], None, r"step 1 of channel x is inf, not a number"),
        (["1e305", "1"], None, r"step 1 of channel x is 1e\+305, too large"),
        (["1_000", "1"], None, r"row 1: column 'x' contains '1_000' among numbers"),
        (["12%", "13%"], None, r"no column of numbers besides id, label; x: '12%' is not a number"),
        (["?", "NA"], None, r"no column of numbers besides id, label; x: has no values"),
    ],
)  # fmt: skip
def test_invalid_numbers(cells: list[str], decimal: str | None, message: str, tmp_path: Path) -> None:
    text = "id,x,label\n" + "".join(f'a,"{cell}",u\n' for cell in cells)
    with pytest.raises(elman.ElmanError, match=message):
        read(tmp_path / "t.csv", text, decimal=decimal)


def test_typed_cells(tmp_path: Path) -> None:
    rows = [{"id": 1, "x": x, "flag": flag, "label": "u"} for x, flag in ((1, True), (None, False), (2.5, None))]
    polars.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("t.parquet", "t.jsonl"):
        found = read_labelled([str(tmp_path / name)], LONG._replace(reading=SeriesFormat(missing=True)))
        assert found.form.channels == ["x", "flag"]
        np.testing.assert_array_equal(found.inputs[0], [[1, 1], [np.nan, 0], [2.5, np.nan]])


def test_columns_left_out_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["id,note,x,empty,label"]
    rows += [f"{k},hi,{x},,{'up' if k % 2 else 'down'}" for k in range(20) for x in (1, 2)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with caplog.at_level(logging.WARNING, "elman"):
        model = elman.train("classify", tmp_path / "t.csv", series="id", steps=1, **SMALL)
    assert "note ('hi' is not a number), empty (has no values); the channels are x" in caplog.text
    assert model.medium.state().left_out == ["note", "empty"]
    (tmp_path / "p.csv").write_text("x,note,empty\n1,7,8\n2,7,9\n")
    assert len(model.predict(tmp_path / "p.csv")) == 1
    (tmp_path / "p.csv").write_text("x,z\n1,7\n2,7\n")
    table = polars.DataFrame({"x": [1.0, 2.0]})
    assert model.predict(table)[0][0].text == model.predict(table.to_numpy())[0][0].text
    with pytest.raises(elman.ElmanError, match="column 'z' contains numbers; the model's channels are x"):
        model.predict(table.with_columns(z=polars.Series([1, 2])))
    with pytest.raises(elman.ElmanError, match=r"p.csv: column 'z' contains numbers; the model's channels are x"):
        model.predict(tmp_path / "p.csv")
    chosen = elman.train("classify", tmp_path / "t.csv", series="id", channels=["x"], steps=1, **SMALL)
    assert chosen.medium.state().channels == ["x"]
    with pytest.raises(elman.ElmanError, match=r"t.csv: column 'note' is a channel, but 'hi' is not a number"):
        elman.train("classify", tmp_path / "t.csv", series="id", channels="x,note", steps=1, **SMALL)
    with pytest.raises(elman.ElmanError, match=r"t.csv: has no column 'y' \(--channels\)"):
        elman.train("classify", tmp_path / "t.csv", series="id", channels="x,y", steps=1, **SMALL)


def test_ids_with_white_space_are_one_series(tmp_path: Path) -> None:
    found = read(tmp_path / "t.csv", "id,x,label\n 3,1,u\n3,2, u\n\u00a03 ,3,u\n4,1,1.0\n4,2,1\n")
    assert [len(x) for x in found.inputs] == [3, 2]
    assert found.labels[0] == ("u",) and len(found.labels) == 2
    with pytest.raises(elman.ElmanError, match="row 2: column 'id' is empty"):
        read(tmp_path / "t.csv", "id,x,label\n3,1,u\n ,2,u\n")


def test_columns_of_several_tables_must_agree(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,x,y,label\n1,1,,u\n1,2,,u\n")
    (tmp_path / "b.csv").write_text("id,y,x,label\n1,5,1,v\n1,6,2,v\n")
    paths = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    found = read_labelled(paths, LONG._replace(reading=SeriesFormat(missing=True)))
    assert found.form.channels == ["x", "y"] and found.inputs[1].tolist() == [[1, 5], [2, 6]]
    assert np.isnan(found.inputs[0][:, 1]).all()
    (tmp_path / "b.csv").write_text("id,x,y,label\n1,5,hi,v\n1,6,ho,v\n")
    (tmp_path / "a.csv").write_text("id,x,y,label\n1,1,2,u\n1,2,3,u\n")
    with pytest.raises(elman.ElmanError, match=r"b.csv: column 'y' contains text, but in .*a.csv numbers"):
        read_labelled(paths, LONG)


WIDE = LONG._replace(series=None)


def test_a_series_in_each_row(tmp_path: Path) -> None:
    steps = ",".join(f"t{k}" for k in (0, 10, 2, 1, 3, 4, 5, 6, 7, 8, 9))
    found = read(
        tmp_path / "t.csv", f"name,{steps},label\nhi,0,10,2,1,3,4,5,6,7,8,9,u\nho,1,11,3,2,4,5,6,7,8,9,10,v\n", WIDE
    )
    assert found.inputs[0][:, 0].tolist() == list(range(11)) and found.inputs[1][:, 0].tolist() == list(range(1, 12))
    assert found.labels == [("u",), ("v",)] and found.form.channels == ["t"] and list(found.form.reasons) == ["name"]
    found = read(tmp_path / "t.csv", "x_0,y_0,x_1,y_1,x_2,y_2,label\n1,2,3,4,5,6,u\n", WIDE)
    assert found.form.channels == ["x", "y"] and found.inputs[0].tolist() == [[1, 2], [3, 4], [5, 6]]
    found = read(tmp_path / "t.csv", "0,1,2,label\n1,2,3,u\n", WIDE)
    assert found.form.channels == ["1"] and found.inputs[0].tolist() == [[1], [2], [3]]
    found = read(tmp_path / "t.csv", "id,t0,t1,t2,label\na,1,2,3,u\nb,4,5,6,v\n", LONG)
    assert [x[:, 0].tolist() for x in found.inputs] == [[1, 2, 3], [4, 5, 6]]
    found = read(tmp_path / "t.csv", "text,t0,t1,label\na,1,2,u\nb,4,5,v\n", WIDE, wide=True)
    assert [x[:, 0].tolist() for x in found.inputs] == [[1, 2], [4, 5]]


@pytest.mark.parametrize(
    ("text", "columns", "reading", "message"),
    [
        ("t0,t1,t3,t4,label\n1,2,3,4,u\n", WIDE, {}, r"step 2 of 't' is missing between 0 and 4"),
        ("x0,x1,x2,y0,y1,y2,y3,label\n1,2,3,4,5,6,7,u\n", WIDE, {}, r"'y' has 4 steps and 'x' 3"),
        ("t0,t1,t2,label\n1,?,3,u\n", WIDE, {}, r"row 1: step 2 of channel t is nan, not a number; for missing values"),
        ("a,b,c,label\n1,2,3,u\n", WIDE, {"wide": True}, r"no columns are steps, such as t0, t1, t2"),
        ("t0,t1,label\nhi,2,u\n", WIDE, {"wide": True}, r"column 't0' is a step, but 'hi' is not a number"),
        ("t1,t 1,t2,label\n1,2,3,u\n", WIDE, {}, r"columns 't1' and 't 1' are both step 1 of 't'"),
        ("id,a,b,label\n1,2,3,u\n2,2,3,v\n", LONG, {}, r"every series has one row; if a row is a series, give --wide"),
        ("review,q1,q2,q5,label\na very good film,1,2,3,u\n", WIDE, {}, r"has no column 'text'"),
        ("t0,t1,t2\n1,2,3\n", WIDE, {}, r"has no column 'label'"),
    ],
)
def test_wide_tables_that_are_wrong(text: str, columns: Columns, reading: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(elman.ElmanError, match=message):
        read(tmp_path / "t.csv", text, columns, **reading)


def wide(path: Path, count: int, offset: float = 0.0, seed: int = 0) -> None:
    draw, rows = np.random.default_rng(seed), ["t0,t1,t2,t3,label"]
    for k in range(count):
        x = offset + (1 if k % 2 else -1) * np.arange(4) + 0.1 * draw.standard_normal(4)
        rows.append(",".join(map(repr, x.tolist())) + f",{'up' if k % 2 else 'down'}")
    path.write_text("\n".join(rows) + "\n")


def test_training_on_wide_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide(tmp_path / "t.csv", 60)
    wide(tmp_path / "e.csv", 20, seed=1)
    run = str(tmp_path / "run")
    assert cli.main(["train", "classify", str(tmp_path / "t.csv"), "--out", run, "--steps=60", *FLAGS]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", run, str(tmp_path / "e.csv"), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["examples"] == 20 and metrics["accuracy"] == 1.0
    assert cli.main(["predict", run, str(tmp_path / "e.csv")]) == 0
    assert capsys.readouterr().out.split() == ["down", "up"] * 10
    (tmp_path / "one.csv").write_text("t\n0\n1\n2\n3\n")
    assert cli.main(["predict", run, str(tmp_path / "one.csv")]) == 0
    assert capsys.readouterr().out == "up\n"


def test_data_frames_are_read_like_files(tmp_path: Path) -> None:
    rows = [(k, t, 3e7 + (t if k % 2 else -t), "up" if k % 2 else "down") for k in range(30) for t in (2, 10, 0, 1)]
    table = polars.DataFrame(rows, schema=["id", "t", "x", "label"], orient="row")
    model = elman.train("classify", table, series="id", time="t", steps=60, **SMALL)
    assert [best.text for (best,) in model.predict(table)] == ["down", "up"] * 15
    assert [best.text for (best,) in model.predict(table.drop("label").reverse())] == ["up", "down"] * 15


def test_predict_reads_the_columns_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    rows: list[tuple[str, str]] = []
    ts = ["@univariate false", "@classLabel true up down", "@data"]
    for k in range(60):
        x = (1 if k % 2 else -1) * np.arange(5) + 0.1 * draw.standard_normal(5)
        label = "up" if k % 2 else "down"
        steps = [(f"s{k}", f"{t}:00,{x[t]},{label}") for t in range(8, 3, -1) for t in [t - 4]]
        rows += [(one, f"{int(rest.split(':')[0]) + 8}:{rest.split(':', 1)[1]}") for one, rest in steps]
        ts.append(f"{','.join(map(str, x))}:{','.join(map(str, -x))}:{label}")
    draw.shuffle(rows)
    (tmp_path / "long.csv").write_text("id,t,x,label\n" + "\n".join(",".join(row) for row in rows))
    (tmp_path / "t.ts").write_text("\n".join(ts))
    for name, options in (("long.csv", ["--series=id", "--time=t"]), ("t.ts", [])):
        run, path = str(tmp_path / name) + "-run", str(tmp_path / name)
        assert cli.main(["train", "classify", path, "--out", run, "--steps=60", *options, *FLAGS]) == 0
        assert cli.main(["evaluate", run, path, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
        model = elman.load(run)
        said = [best.text for (best,) in model.predict(path)]
        assert sorted(said) == ["down"] * 30 + ["up"] * 30
        assert cli.main(["predict", run, path, "--json"]) == 0
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [record["answers"][0]["text"] for record in records] == said
    unlabelled = ["@classLabel false", "@data", *(line.rpartition(":")[0] for line in ts[3:])]
    (tmp_path / "p.ts").write_text("\n".join(unlabelled))
    assert [best.text for (best,) in model.predict(tmp_path / "p.ts")] == said
    (tmp_path / "p.ts").write_text("\n".join(["@data", *unlabelled[2:]]))
    assert [best.text for (best,) in model.predict(tmp_path / "p.ts")] == said
