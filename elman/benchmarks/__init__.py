"""Speed benchmarks against torch.nn and other peers: ``elman bench``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from elman.benchmarks.pairs import Pair, Row, side_by_side

#: Name of each benchmark to its description. The function NAME is in the module NAME of this package.
BENCHMARKS = {
    "layers": "Layers over whole sequences and single steps, compared with torch.nn and the eager engine.",
    "short": "Short calls at batch size 1: layers over few steps, cells and single steps, compared with torch.nn.",
    "generate": "Text generation by a language model, compared with a loop over torch.nn.LSTM.",
    "train": "A training step of a language model, compared with plain torch.",
}


def rows(name: str, rounds: int) -> Iterator[Row]:
    """Run a benchmark and yield each row as soon as it is measured.

    Args:
        name: a key of `BENCHMARKS`.
        rounds: number of measurements per row.

    Yields:
        The rows of the table.

    Example:
        >>> for row in rows("generate", rounds=3):  # doctest: +SKIP
        ...     print(row.work, row.pair.ratio)
    """
    module = importlib.import_module(f"elman.benchmarks.{name}")
    return getattr(module, name)(rounds)


__all__ = ["BENCHMARKS", "Pair", "Row", "rows", "side_by_side"]
