"""Speech to text: what a recogniser learns, hears and leaves out."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman import cli
from elman.chains import Chain, Stage
from elman.data.timed import pauses_after
from elman.tasks.transcribe.examples import normalize
from elman.tasks.transcribe.model import cut_in_pauses

soundfile = pytest.importorskip("soundfile")

RATE = 8000
TONES = {"a": 500.0, "b": 1100.0, "c": 2000.0}
SMALL: dict[str, Any] = {
    "hidden_size": 48, "num_layers": 1, "bands": 20, "dropout": 0.0, "augment": False, "progress": False,
    "learning_rate": 1e-2, "batch_size": 12, "average": 0.9, "precision": "float32", "silence": 0.1,
}  # fmt: skip


def said(text: str, seed: int = 0) -> np.ndarray:
    """A tone of 60 ms for each letter, 90 ms of silence between words."""
    draw = np.random.default_rng(seed)
    parts = [np.zeros(int(draw.uniform(0.05, 0.1) * RATE))]
    for letter in text:
        seconds = 0.09 if letter == " " else 0.06
        t = np.arange(int(seconds * RATE)) / RATE
        tone = 0 * t if letter == " " else np.sin(2 * np.pi * TONES[letter] * t) * np.hanning(len(t))
        parts += [0.4 * tone, np.zeros(int(0.03 * RATE))]
    x = np.concatenate([*parts, np.zeros(int(0.08 * RATE))])
    return (x + 1e-3 * draw.standard_normal(len(x))).astype(np.float32)


def some_text(draw: np.random.Generator) -> str:
    words = ["".join(draw.choice(list(TONES), draw.integers(1, 4))) for _ in range(draw.integers(1, 4))]
    return " ".join(words)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with recordings to train on, and one to test on."""
    folder = tmp_path_factory.mktemp("recordings")
    draw = np.random.default_rng(0)
    for name, count in (("train", 160), ("test", 20)):
        rows = ["audio\ttext\tspeaker"]
        for k in range(count):
            text, path = some_text(draw), f"{name}{k}.wav"
            soundfile.write(folder / path, said(text, k), RATE)
            rows.append(f"{path}\t{text.upper()}.\tspeaker {k % 4}")
        (folder / f"{name}.tsv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="session")
def model(recordings: Path) -> Any:
    return elman.train(
        "transcribe", recordings / "train.tsv", out=recordings / "run", steps=130, validate_every=130, **SMALL
    )


@pytest.fixture(scope="session")
def streaming(recordings: Path) -> Any:
    return elman.train(
        "transcribe", recordings / "train.tsv", out=recordings / "streaming", steps=130, validate_every=130,
        streaming=True, look_ahead=0.09, **SMALL,
    )  # fmt: skip


def test_it_hears_what_it_has_learnt(model: Any, recordings: Path) -> None:
    scores = model.evaluate(model.read([str(recordings / "test.tsv")]))
    assert scores["cer"] < 0.1
    assert scores["recordings"] == 20
    errors = scores["substitutions"] + scores["insertions"] + scores["deletions"]
    assert scores["wer"] == pytest.approx(errors / scores["length"])


def test_a_streaming_model_learns_too(streaming: Any, recordings: Path) -> None:
    assert streaming.evaluate(streaming.read([str(recordings / "test.tsv")]))["cer"] < 0.2


def test_a_streaming_model_reads_no_further_than_its_look_ahead(streaming: Any) -> None:
    reader, frames = streaming.network.reader.eval(), torch.randn(1, 90, 20)
    changed = frames.clone()
    changed[:, 60:] += 1.0
    with torch.no_grad():
        a, b = (reader(x, torch.tensor([90])).keys for x in (frames, changed))
    steps = 60 // reader.stride - reader.look_ahead.steps
    torch.testing.assert_close(a[:, :steps], b[:, :steps])
    assert not torch.allclose(a[:, steps : steps + 1], b[:, steps : steps + 1])


def test_a_batch_hears_what_each_recording_alone_does(model: Any) -> None:
    waves = [said(text, 7) for text in ("a", "abc cab", "bb a c")]
    together = [answers[0] for answers in model.predict(waves)]
    for wave, answer in zip(waves, together, strict=True):
        (alone,) = model.predict([wave])[0]
        assert alone.text == answer.text
        assert alone.log_probability == pytest.approx(answer.log_probability, abs=1e-3)


def test_words_have_times_and_confidences(model: Any) -> None:
    wave = said("aaa bb", 3)
    (answer,) = model.predict([wave])[0]
    assert answer.text == "aaa bb"
    assert [word.text for word in answer.words] == ["aaa", "bb"]
    pause = (0.08 + 3 * 0.09, 0.08 + 3 * 0.09 + 0.12)
    assert answer.words[0].end == pytest.approx(pause[0], abs=0.09)
    assert answer.words[1].start == pytest.approx(pause[1], abs=0.09)
    assert all(0 < word.confidence <= 1 for word in answer.words)
    assert answer.record()["words"][0]["text"] == "aaa"
    assert answer.seconds == pytest.approx(len(wave) / RATE, abs=0.02)


def test_a_chain_is_measured_on_texts_as_the_model_writes_them(model: Any, recordings: Path, tmp_path: Path) -> None:
    """The stage after a recogniser reads the right text without capitals and marks, as it does in the chain."""
    letters = "".join(f"{text}\t{text}\n" for text in ("ab", "c ab", "bca", "a", "cc", "b a") * 4)
    (tmp_path / "pairs.tsv").write_text(f"source\ttarget\n{letters}")
    copies = elman.train(
        "translate", tmp_path / "pairs.tsv", steps=1, source_tokens="char", target_tokens="char", hidden_size=8,
        embedding_size=8, num_layers=1, progress=False,
    )  # fmt: skip
    asked: list[str] = []
    predict = copies.predict
    copies.predict = lambda inputs, **options: asked.extend(inputs) or predict(inputs, **options)  # type: ignore[func-returns-value]
    stages = [Stage(model, reference="text"), Stage(copies, reference="text")]
    Chain(stages, "audio").evaluate([str(recordings / "test.tsv")])
    heard, right = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    assert len(heard) == len(right) == 20
    assert all(text == normalize(text) for text in right)


def test_silence_gives_an_empty_text(
    model: Any, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = 1e-3 * np.random.default_rng(0).standard_normal(RATE // 2).astype(np.float32)
    for level in (0.0, 0.1, 1.0, 10.0):
        assert [answer.text for answer in model.predict([level * noise])[0]] == [""]
    soundfile.write(tmp_path / "silence.wav", noise, RATE)
    assert cli.main(["predict", str(recordings / "run"), str(tmp_path / "silence.wav")]) == 0
    assert capsys.readouterr().out == "(silence)\n"


def test_the_command_line_prints_texts(model: Any, recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(recordings / "run"), str(recordings / "test0.wav"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["answers"][0]["text"] == model.predict([str(recordings / "test0.wav")])[0][0].text


def test_several_answers_are_ranked(model: Any) -> None:
    answers = model.predict([said("ab ca", 5)], n_best=3)[0]
    assert len({answer.text for answer in answers}) == 3
    assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)


def test_a_long_recording_is_cut_in_its_pauses(model: Any) -> None:
    texts = ["ab c", "cab", "bb a"] * 12
    wave = np.concatenate([said(text, k) for k, text in enumerate(texts)])
    assert len(wave) > 15 * RATE
    frames = model.learnt.medium.read([wave])[0]
    pieces = cut_in_pauses(frames, 500)
    assert sum(map(len, pieces)) == len(frames)
    assert max(map(len, pieces)) <= 500
    (answer,) = model.predict([wave])[0]
    spoken = "".join(texts).replace(" ", "")
    assert len(answer.text.replace(" ", "")) == pytest.approx(len(spoken), rel=0.1)
    starts = [word.start for word in answer.words]
    assert starts == sorted(starts)


def test_pieces_are_cut_where_it_is_quiet() -> None:
    loud = np.ones((100, 4), np.float32)
    loud[40:62] = -5.0
    first, second = cut_in_pauses(loud, 80)
    assert 40 <= len(first) <= 62
    assert len(first) + len(second) == 100


def test_it_says_that_it_only_writes_blanks(recordings: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        elman.train("transcribe", recordings / "test.tsv", steps=1, **{**SMALL, "learning_rate": 1e-6})
    # an untrained network may write anything; one that is told to write nothing is found out
    small = elman.train("transcribe", recordings / "test.tsv", steps=0, **SMALL)
    with torch.no_grad():
        small.network.head.bias[0] = 50.0
    examples = small.read([str(recordings / "test.tsv")])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert small.evaluate(examples, 10)["cer"] == 1.0
    assert "only blanks" in caplog.text


def table(folder: Path, rows: list[tuple[str, str]], name: str = "data.tsv") -> str:
    (folder / name).write_text("audio\ttext\n" + "".join(f"{a}\t{t}\n" for a, t in rows))
    return str(folder / name)


def test_recordings_that_are_too_short_or_too_long_are_left_out(
    recordings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(tmp_path / "short.wav", said("a"), RATE)
    soundfile.write(tmp_path / "long.wav", np.tile(said("a"), 20), RATE)
    rows = [(str(recordings / f"train{k}.wav"), "abc") for k in range(8)]
    data = table(tmp_path, [*rows, ("short.wav", "abcabcabcabcabcabcabc"), ("long.wav", "a")])
    with caplog.at_level(logging.WARNING):
        trained = elman.train("transcribe", data, steps=1, max_seconds=2.0, valid=[data], **SMALL)
    assert "short.wav" not in caplog.text  # named by the row
    assert "row 9" in caplog.text
    assert "too few for the 21 tokens" in caplog.text
    assert "row 10" in caplog.text
    assert "--max-seconds 2" in caplog.text
    scores = trained.evaluate(trained.read([data]))  # in the error rates, but not in the loss
    assert scores["recordings"] == 10
    assert np.isfinite(scores["loss"])
    bad = table(tmp_path, [("short.wav", "abcabcabcabcabcabcabc")], "bad.tsv")
    with pytest.raises(elman.ElmanError, match="too few"):
        elman.train("transcribe", bad, steps=1, valid=[data], **SMALL)


def test_characters_that_were_not_learnt_are_named(
    model: Any, recordings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = table(tmp_path, [(str(recordings / "test0.wav"), "zebra"), (str(recordings / "test1.wav"), "abc")])
    with caplog.at_level(logging.WARNING):
        scores = model.evaluate(model.read([data]))
    assert "'z'" in caplog.text
    assert "1 of 2 texts" in caplog.text
    assert scores["cer"] > 0


def test_a_sentence_is_never_on_both_sides(recordings: Path) -> None:
    from elman.config import parse
    from elman.tasks.transcribe.task import Transcribe

    task = Transcribe(parse(Transcribe.Config, {"valid_fraction": 0.2}))
    train, held = task.parts([str(recordings / "train.tsv")], [])
    assert not set(train.texts) & set(held.texts)
    task = Transcribe(parse(Transcribe.Config, {"group": "speaker"}))
    train, held = task.parts([str(recordings / "train.tsv")], [])
    assert not set(train.speakers) & set(held.speakers)


def test_groups_need_speakers(recordings: Path, tmp_path: Path) -> None:
    data = table(tmp_path, [(str(recordings / f"train{k}.wav"), f"a{k}") for k in range(8)])
    with pytest.raises(elman.ElmanError, match="speaker"):
        elman.train("transcribe", data, steps=1, group="speaker", **SMALL)


def test_options_without_effect_are_refused(recordings: Path) -> None:
    with pytest.raises(elman.ElmanError, match="look_ahead"):
        elman.train("transcribe", recordings / "test.tsv", steps=1, look_ahead=0.5, **SMALL)
    with pytest.raises(elman.ElmanError, match="vocab_size"):
        elman.train("transcribe", recordings / "test.tsv", steps=1, vocab_size=100, **SMALL)
    with pytest.raises(elman.ElmanError, match="variation"):
        elman.train("transcribe", recordings / "test.tsv", steps=1, variation=2.0, **SMALL)


@pytest.mark.parametrize("kind", ["transducer", "attention"])
def test_other_models_learn(recordings: Path, kind: str) -> None:
    size = {"decoder_size": 24, "embedding_size": 16}
    options = {**SMALL, "learning_rate": 5e-3, "silence": 0.05, "model": kind, **size}
    trained = elman.train("transcribe", recordings / "train.tsv", steps=100, validate_every=50, **options)
    untrained = elman.train("transcribe", recordings / "train.tsv", steps=0, **options)
    examples = trained.read([str(recordings / "test.tsv")])
    scores = trained.evaluate(examples)
    assert scores["loss"] < 0.7 * untrained.evaluate(examples)["loss"]
    assert scores["cer"] < 0.8
    (answer,) = trained.predict([said("ab c", 2)])[0]
    assert answer.text == " ".join(word.text for word in answer.words)
    assert answer.seconds >= max(word.end for word in answer.words)
    ranked = trained.predict([said("ab c", 2)], n_best=2, beam=4)[0]
    assert ranked[0].score >= ranked[-1].score


def test_a_transducer_listens(recordings: Path) -> None:
    trained = elman.train("transcribe", recordings / "test.tsv", steps=3, model="transducer", streaming=True, **SMALL)
    wave, lines = said("abc cab", 1), []
    for size in (400, 3000):
        with trained.listen(RATE, beam=2) as listening:
            found = [line for k in range(0, len(wave), size) for line in listening.push(wave[k : k + size])]
            lines.append([line.segment for line in [*found, *listening.finish()] if line.final])
    assert lines[0] == lines[1]


def test_attention_needs_the_whole_recording(recordings: Path) -> None:
    with pytest.raises(elman.ElmanError, match="streaming"):
        elman.train("transcribe", recordings / "test.tsv", steps=1, model="attention", streaming=True, **SMALL)


@pytest.mark.parametrize("tokens", ["word", "bpe"])
def test_words_and_pieces_can_be_written(recordings: Path, tokens: str) -> None:
    options = {} if tokens == "word" else {"vocab_size": 265}
    trained = elman.train("transcribe", recordings / "test.tsv", steps=2, tokens=tokens, **SMALL, **options)
    (answer,) = trained.predict([said("ab c")])[0]
    assert tokens == "bpe" or answer.text == " ".join(word.text for word in answer.words)
    words = answer.text.split()
    assert len(pauses_after(answer.output, words)) == len(words)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Well-known: \u201cIt\u2019s 5 o'clock!\u201d", "well known it's 5 o'clock"),
        ("'quoted' words", "quoted words"),
        ("Ünïcode — e\u0301t\u00e9", "ünïcode été"),
        ("snake_case, 3.14%", "snake case 3 14"),
        ("?!", ""),
        ("'tis \u2018so\u2019, 'n' \u201crock\u201d'", "tis so n rock"),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902\u0964",
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902",
        ),
        ("\u0ba4\u0bae\u0bbf\u0bb4\u0bcd!", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("co\u00adop", "coop"),
        ("Привет, мир!", "привет мир"),
    ],
)
def test_texts_are_normalized(text: str, plain: str) -> None:
    assert normalize(text) == plain
