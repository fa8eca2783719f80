"""The language model: what it learns, measures, writes, saves and refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman.data import Tokenizer
from elman.tasks.language.model import LanguageModel, Text
from elman.tasks.language.options import LanguageConfig, with_defaults
from elman.tasks.language.task import Texts
from tests.conftest import CELL_FAMILY, some_text

SMALL: dict[str, Any] = {"hidden_size": 32, "embedding_size": 8, "batch_size": 4, "window": 16, "progress": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text(some_text(20_000), encoding="utf-8")
    return elman.train("language", path, steps=400, precision="float32", **SMALL)


def test_it_learns(model: LanguageModel) -> None:
    held = model.evaluate(model.held_out())
    assert held["loss"] < 0.75  # the grammar's own entropy is about 0.35 nats a character
    written = model.generate("the cat ", max_new_tokens=300, temperature=0.3, seed=0)
    words = set(written.replace(".", " ").split()[:-1])
    known = set(some_text(20_000).replace(".", " ").split())
    assert len(words & known) / len(words) > 0.8


@pytest.mark.parametrize("seed", [1, 2])
def test_a_text_without_surprise_costs_nothing(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "abc.txt"
    path.write_text("abcdefgh" * 400)
    model = elman.train("language", path, steps=150, seed=seed, **SMALL)
    assert model.evaluate(model.held_out())["loss"] < 0.05
    assert model.generate("abc", max_new_tokens=13, greedy=True) == "abcdefghabcdefgh"


def test_loss_is_the_mean_over_all_tokens(model: LanguageModel) -> None:
    """Against one plain pass, token by token, and for a text long enough to be read as several streams."""
    for text in ("the cat sees a dog.\n", some_text(30_000, seed=5)):
        ids = model.tokenizer.encode(text)
        with torch.inference_mode():
            inputs = torch.tensor([[Tokenizer.end_id, *ids[:-1].tolist()]])
            logits, _ = model.network(inputs)
            plain = torch.nn.functional.cross_entropy(logits[0], torch.tensor(ids.astype(np.int64))).item()
        metrics = model.evaluate(Text([ids], len(text)))
        assert metrics["tokens"] == len(ids)
        assert metrics["loss"] == pytest.approx(plain, abs=2e-4)
        assert metrics["perplexity"] == pytest.approx(math.exp(plain), rel=1e-3)
        assert metrics["bits_per_character"] == pytest.approx(plain / math.log(2), abs=5e-4)


def test_every_token_counts_once(model: LanguageModel) -> None:
    for n in (1, 2, 255, 2047, 2048, 5000, 33_001):
        ids = model.tokenizer.encode(some_text(n))[:n]
        assert model.evaluate(Text([ids, ids], 2 * n))["tokens"] == 2 * n
        assert model.evaluate(Text([ids, ids], 2 * n), limit=n + n // 2)["tokens"] == n + n // 2


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_words_and_bytes(tmp_path: Path, text_file: str, kind: str) -> None:
    model = elman.train("language", text_file, tokens=kind, vocab_size=300, steps=60, **SMALL)
    metrics = model.evaluate(model.held_out())
    assert metrics["bits_per_character"] * math.log(2) < metrics["loss"]  # a token is longer than a character
    assert isinstance(model.generate("the cat", max_new_tokens=20), str)
    again = elman.load(saved(model, tmp_path))
    assert again.generate("the", seed=1, max_new_tokens=9) == model.generate("the", seed=1, max_new_tokens=9)


def saved(model: LanguageModel, path: Path) -> Path:
    model.save(path / "model")
    return path / "model"


def test_save_and_load_keep_every_number(model: LanguageModel, tmp_path: Path) -> None:
    again = elman.load(saved(model, tmp_path))
    assert again.config == model.config
    for key, value in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[key], value)
    assert again.evaluate(again.held_out()) == model.evaluate(model.held_out())
    assert "elman.load" in (tmp_path / "model" / "README.md").read_text()


def test_generate(model: LanguageModel) -> None:
    first = model.generate("the ", seed=3, max_new_tokens=50)
    assert first == model.generate("the ", seed=3, max_new_tokens=50)
    assert first != model.generate("the ", seed=4, max_new_tokens=50)
    assert first.startswith("the ")
    assert len(first) == 54
    assert "".join(model.stream("the ", seed=3, max_new_tokens=50)) == first[4:]
    assert model.generate("the ", max_new_tokens=0) == "the "
    assert len(model.generate(max_new_tokens=7)) == 7
    assert model.generate([]) == []
    assert "." not in model.generate("the ", stop=["."], max_new_tokens=500)


def test_batched_prompts_equal_single_ones(model: LanguageModel) -> None:
    prompts = ["the cat sees", "a", "", "she likes the old"]
    together = model.generate(prompts, greedy=True, max_new_tokens=30)
    assert together == [model.generate(prompt, greedy=True, max_new_tokens=30) for prompt in prompts]
    drawn = model.generate(prompts, seed=7, max_new_tokens=30)
    assert drawn == [model.generate(prompt, seed=7 + row, max_new_tokens=30) for row, prompt in enumerate(prompts)]


def test_generating_leaves_everything_as_it_was(model: LanguageModel) -> None:
    model.network.train()
    state = torch.get_rng_state()
    pieces = model.stream("the ", seed=1, max_new_tokens=5)
    next(pieces)
    assert torch.ones(1, requires_grad=True).sum().requires_grad  # no inference mode leaks out of the loop
    list(pieces)
    assert model.network.training
    model.network.eval()
    assert torch.equal(torch.get_rng_state(), state)


def test_unknown_characters(model: LanguageModel, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(elman.ElmanError, match="the model has never seen 'É', '7'"):
        model.generate("the É7 É")
    text = model.task.encode(model.learnt, Texts(["the cat É"], ["text"]))
    assert "1 of 9 tokens are not in the vocabulary" in caplog.text
    assert model.evaluate(text)["loss"] > 0


VARIANTS: dict[str, dict[str, Any]] = {
    **{
        f"cell {name}": {"cell": name, "proj_size": 8 if cell.projected else 0}
        for name, cell in CELL_FAMILY.items()
        if name in elman.cells.CELLS
    },
    "two cells": {"cell": ["lstm", "gru"], "num_layers": 2},
    "sizes": {"hidden_size": [16, 24], "num_layers": 2},
    "residual": {"connection": "residual", "num_layers": 3},
    "blocks": {"cell": "gla", "blocks": True, "num_layers": 2},
    "dense": {"connection": "dense", "num_layers": 2},
    "highway": {"connection": "highway", "num_layers": 2},
    "open bias": {"open_bias": 1.0},
    "tied": {"tie": True},
    "variational": {"variational": True, "dropout": 0.3},
    "weight drop": {"weight_drop": 0.3},
    "recurrent dropout": {"recurrent_dropout": 0.3},
    "zoneout": {"zoneout": 0.1},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.5},
    "linear": {"schedule": "linear"},
    "constant": {"schedule": "constant", "warmup": 0.0},
    "clip value": {"clip_norm": None, "clip_value": 0.05},
    "momentum": {"momentum": 0.5},
    "beta2": {"beta2": 0.9},
    "decay": {"weight_decay": 0.0},
    "dropout": {"dropout": 0.5},
    "embedding": {"embedding_size": 12},
    "window": {"window": 7},
    "batch": {"batch_size": 3},
    "seed": {"seed": 9},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_option_changes_something_and_learns(text_file: str, options: dict[str, Any]) -> None:
    settings = {**SMALL, "steps": 25, "precision": "float32", **options}
    model = elman.train("language", text_file, **settings)
    loss = model.evaluate(model.held_out())["loss"]
    assert loss < 3.3  # 27 symbols, uniformly: 3.3
    if options.get("cell") != "lstm":
        plain = elman.train("language", text_file, **{**SMALL, "steps": 25, "precision": "float32"})
        assert loss != plain.evaluate(plain.held_out())["loss"]


def test_tied_weights_are_one(text_file: str) -> None:
    tied = elman.train("language", text_file, steps=1, **{**SMALL, "tie": True})
    plain = elman.train("language", text_file, steps=1, **SMALL)
    V = tied.tokenizer.vocab_size
    assert plain.parameters() - tied.parameters() == V * 32 - (32 * 8 + 8)


def test_held_out_is_the_tail_of_each_file(tmp_path: Path) -> None:
    paths = []
    for name in "ab":
        paths.append(str(tmp_path / name))
        Path(paths[-1]).write_text(name * 90 + name.upper() * 10)
    model = elman.train("language", paths, steps=0, **SMALL)
    assert [model.tokenizer.decode(ids) for ids in model.held_out().ids] == ["A" * 10, "B" * 10]
    quarter = elman.train("language", paths, steps=0, valid_fraction=0.25, **SMALL)
    assert [len(ids) for ids in quarter.held_out().ids] == [25, 25]
    given = elman.train("language", paths[:1], valid=paths[1], steps=0, **SMALL)
    assert [model.tokenizer.decode(ids) for ids in given.held_out().ids] == ["b" * 90 + "B" * 10]


def test_a_short_text(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("to be or not to be")
    with pytest.raises(elman.ElmanError, match=r"short.txt: 16 tokens to train on.*--window of at most 16"):
        elman.train("language", path, steps=1, **{**SMALL, "window": 64})
    model = elman.train("language", path, steps=2, **{**SMALL, "window": 16})
    assert len(model.generate("to", max_new_tokens=3)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden_size": 3}, "unknown option 'hiden_size': did you mean hidden_size"),
        ({"hidden_size": "big"}, "hidden_size"),
        ({"cell": "lstn"}, "unknown cell 'lstn': did you mean lstm"),
        ({"cell": "projected_lstm"}, "needs a proj_size"),
        ({"cell": ["lstm", "gru"], "num_layers": 3}, "cell must have 3 entries, one for each layer, got: 2"),
        ({"vocab_size": 9}, "vocab_size: has no effect here, it needs tokens word or bpe"),
        ({"minutes": math.inf}, "minutes: should be a finite number"),
        ({"cell": "indrnn", "weight_drop": 0.1}, "has no recurrent matrix"),
        ({"steps": "ten"}, "steps: should be a valid integer, not 'ten'"),
        ({"steps": 1.5}, "steps"),
        ({"minutes": 0}, "minutes: should be greater than 0"),
        ({"device": "gpu"}, "device: 'gpu' cannot be used"),
        ({"tokens": "bytes"}, "tokens: should be 'char', 'word' or 'bpe', not 'bytes'"),
        ({"connection": "residual", "num_layers": 2, "hidden_size": [4, 5]}, "residual"),
    ],
)
def test_wrong_options(text_file: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(elman.ElmanError, match=message):
        elman.train("language", text_file, **{**SMALL, "steps": 1, **options})


def test_what_is_left_open_is_settled() -> None:
    config = with_defaults(LanguageConfig(), 1_000_000)
    assert None not in (config.minutes, config.hidden_size, config.num_layers, config.dropout)
    assert with_defaults(LanguageConfig(cell=["lstm", "gru"]), 1_000_000).num_layers == 2
    given = LanguageConfig(minutes=3, hidden_size=[7], num_layers=1, dropout=0.0)
    assert with_defaults(given, 1_000_000) == given
    assert with_defaults(LanguageConfig(steps=10), 1_000_000).minutes is None


def test_the_config_is_whole(model: LanguageModel, tmp_path: Path) -> None:
    config = json.loads((saved(model, tmp_path) / "config.json").read_text())
    assert config["task"] == "language"
    assert config["config"]["hidden_size"] == [32]
    assert set(config["config"]) == set(LanguageConfig.model_fields)


def test_vectors(text_file: str, tmp_path: Path) -> None:
    (tmp_path / "v.vec").write_text("3 2\ncat 1 2\nThe 3 4\ndog -1 0.5\n")
    settings = {"tokens": "word", "vectors": str(tmp_path / "v.vec"), "window": 16, "steps": 0, "progress": False}
    model = elman.train("language", text_file, **settings)
    assert model.config.embedding_size == 2
    cat, dog = (model.network.embedding.weight[model.tokenizer.encode(f"a {w}")[1]] for w in ("cat", "dog"))
    ratio = cat / torch.tensor([1.0, 2.0])
    torch.testing.assert_close(dog, torch.tensor([-1.0, 0.5]) * ratio)
    assert model.about()["vectors"].startswith("v.vec covers 4 of ")  # cat, dog, and both forms of the
    with pytest.raises(elman.ElmanError, match="vectors: has no effect here, it needs tokens word"):
        elman.train("language", text_file, **settings | {"tokens": "char"})
    with pytest.raises(elman.ElmanError, match=r"none.vec: no such file"):
        elman.train("language", text_file, **settings | {"vectors": "none.vec"})
