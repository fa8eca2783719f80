"""What is said in sounds, in all formats that are no tables, and in folders and archives."""

from __future__ import annotations

import os
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from elman.data.sounds import open_sound
from elman.data.transcripts import Utterance, read_transcripts
from elman.errors import ElmanError
from tests.sound_files import wav, write


def said(data: Any, **options: Any) -> list[tuple[str, str]]:
    return [(one.sound, one.text) for one in read_transcripts(data, **options).utterances]


def refused(data: Any, **options: Any) -> str:
    with pytest.raises(ElmanError) as error:
        read_transcripts(data, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, so that paths are short."""
    monkeypatch.chdir(tmp_path)
    return Path()


def lj(folder: Path, text: str = 'A-1|It cost "10.|It cost "ten.\nA-2|Well, 2|Well, two\nA-3|So.|\n') -> Path:
    for name in ("A-1", "A-2", "A-3"):
        wav(folder / "wavs" / f"{name}.wav")
    write(folder / "metadata.csv", text)
    write(folder / "README", "about")
    return folder


def libri(folder: Path) -> Path:
    for chapter in ("19/198", "26/495"):
        key = chapter.replace("/", "-")
        for k in range(2):
            wav(folder / chapter / f"{key}-000{k}.flac")
        write(folder / chapter / f"{key}.trans.txt", f"{key}-0000 GOOD MORNING\n{key}-0001 IT'S LATE\n")
    write(folder / "SPEAKERS.TXT", ";ID |SEX\n")
    return folder


def kaldi(folder: Path, **files: str) -> Path:
    wav(folder / "sounds" / "r1.wav")
    wav(folder / "sounds" / "r2.wav")
    standard = {
        "wav.scp": "r1 sounds/r1.wav\nr2 sounds/r2.wav\n",
        "text": "r1 good morning\nr2  it is late \n",
    }
    for name, text in (standard | {k.replace("_", "."): v for k, v in files.items()}).items():
        write(folder / "data" / name, text)
    return folder / "data"


def test_ljspeech_as_a_folder_and_as_a_file(here: Path) -> None:
    lj(Path("LJ"))
    expected = [("A-1", 'It cost "ten.'), ("A-2", "Well, two"), ("A-3", "So.")]
    for data in ("LJ", "LJ/metadata.csv", Path("LJ")):
        found = read_transcripts(data)
        assert not found.tables
        assert [(Path(one.sound), one.text) for one in found.utterances] == [
            (Path(f"LJ/wavs/{name}.wav"), text) for name, text in expected
        ]
        assert found.utterances[1].place == "LJ/metadata.csv, line 2"
    write(Path("LJ/two.txt"), "wavs/A-1.wav|One.\n\nA-2.wav|Two.\n")
    assert said("LJ/two.txt") == [("LJ/wavs/A-1.wav", "One."), ("LJ/wavs/A-2.wav", "Two.")]
    write(Path("LJ/metadata.csv"), "A-1|One.\nA-2|Two|three|four\n")
    assert refused("LJ").startswith("LJ/metadata.csv, line 2: 4 cells with | between them, where the first line has 2")
    assert said("LJ", skip_bad=True) == [("LJ/wavs/A-1.wav", "One.")]
    write(Path("LJ/metadata.csv"), "A-1|One.\nA-2| \n")
    assert "LJ/metadata.csv, line 2: the text is empty" in refused("LJ")
    write(Path("LJ/metadata.csv"), "A-1|One.\n|Two.\n")
    assert "line 2: the name of the sound is empty" in refused("LJ")


def test_the_speakers_of_lines_with_bars(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    lj(here, "A-1.wav|ann|One.\nA-2.wav|ben|Two.\nA-3.wav|ann|Three.\n")
    assert [(one.speaker, one.text) for one in read_transcripts("metadata.csv").utterances] == [
        ("ann", "One."), ("ben", "Two."), ("ann", "Three."),
    ]  # fmt: skip
    assert caplog.messages == ["metadata.csv: the second of its three columns is read as speakers"]


def test_lines_with_bars_and_names_of_columns_are_a_table(here: Path) -> None:
    lj(here, "audio|text|speaker\nwavs/A-1.wav|One.|ann\n")
    assert read_transcripts("metadata.csv").utterances == [
        Utterance("wavs/A-1.wav", "One.", "metadata.csv, row 1", "ann")
    ]
    lj(here, "file|said\nwavs/A-1.wav|One.\n")
    assert "metadata.csv: has no column 'audio'; it has file, said: did you mean --audio file?" in refused(
        "metadata.csv"
    )
    assert said("metadata.csv", audio="file", text="said") == [("wavs/A-1.wav", "One.")]


def test_librispeech(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    libri(Path("dev"))
    found = read_transcripts("dev").utterances
    assert found[1] == Utterance(
        "dev/19/198/19-198-0001.flac", "IT'S LATE", "dev/19/198/19-198.trans.txt, line 2", "19"
    )
    assert len(found) == 4 and {one.speaker for one in found} == {"19", "26"}
    assert read_transcripts("dev/19/198/19-198.trans.txt").utterances == found[:2]
    wav(Path("dev/19/198/extra.flac"))
    os.remove("dev/26/495/26-495-0000.flac")
    assert refused("dev") == (
        "dev: 1 sound has no text: 19/198/extra.flac; 1 text has no sound: 26/495/26-495.trans.txt, line 1; "
        "--skip-bad leaves them out"
    )
    assert len(said("dev", skip_bad=True)) == 3
    assert caplog.messages == [
        "dev: 1 sound has no text: 19/198/extra.flac; left out",
        "dev: 1 text has no sound: 26/495/26-495.trans.txt, line 1; left out",
    ]
    write(Path("dev/26/495/26-495.trans.txt"), "26-495-0001\n26-495-0001 AGAIN\n")
    assert "26-495.trans.txt, line 1: the text is empty" in refused("dev")


def test_texts_beside_sounds(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.wav", "sub/B.WAV", "sub/deep/c.ogg"):
        wav(Path("set") / name)
        write(Path("set") / (os.path.splitext(name)[0] + ".txt"), f" Text of\n{name} \n")
    write(Path("set/README.txt"), "about")
    assert read_transcripts("set").utterances == [
        Utterance("set/a.wav", "Text of a.wav", "set/a.txt"),
        Utterance("set/sub/B.WAV", "Text of sub/B.WAV", "set/sub/B.txt"),
        Utterance("set/sub/deep/c.ogg", "Text of sub/deep/c.ogg", "set/sub/deep/c.txt"),
    ]
    write(Path("set/table.csv"), "x,y\n1,2\n")
    assert len(said("set")) == 3
    assert caplog.messages == ["set: the texts beside the sounds are read, not table.csv"]
    for k in range(5):
        wav(Path(f"set/more/{k}.wav"))
    write(Path("set/sub/notes.txt"), "x")
    assert refused("set") == (
        "set: 5 sounds have no text: more/0.wav, more/1.wav, more/2.wav, ...; 1 text has no sound: sub/notes.txt; "
        "--skip-bad leaves them out"
    )
    assert len(said("set", skip_bad=True)) == 3
    write(Path("set/a.txt"), " \n")
    assert "set, a.txt: the text is empty; --skip-bad skips such rows" in refused("set")
    assert len(said("set", skip_bad=True)) == 2
    write(Path("set/a.txt"), "x")
    wav(Path("set/a.flac"))
    assert "set, a.txt: several sounds have this name: a.flac, a.wav" in refused("set")


def test_folders_without_transcripts(here: Path) -> None:
    Path("empty").mkdir()
    assert "empty: contains no sounds; give a table" in refused("empty")
    wav(Path("sounds/a.wav"))
    assert "sounds: contains no texts beside its sounds; give a table" in refused("sounds")
    for name in ("train.tsv", "dev.tsv"):
        write(Path("sounds") / name, "path\tsentence\na.wav\tx\n")
    assert refused("sounds") == ("sounds: contains 2 tables; give one or several of sounds/dev.tsv, sounds/train.tsv")
    write(Path("a.txt"), "Just a text.\nAnd another line.\n")
    assert "a.txt: not transcripts in a known format" in refused("a.txt")
    assert "no.csv: no such file" in refused("no.csv")
    assert "nowhere: no such file" in refused("nowhere")
    kaldi(Path("k/x"))
    kaldi(Path("k/y"))
    assert refused("k").endswith("contains 2 folders of Kaldi; give one or several of k/x/data, k/y/data")


def test_kaldi(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kaldi(Path("k"))
    expected = [
        Utterance(os.path.abspath("k/sounds/r1.wav"), "good morning", "k/data/text, line 1"),
        Utterance(os.path.abspath("k/sounds/r2.wav"), "it is late", "k/data/text, line 2"),
    ]
    assert read_transcripts(folder).utterances == expected
    kaldi(Path("k"), segments="u1 r1 0.5 1.25\nu2 r1 1.25 -1\nu3 r2 0 2\n", text="u1 a\nu2 b\nu3 c\n",
          utt2spk="u1 ann\nu2 ben\nu3 ann\n")  # fmt: skip
    found = read_transcripts("k/data").utterances
    assert [(one.text, one.speaker, one.start, one.end) for one in found] == [
        ("a", "ann", 0.5, 1.25), ("b", "ben", 1.25, None), ("c", "ann", 0, 2),
    ]  # fmt: skip
    assert found[1].sound == expected[0].sound


def test_bad_folders_of_kaldi(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = kaldi(Path("k"), wav_scp="r1 sounds/r1.wav\nr2 sph2pipe -f wav r2.sph |\n")
    assert refused(folder).startswith(
        "k/data, wav.scp, line 2: 'sph2pipe -f wav r2.sph |' is a command, which is not run; write its output"
    )
    assert [text for _, text in said(folder, skip_bad=True)] == ["good morning"]
    assert "k/data: 1 text has no sound: r2 (text, line 2); left out" in caplog.messages
    for text, message in (
        ("r1 a.ark:17\n", "wav.scp, line 1: 'a.ark:17' is not the path of a sound file"),
        ("r1\n", "wav.scp, line 1: '' is not the path of a sound file"),
        ("r1 sounds/r1.wav\nr1 sounds/r2.wav\n", "wav.scp, line 2: r1 is also on another line"),
        ("r1 sounds/r1.wav\n", "1 text has no sound: r2 (text, line 2)"),
        ("r1 sounds/r1.wav\nr2 sounds/r2.wav\nr3 sounds/r2.wav\n", "1 sound has no text: r3"),
        ("r1 sounds/r1.wav\nr2 sounds/r3.wav\n", "1 of 2 sounds does not exist: "),
    ):
        assert message in refused(kaldi(Path("k"), wav_scp=text))
    for text, message in (
        ("r1 r1 0 1\nr2 r2 2\n", "segments, line 2: an utterance, a recording, a start and an end are required"),
        ("r1 r1 0 1\nr2 r2 2 1\n", "segments, line 2: 'start' is 2 and 'end' is 1; a part must end after its start"),
        ("r1 r1 0 1\nr2 r2 -2 1\n", "segments, line 2: 'start' is '-2'; a number of seconds"),
        ("r1 r1 0 1\nr2 r3 0 1\n", "1 sound has no text: r2 (wav.scp); 1 text has no sound: r2 (text, line 2)"),
    ):
        assert message in refused(kaldi(Path("k"), segments=text))
    os.remove(kaldi(Path("k")) / "segments")
    assert "text, line 2: r2 has no speaker in utt2spk" in refused(kaldi(Path("k"), utt2spk="r1 ann\n"))
    os.remove("k/data/text")
    assert refused("k/data") == "k/data: has no file 'text', which belongs to 'wav.scp'"


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("make", [lj, libri])
def test_archives(here: Path, ending: str, make: Any) -> None:
    pytest.importorskip("soundfile")
    make(Path("set"))
    plain = read_transcripts("set").utterances
    files = sorted(path for path in Path("set").rglob("*") if path.is_file())
    if ending == "zip":
        with zipfile.ZipFile("set.zip", "w") as zipped:
            for path in files:
                zipped.write(path)
    else:
        with tarfile.open(f"set.{ending}", "w:gz" if ending == "tar.gz" else "w") as archive:
            for path in files:
                archive.add(path, f"./{path}")
    found = read_transcripts(f"set.{ending}").utterances
    assert found == [
        one._replace(sound=f"set.{ending}::{one.sound}", place=f"set.{ending}::{one.place}") for one in plain
    ]
    with open_sound(found[0].sound) as sound:
        assert sum(map(len, sound.blocks())) == 800


def test_missing_sounds(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    lj(here)
    write(Path("metadata.csv"), "".join(f"B-{k}|Text.\n" for k in range(5)) + "A-1|One.\n")
    assert refused("metadata.csv").startswith(
        "metadata.csv: 5 of 6 sounds do not exist: wavs/B-0.wav (line 1), wavs/B-1.wav (line 2), wavs/B-2.wav (line 3)"
    )
    assert len(said("metadata.csv", skip_bad=True)) == 1
    assert caplog.messages[-1].endswith("; left out")
    write(Path("metadata.csv"), "B-1|Text.\n")
    assert "1 of 1 sound does not exist" in refused("metadata.csv", skip_bad=True)


def test_random_folders_lose_nothing(here: Path) -> None:
    draw = random.Random(0)
    for case in range(20):
        folder = Path(f"case{case}")
        folder.mkdir()
        for k in range(12):
            place = folder / draw.choice(["", "a", "a/b", "Ä ö"])
            if draw.random() < 0.8:
                wav(place / f"{k}.{draw.choice(['wav', 'WAV', 'flac'])}")
            if draw.random() < 0.8:
                write(place / f"{k}.{draw.choice(['txt', 'TXT'])}", draw.choice(["x", "é|,\t", "", "\ufeffy\r\nz"]))
        sounds = {os.path.splitext(p)[0]: p for p in folder.rglob("*") if p.suffix.lower() in (".wav", ".flac")}
        texts = {os.path.splitext(p)[0]: p for p in folder.rglob("*") if p.suffix.lower() == ".txt"}
        filled = {key for key, path in texts.items() if path.read_text(encoding="utf-8").strip("\ufeff \n")}
        kept = set(sounds) & filled
        if kept:
            assert {os.path.splitext(sound)[0] for sound, _ in said(folder, skip_bad=True)} == kept
        if not kept or set(sounds) != set(texts) or filled != set(texts):
            refused(folder)
