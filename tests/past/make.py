"""Writes the checkpoint of this release: python -m tests.past.make. Never run again for a past release."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import elman
from elman import __version__
from elman.tasks.language.task import Texts
from tests.conftest import some_text

HERE = Path(__file__).parent


def answers(model: object) -> dict[str, object]:
    """What the model must always say."""
    text = model.task.encode(model.learnt, Texts(["the cat sees a dog.\nshe likes the old man.\n"], ["text"]))  # type: ignore[attr-defined]
    return {
        "greedy": model.generate("the ", greedy=True, max_new_tokens=60),  # type: ignore[attr-defined]
        "loss": model.evaluate(text)["loss"],  # type: ignore[attr-defined]
    }


def main() -> None:
    target = HERE / __version__
    if target.exists():
        raise SystemExit(f"{target} is there already; a release's checkpoint never changes")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(some_text())
        model = elman.train(
            "language", text, steps=200, cell=["lstm", "gru"], num_layers=2, hidden_size=16, embedding_size=8,
            window=16, batch_size=8, precision="float32", device="cpu",
        )  # fmt: skip
        model.sources.data = ["text.txt"]
        model.save(target)
    (target / "answers.json").write_text(json.dumps(answers(elman.load(target)), indent=2) + "\n")


if __name__ == "__main__":
    main()
