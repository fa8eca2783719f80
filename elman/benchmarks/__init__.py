"""Speed, side by side with the peers in one run: ``elman bench``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from elman.benchmarks.pairs import Pair, Row, side_by_side

#: Name to where its function is, and what it shows. The one list of benchmarks.
BENCHMARKS = {
    "layers": "Layers over whole sequences and single steps, beside torch.nn and the eager engine.",
    "short": "Short calls at batch 1: layers over few steps, cells and single steps, beside torch.nn.",
    "generate": "A language model that writes, beside a loop over torch.nn.LSTM.",
    "train": "A training step of a language model, beside plain torch.",
}


def rows(name: str, rounds: int) -> Iterator[Row]:
    """The rows of a benchmark, one as soon as it is measured."""
    module = importlib.import_module(f"elman.benchmarks.{name}")
    return getattr(module, name)(rounds)


__all__ = ["BENCHMARKS", "Pair", "Row", "rows", "side_by_side"]
