"""Batches of examples of unequal length, with little padding and similar numbers of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

#: The number of batches whose examples are sorted by length together.
_POOL = 50


class Buckets:
    """Batches of examples whose padded size is bounded, drawn anew in each epoch.

    The examples are shuffled, sorted by length within pools of 50 batches, and cut where the longest length times the
    number of examples would exceed ``tokens``. An example longer than ``tokens`` is a batch by itself. The batches are
    then shuffled. Batch k depends only on k and the arguments, so that a resumed training continues with the same ones.

    Args:
        lengths (Sequence[int] | numpy.ndarray): The length of each example, (N,), or two lengths, (N, 2), the longer
            of which counts.
        tokens (int): The maximum number of tokens of a padded batch.
        seed (int): The seed of the order.
        rank (int): The index of this process. Default: 0.
        world (int): The number of processes; each takes one of ``world`` successive batches. Default: 1.
        rows (int, optional): The maximum number of examples of a batch. Default: unlimited.
        groups (Sequence[int] | numpy.ndarray, optional): The group of each example, (N,), such as its picture. Up to
            ``together`` examples of a group, drawn at random, are adjacent, so nearly always in one batch. Default: no
            groups.
        together (int): The maximum number of adjacent examples of a group. Default: 1.

    Example::

        >>> buckets = Buckets([3, 9, 4, 8], tokens=20, seed=0)
        >>> sorted(sorted(buckets.rows(k).tolist()) for k in range(2))
        [[0, 2], [1, 3]]
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        tokens: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        rows: int | None = None,
        groups: Sequence[int] | np.ndarray | None = None,
        together: int = 1,
    ) -> None:
        sizes = np.asarray(lengths)
        self.lengths = sizes.max(1) if sizes.ndim == 2 else sizes
        self._second = sizes.sum(1) if sizes.ndim == 2 else sizes
        self.tokens, self.seed, self.rank, self.world, self.max_rows = tokens, seed, rank, world, rows
        self.groups, self.together = None if groups is None else np.asarray(groups), together
        self._ends = [0]  # the steps at which the epochs so far end
        self._epoch, self._batches = -1, [np.zeros(0, dtype=np.int64)]

    def rows(self, k: int) -> np.ndarray:
        """Return the indices of the examples in batch k of this process."""
        while self._ends[-1] <= k:
            self._ends.append(self._ends[-1] + len(self._draw(len(self._ends) - 1)) // self.world)
        epoch = int(np.searchsorted(self._ends, k, side="right")) - 1
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._draw(epoch)
        return self._batches[(k - self._ends[epoch]) * self.world + self.rank]

    def _draw(self, epoch: int) -> list[np.ndarray]:
        """Return the batches of an epoch, of all processes."""
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.lengths))
        keys = np.stack((self._second, self.lengths))  # of the order within a pool, the last one first
        if self.groups is not None:
            order, keys = self._grouped(order, generator)
        pool = max(1, int(_POOL * min(self.tokens / max(1.0, self.lengths.mean()), self.max_rows or np.inf)))
        batches = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            part = part[np.lexsort(keys[:, part])]
            batches += split_into_batches(part, self.lengths, self.tokens, self.max_rows)
        batches = [batches[i] for i in generator.permutation(len(batches))]
        count = len(batches)
        while len(batches) % self.world:  # every process gets the same number
            batches.append(batches[len(batches) % count])
        return batches

    def _grouped(self, order: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return an order in which up to ``together`` examples of a group are adjacent, and the sorting keys."""
        assert self.groups is not None
        by_group = order[np.argsort(self.groups[order], kind="stable")]
        sorted_groups = self.groups[by_group]
        first = np.flatnonzero(np.diff(sorted_groups, prepend=sorted_groups[:1] - 1))
        position = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
        piece = np.cumsum(position % self.together == 0) - 1  # the number of each adjacent set of examples
        drawn = np.empty(len(order), dtype=np.int64)
        drawn[by_group] = generator.permutation(int(piece[-1]) + 1)[piece]
        longest = np.zeros(int(piece[-1]) + 1, dtype=np.int64)
        np.maximum.at(longest, drawn, self.lengths)
        return np.argsort(drawn, kind="stable"), np.stack((drawn, longest[drawn]))


class BucketBatches:
    """The batches of a training: batch k is ``collate(rows, k)`` for the rows that `Buckets` draws.

    Args:
        buckets (Buckets): Draws the examples.
        collate (Callable[[numpy.ndarray, int], Any]): Returns the batch of these examples; k is its second argument.
    """

    def __init__(self, buckets: Buckets, collate: Callable[[np.ndarray, int], Any]) -> None:
        self.buckets, self.collate = buckets, collate

    def batch(self, k: int) -> Any:
        """Return batch k."""
        return self.collate(self.buckets.rows(k), k)


def split_into_batches(
    order: np.ndarray, lengths: np.ndarray, tokens: int, rows: int | None = None
) -> list[np.ndarray]:
    """Split examples into batches without changing their order.

    Args:
        order (numpy.ndarray): The indices of the examples, in order.
        lengths (numpy.ndarray): The length of each example, (N,).
        tokens (int): The maximum number of tokens of a padded batch. A longer example is a batch by itself.
        rows (int, optional): The maximum number of examples of a batch. Default: unlimited.

    Returns:
        list[numpy.ndarray]: The indices in each batch.

    Example::

        >>> [batch.tolist() for batch in split_into_batches(np.arange(4), np.array([3, 4, 8, 9]), 20)]
        [[0, 1], [2, 3]]
    """
    batches, start, longest = [], 0, 0
    for end, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        if end > start and (longest * (end + 1 - start) > tokens or end - start == rows):
            batches.append(order[start:end])
            start, longest = end, length
    return [*batches, order[start:]] if len(order) else []
