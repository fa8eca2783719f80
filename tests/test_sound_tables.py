"""Tables of sounds: what is said in them, parts of files, sounds in memory, and arguments of the command line."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

from elman.data.sound_inputs import sounds_in
from elman.data.sound_tables import Part, times_of
from elman.data.sounds import Wave, read_sound
from elman.data.transcripts import Utterance, read_transcripts
from elman.errors import ElmanError
from tests.sound_files import wav, write
from tests.test_transcripts import refused, said

SPOKEN = {"audio": ["a.wav", "sub/b.wav"], "text": ["Good  morning. ", "It's late."]}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two sounds to work in."""
    monkeypatch.chdir(tmp_path)
    wav(Path("set/a.wav"))
    wav(Path("set/sub/b.wav"))
    return Path()


def test_tables_of_all_formats(here: Path) -> None:
    table = polars.DataFrame(SPOKEN | {"speaker": ["ann", None], "start": [0.5, None], "end": [1.0, None]})
    table.write_csv("set/t.csv")
    table.write_csv("set/t.tsv", separator="\t")
    table.write_csv("set/t.txt", separator="|")
    table.write_ndjson("set/t.jsonl")
    table.write_parquet("set/t.parquet")
    for ending in ("csv", "tsv", "txt", "jsonl", "parquet"):
        found = read_transcripts(f"set/t.{ending}")
        assert found.tables and found.utterances == [
            Utterance("set/a.wav", "Good morning.", f"set/t.{ending}, row 1", "ann", 0.5, 1.0),
            Utterance("set/sub/b.wav", "It's late.", f"set/t.{ending}, row 2"),
        ]
    assert said(["set/t.csv", "set/t.jsonl"]) == 2 * said("set/t.csv")


def test_tables_in_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("set")
    rows = list(zip(*SPOKEN.values(), strict=True))
    for data in (SPOKEN, polars.DataFrame(SPOKEN), rows, [{"audio": a, "text": t} for a, t in rows]):
        assert said(data) == [("a.wav", "Good morning."), ("sub/b.wav", "It's late.")]
    [one] = read_transcripts([("a.wav", "Hello.", "ann")]).utterances
    assert one == Utterance("a.wav", "Hello.", "<data in memory, 1 rows>, row 1", "ann")


def test_sounds_in_memory(here: Path) -> None:
    pytest.importorskip("soundfile")
    data, samples = Path("set/a.wav").read_bytes(), read_sound("set/a.wav").samples
    array = {"array": samples, "sampling_rate": 8000, "path": None}
    cells = [data, {"bytes": data, "path": "a.wav"}, {"bytes": None, "path": "set/a.wav"}, array, Wave(samples, 8000)]
    frame = polars.DataFrame({"audio": [cells[1], cells[2]], "text": ["x", "y"]})
    lists = polars.DataFrame({"audio": [{"array": samples.tolist(), "sampling_rate": 8000}], "text": ["x"]})
    frame.write_parquet("t.parquet")
    sources: list[Any] = [{"audio": cells, "text": [*"abcde"]}, frame, "t.parquet", lists]
    sources.append(polars.DataFrame({"audio": [data], "text": ["x"]}))
    for source in sources:
        for one in read_transcripts(source).utterances:
            wave = read_sound(one.sound)
            assert wave.rate == 8000 and (wave.samples == samples).all()
    for cell, message in (
        (samples, "a sound is ndarray without a sampling rate"),
        ({"array": samples[None], "sampling_rate": 8000}, r"a sound has the shape \(1, 800\)"),
        ({"array": samples * np.nan, "sampling_rate": 8000}, "a sound has samples that are NaN"),
        ({"array": samples, "sampling_rate": 8000.5}, "the sampling rate is 8000\\.5 Hz"),
        ({"array": ["x"], "sampling_rate": 8000}, "a sound cannot become an array"),
        ({"bytes": None, "path": None}, "the cell of 'audio' is empty"),
    ):
        with pytest.raises(ElmanError, match=f"row 1: {message}"):
            read_transcripts({"audio": [cell], "text": ["x"]})


def test_common_voice(here: Path) -> None:
    for name in ("c1.mp3", "c2.mp3"):
        wav(Path("cv/clips") / name)
    rows = 'id1\tc1.mp3\tSay "yes.\t2\nid2\tc2.mp3\tNo.\t2\n'
    write(Path("cv/train.tsv"), f"client_id\tpath\tsentence\tup_votes\n{rows}")
    found = read_transcripts("cv/train.tsv")
    assert found.tables and found.utterances == [
        Utterance("cv/clips/c1.mp3", 'Say "yes.', "cv/train.tsv, row 1", "id1"),
        Utterance("cv/clips/c2.mp3", "No.", "cv/train.tsv, row 2", "id2"),
    ]
    assert read_transcripts("cv").utterances == found.utterances  # the only table of the folder
    assert read_transcripts("cv/train.tsv", speaker="up_votes").utterances[0].speaker == "2"
    assert "has no column 'accent'" in refused("cv/train.tsv", speaker="accent")
    assert refused("cv/train.tsv", audio="path", text="sentence").startswith(
        "cv/train.tsv: 2 of 2 sounds do not exist: cv/c1.mp3 (row 1), cv/c2.mp3 (row 2); cv/clips/c1.mp3 exists"
    )
    listed = sounds_in("cv/train.tsv")
    assert listed is not None and listed.inputs == ["cv/clips/c1.mp3", "cv/clips/c2.mp3"]


def test_bad_rows(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    header = "audio,text,start,end\n"
    for row, message in (
        ("a.wav,,,", "the text is empty"),
        (",x,,", "the cell of 'audio' is empty"),
        ("a.wav,x,one,", "'start' is 'one'; a number of seconds, 0 or more, is required"),
        ("a.wav,x,nan,", "'start' is 'nan'; a number"),
        ("a.wav,x,-1,", "'start' is '-1'; a number"),
        ("a.wav,x,,inf", "'end' is 'inf'; a number"),
        ("a.wav,x,2,2", "'start' is 2 and 'end' is 2; a part must end after its start"),
        ("a.wav,x,,0", "'start' is 0 and 'end' is 0; a part"),
        ("a.wav,x,0:30,1:00", "'start' is '0:30'; a number"),
    ):
        write(Path("set/t.csv"), f"{header}a.wav,Good.,,\n{row}\n")
        assert refused("set/t.csv").startswith(f"set/t.csv, row 2 (line 3): {message}")
        caplog.clear()
        assert said("set/t.csv", skip_bad=True) == [("set/a.wav", "Good.")]
        assert len(caplog.messages) == 1 and "set/t.csv: skipped 1 bad row of 2; the first, row 2" in caplog.text
    write(Path("set/t.csv"), f"{header}a.wav,,,\n")
    assert "set/t.csv: no transcripts; give a table" in refused("set/t.csv", skip_bad=True)
    write(Path("set/t.csv"), header)
    assert "no transcripts" in refused("set/t.csv")


def test_missing_columns(here: Path) -> None:
    write(Path("set/t.csv"), "path,transcript,client_id\na.wav,Good.,ann\n")
    assert "has no column 'audio'; it has path, transcript, client_id: did you mean --audio path?" in refused(
        "set/t.csv"
    )
    assert "did you mean --text transcript?" in refused("set/t.csv", audio="path")
    asked = {"audio": "path", "text": "transcript"}
    assert "did you mean --speaker client_id?" in refused("set/t.csv", **asked, speaker="speaker")
    assert "has no column 'begin'" in refused("set/t.csv", **asked, start="begin")
    assert read_transcripts("set/t.csv", **asked, speaker="client_id").utterances[0].speaker == "ann"
    assert "--text and --speaker name the same column" in refused("set/t.csv", **asked, speaker="transcript")


def test_missing_sounds(here: Path) -> None:
    write(Path("set/t.csv"), "audio,text\nA.wav,x\nb.wav,y\nc.wav,y\nd.wav,y\na.wav,z\n")
    assert refused("set/t.csv") == (
        "set/t.csv: 4 of 5 sounds do not exist: set/A.wav (row 1), set/b.wav (row 2), set/c.wav (row 3), ...; did you "
        "mean set/a.wav?; --skip-bad leaves them out"
    )
    write(Path("set/t.csv"), "audio,text\nsub,x\n")
    assert refused("set/t.csv", skip_bad=True) == "set/t.csv: 1 of 1 sound does not exist: set/sub (row 1, a folder)"
    for name in ("no.tar::a.wav", "a\0.wav"):
        assert "1 of 1 sound does not exist" in refused({"audio": [name], "text": ["x"]})
    assert refused([]) == "no data: give one file or more"


def test_confused_columns(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = {"audio": 10 * ["set/a.wav"], "text": 5 * ["ann", "ben"], "speaker": [f"Good day {k}" for k in range(10)]}
    read_transcripts(table)
    [message] = caplog.messages
    assert message.endswith(
        "texts and speakers seem to be confused: 'text' has 2 different texts in 10 rows, and 'speaker' 10 different "
        "speakers; did you mean --text speaker --speaker text?"
    )
    caplog.clear()
    read_transcripts(table, text="speaker", speaker="text")
    read_transcripts({"audio": 10 * ["set/a.wav"], "text": 5 * ["yes", "no"], "speaker": [str(k) for k in range(10)]})
    assert not caplog.messages


def test_times_are_read_as_they_are_written() -> None:
    draw = random.Random(0)
    for _ in range(200):
        start, end = sorted(draw.sample(range(100_000), 2))
        assert times_of(f" {start / 1000} ", str(end / 1000)) == (start / 1000, end / 1000)
        with pytest.raises(ElmanError, match="must end after its start"):
            times_of(str(end), str(start))


def test_random_tables_lose_nothing(here: Path) -> None:
    draw = random.Random(0)
    cells = {
        "audio": ["a.wav", "sub/b.wav", "", "no.wav", "sub"],
        "text": ["x", 'He said "a, b"', "", " ", "é\tz", "a|b;c"],
        "start": ["", "0", "1.5", "-1", "x"],
        "end": ["", "2", "1.5", "0"],
    }
    for _ in range(60):
        rows = [{name: draw.choice(values) for name, values in cells.items()} for _ in range(draw.randint(1, 9))]
        polars.DataFrame(rows).write_csv("set/t.csv", quote_style="always")
        good = [
            (f"set/{row['audio']}", " ".join(row["text"].split())) for row in rows
            if row["audio"].endswith((("a.wav"), "b.wav")) and row["text"].strip() and row["start"] in ("", "0", "1.5")
            and (not row["end"] or float(row["start"] or 0) < float(row["end"]))
        ]  # fmt: skip
        if good:
            assert said("set/t.csv", skip_bad=True) == good
        if len(good) < sum(any(cell.strip() for cell in row.values()) for row in rows):
            refused("set/t.csv")


def test_arguments_that_name_several_sounds(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (".hidden.wav", "a.txt", "phone.m4a"):
        Path("set", name).write_bytes(b"x")
    folder = sounds_in("set")
    assert folder is not None and folder.inputs == ["set/a.wav", "set/sub/b.wav"] == folder.places
    assert caplog.messages == ["set: left out 1 files of formats that cannot be read, such as phone.m4a"]
    pattern = sounds_in("set/**/*.wav")
    assert pattern is not None and pattern.inputs == ["set/a.wav", "set/sub/b.wav"]
    for single in ("set/a.wav", "none.wav", "set/phone.m4a", "https://host/a.flac"):
        assert sounds_in(single) is None
    with tarfile.open("set.tar", "w") as archive:
        archive.add("set/a.wav")
    archived = sounds_in("set.tar")
    assert archived is not None and archived.inputs == ["set.tar::set/a.wav"]
    write(Path("set/list.txt"), "a.wav\nsub/b.wav\n")
    lines = sounds_in("set/list.txt")
    assert lines is not None and lines.inputs == ["set/a.wav", "set/sub/b.wav"]
    Path("empty").mkdir()
    for nothing in ("empty", "set/*.gif"):
        with pytest.raises(ElmanError, match=r"no sounds \(\.wav"):
            sounds_in(nothing)


def test_tables_as_arguments(here: Path) -> None:
    write(Path("set/t.csv"), "audio,start,end\na.wav,,\na.wav,0.5,1\n,1,2\n")
    with pytest.raises(ElmanError, match=r"t\.csv, row 3 .*: the cell of 'audio' is empty"):
        sounds_in("set/t.csv")
    table = sounds_in("set/t.csv", skip_bad=True)
    assert table is not None and table.inputs == ["set/a.wav", Part("set/a.wav", 0.5, 1.0)]
    assert table.places == ["set/t.csv, row 1", "set/t.csv, row 2"]
    with pytest.raises(ElmanError, match="has no column 'sound'; it has audio"):
        sounds_in("set/t.csv", audio="sound")
    frame = polars.DataFrame({"audio": [Path("set/a.wav").read_bytes()]})
    file = io.BytesIO()
    frame.write_parquet(file)
    Path("t.parquet").write_bytes(file.getvalue())
    held = sounds_in("t.parquet")
    assert held is not None and held.inputs == frame["audio"].to_list() and held.names == ["t.parquet, row 1"]
