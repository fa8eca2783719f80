"""One long sequence of tokens as windows for truncated backpropagation through time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Window(NamedTuple):
    """ids and targets (B, T): targets are the ids one step later. fresh: a new stream begins here."""

    ids: Tensor
    targets: Tensor
    fresh: bool


class Windows:
    """B streams side by side, cut into windows of T steps; window k is a function of k alone.

    Each epoch turns the sequence round by a random number of tokens, cuts it into B streams of equal
    length, and reads all of them from their beginning, so that the state carried from window to
    window is that of the text before. A stream begins with the id ``start``.

    Arguments:
        ids: (N,) the tokens.
        streams: B, in all processes together; fewer if the sequence is too short for B windows.
        length: T.
        start: the id that a stream's first token follows.
        seed: of the turns.
        rank, world: this process takes the rank-th of world equal shares of the streams.
    """

    def __init__(
        self, ids: np.ndarray, streams: int, length: int, start: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.streams = max(world, min(streams, len(ids) // length) // world * world)
        self.per_stream = len(ids) // self.streams
        self.length = min(length, self.per_stream)
        self.per_epoch = math.ceil(self.per_stream / self.length)
        self.tokens = len(ids)
        self._ids, self._start, self._seed = ids, start, seed
        share = self.streams // world
        self._rows = slice(rank * share, (rank + 1) * share)
        self._epoch, self._targets = -1, ids[:0]

    def batch(self, k: int) -> Window:
        epoch, position = divmod(k, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._targets = epoch, self._cut(epoch)
        begin = position * self.length
        read = self._targets[:, max(0, begin - 1) : begin + self.length].astype(np.int64)
        if not begin:
            read = np.concatenate((np.full_like(read[:, :1], self._start), read), 1)
        window = torch.from_numpy(read)
        return Window(window[:, :-1], window[:, 1:], begin == 0)

    def _cut(self, epoch: int) -> np.ndarray:
        turn = int(np.random.default_rng([self._seed, epoch]).integers(len(self._ids)))
        turned = np.roll(self._ids, -turn)[: self.streams * self.per_stream]
        return turned.reshape(self.streams, -1)[self._rows]
