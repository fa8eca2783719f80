"""Cut one long sequence of tokens into windows for truncated backpropagation through time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Window(NamedTuple):
    """A window of B streams.

    Attributes:
        ids (Tensor): Inputs (B, T), int64.
        targets (Tensor): The tokens to predict (B, T): the inputs one step later.
        fresh (bool): Whether the streams begin here, so that the state must be reset.
    """

    ids: Tensor
    targets: Tensor
    fresh: bool


class Windows:
    """Windows of T steps of a sequence that is cut into B parallel streams.

    Each epoch rotates the sequence by a random number of tokens and cuts it into B streams of equal length. Successive
    windows continue the streams, so that the state after one window is the initial state of the next. The first input
    of a stream is ``start``. Window k depends only on k and the arguments.

    Args:
        ids (numpy.ndarray): The tokens, (N,).
        streams (int): B, the number of streams of all processes; reduced if the sequence is too short.
        length (int): T, the number of steps of a window; the last one of an epoch may be shorter.
        start (int): The id before the first token of a stream.
        seed (int): The seed of the rotations.
        rank (int): The index of this process. Default: 0.
        world (int): The number of processes, each of which takes an equal share of the streams. Default: 1.

    Attributes:
        per_epoch (int): The number of windows of an epoch.
        tokens (int): N, the number of tokens.

    Example::

        >>> windows = Windows(np.arange(100), streams=4, length=10, start=0, seed=0)
        >>> window = windows.batch(0)
        >>> window.ids.shape, window.fresh, windows.per_epoch
        (torch.Size([4, 10]), True, 3)
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
        """Return window k of this process."""
        epoch, position = divmod(k, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._targets = epoch, self._cut_streams(epoch)
        begin = position * self.length
        ids = self._targets[:, max(0, begin - 1) : begin + self.length].astype(np.int64)
        if not begin:
            ids = np.concatenate((np.full_like(ids[:, :1], self._start), ids), 1)
        window = torch.from_numpy(ids)
        return Window(window[:, :-1], window[:, 1:], begin == 0)

    def _cut_streams(self, epoch: int) -> np.ndarray:
        """Return this process's streams of an epoch, (B, N / B)."""
        shift = int(np.random.default_rng([self._seed, epoch]).integers(len(self._ids)))
        rotated = np.roll(self._ids, -shift)[: self.streams * self.per_stream]
        return rotated.reshape(self.streams, -1)[self._rows]
