"""Every task: a run that stopped and goes on ends as one that never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman.data import toy
from elman.training.initial import start_from
from tests.test_classify import reviews
from tests.test_tagging import sentences
from tests.test_training import same
from tests.test_translate import some_pairs

VECTORS = "the 1 2 3 4\nfilm 0 1 0 -1\nit -1 0 1 2\nO 1 0 1 0\n"


def write_pairs(path: Path) -> None:
    path.write_text("source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in some_pairs(300)))


def write_reviews(path: Path) -> None:
    reviews(path, 100)


def write_series(path: Path) -> None:
    draw = np.random.default_rng(0)
    lines = ["id,label,x,y"]
    for k in range(60):
        for t in range(draw.integers(3, 9)):
            lines.append(f"{k},{'up' if k % 2 else 'down'},{t * (k % 2 - 0.5) + draw.normal():.3f},{draw.normal():.3f}")
    path.write_text("\n".join(lines) + "\n")


def write_sentences(path: Path) -> None:
    sentences(path, 100, 0)


def write_lines(path: Path) -> None:
    path.write_text("".join(f"the film of {a} , it is {b}\n" for a, b in some_pairs(200)))


def write_punctuated(path: Path) -> None:
    path.write_text("".join(f"The film of {a}, it is {b}. Is it the film?\n" for a, b in some_pairs(200)))


def write_stories(path: Path) -> None:
    toy.write(path, toy.stories("one_fact", 60))


def write_pictures(path: Path) -> None:
    """Pictures of noise, each with captions and questions."""
    image = pytest.importorskip("PIL.Image")
    draw = np.random.default_rng(0)
    lines = ["image\tcaption\tquestion\tanswer\tkind"]
    for k in range(20):
        image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path.parent / f"{k}.png")
        for word in ("dog", "ball"):
            lines.append(f"{k}.png\ta {word} of number {k}\tis there a {word}?\t{('yes', 'no')[k % 2]}\t{word}")
    path.write_text("\n".join(lines))


PICTURES = {"encoder": "small", "image_size": 16, "picture_size": 16, "batch_size": 60, "average": 0.9}

RUNS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "translate": (
        "translate",
        write_pairs,
        {"source_tokens": "char", "target_tokens": "char", "batch_size": 600, "average": 0.9},
    ),
    "translate by a transformer": (
        "translate", write_pairs, {"source_tokens": "char", "target_tokens": "char", "model": "transformer"},
    ),
    "language in bf16": ("language", write_lines, {"window": 8, "precision": "bf16"}),
    "answer": ("answer", write_stories, {}),
    "classify texts": ("classify", write_reviews, {"vectors": True, "embedding_size": 4}),
    "classify texts, hierarchical": ("classify", write_reviews, {"hierarchical": True, "pooling": "attention"}),
    "classify series": ("classify", write_series, {"series": "id"}),
    "tag": ("tag", write_sentences, {"crf": True, "character_size": 8, "vectors": True, "embedding_size": 4}),
    "punctuate": (
        "punctuate", write_punctuated, {"character_size": 8, "vectors": True, "embedding_size": 4, "window": 16},
    ),
    "caption": ("caption", write_pictures, PICTURES),
    "vqa": ("vqa", write_pictures, PICTURES | {"word_dropout": 0.2}),
    "fill": ("fill", write_lines, {"vectors": True, "embedding_size": 4}),
}  # fmt: skip


TABLES = ("translate", "caption", "vqa")


@pytest.mark.parametrize("name", RUNS)
def test_going_on(name: str, tmp_path: Path) -> None:
    task, write, options = RUNS[name]
    data = tmp_path / ("data.csv" if task == "classify" else "data.tsv" if task in TABLES else "data.txt")
    write(data)
    settings = {"embedding_size": 16, "hidden_size": 16, "num_layers": 1} | options
    if write is write_series:
        del settings["embedding_size"]
    settings |= {"schedule": "constant", "validate_every": 3, "progress": False}
    if options.get("vectors"):
        (tmp_path / "v.txt").write_text(VECTORS)
        settings["vectors"] = str(tmp_path / "v.txt")
    model = elman.train(task, data, out=tmp_path / "whole", steps=6, **settings)
    elman.train(task, data, out=tmp_path / "parts", steps=3, **settings)
    elman.train(task, out=tmp_path / "parts", steps=6, resume=True, **settings)
    same(tmp_path / "whole", tmp_path / "parts")
    whole, parts = (json.loads((tmp_path / run / "config.json").read_text()) for run in ("whole", "parts"))
    assert whole == parts
    started = start_from(model, elman.load(tmp_path / "parts"), "parts")  # every weight of its own run fits a model
    assert (started.taken, started.afresh) == (started.weights, [])
    if options.get("vectors"):
        assert elman.load(tmp_path / "parts").about()["vectors"].startswith("v.txt covers ")
