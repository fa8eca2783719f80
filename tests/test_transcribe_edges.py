"""Recognisers at their edges: silence, long and damaged recordings, mixed precision, several answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman.config import parse
from elman.decoding.heard import CTCSearch
from elman.decoding.transcribing import transcribe
from elman.networks.readers import Encoding
from tests.test_transcribe import RATE, SMALL, recordings, said, table

soundfile = pytest.importorskip("soundfile")

__all__ = ["recordings"]  # fixture

KINDS = ("ctc", "transducer", "attention")
SIZES: dict[str, Any] = {"decoder_size": 24, "embedding_size": 16}


@pytest.fixture(scope="module")
def untrained(recordings: Path) -> dict[str, Any]:
    """A model of each kind."""
    return {
        kind: elman.train(
            "transcribe", recordings / "test.tsv", steps=0, model=kind, **SMALL, **(SIZES if kind != "ctc" else {})
        )
        for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_silence_weighs_no_more_than_speech(untrained: dict[str, Any], kind: str) -> None:
    model = untrained[kind]
    row, none = model.learnt.medium.read([said("abc ab", 0)])[0], np.zeros(0, np.int64)
    (ids,) = model.learnt.encode(["abc ab"], "char")
    spoken, silent = (
        model.loss(model.learnt.collate(*zip(*pairs, strict=True)), None)[0].item()
        for pairs in ([(row, ids)], [(row, none)] * 3)
    )
    assert silent < 2 * spoken


@pytest.mark.parametrize("kind", KINDS)
def test_losses_in_bf16_are_close(untrained: dict[str, Any], recordings: Path, kind: str) -> None:
    model = untrained[kind]
    examples = model.read([str(recordings / "test.tsv")]).part(range(4))
    batch = model.learnt.collate(examples.rows, examples.target_ids)
    exact, _ = model.loss(batch, None)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = model.loss(batch, None)
        model.evaluate(examples, 4)
    rounded.backward()
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad.isfinite().all() for p in model.network.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_losses(untrained: dict[str, Any], kind: str) -> None:
    model = untrained[kind]
    rows = model.learnt.medium.read([said("abc ab", 0), said("a", 1)])
    ids = model.learnt.encode(["abc ab", "a"], "char")
    network = model.network.eval()

    def losses(k: list[int]) -> list[float]:
        b = model.learnt.collate([rows[j] for j in k], [ids[j] for j in k])
        return network.loss(network.reader(b.frames, b.lengths), b.targets, b.target_lengths).tolist()

    assert losses([0, 1]) == pytest.approx([*losses([0]), *losses([1])], abs=1e-3)


def test_texts_without_an_alignment_have_finite_scores(untrained: dict[str, Any]) -> None:
    network = untrained["attention"].network.eval()
    bias = network.writer.head.bias.detach().clone()
    with torch.no_grad():
        network.writer.head.bias[2] = 30.0  # it repeats one token, which takes twice as many steps
    encoding = Encoding(torch.randn(1, 6, network.reader.output_size), torch.tensor([6]), torch.zeros(1, 96))
    (possible,) = transcribe(network, encoding, parse(CTCSearch, {"n_best": 8}))
    (alone,) = transcribe(network, encoding, parse(CTCSearch, {"beam": 1}))
    with torch.no_grad():
        network.writer.head.bias.copy_(bias)
    assert all(network.required(one.ids) <= 6 for one in possible)
    assert network.required(alone[0].ids) > 6
    assert np.isfinite(alone[0].score)


@pytest.mark.parametrize("kind", ["ctc", "attention"])
def test_as_many_answers_as_asked(untrained: dict[str, Any], kind: str) -> None:
    answers = untrained[kind].predict([said("abc cab ab", 0)], n_best=12)[0]
    assert len(answers) == 12
    assert len({answer.text for answer in answers}) == 12


def test_an_evaluation_has_one_answer(untrained: dict[str, Any]) -> None:
    with pytest.raises(elman.ElmanError, match="n_best"):
        untrained["ctc"].search_with(n_best=3)


def test_an_evaluation_reads_long_recordings_as_predict_does(
    untrained: dict[str, Any], monkeypatch: pytest.MonkeyPatch, recordings: Path
) -> None:
    monkeypatch.setattr("elman.tasks.transcribe.model._LONGEST", 30)
    model = untrained["ctc"]
    examples = model.read([str(recordings / "test.tsv")])
    paths = [str(recordings / f"test{k}.wav") for k in range(20)]
    assert [one.predicted for one in model.answered(examples)] == [one[0].text for one in model.predict(paths)]


def test_words_end_with_the_recording(untrained: dict[str, Any]) -> None:
    for samples in range(800, 1100, 40):
        (answer,) = untrained["ctc"].predict([said("abc", 0)[:samples]])[0]
        assert all(word.end <= answer.seconds for word in answer.words)


def test_no_noise_floor_is_not_another_noise_floor(recordings: Path) -> None:
    with pytest.raises(elman.ElmanError, match="decibels"):
        elman.train("transcribe", recordings / "test.tsv", steps=0, decibels=None, **SMALL)


def test_recordings_that_just_fit_are_kept(recordings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soundfile.write(tmp_path / "x.wav", said("abc")[: RATE // 10 - 1], RATE)  # 10 frames are 4 steps of 3
    rows = [(str(recordings / f"train{k}.wav"), "abc") for k in range(8)]
    data = table(tmp_path, [*rows, ("x.wav", "abca")])
    with caplog.at_level(logging.WARNING):
        elman.train("transcribe", data, steps=0, valid=[data], **SMALL)
    assert "too few" not in caplog.text
    data = table(tmp_path, [*rows, ("x.wav", "abcab")])
    with caplog.at_level(logging.WARNING):
        elman.train("transcribe", data, steps=0, valid=[data], **SMALL)
    assert "row 9: 4 steps of 30 ms are too few for the 5 tokens" in caplog.text


def test_damaged_recordings_are_left_out_of_an_evaluation(
    untrained: dict[str, Any], recordings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wave = said("abc")
    wave[300] = np.nan  # which no header tells
    soundfile.write(tmp_path / "x.wav", wave, RATE, "FLOAT")
    data = table(tmp_path, [("x.wav", "abc"), (str(recordings / "test1.wav"), "abc")])
    model = untrained["ctc"]
    with pytest.raises(elman.ElmanError, match=r"data\.tsv, row 1: .*x\.wav: sample 301"):
        model.read([data])
    model.read_with(skip_broken=True)
    with caplog.at_level(logging.WARNING):
        examples = model.read([data])
    model.read_with()
    assert examples.places == [f"{data}, row 2"]
    assert "left out 1 of 2 sounds" in caplog.text
    assert model.evaluate(examples)["recordings"] == 1


def test_validation_needs_words(recordings: Path, tmp_path: Path) -> None:
    data = table(tmp_path, [(str(recordings / "train0.wav"), "...")])
    with pytest.raises(elman.ElmanError, match=r"row 1: .*validation"):
        elman.train("transcribe", recordings / "test.tsv", valid=[data], steps=1, **SMALL)


def test_a_resumed_training_gives_the_same_weights(recordings: Path, tmp_path: Path) -> None:
    options = {**SMALL, "augment": True, "silence": 0.3, "dropout": 0.2, "streaming": True, "validate_every": 3}
    data, constant = recordings / "test.tsv", {"schedule": "constant", "warmup": 0.0}
    whole = elman.train("transcribe", data, out=tmp_path / "whole", steps=6, **options, **constant)
    elman.train("transcribe", data, out=tmp_path / "parts", steps=3, **options, **constant)
    parts = elman.train("transcribe", out=tmp_path / "parts", resume=True, steps=6, progress=False)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, parts.network.state_dict()[key]), key


def test_a_streaming_run_is_loaded_as_it_was_trained(recordings: Path, tmp_path: Path) -> None:
    model = elman.train("transcribe", recordings / "test.tsv", steps=1, streaming=True, out=tmp_path / "run", **SMALL)
    loaded = elman.load(tmp_path / "run")
    assert loaded.config.mean == "running"
    wave = said("abc ab")
    assert loaded.predict([wave])[0][0] == model.predict([wave])[0][0]
