"""Examples of unequal length as batches with little padding and much the same number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

#: So many batches' worth of examples are sorted by length at a time.
_POOL = 50


class Buckets:
    """The batches of each epoch, drawn anew: lists of examples whose padded size is at most so many tokens.

    Batch k is a function of k alone. Examples are shuffled, sorted by length within pools of 50 batches, cut where
    the longest times their number would exceed ``tokens`` (an example longer than that is a batch by itself), and
    the batches shuffled.

    Arguments:
        lengths: (N,) or (N, 2): of each example, the longer one counts.
        tokens: of a padded batch, at most.
        seed: of the order. rank, world: this process takes one of every world batches.
        rows: examples of a batch, at most.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        tokens: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        rows: int | None = None,
    ) -> None:
        sizes = np.asarray(lengths)
        self.lengths = sizes.max(1) if sizes.ndim == 2 else sizes
        self._second = sizes.sum(1) if sizes.ndim == 2 else sizes
        self.tokens, self.seed, self.rank, self.world, self.max_rows = tokens, seed, rank, world, rows
        self._ends = [0]  # of the epochs so far, in steps
        self._epoch, self._batches = -1, [np.zeros(0, dtype=np.int64)]

    def rows(self, k: int) -> np.ndarray:
        """The examples of this process's batch k."""
        while self._ends[-1] <= k:
            self._ends.append(self._ends[-1] + len(self._draw(len(self._ends) - 1)) // self.world)
        epoch = int(np.searchsorted(self._ends, k, side="right")) - 1
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._draw(epoch)
        return self._batches[(k - self._ends[epoch]) * self.world + self.rank]

    def _draw(self, epoch: int) -> list[np.ndarray]:
        draw = np.random.default_rng([self.seed, epoch])
        order = draw.permutation(len(self.lengths))
        pool = max(1, int(_POOL * min(self.tokens / max(1.0, self.lengths.mean()), self.max_rows or np.inf)))
        batches = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            part = part[np.lexsort((self._second[part], self.lengths[part]))]
            batches += split_into_batches(part, self.lengths, self.tokens, self.max_rows)
        batches = [batches[i] for i in draw.permutation(len(batches))]
        count = len(batches)
        while len(batches) % self.world:  # every process has as many
            batches.append(batches[len(batches) % count])
        return batches


class BucketBatches:
    """A training's batches: batch k is what ``collate(rows, k)`` makes of the examples that the buckets give."""

    def __init__(self, buckets: Buckets, collate: Callable[[np.ndarray, int], Any]) -> None:
        self.buckets, self.collate = buckets, collate

    def batch(self, k: int) -> Any:
        return self.collate(self.buckets.rows(k), k)


def split_into_batches(
    order: np.ndarray, lengths: np.ndarray, tokens: int, rows: int | None = None
) -> list[np.ndarray]:
    """Examples in the given order, cut into batches: the longest of each times their number is at most ``tokens``.

    ``rows``: of a batch, at most.
    """
    batches, start, longest = [], 0, 0
    for end, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        if end > start and (longest * (end + 1 - start) > tokens or end - start == rows):
            batches.append(order[start:end])
            start, longest = end, length
    return [*batches, order[start:]] if len(order) else []
