"""Labelled data: supported formats, and errors in data that cannot be read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars
import pytest

import elman
from elman.data.sounds import read_sound
from elman.data.split import evenly_spaced, hold_out
from elman.media.augment import SPEECH, add_noise_floor, shift, stretch, vary_frames, vary_series
from elman.media.columns import Columns
from elman.media.labelled import Labelled, read_labelled
from elman.media.waves import log_mel, resample

TABLE = Columns("text", "label", "file", None, None, None, None)


def read(*paths: Path, **columns: str) -> Labelled:
    return read_labelled([str(path) for path in paths], TABLE._replace(**columns))


def wave(seconds: float, pitch: float, rate: int = 8000) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * math.pi * pitch * t)).astype(np.float32)


def test_tables_of_texts(tmp_path: Path) -> None:
    rows = [('A "quoted"\nline, \U0001f600', "good"), ("Plain; text", "not so good")]
    polars.DataFrame(
        {"Review Text": [r[0] for r in rows], "the label": [r[1] for r in rows], "who": ["x", "y"]}
    ).write_csv(tmp_path / "t.csv")
    found = read(tmp_path / "t.csv", text="Review Text", label="the label", group="who")
    assert found.inputs == [r[0] for r in rows]
    assert found.labels == [("good",), ("not so good",)]
    assert found.groups == ["x", "y"]
    assert found.medium == "text"
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"text": "a", "label": ["x", "y"]}) + "\n" + '{"text":"b","label":["z"]}\n'
    )
    assert read(tmp_path / "m.jsonl").labels == [("x", "y"), ("z",)]
    (tmp_path / "s.csv").write_text('text,label\na,"x; y"\nb,\n')
    assert read(tmp_path / "s.csv", separator=";").labels == [("x", "y"), ()]
    (tmp_path / "n.tsv").write_text("text\tlabel\na\t1\nb\t0\n")
    assert read(tmp_path / "n.tsv").labels == [("1",), ("0",)]


def test_a_file_or_a_folder_for_each_class(tmp_path: Path) -> None:
    (tmp_path / "Irish.txt").write_text("O'Neill\n\nMurphy\n")
    (tmp_path / "Greek.txt").write_text("Pappas\n")
    found = read(tmp_path / "Irish.txt", tmp_path / "Greek.txt")
    assert list(zip(found.inputs, found.labels, strict=True)) == [
        ("O'Neill", ("Irish",)), ("Murphy", ("Irish",)), ("Pappas", ("Greek",)),
    ]  # fmt: skip
    assert found.places[1].endswith("Irish.txt, line 3")
    for label in ("neg", "pos"):
        (tmp_path / "films" / label).mkdir(parents=True)
        (tmp_path / "films" / label / "1.txt").write_text(f"A {label} film.\nWell.")
    assert read(tmp_path / "films").labels == [("neg",), ("pos",)]


def test_series(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("#x\n@problemName a\n@classLabel true u v\n@data\n1,2,3:4,5,6:u\n0.5,1:2,3e-1:v\n")
    found = read(tmp_path / "a.ts")
    assert found.inputs[0].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert found.inputs[1].shape == (2, 2)
    assert found.labels == [("u",), ("v",)]
    (tmp_path / "long.csv").write_text(
        "run,t,x,note,y,kind\nb,2,1,hi,2,up\na,1,3,ho,4,down\nb,1,5,hu,6,up\na,2,7,he,8,down\n"
    )
    found = read(tmp_path / "long.csv", series="run", time="t", label="kind")
    assert found.form.channels == ["x", "y"]
    assert [x.tolist() for x in found.inputs] == [[[5, 6], [1, 2]], [[3, 4], [7, 8]]]
    assert found.labels == [("up",), ("down",)]
    for label in ("up", "down"):
        (tmp_path / "many" / label).mkdir(parents=True)
        (tmp_path / "many" / label / "1.csv").write_text("x,y\n1,2\n3,4\n")
    found = read(tmp_path / "many")
    assert found.medium == "series" and found.labels == [("down",), ("up",)]
    (tmp_path / "many" / "up" / "2.csv").write_text("y,x\n1,2\n")
    assert read(tmp_path / "many").inputs[2].tolist() == [[2, 1]]
    stamps = "run,t,x,label\n" + "".join(f"a,{1_700_000_000 + k},{k},u\n" for k in (3, 1, 2))
    (tmp_path / "stamps.csv").write_text(stamps)
    assert read(tmp_path / "stamps.csv", series="run", time="t").inputs[0].tolist() == [[1], [2], [3]]
    (tmp_path / "list.csv").write_text("file,label\nmany/up/1.csv,U\nmany/down/1.csv,D\n")
    assert read(tmp_path / "list.csv").labels == [("U",), ("D",)]


def test_sounds(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for name, pitch, rate in (("low", 200, 8000), ("high", 2000, 16000)):
        (tmp_path / "tones" / name).mkdir(parents=True)
        stereo = np.stack([wave(0.3, pitch, rate)] * 2, 1)
        soundfile.write(tmp_path / "tones" / name / "1.wav", stereo, rate)
    found = read(tmp_path / "tones")
    assert found.medium == "sound" and [x.rate for x in found.inputs] == [16000, 8000]
    assert [x.duration for x in found.inputs] == [0.3, 0.3] and [x.channels for x in found.inputs] == [2, 2]
    low = read_sound(str(tmp_path / "tones/low/1.wav"))
    assert low.channels == 2 and abs(low.samples).max() == pytest.approx(0.3, abs=0.01)
    low, high = (log_mel(wave(0.3, pitch), 8000).mean(0).argmax() for pitch in (300, 2500))
    assert low < 12 < 28 < high
    assert log_mel(wave(0.3, 300), 8000).shape == (31, 40)
    there_and_back = resample(resample(wave(0.2, 300), 8000, 16000), 16000, 8000)
    assert np.abs(there_and_back - wave(0.2, 300))[100:-100].max() < 0.02
    (tmp_path / "tones/low/2.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(elman.ElmanError, match=r"low/2.wav: not a sound file that can be decoded"):
        read(tmp_path / "tones")


@pytest.mark.parametrize(
    ("name", "text", "columns", "message"),
    [
        ("a.csv", "texts,label\na,b\n", {}, r"a.csv: has no column 'text'; it has texts, label"),
        ("a.csv", "text,labl\na,b\n", {}, r"a.csv: has no column 'label'; it has text, labl"),
        ("a.csv", "text,label\na,b\n ,b\n", {}, r"a.csv, row 2: the text is empty"),
        ("a.csv", "text,label\na,\n", {}, r"a.csv, row 1: no label"),
        ("a.txt", "a\n", {}, r"a.txt: one text file has no labels; give one file a class, or a table"),
        (
            "a.csv",
            "id,x,label\n1,2,u\n1,,u\n",
            {"series": "id"},
            r"series '1': step 2 of channel x is nan, not a number",
        ),
        (
            "a.csv",
            "id,x,label\n1,2,u\n1,3,v\n",
            {"series": "id"},
            r"a.csv, row 1: series '1' has more than one label: u, v",
        ),
        (
            "a.csv",
            "id,x,label\n1,2,u\n1,q,u\n1,3,u\n",
            {"series": "id"},
            r"a.csv, row 2: column 'x' contains 'q' among numbers",
        ),
        ("a.csv", "id,x,label\n1,b,u\n", {"series": "id"}, r"a.csv: no column of numbers besides id, label"),
        ("a.ts", "@classLabel false\n@data\n", {}, r"a.ts, line 1: the series have no class labels"),
        ("a.ts", "@classLabel true u\n@data\n1,2:3:u\n", {}, r"a.ts, line 3: the channels have unequal lengths: 2, 1"),
        ("a.ts", "@classLabel true u\n@data\n1,?:3,4:u\n", {}, r"a.ts, line 3: step 2 of channel 1 is nan"),
        ("a.ts", "@classLabel true u\n@data\n1,2:w\n", {}, r"line 3: the label 'w' is not one of @classLabel: u"),
        ("a.ts", "@classLabel true u\n@data\n1,2:u\n1:2:u\n", {}, r"a.ts, line 4: 2 channels; those before have 1"),
        ("a.ts", "@timeStamps true\n@data\n", {}, r"a.ts, line 1: time stamps in .ts files are not supported"),
        ("a.csv", "file,label\nno.wav,u\n", {}, r"no.wav: no such file"),
        ("a.csv", "text,label\n", {}, r"a.csv: no example in it"),
        ("a.csv", "id,t,x,label\n1,,2,u\n", {"series": "id", "time": "t"}, r"a.csv, row 1: column 't' is empty"),
        ("a.ts", "@classLabel\n@data\n1:u\n", {}, r"a.ts, line 1: the series have no class labels"),
    ],
)
def test_wrong_data(name: str, text: str, columns: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(elman.ElmanError, match=message):
        read(tmp_path / name, **columns)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(elman.ElmanError, match="no folder in it; give a folder with a folder for each class"):
        read(tmp_path)
    for label, header in (("up", "x,y"), ("down", "x,z")):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.csv").write_text(header + "\n1,2\n")
    with pytest.raises(elman.ElmanError, match=r"up/1.csv: 2 channels: x, y; 2 are required: x, z"):
        read(tmp_path)


def test_hold_out() -> None:
    labels = ["a"] * 80 + ["b"] * 19 + ["c"]
    train, held = hold_out(100, 0.1, [(x,) for x in labels])
    assert sorted(train + held) == list(range(100))
    assert [sum(labels[k] == name for k in held) for name in "abc"] == [8, 2, 0]
    assert hold_out(100, 0.1, [(x,) for x in labels]) == (train, held)
    groups = [str(k // 10) for k in range(100)]
    train, held = hold_out(100, 0.2, [("a",)] * 100, groups)
    assert not {groups[k] for k in train} & {groups[k] for k in held}
    assert len(held) == 20
    sizes = ["A"] * 900 + ["B"] * 20 + ["C"] * 80
    assert {sizes[k] for k in hold_out(1000, 0.1, [("a",)] * 1000, sizes)[1]} <= {"B", "C"}
    of_one = [("x",) if group == "B" else ("y",) for group in sizes]  # who alone has a label is learnt from
    assert {sizes[k] for k in hold_out(1000, 0.1, of_one, sizes)[1]} == {"C"}
    assert len(hold_out(100, 0.1, [(str(k), "t") for k in range(100)])[1]) == 10
    assert len(hold_out(1000, 0.1, [(str(k // 2),) for k in range(1000)])[1]) == 100
    assert hold_out(1, 0.1) == ([0], [])


def test_evenly_spaced() -> None:
    assert evenly_spaced([5] * 10, None).tolist() == list(range(10))
    assert evenly_spaced([5] * 10, 15).tolist() == [0, 4, 9]
    assert evenly_spaced([5] * 10, 1).tolist() == [0]


def test_how_much_voices_vary() -> None:
    frames = np.random.default_rng(1).standard_normal((50, 40)).astype(np.float32)
    calm = SPEECH._replace(speed=(1.0, 1.0), masks=0)
    none, same = calm.with_voices(0), calm.with_voices(1)
    assert none.tract == (1, 1) and same.tract == pytest.approx(calm.tract)
    assert calm.with_voices(4).tract == pytest.approx((0.52, 1.48))
    varied = vary_frames(frames, None, np.random.default_rng(2), none)
    np.testing.assert_allclose(varied - varied.mean(), frames - frames.mean(), atol=1e-5)  # another level, no more
    errors = []
    for factor in (0.5, 1, 2):
        one = vary_frames(frames, None, np.random.default_rng(2), calm.with_voices(factor))
        errors.append(float(np.abs(one - one.mean() - frames + frames.mean()).mean()))
    assert 0 < errors[0] < errors[1] < errors[2]


def test_augmentation() -> None:
    draw = np.random.default_rng(0)
    x = np.stack([np.arange(20.0), -np.arange(20.0)], 1).astype(np.float32)
    assert len(stretch(x, 1.5, 0)) == 30 and stretch(x, 1.5, 0)[-1].tolist() == [19, -19]
    assert shift(np.eye(40, dtype=np.float32)[None, 20].repeat(3, 0), 0.5).argmax(1).tolist() == [39] * 3
    assert vary_series(x, x.std(0), draw).shape[1] == 2
    assert abs(vary_series(x + 1000, x.std(0), draw).mean() - 1000) < 10
    assert shift(np.eye(40, dtype=np.float32)[None, 20].repeat(3, 0), 1.0, 4.0).argmax(1).tolist() == [16] * 3
    frames = draw.standard_normal((50, 40)).astype(np.float32)
    assert vary_frames(frames, 26, draw).shape[1] == 40
    quiet, loud = frames.copy(), frames + 3
    quiet[:10] = -18
    close = [add_noise_floor(x, 20) - x.max() for x in (frames, loud)]
    np.testing.assert_allclose(*close, atol=1e-4)
    assert abs(add_noise_floor(quiet, 20)[0, 0] - quiet.max() + math.log(100)) < 1e-3
