"""Training that starts from the weights of another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

import elman
from elman import cli
from elman.training.initial import start_from
from tests.conftest import some_text

LANGUAGE: dict[str, Any] = {"hidden_size": 8, "embedding_size": 6, "progress": False, "precision": "float32"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of a few characters."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "text.txt").write_text(some_text(3000))
    elman.train("language", folder / "text.txt", out=folder / "run", steps=2, **LANGUAGE)
    return folder / "run"


@pytest.fixture
def more(tmp_path: Path) -> str:
    """A text with more characters, some of them before those that are known."""
    (tmp_path / "more.txt").write_text(some_text(3000, seed=1) + "!'0123 ABC zebra\n" * 9)
    return str(tmp_path / "more.txt")


def test_options_of_the_model_are_those_of_the_run(base: Path, more: str) -> None:
    tuned = elman.train("language", more, steps=0, init=base, progress=False, precision="float32")
    given, saved = tuned.config.model_dump(), elman.load(base).config.model_dump()
    assert {name for name in given if given[name] != saved[name]} == {"init", "steps"}
    assert tuned.sources.init.options == []
    other = elman.train("language", more, steps=0, init=base, hidden_size=9, progress=False)
    assert (other.config.hidden_size, other.config.embedding_size) == ([9], 6)


def weights(model: Any) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.network.state_dict().items()}


def test_tokens_are_taken_by_their_names(base: Path, more: str) -> None:
    before, fresh = elman.load(base), elman.train("language", more, steps=0, **LANGUAGE)
    tuned = elman.train("language", more, steps=0, init=base, progress=False, precision="float32")
    old, new, start = weights(before), weights(tuned), weights(fresh)
    known = {token: k for k, token in enumerate(before.tokenizer.names)}
    assert len(known) < len(tuned.tokenizer.names)
    for name, weight in new.items():
        if name.startswith(("embedding", "head")):
            for k, token in enumerate(tuned.tokenizer.names):
                assert torch.equal(weight[k], old[name][known[token]] if token in known else start[name][k])
        else:
            assert torch.equal(weight, old[name])
    found = tuned.sources.init
    assert found.taken == before.parameters()
    assert found.weights == tuned.parameters()
    assert found.afresh == [
        f"{(start[name].numel() - old[name].numel()):,} of {start[name].numel():,} in {name}"
        for name in ("embedding.weight", "head.weight", "head.bias")
    ]


def test_a_fine_tuned_run_says_so_and_resumes_alone(
    base: Path, more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, run = tmp_path / "other", tmp_path / "run"
    elman.load(base).save(other)
    assert cli.main(["train", "language", more, "--out", str(run), "--init", str(other), "--steps", "1"]) == 0
    assert f"init {other} (language): " in capsys.readouterr().err
    for file in other.iterdir():
        file.unlink()
    resumed = elman.train("language", out=run, resume=True, steps=2, progress=False)
    assert f"- init: {other} (language): " in (run / "README.md").read_text()
    assert elman.load(run).about()["init"] == resumed.about()["init"]
    assert resumed.config.init == str(other)
    assert cli.main(["info", str(run)]) == 0
    assert f"init: {other} (language): " in capsys.readouterr().out


def test_other_cells_and_sizes_start_afresh(base: Path, more: str) -> None:
    simple = LANGUAGE | {"cell": "rnn_tanh"}
    before = elman.train("language", more, steps=0, **simple)
    after = elman.train("language", more, steps=0, seed=1, **simple | {"cell": "rnn_relu"})
    found = start_from(after, before, "run")  # of the same shapes
    assert found.afresh == ["recurrent"]
    assert found.options == ["cell ['rnn_relu'] instead of ['rnn_tanh']"]
    larger = elman.train("language", more, steps=0, init=base, **LANGUAGE | {"hidden_size": 9})
    assert larger.sources.init.afresh[1:3] == ["recurrent", "head.weight"]


def test_tags_and_channels_are_taken_by_their_names() -> None:
    """Of the same shapes, but in another order."""
    options: dict[str, Any] = {"steps": 0, "hidden_size": 4, "progress": False}
    rows = [(["a", "b"], ["X", "Y"]), (["b", "c"], ["Y", "Z"])] * 9
    renamed = [(words, [{"X": "Z", "Y": "A", "Z": "Y"}[tag] for tag in tags]) for words, tags in rows]
    old, new = (elman.train("tag", data, crf=True, **options) for data in (rows, renamed))
    moves = torch.arange(9.0).view(3, 3)
    old.network.crf.transitions.data = moves  # X, Y, Z to A, Y, Z
    start_from(new, old, "run")
    assert old.tags == ["X", "Y", "Z"]
    assert new.tags == ["A", "Y", "Z"]
    expected = moves.clone()
    expected[0], expected[:, 0] = 0, 0
    assert torch.equal(new.network.crf.transitions, expected)

    def series(*channels: str) -> dict[str, list]:
        values = np.random.default_rng(0).normal(size=(2, 60)).round(2).tolist()
        ids = [k // 3 for k in range(60)]
        return {"id": ids, **dict(zip(channels, values, strict=True)), "label": ["ud"[k % 2] for k in ids]}

    old, new = (elman.train("classify", series(*names), **options, series="id") for names in ("xy", "yz"))
    start_from(new, old, "run")
    for one, other in zip(new.network.encoder.parameters(), old.network.encoder.parameters(), strict=True):
        if one.shape[-1:] == (2,):
            assert torch.equal(one[:, 0], other[:, 1])
            assert not torch.equal(one[:, 1], other[:, 0])
        else:
            assert torch.equal(one, other)


def test_runs_that_cannot_be_used_are_refused(base: Path, more: str, tmp_path: Path) -> None:
    rows = [("good film", "yes"), ("bad film", "no")] * 9
    elman.train("classify", rows, steps=0, hidden_size=4, progress=False).save(tmp_path / "classifier")
    elman.load(base).save(tmp_path / "damaged")
    path = tmp_path / "damaged" / "model.safetensors"
    damaged = safetensors.torch.load_file(path)
    damaged["head.bias"][0] = torch.nan
    safetensors.torch.save_file(damaged, path)
    for run, message in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "classifier", "none of its weights fits the new model"),
        (tmp_path / "damaged", "values of head.bias are NaN"),
    ):
        with pytest.raises(elman.ElmanError, match=rf"^init: {run}.*{message}"):
            elman.train("language", more, steps=2, init=run, out=tmp_path / "out", **LANGUAGE)
        assert not (tmp_path / "out").exists()


def test_a_recogniser_starts_another_kind_of_recogniser(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    draw = np.random.default_rng(0)
    for k in range(12):
        soundfile.write(tmp_path / f"{k}.wav", draw.uniform(-0.5, 0.5, 8000), 8000)
    for name, text in (("german", "der hund"), ("english", "the dog")):
        rows = "".join(f"{k}.wav\t{text} {'abcdef'[k % 6]}\n" for k in range(12))
        (tmp_path / f"{name}.tsv").write_text(f"audio\ttext\n{rows}")
    options: dict[str, Any] = {"hidden_size": 6, "num_layers": 1, "bands": 8, "progress": False, "steps": 0}
    ctc = elman.train("transcribe", tmp_path / "german.tsv", out=tmp_path / "ctc", **options)
    small: dict[str, Any] = {"model": "attention", "embedding_size": 4, "decoder_size": 6}
    new = elman.train(
        "transcribe", tmp_path / "english.tsv", init=tmp_path / "ctc", seed=1, steps=0, progress=False, **small
    )
    old, reader = ctc.network.reader.state_dict(), new.network.reader.state_dict()
    assert all(torch.equal(weight, old[name]) for name, weight in reader.items())
    assert "writer" in new.sources.init.afresh  # all of it but the encoder
    assert not any("encoder" in part for part in new.sources.init.afresh)
    places = {token: k for k, token in enumerate(ctc.target.names)}
    for k, token in enumerate(new.target.names):
        if token in places:
            assert torch.equal(new.network.head.weight[k], ctc.network.head.weight[places[token]])
    transducer = elman.train("transcribe", tmp_path / "english.tsv", **options, **small | {"model": "transducer"})
    speaker = elman.train("speak", tmp_path / "english.tsv", steps=0, hidden_size=8, bands=8, progress=False)
    for model in (new, transducer, speaker):  # every weight fits the model itself
        found = start_from(model, model, "run")
        assert (found.taken, found.afresh) == (found.weights, [])
    assert places.keys() - set(new.target.names)
    assert set(new.target.names) - places.keys()
