"""Every option of every task has an effect, or is refused by name."""

from __future__ import annotations

import functools
import hashlib
import math
import random
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman
from elman import tasks
from elman.layers.convolutional import PictureEncoder
from elman.media import encoders
from elman.media.encoder import Encoder
from elman.training.config import TrainConfig
from elman.training.events import Event, Stepped, Validated
from tests.test_series import wide

FAST: dict[str, Any] = {"steps": 2, "validate_every": 2, "progress": False, "device": "cpu", "precision": "float32"}
#: Options of the duration and of the machine, which have tests of their own.
CONTROL = {"steps", "minutes", "device", "patience", "tensorboard", "validate_every"}
#: Options that have an effect on data with errors, or on what a trained model writes; they have tests of their own.
SPECIAL = {"skip_bad", "skip_broken", "truncate", "length_ratio", "max_length"}
#: Values beside the default, where the type does not say enough.
OTHER: dict[str, Any] = {
    "cell": "rnn_tanh",
    "attention": "dot",
    "model": "transformer",
    "pooling": "mean",
    "tokens": "bpe",
    "periods": [1, 2],
    "source_tokens": "word",
    "target_tokens": "word",
    "hidden_size": 12,
    "num_layers": 5,
    "dropout": 0.25,
    "clip_norm": 0.01,
    "clip_value": 1e-4,
    "heads": 2,
    "label_separator": "+",
    "vocab_size": 6,
    "length_ratio": 5.0,
    "max_tokens": 6,
    "text": "text2",
    "init": "nowhere",
    "label": "label2",
    "group": "group",
    "words": "words2",
    "tags": "tags2",
    "tag": 2,
    "source": "s2",
    "target": "t2",
    "story": "story2",
    "question": "question2",
    "answer": "answer2",
    "kind": "kind2",
    "file": "file2",
    "open_bias": 1.0,
    "warmup": 0.9,
    "optimizer": "sgd",
    "schedule": "constant",
    "momentum": 0.1,
    "beta2": 0.5,
    "seed": 5,
    "weight_decay": 30.0,
    "average": 0.9,
    "precision": "bf16",
    "batch_size": 5,
    "learning_rate": 0.3,
    "proj_size": 4,
    "connection": "residual",
    "window": 5,
    "embedding_size": 12,
    "missing": "mask",
    "valid_fraction": 0.4,
    "extra_words": 1,
    "rare": 1000,
    "series": "id",
    "time": "t",
    "channels": "x",
    "audio": "audio2",
    "speaker": "speaker2",
    "start": "start2",
    "end": "end2",
    "rate": 6000,
    "max_seconds": 0.05,
    "frames_per_step": 2,
    "guide": 0.5,
    "feed_dropout": 0.25,
    "decimal": ",",
    "bands": 5,
    "decibels": 3.0,
    "channel": 2,
    "wide": False,
    "image": "image2",
    "caption": "caption2",
    "encoder": "small",
    "image_size": 32,
    "picture_size": 12,
    "views": 3,
    "mirror": False,
    "crop": 0.4,
    "max_length": 1,
    "per_picture": 1,
}
#: Options whose value is a file or folder of the test.
PLACES = {"vectors": "v.txt", "target_vectors": "v.txt", "images": "others"}
#: What else must be set for an option to be seen.
WITH: dict[str, dict[str, Any]] = {
    "proj_size": {"cell": "projected_lstm"},
    "connection": {"num_layers": 2},
    "variational": {"dropout": 0.5},
    "extra_words": {"vectors": True},
    "rare": {"vectors": True},
    "vocab_size": {"tokens": "word"},
    "truncate": {"max_tokens": 6},
    "beta2": {"optimizer": "adamw"},
    "colours": {"encoder": "small"},
}


def table(path: Path, columns: dict[str, Callable[[int], str]], rows: int = 40) -> str:
    lines = ["\t".join(columns), *("\t".join(make(k) for make in columns.values()) for k in range(rows))]
    path.write_text("\n".join(lines))
    return str(path)


def words(k: int, seed: int = 0) -> str:
    draw = random.Random(100 * seed + k)
    return " ".join(draw.choice(["good", "bad", "a", "film", "plot", "we", "saw", "dull"]) for _ in range(3 + k % 5))


def sound(path: Path, pitch: float) -> None:
    """A tenth of a second at 8,000 samples a second, with the third harmonic in a second channel."""
    samples = [int(9000 * math.sin(2 * math.pi * pitch * k * h / 8000)) for k in range(800) for h in (1, 3)]
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8000, 800, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


class RandomEncoder(PictureEncoder):
    """A frozen encoder that is quick: one convolution."""

    def __init__(self) -> None:
        super().__init__(8, 6, 6)
        self.convolution = nn.Conv2d(3, 6, 8, 8)

    def features(self, x: Tensor) -> Tensor:
        return self.convolution(x)


def random_encoder() -> Encoder:
    """An encoder whose pretrained weights are random."""
    draw = torch.Generator().manual_seed(0)
    weights = {
        "convolution.weight": torch.randn(6, 3, 8, 8, generator=draw) / 14,
        "convolution.bias": torch.zeros(6),
    }
    return Encoder("random", 8, 16, (127.0,) * 3, (64.0,) * 3, RandomEncoder, lambda: weights)


def pictures(folder: Path) -> None:
    """Small pictures of noise, and others with the same names in a folder ``others``."""
    image = pytest.importorskip("PIL.Image")
    draw = np.random.default_rng(0)
    for place in (folder, folder / "others"):
        place.mkdir(exist_ok=True)
        for k in range(12):
            image.fromarray(draw.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(place / f"{k}.png")


def of(*parts: str) -> Callable[[int], str]:
    return lambda k: parts[k % len(parts)]


def data_of(name: str, folder: Path) -> str:
    """Small data for a setting; tables have two columns of each kind."""
    if name == "classify":
        columns = {"text": words, "text2": lambda k: words(k, 1), "label": of("u", "v+u", "v"), "label2": of("x", "y")}
        return table(folder / "c.tsv", columns | {"group": lambda k: f"g{k % 9}"})
    if name == "series":
        wide(folder / "s.csv", 40)
        return str(folder / "s.csv")
    if name == "sounds":
        for label, pitch in (("high", 900), ("low", 200)):
            (folder / "sounds" / label).mkdir(parents=True)
            for k in range(12):
                sound(folder / "sounds" / label / f"{k}.wav", pitch + 10 * k)
        return str(folder / "sounds")
    if name == "spoken":
        for k in range(12):
            sound(folder / f"{k}.wav", 200 + 50 * k)
        columns = {
            "audio": lambda k: f"{k % 12}.wav",
            "audio2": lambda k: f"{(k + 5) % 12}.wav",
            "text": lambda k: words(k).capitalize(),
            "text2": lambda k: words(k, 1),
            "speaker2": of("Ann", "Bob"),
            "start2": lambda k: f"{k % 2 / 50}",
            "end2": lambda k: f"{0.06 + k % 3 / 50}",
        }
        return table(folder / "sp.tsv", columns, 24)
    if name == "pictures":
        pixels = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3)).astype(np.uint8)
        for k, one in enumerate(pixels):
            (folder / "pictures" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
            picture = pytest.importorskip("PIL.Image").fromarray(one)
            picture.save(folder / "pictures" / "ab"[k % 2] / f"{k}.png")
        return str(folder / "pictures")
    if name == "translate":
        columns = {
            "source": words,
            "target": lambda k: words(k)[::-1],
            "s2": lambda k: words(k, 1),
            "t2": lambda k: words(k, 2),
        }
        return table(folder / "p.tsv", columns)
    if name == "answer":
        told, ask = lambda k: f"Mary {words(k)}. Bob {words(k, 1)}.", of("Where?", "Who?")
        columns = {"story": told, "question": ask, "answer": of("here", "Bob"), "kind": of("a", "b"), "kind2": of("c")}
        columns |= {
            "story2": lambda k: f"Ann {words(k, 2)}.",
            "question2": of("When?"),
            "answer2": of("now", "then", "soon"),
        }
        return table(folder / "a.tsv", columns)
    if name == "captioned":
        pictures(folder)
        columns = {
            "image": lambda k: f"{k % 12}.png",
            "image2": lambda k: f"{(k + 5) % 12}.png",
            "caption": lambda k: f"A {words(k)}.",
            "caption2": lambda k: words(k, 1),
            "question": lambda k: ("what is", "how many", "where is")[k % 3] + " " + words(k).split()[0],
            "question2": lambda k: words(k, 2),
            "answer": of("red", "a blue one", "two", "no"),
            "answer2": of("left side", "green", "the dog"),
            "kind": of("a", "b"),
            "kind2": of("c", "d", "e"),
        }
        return table(folder / "p.tsv", columns, 24)
    if name == "tag":
        tags = lambda k: " ".join("NV"[len(w) % 2] for w in words(k).split())  # noqa: E731
        more = {
            "words2": lambda k: words(k, 1),
            "tags2": lambda k: " ".join("ABC"[len(w) % 3] for w in words(k).split()),
        }
        return table(folder / "t.tsv", {"words": words, "tags": tags, **more})
    if name == "punctuated":
        texts = [f"{words(k).capitalize()}, {words(k, 1).upper()}{'.?'[k % 2]} \u4f60\u597d" for k in range(60)]
        (folder / "p.txt").write_text("\n".join(texts))
        return str(folder / "p.txt")
    if name == "columns":
        lines = [
            "\n".join(f"{w}\t{'ABC'[len(w) % 3]}\t{'NV'[len(w) % 2]}" for w in words(k).split()) for k in range(40)
        ]
        (folder / "t.conll").write_text("\n\n".join(lines))
        return str(folder / "t.conll")
    (folder / "f.txt").write_text("\n".join(words(k) for k in range(120)))
    return str(folder / "f.txt")


#: Options of all settings with pictures.
PICTURES: dict[str, Any] = {
    "encoder": "small", "input_feeding": False, "image_size": 16, "hidden_size": 8, "embedding_size": 8,
    "picture_size": 8, "batch_size": 60,
}  # fmt: skip

#: By name: the task, the data, and options.
SETTINGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "language": ("language", "text", {"hidden_size": 8, "embedding_size": 8, "window": 8, "dropout": 0.1}),
    "language by words": ("language", "text", {"hidden_size": 8, "window": 8, "tokens": "word"}),
    "language by a transformer": ("language", "text", {"hidden_size": 8, "window": 8, "model": "transformer"}),
    "translate": ("translate", "translate", {"hidden_size": 8, "embedding_size": 8}),
    "translate by a transformer": (
        "translate",
        "translate",
        {"hidden_size": 8, "embedding_size": 8, "model": "transformer"},
    ),
    "answer": ("answer", "answer", {"hidden_size": 8, "embedding_size": 8}),
    "answer by a transformer": ("answer", "answer", {"hidden_size": 8, "embedding_size": 8, "model": "transformer"}),
    "classify texts": ("classify", "classify", {"hidden_size": 8}),
    "classify series": ("classify", "series", {"hidden_size": 8}),
    "classify sounds": ("classify", "sounds", {"hidden_size": 8}),
    "classify pictures": ("classify", "pictures", {"hidden_size": 8, "encoder": "random"}),
    "tag": ("tag", "tag", {"hidden_size": 8, "character_size": 4}),
    "tag columns": ("tag", "columns", {"hidden_size": 8, "character_size": 4}),
    "punctuate": ("punctuate", "punctuated", {"hidden_size": 8, "character_size": 4, "window": 8}),
    "fill": ("fill", "text", {"hidden_size": 8}),
    "speak": ("speak", "spoken", {"hidden_size": 8, "embedding_size": 8, "num_layers": 1, "bands": 20}),
    "caption": ("caption", "captioned", PICTURES),
    "caption by a frozen encoder": ("caption", "captioned", PICTURES | {"encoder": "random"}),
    "vqa": ("vqa", "captioned", PICTURES),
}


def other(kind: type[TrainConfig], name: str) -> Any:
    default = kind.model_fields[name].default
    return OTHER[name] if name in OTHER else (not default if isinstance(default, bool) else 0.5)


class Trained:
    """All that a training does: batches, steps, weights, metrics of validations; and, where asked, metrics after it."""

    def __init__(self, task: str, data: str, options: dict[str, Any]) -> None:
        self.seen: list[Any] = []
        self.model = elman.train(task, data, listeners=[self._listen], **options)
        for key, value in self.model.network.state_dict().items():
            self.seen.append((key, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()))
        self.seen += [self.model.sources.units, str(self.model.network)]

    def _listen(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self.seen.append((event.step, event.loss, event.gradient_norm, event.learning_rate))
        elif isinstance(event, Validated):
            self.seen.append(sorted(event.metrics.items()))

    @functools.cached_property
    def metrics(self) -> str:
        limit = None if self.model.name in ("answer", "vqa") else 200  # kinds are in a whole one
        metrics = self.model.evaluate(self.model.held_out(), limit)
        return repr({key: value for key, value in metrics.items() if "second" not in key})

    def differs(self, other: Trained) -> bool:
        return repr(self.seen) != repr(other.seen) or self.metrics != other.metrics


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_option_has_an_effect_or_is_refused(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "ENCODERS", {**encoders.ENCODERS, "random": random_encoder()})
    if setting in ("classify sounds", "speak"):
        pytest.importorskip("soundfile")
    monkeypatch.setattr("elman.media.features.cache_folder", lambda name: tmp_path / "cache" / name)
    task, source, base = SETTINGS[setting]
    data, kind = data_of(source, tmp_path), tasks.get(task).Config
    (tmp_path / "v.txt").write_text("good 1 2\nbad 2 1\nfilm 0 1\ndoog 1 1\nmlif 2 2\nhere 1 1\nBob 2 1\n")
    (tmp_path / "bad.txt").write_text("")

    @functools.cache
    def of_base(extra: tuple) -> Trained:
        return Trained(task, data, FAST | base | dict(extra))

    shared = set(TrainConfig.model_fields) if setting != "language" else set()
    effective, refused = [], []
    for name in sorted(set(kind.model_fields) - CONTROL - shared):
        extra = {k: str(tmp_path / "v.txt") if k == "vectors" else v for k, v in WITH.get(name, {}).items()}
        extra = {k: v for k, v in extra.items() if k in kind.model_fields}
        if {"vectors", "target_vectors"} & {name, *extra}:
            extra = {"embedding_size": 2, **({"heads": 1} if "heads" in kind.model_fields else {}), **extra}
            extra |= {"tokens": "word"} if task == "language" else {}
        value = str(tmp_path / PLACES[name]) if name in PLACES else other(kind, name)
        value = "random" if name == "encoder" and base.get("encoder") == "small" else value
        value = {"answer": 16, "vqa": 2}.get(task, value) if name == "max_tokens" else value
        value = "recurrent" if name == "model" and base.get("model") == "transformer" else value
        extra.pop(name, None)
        try:
            with_it = Trained(task, data, FAST | base | extra | {name: value})
            without = of_base(tuple(extra.items()))
        except elman.ElmanError as error:
            refused.append((name, value, str(error)))
            continue
        assert with_it.differs(without) or name in SPECIAL, f"{setting}: {name} = {value!r} does nothing"
        effective.append(name)
    assert len(effective) >= 4
    for name, value, message in refused:
        named = (name, repr(value), "has no column", *base, *WITH.get(name, ()))
        assert any(key in message.replace("-", "_") for key in named), message
