"""Listening at its edges: channels, rates, blocks that are no sound, interruptions, and the end of the sound."""

from __future__ import annotations

import io
import json
import logging
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman import cli
from elman.data.sound_pipes import read_pipe
from tests.test_listen import speech
from tests.test_transcribe import RATE, SMALL, recordings, said, streaming

soundfile = pytest.importorskip("soundfile")

__all__ = ["recordings", "streaming"]  # fixtures


@pytest.fixture(scope="module")
def right(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an untrained streaming model that reads the second channel."""
    folder = tmp_path_factory.mktemp("stereo")
    rows = ["audio\ttext"]
    for k in range(4):
        soundfile.write(folder / f"{k}.wav", np.stack([said("abc", k)] * 2, 1), RATE)
        rows.append(f"{k}.wav\tabc")
    (folder / "data.tsv").write_text("\n".join(rows))
    data = str(folder / "data.tsv")
    elman.train(
        "transcribe", data, out=folder / "run", valid=[data], steps=0, channel=2, streaming=True, look_ahead=0.09,
        **SMALL,
    )  # fmt: skip
    return folder / "run"


@pytest.fixture(scope="module")
def model(right: Path) -> Any:
    return elman.load(right)


def test_the_channel_of_the_training_is_heard(
    right: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = str(tmp_path / "x.wav")
    soundfile.write(sound, said("abc", 9), RATE)
    for words in (["listen", str(right), sound], ["listen", str(right), "-"], ["chain", str(right), sound, "--stream"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(sound).read_bytes())))
        assert cli.main(words) == 2
        assert "channel 2 is asked for" in capsys.readouterr().err
    assert cli.main(["listen", str(right), sound, "--channel", "1"]) == 0
    assert cli.main(["chain", str(right), sound, "--stream", "--n-best", "2"]) == 2
    assert "--n-best: has no effect with --stream" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["x.wav", "--channel", "0"], "--channel"),
        (["-", "--channel", "-1"], "--channel"),
        (["--raw", "8000", "--channel", "1"], "--channel"),
        (["--microphone", "--channel", "1"], "--channel"),
        (["--raw", "0"], "--raw"),
        (["x.wav", "--n-best", "3"], "n_best"),
    ],
)
def test_words_without_effect_are_refused(
    right: Path, tmp_path: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "x.wav", np.stack([said("abc")] * 2, 1), RATE)
    words = [str(tmp_path / word) if word == "x.wav" else word for word in words]
    assert cli.main(["listen", str(right), *words]) == 2
    assert reason in capsys.readouterr().err


def test_a_lower_rate_is_warned_of(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model.listen(4000)
    assert "4,000 Hz, below the model's rate" in caplog.text


def test_nothing_comes_after_the_end(model: Any) -> None:
    with model.listen(RATE) as listening:
        list(listening.finish())
        with pytest.raises(elman.ElmanError, match="ended"):
            list(listening.push(said("abc")))


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0x7FFFFFDB, 0xFFFFFFFF])
def test_a_pipe_of_unknown_length_is_read_to_its_end(length: int, caplog: pytest.LogCaptureFixture) -> None:
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36, b"WAVEfmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", length)
    with caplog.at_level(logging.WARNING):
        blocks = read_pipe(io.BytesIO(head + bytes(1000)), "standard input").blocks
        assert sum(map(len, blocks)) == 500
    assert not caplog.text


@pytest.mark.parametrize(("there", "missing"), [(998, "2 of 1,000 bytes"), (997, "3 of 1,000 bytes")])
def test_a_pipe_that_is_cut_short_is_warned_of(there: int, missing: str, caplog: pytest.LogCaptureFixture) -> None:
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36, b"WAVEfmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", 1000)
    with caplog.at_level(logging.WARNING):
        assert sum(map(len, read_pipe(io.BytesIO(head + bytes(there)), "standard input").blocks)) == there // 2
    assert f"standard input: is cut short, {missing} are missing" in caplog.text


def test_blocks_that_are_no_sound_are_refused(model: Any) -> None:
    for block in (np.full(100, np.nan), np.zeros((100, 2)), np.full(10, 1e30)):
        with model.listen(RATE) as listening, pytest.raises(elman.ElmanError, match="wave"):
            list(listening.push(block))
    with pytest.raises(elman.ElmanError, match="rate"):
        model.listen(0)


def test_the_end_of_the_sound_is_heard_after_a_line_has_ended(model: Any) -> None:
    """A line that ends with the last chunk has not decided the steps of the look-ahead."""
    with torch.no_grad():
        model.network.head.bias[0] += 50.0  # it hears nothing, so that each pause ends a line
    with model.listen(RATE, chunk=10, pause=0.3) as listening:
        list(listening.push(said("abc abc")))
        list(listening.finish())
    with torch.no_grad():
        model.network.head.bias[0] -= 50.0
    assert not len(listening._features)
    assert listening._first * model.config.stride >= len(said("abc abc")) // (RATE // 100)


@pytest.mark.parametrize(("ending", "terminated"), [("json", False), ("json", True), ("srt", False)])
def test_an_interruption_leaves_a_whole_file(
    streaming: Any, recordings: Path, tmp_path: Path, ending: str, terminated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = speech(["ab", "cab"], pause=1.2)[:-RATE]

    def blocks() -> Iterator[np.ndarray]:
        yield wave
        if terminated:
            signal.raise_signal(signal.SIGTERM)
            yield wave
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "elman.cli.listen.open_source", lambda *_: type("Blocks", (), {"rate": RATE, "blocks": blocks()})
    )
    out = tmp_path / f"x.{ending}"
    assert cli.main(["listen", str(recordings / "streaming"), "--out", str(out)]) == 0
    if ending == "json":
        assert [line["text"] for line in json.loads(out.read_text())] == ["ab", "cab"]
    else:
        assert out.read_text().count(" --> ") == 2
