"""Speech synthesis: the vocoder, the network, and the task from recordings to a sound file."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import elman
from elman import cli
from elman.data.sounds import read_sound, write_sound
from elman.media.vocoder import Vocoder
from elman.media.waves import log_mel
from elman.metrics.speech import mel_cepstral_distortion
from elman.networks.speaker import Speaker
from elman.tasks.speak.examples import trim
from elman.tasks.speak.spelling import clean, pieces
from tests.conftest import close

pytest.importorskip("soundfile")

RATE = 8000
#: The pitch of each letter, in Hz.
PITCH = {"a": 300, "b": 500, "c": 800, "d": 1200}
SMALL = {
    "hidden_size": 16, "embedding_size": 8, "bands": 20, "num_layers": 1, "batch_size": 8, "progress": False,
    "device": "cpu", "precision": "float32",
}  # fmt: skip


def sung(text: str) -> np.ndarray:
    """A tenth of a second of a tone for each letter, between silence; the space is silent."""
    t = np.arange(RATE // 10) / RATE
    tones = [0.4 * np.sin(2 * math.pi * PITCH[c] * t) if c in PITCH else 0.0 * t for c in text]
    return np.concatenate([np.zeros(2000), *tones, np.zeros(3000)]).astype(np.float32)


def words(k: int) -> str:
    draw = np.random.default_rng(k)
    return " ".join("".join(draw.choice([*PITCH], 2)) for _ in range(1 + k % 3)).capitalize() + "."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["audio\ttext\twho"]
    for k in range(40):
        write_sound(folder / f"{k}.wav", sung(words(k).lower()), RATE)
        lines.append(f"{k}.wav\t{words(k)}\t{'ann' if k % 3 else 'bob'}")
    (folder / "data.tsv").write_text("\n".join(lines))
    return folder / "data.tsv"


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with two speakers after a few steps."""
    out = str(tmp_path_factory.mktemp("runs") / "run")
    elman.train("speak", corpus, out=out, speaker="who", steps=4, validate_every=2, **SMALL)
    return out


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_the_vocoder_gives_back_the_frames(rate: int) -> None:
    t = np.arange(rate) / rate
    wave = (0.3 * np.sin(2 * math.pi * (200 + 300 * t) * t) * (1 + np.sin(20 * t))).astype(np.float32)
    shape = (rate, 80, 0.05, 0.0125)
    frames = log_mel(wave, *shape)
    again = Vocoder(*shape).wave(frames)
    assert len(again) == (len(frames) - 1) * int(rate * 0.0125)
    heard = log_mel(again, *shape)
    loud = frames > frames.max() - 6
    assert np.abs(heard - frames)[loud].mean() < 0.35
    np.testing.assert_array_equal(again, Vocoder(*shape).wave(frames))
    assert np.abs(Vocoder(*shape).wave(frames + 10)).max() == pytest.approx(1.0)


def test_the_vocoder_of_silence_and_of_almost_nothing() -> None:
    vocoder = Vocoder(8000, 40, 0.05, 0.0125, iterations=3)
    assert np.abs(vocoder.wave(np.full((10, 40), math.log(1e-8)))).max() < 0.01
    assert len(vocoder.wave(np.zeros((1, 40)))) == len(vocoder.wave(np.zeros((0, 40)))) == 0


def test_mel_cepstral_distortion() -> None:
    frames = np.random.default_rng(0).standard_normal((12, 30))
    assert mel_cepstral_distortion(frames, frames + 3) == pytest.approx(0.0, abs=1e-5)  # only louder
    slower = np.repeat(frames, 3, 0)
    assert mel_cepstral_distortion(slower, frames) == pytest.approx(0.0, abs=1e-5)
    # one coefficient of a frame changes by 1 in amplitude: 10 / ln 10 sqrt(2) dB, in one pair of two
    n = np.arange(30)
    other = np.zeros((2, 30))
    other[1] = 2 * np.cos(math.pi * 4 * (n + 0.5) / 30)
    assert mel_cepstral_distortion(np.zeros((2, 30)), other) == pytest.approx(10 / math.log(10) * math.sqrt(2) / 2)


def test_texts_are_cleaned_and_divided() -> None:
    assert clean("  Caf\u0065\u0301\u2019s\u00a0 \u201cOPEN\u201d \u2026", True) == 'caf\u00e9\'s "open" ...'
    assert clean("A B", False) == "A B"
    assert pieces("short.", 20) == ["short."]
    assert pieces('He said "no." She left! Why? So.', 14) == ['He said "no."', "She left! Why?", "So."]
    assert pieces("one two three four, five six", 10) == ["one two", "three", "four,", "five six"]
    assert pieces("abcdefghijklm no", 5) == ["abcdefghijklm", "no"]


def test_quiet_ends_are_cut() -> None:
    frames = np.full((100, 5), -18.0)
    frames[30:60] = -3.0
    frames[40:50] = -15.0
    assert trim(frames).tolist() == frames[26:68].tolist()
    assert len(trim(np.zeros((3, 5)))) == 3


def test_steps_are_the_whole_and_padding_has_no_effect() -> None:
    network = Speaker(9, 6, 2, speakers=3, embedding_size=5, hidden_size=8).double().eval()
    ids, lengths = torch.randint(0, 9, (3, 7)), torch.tensor([7, 4, 1])
    speakers, steps = torch.tensor([0, 2, 1]), torch.tensor([4, 2, 1])
    frames = torch.randn(3, 8, 6).double()
    found = network(ids, lengths, speakers, frames, steps)
    for k in range(3):
        n, t = int(lengths[k]), int(steps[k])
        alone = network(
            ids[k : k + 1, :n], lengths[k : k + 1], speakers[k : k + 1], frames[k : k + 1, : 2 * t], steps[k : k + 1]
        )
        close(alone.frames[0], found.frames[k, : 2 * t], 1e-6)
        close(alone.weights[0], found.weights[k, :t, :n], 1e-6)
    assert found.weights[1, :, 4:].eq(0).all()
    assert not torch.equal(network(ids, lengths, speakers.flip(0), frames, steps).frames, found.frames)
    own = network.speak(ids, lengths, speakers, torch.tensor([5, 3, 2]))
    for k, (n, one) in enumerate(zip(lengths.tolist(), own, strict=True)):
        assert len(one.frames) == 2 * len(one.weights) <= 2 * [5, 3, 2][k]
        assert one.ended or len(one.weights) == [5, 3, 2][k]
        (alone,) = network.speak(
            ids[k : k + 1, :n], lengths[k : k + 1], speakers[k : k + 1], torch.tensor([[5, 3, 2][k]])
        )
        close(alone.frames, one.frames, 1e-6)
        assert alone.ended == one.ended


def test_speech_moves_forward_and_ends() -> None:
    torch.manual_seed(0)
    network = Speaker(9, 6, 2, embedding_size=5, hidden_size=8).eval()
    torch.nn.init.constant_(network.stop.bias, -50.0)  # it never says that this is the end
    network.stop.weight.data.zero_()
    ids, lengths, who = torch.randint(0, 9, (1, 12)), torch.tensor([12]), torch.tensor([0])
    (said,) = network.speak(ids, lengths, who, torch.tensor([200]))
    at = said.weights.argmax(1)
    assert at.diff().min() >= -1
    assert at.diff().max() <= 5
    (cut,) = network.speak(ids, lengths, who, torch.tensor([3]))
    assert not cut.ended
    assert len(cut.weights) == 3
    (rests,) = network.speak(ids[:, :1], torch.tensor([1]), who, torch.tensor([200]))
    assert rests.ended
    assert len(rests.weights) < 12


def test_losses_count_real_steps_only() -> None:
    network = Speaker(9, 6, 2, embedding_size=5, hidden_size=8).eval()
    ids, lengths, who = torch.randint(0, 9, (2, 5)), torch.tensor([5, 3]), torch.tensor([0, 0])
    frames, steps = torch.randn(2, 6, 6), torch.tensor([3, 1])
    predicted = network(ids, lengths, who, frames, steps)
    losses = network.losses(predicted, frames, steps, lengths)
    frames[1, 2:] = 99.0
    predicted.weights[1, 1:] = 7.0
    predicted.stops[1, 1:] = -9.0
    close(network.losses(predicted, frames, steps, lengths), losses, 1e-6)
    assert 0 <= losses.guide <= 1
    diagonal = predicted._replace(weights=torch.eye(3)[None], stops=torch.tensor([[-99.0, -99.0, 99.0]]))
    three = network.losses(diagonal, predicted.frames[:1], torch.tensor([3]), torch.tensor([3]))
    assert three.guide < 1e-6
    assert three.stop < 1e-6


def test_it_learns_to_sing(corpus: Path) -> None:
    options = SMALL | {"hidden_size": 48, "embedding_size": 16, "frames_per_step": 2, "dropout": 0.1, "guide": 0.5}
    model = elman.train("speak", corpus, steps=300, learning_rate=5e-3, **options)
    scores = model.evaluate(model.held_out())
    assert scores["diagonality"] > 0.9
    assert scores["ended"] == 1.0
    assert 0.7 < scores["duration"] < 1.3
    right = []
    for (said,) in model.predict([words(k) for k in range(20)]):
        for k, letter in enumerate(said.text):
            part = said.wave[int((0.07 + 0.1 * k) * RATE) : int((0.13 + 0.1 * k) * RATE)]
            if letter in PITCH and len(part):
                heard = np.fft.rfftfreq(len(part), 1 / RATE)[np.abs(np.fft.rfft(part)).argmax()]
                right.append(min(PITCH, key=lambda c, f=heard: abs(PITCH[c] - f)) == letter)  # type: ignore[misc]
    assert np.mean(right) > 0.6


def test_predictions(run: str, corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = elman.load(run)
    assert model.learnt.state.speakers == ["ann", "bob"]
    assert model.learnt.state.rate == RATE
    (one,), (two,) = model.predict(["Ab cd.", "da"])
    assert two.text == "da"
    assert one.text == "ab cd."
    assert one.wave.dtype == np.float32
    assert one.attention.weights.shape == (one.attention.target.shape[0], 7)
    alone = model.predict("ab cd.")[0][0].wave
    np.testing.assert_allclose(alone, one.wave, atol=1e-3)
    np.testing.assert_array_equal(model.predict("ab cd.", speaker="ann")[0][0].wave, alone)
    bob = model.predict("ab cd.", speaker="bob")[0][0].wave
    assert bob.shape != alone.shape or np.abs(bob - alone).max() > 1e-3 * np.abs(alone).max()
    one.save(corpus.parent / "one.flac")
    assert np.abs(read_sound(corpus.parent / "one.flac").samples - one.output.samples).max() < 1e-4
    long = "ab cd ba. " * 4
    ((joined,),) = model.predict(long)
    assert joined.text == long.strip()
    assert joined.symbols.count("") == 4
    assert len(joined.attention.source.pieces) == joined.weights.shape[1]
    json.dumps(joined.record())
    caplog.clear()
    assert model.predict("a5 b\u00df")[0][0].text == "a b"
    assert "input 1 of 1: not in the training texts, and left out: '5', '\u00df'" in caplog.text
    with pytest.raises(elman.ElmanError, match="input 2 of 2: there is nothing to speak in '55'; not in .*: '5'"):
        model.predict(["a", "55"])
    with pytest.raises(elman.ElmanError, match="unknown speaker 'anne': did you mean ann"):
        model.predict("a", speaker="anne")
    with torch.no_grad():
        model.network.stop.weight.zero_()
        model.network.stop.bias.fill_(-9.0)
        model.network.decoder.attention.score.weight.zero_()  # it looks everywhere, and stays
    caplog.clear()
    assert not model.predict("ab cd ba")[0][0].ended
    assert "input 1 of 1: the model did not reach the end of 'ab cd ba' and was stopped" in caplog.text


def test_phonemes(corpus: Path, tmp_path: Path) -> None:
    pairs = [(a + b, f"{a.upper()} {b.upper()}1") for a in PITCH for b in PITCH] * 2
    speller = tmp_path / "speller"
    options = {"source_tokens": "char", "target_tokens": "word", "hidden_size": 32, "progress": False}
    elman.train("translate", pairs, out=speller, steps=60, **options)
    elman.train("speak", corpus, phonemes=str(speller), out=tmp_path / "run", steps=1, **SMALL)
    model = elman.load(tmp_path / "run")
    lexicon = json.loads((tmp_path / "run" / "lexicon.json").read_text())
    assert set(lexicon) == {word for k in range(40) for word in words(k).lower().rstrip(".").split()}
    known, other = next(iter(lexicon)), "abcd"
    ((said,),) = model.predict(f"{known}. {other}")
    assert said.text == f"{known}. {other}"
    if lexicon[known]:
        assert list(said.symbols[: len(lexicon[known])]) == lexicon[known]
    speller.rename(tmp_path / "moved")
    model = elman.load(tmp_path / "run")
    assert model.predict(known)[0][0].text == known
    with pytest.raises(elman.ElmanError, match="phonemes: .*speller: no such folder.*; it pronounces 'abcd'"):
        model.predict(other)
    assert model.predict(other, phonemes=str(tmp_path / "moved"))[0][0].text == other
    with pytest.raises(elman.ElmanError, match="a speak model; one that translates words is needed"):
        elman.train("speak", corpus, phonemes=str(tmp_path / "run"), steps=1, **SMALL)


def test_the_command(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str) -> tuple[int, str, str]:
        return (cli.main(["predict", run, *arguments]), *capsys.readouterr())

    out = str(tmp_path / "x.wav")
    status, _, err = told("ab cd.", "--out", out, "--speaker", "bob")
    assert status == 0
    assert out in err
    assert read_sound(out).rate == RATE
    status, _, err = told("ab cd.", "--out", out)
    assert status == 2
    assert "already exists" in err
    assert told("ab cd.")[0] == 2
    assert "unknown sound format" in told("ab", "--out", str(tmp_path / "x.docx"))[2]
    (tmp_path / "t.txt").write_text("ab.\n\n77\ncd da.\n")
    status, said, err = told(str(tmp_path / "t.txt"), "--out", str(tmp_path / "t.flac"), "--json")
    assert status == 2
    assert "t.txt, line 3: there is nothing to speak in '77'" in err
    records = [json.loads(line) for line in said.splitlines()]
    spoken = [record for record in records if record["answers"]]
    assert [record["answers"][0]["text"] for record in spoken] == ["ab.", "cd da."]
    assert [Path(record["out"]).name for record in spoken] == ["t-1.flac", "t-4.flac"]
    seconds = len(read_sound(spoken[1]["out"]).samples) / RATE
    assert seconds == pytest.approx(spoken[1]["answers"][0]["seconds"], abs=0.01)
    pytest.importorskip("matplotlib")
    assert told("ab cd.", "--out", str(tmp_path / "p.wav"), "--plot", str(tmp_path / "p.png"))[0] == 0
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert cli.main(["evaluate", run, "--json"]) == 0
    assert {"loss", "stop_accuracy", "monotonicity", "diagonality", "ended", "mel_cepstral_distortion"} <= set(
        json.loads(capsys.readouterr().out)
    )
    assert cli.main(["inspect", run, "ab.", "--out", str(tmp_path / "i.png")]) == 0


def test_wrong_data(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = corpus.read_text().splitlines()
    place = corpus.parent / "wrong.tsv"
    place.write_text("\n".join([*lines[:5], "3.wav\t...\tbob", *lines[5:12]]))
    caplog.set_level(logging.WARNING)
    elman.train("speak", place, steps=1, **SMALL)
    assert "no words in the text '...'; 1 of 12 recordings are left out for that" in caplog.text
    with pytest.raises(elman.ElmanError, match=r"longer than --max-seconds 0.1; 38 of 38 recordings are left out"):
        elman.train("speak", corpus, steps=1, max_seconds=0.1, **SMALL)
    place.write_text("\n".join([*lines[:5], lines[5].rpartition("\t")[0] + "\t"]))
    with pytest.raises(elman.ElmanError, match="no speaker is named, but others have one"):
        elman.train("speak", place, steps=1, speaker="who", **SMALL)
    place.write_text("\n".join(lines[:2]))
    with pytest.raises(elman.ElmanError, match="too few recordings to hold some out"):
        elman.train("speak", place, steps=1, **SMALL)
