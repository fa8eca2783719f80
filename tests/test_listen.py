"""Speech that is recognised while it is spoken."""

from __future__ import annotations

import io
import json
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman import cli
from elman.chains import listening as chains
from elman.chains.listening import ListeningChain
from elman.data.sound_pipes import read_pipe
from tests.test_transcribe import RATE, SMALL, recordings, said, streaming

soundfile = pytest.importorskip("soundfile")

__all__ = ["recordings", "streaming"]  # fixtures


def speech(texts: Sequence[str], pause: float = 1.2) -> np.ndarray:
    """Texts with pauses between them."""
    silence = np.zeros(int(pause * RATE), np.float32)
    draw = np.random.default_rng(0)
    x = np.concatenate([part for k, text in enumerate(texts) for part in (said(text, k), silence)])
    return x + 1e-3 * draw.standard_normal(len(x)).astype(np.float32)


def heard(model: Any, wave: np.ndarray, cuts: Sequence[int] = (), **options: Any) -> list[Any]:
    """The final lines of a wave that arrives in pieces."""
    lines = []
    with model.listen(RATE, **options) as listening:
        for block in np.split(wave, sorted(cuts)):
            lines += list(listening.push(block))
        lines += list(listening.finish())
    return [line for line in lines if line.final]


def test_it_hears_a_line_for_each_text(streaming: Any) -> None:
    lines = heard(streaming, speech(["ab", "cab", "bca"]))
    assert [line.segment.text for line in lines] == ["ab", "cab", "bca"]
    starts = [line.segment.start for line in lines]
    assert starts == sorted(starts)
    assert all(line.segment.start < line.segment.end for line in lines)
    assert [word.text for word in lines[1].segment.words] == ["cab"]


def test_pieces_of_any_size_give_the_same_lines(streaming: Any) -> None:
    wave = speech(["ab", "c ab", "bca a", "bb"])
    whole = heard(streaming, wave)
    draw = np.random.default_rng(1)
    for count in (1, 7, 60):
        cuts = draw.integers(0, len(wave) + 1, count).tolist()
        assert heard(streaming, wave, cuts) == whole
    assert heard(streaming, wave, range(0, len(wave), 37)) == whole


def test_the_text_grows_before_the_line_ends(streaming: Any) -> None:
    wave = said("abc cab bb a", 3)
    with streaming.listen(RATE, chunk=0.09) as listening:
        partial = [line for k in range(0, len(wave), 400) for line in listening.push(wave[k : k + 400])]
        (last,) = listening.finish()
    assert len(partial) > 3
    assert not any(line.final for line in partial)
    assert partial[-1].segment.text != partial[0].segment.text
    assert last.final


def test_it_hears_what_the_whole_recording_gives(streaming: Any) -> None:
    wave = said("abc cab", 4)
    (line,) = heard(streaming, wave)
    assert line.segment.text == streaming.predict([wave])[0][0].text


def test_silence_has_no_lines_and_needs_no_memory(streaming: Any) -> None:
    silence = 1e-3 * np.random.default_rng(0).standard_normal(20 * RATE).astype(np.float32)
    with streaming.listen(RATE) as listening:
        assert [line for line in listening.push(silence) if line.final] == []
        assert len(listening._peaks) < 20
        assert len(listening._recent) < 100


def test_a_line_is_never_longer_than_asked(streaming: Any) -> None:
    texts = ["abc cab bb a"] * 8
    lines = heard(streaming, speech(texts, pause=0.1), longest=3.0)
    assert len(lines) > 2
    assert all(line.segment.end - line.segment.start < 3.5 for line in lines)
    spoken = sum(len(text.replace(" ", "")) for text in texts)
    assert sum(len(line.segment.text.replace(" ", "")) for line in lines) == pytest.approx(spoken, rel=0.15)


def test_whole_recordings_cannot_be_listened_to(recordings: Path) -> None:
    whole = elman.train("transcribe", recordings / "test.tsv", steps=0, **SMALL)
    with pytest.raises(elman.ElmanError, match="--streaming"):
        whole.listen(RATE)


def test_a_streaming_model_has_no_mean_of_the_whole_sound(recordings: Path) -> None:
    with pytest.raises(elman.ElmanError, match="mean"):
        elman.train("transcribe", recordings / "test.tsv", steps=1, streaming=True, mean="sound", **SMALL)


def run_of(recordings: Path) -> str:
    return str(recordings / "streaming")


@pytest.mark.parametrize("ending", ["txt", "srt", "vtt", "json"])
def test_the_command_writes_subtitles(
    streaming: Any, recordings: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wave = speech(["ab", "cab"])
    soundfile.write(tmp_path / "talk.wav", wave, RATE)
    out = tmp_path / f"talk.{ending}"
    assert cli.main(["listen", run_of(recordings), str(tmp_path / "talk.wav"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == "ab\ncab\n"
    written = out.read_text()
    if ending == "json":
        assert [line["text"] for line in json.loads(written)] == ["ab", "cab"]
    else:
        assert "cab\n" in written
    assert cli.main(["listen", run_of(recordings), str(tmp_path / "talk.wav"), "--out", str(out)]) == 2
    assert "already exists" in capsys.readouterr().err


class Pipe(io.RawIOBase):
    """A pipe: bytes come in small pieces, and it has no places."""

    def __init__(self, data: bytes, most: int = 997) -> None:
        self.data, self.most = data, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.data[: min(self.most, len(buffer))]
        self.data = self.data[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def wav(wave: np.ndarray, subtype: str = "PCM_16", length: int | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="WAV", subtype=subtype)
    data = bytearray(file.getvalue())
    if length is not None:
        at = data.index(b"data") + 4
        data[at : at + 4] = data[4:8] = struct.pack("<I", length)
    return bytes(data)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_pipes_are_read_as_files(subtype: str, channels: int) -> None:
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, (1500, channels))
    data = wav(wave, subtype)
    expected = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
    for length in (None, 0xFFFFFFFF, 0):
        sound = read_pipe(Pipe(wav(wave, subtype, length)), "pipe")  # type: ignore[arg-type]
        assert sound.rate == RATE
        np.testing.assert_allclose(np.concatenate(list(sound.blocks)), expected.mean(1), atol=1e-6)
    second = read_pipe(Pipe(data), "pipe", channel=channels)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.concatenate(list(second.blocks)), expected[:, channels - 1], atol=1e-6)


def test_raw_samples_are_read() -> None:
    samples = np.arange(-1000, 1000, dtype="<i2")
    sound = read_pipe(Pipe(samples.tobytes(), 3), "pipe", raw=16_000)  # type: ignore[arg-type]
    assert sound.rate == 16_000
    np.testing.assert_allclose(np.concatenate(list(sound.blocks)), samples / 32768)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "nothing arrives"),
        (b"ID3\x04 this is no wav file", "not a WAV file"),
        (wav(np.zeros(10))[:30], "ends before"),
        (wav(np.zeros(100), "ULAW"), "format 7"),
    ],
)
def test_other_pipes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(elman.ElmanError, match=reason):
        read_pipe(Pipe(data), "standard input")  # type: ignore[arg-type]


def test_standard_input_is_listened_to(
    streaming: Any, recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.TextIOWrapper(io.BufferedReader(Pipe(wav(speech(["ab", "cab"]), length=0xFFFFFFFF))))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", stream)
    assert cli.main(["listen", run_of(recordings), "-", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["text"] for record in records] == ["ab", "cab"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["talk.wav", "--microphone"], "give one of them"),
        (["talk.wav", "--raw", "8000"], "--raw"),
        (["talk.wav", "--out", "talk.doc"], "format of --out"),
        (["absent.wav"], "absent.wav"),
        (["talk.wav", "--chunk", "0"], "--chunk"),
    ],
)
def test_wrong_words_are_refused(
    streaming: Any, recordings: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(recordings / "talk.wav", said("ab"), RATE)
    words = [str(recordings / words[0]), *words[1:]]
    assert cli.main(["listen", run_of(recordings), *words]) == 2
    assert reason in capsys.readouterr().err


@pytest.fixture(scope="session")
def shouting(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that writes letters as capitals."""
    folder = tmp_path_factory.mktemp("shouting")
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("abc"), draw.integers(1, 5))) for _ in range(120)]
    (folder / "pairs.tsv").write_text("source\ttarget\n" + "".join(f"{t}\t{t.upper()}\n" for t in texts))
    elman.train(
        "translate", folder / "pairs.tsv", out=folder / "run", steps=80, source_tokens="char", target_tokens="char",
        hidden_size=32, embedding_size=16, num_layers=1, dropout=0.0, learning_rate=1e-2, batch_size=300,
        progress=False,
    )  # fmt: skip
    return str(folder / "run")


def test_a_chain_answers_lines_as_they_end(streaming: Any, recordings: Path, shouting: str) -> None:
    chain = elman.Chain([streaming, elman.load(shouting)])
    wave, answered = speech(["ab", "cab"]), []
    with ListeningChain(chain, RATE) as listening:
        for k in range(0, len(wave), 700):
            answered += [(k, one) for one in listening.push(wave[k : k + 700]) if one.answers]
        answered += [(len(wave), one) for one in listening.finish() if one.answers]
    assert [one.answers[0].text for _, one in answered] == ["AB", "CAB"]
    assert answered[0][0] < len(wave) // 2 + 700
    assert [part.text for part in answered[0][1].answers[0].answers] == ["ab", "AB"]


def test_the_chain_command_streams(
    streaming: Any, recordings: Path, shouting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = str(tmp_path / "talk.wav")
    soundfile.write(sound, speech(["ab", "cab"]), RATE)
    assert cli.main(["chain", run_of(recordings), shouting, sound, "--stream"]) == 0
    assert capsys.readouterr().out == "AB\nCAB\n"
    assert cli.main(["chain", run_of(recordings), shouting, sound, "--stream", "--show"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1:3] == ["transcribe\tab", "translate\tAB"]
    assert cli.main(["chain", run_of(recordings), shouting, sound, "--stream", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["answers"][0]["text"] for record in records] == ["AB", "CAB"]
    for words, reason in (
        ([shouting, sound, "--stream"], "does not listen"),
        ([run_of(recordings), shouting, sound, "--microphone"], "need --stream"),
        ([run_of(recordings), shouting, sound, sound, "--stream"], "one sound"),
        ([run_of(recordings), shouting, sound, "--stream", "--out", "texts.tsv"], "--out"),
    ):
        assert cli.main(["chain", *words]) == 2
        assert reason in capsys.readouterr().err


def test_a_line_that_a_model_cannot_use_does_not_end_the_stream(
    streaming: Any, recordings: Path, shouting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    follow = chains.follow

    def refusing(stages: Any, answers: Any) -> Any:
        if answers[0][0].text == "ab":
            raise elman.ElmanError("stage 2 (translate): cannot use this")
        return follow(stages, answers)

    monkeypatch.setattr(chains, "follow", refusing)
    sound = str(tmp_path / "talk.wav")
    soundfile.write(sound, speech(["ab", "cab", "ab"]), RATE)
    assert cli.main(["chain", run_of(recordings), shouting, sound, "--stream"]) == 2
    output = capsys.readouterr()
    assert output.out == "CAB\n" and output.err.count(" s: stage 2 (translate): cannot use this") == 2
    assert cli.main(["chain", run_of(recordings), shouting, sound, "--stream", "--json"]) == 2
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record.get("reason", "") for record in records] == [
        "stage 2 (translate): cannot use this", "", "stage 2 (translate): cannot use this",
    ]  # fmt: skip
