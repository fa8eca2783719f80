"""Rows of unequal length as one padded tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pad(rows: Sequence[np.ndarray], fill: int = 0) -> tuple[Tensor, Tensor]:
    """Return rows (T,) or (T, C) as a batch (B, T, ...) of their type, and their lengths (B,).

    Args:
        rows (Sequence[np.ndarray]): one row or more.
        fill (int): the value beyond each row's length. Default: 0.

    Example::

        >>> pad([np.array([1, 2]), np.array([3])])
        (tensor([[1, 2],
                [3, 0]]), tensor([2, 1]))
    """
    lengths = np.array([len(row) for row in rows])
    x = np.full((len(rows), int(lengths.max()), *rows[0].shape[1:]), fill, dtype=rows[0].dtype)
    for to, row in zip(x, rows, strict=True):
        to[: len(row)] = row
    return torch.from_numpy(x), torch.from_numpy(lengths)
