"""Standardisation of numeric inputs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Standardise x (B, T, C) to mean 0 and standard deviation 1 in each channel of the training data.

    Computed in float64, as float32 has no digits left for x - mean where x is about 30,000,000; returned as float32.
    A missing value, NaN, becomes the mean. Values are clipped to 1,000,000 standard deviations.

    Args:
        channels (int): C.
        mask (bool): append one more channel for each: 1 where its value is present, 0 where it is missing.
            Default: False.
    """

    LIMIT = 1e6

    def __init__(self, channels: int, mask: bool = False) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.size, self.mask = channels * (2 if mask else 1), mask
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(channels, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, rows: Iterable[np.ndarray]) -> None:
        """Compute mean and standard deviation of rows (T, C), NaN where missing; of constant channels it is 1."""
        x = np.concatenate(list(rows)).astype(np.float64)
        there = ~np.isnan(x)
        count = np.maximum(there.sum(0), 1)
        low = np.where(there, x, np.inf).min(0)
        high = np.where(there, x, -np.inf).max(0)
        scale = np.where(there, np.abs(x), 0.0).max(0)
        scale[scale == 0] = 1.0
        small = np.where(there, x / scale, 0.0)  # no square overflows
        mean = small.sum(0) / count
        deviation = np.sqrt((np.where(there, small - mean, 0.0) ** 2).sum(0) / count) * scale
        constant = ~(low < high) | (deviation == 0)
        self.mean.copy_(torch.from_numpy(np.where(constant & there.any(0), low, mean * scale)))
        self.deviation.copy_(torch.from_numpy(np.where(constant, 1.0, deviation)))

    def forward(self, x: Tensor) -> Tensor:
        missing = x.isnan()
        y = ((x - self.mean) / self.deviation).clamp(-self.LIMIT, self.LIMIT).masked_fill(missing, 0.0).float()
        return torch.cat((y, (~missing).to(y.dtype)), -1) if self.mask else y
