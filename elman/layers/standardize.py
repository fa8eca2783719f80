"""Standardisation of numeric inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
    def fit(self, rows: Sequence[np.ndarray], features: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        """Compute mean and standard deviation of the training data, row by row; of constant channels it is 1.

        Rows are combined with the formula of Chan, Golub & LeVeque 1983, https://doi.org/10.2307/2683386

        Args:
            rows (Sequence[ndarray]): (T, C) each, NaN where a value is missing.
            features: computes (T, C) of a row; called twice for each. Default: None, rows are (T, C).
        """
        channels = len(self.mean)
        low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
        for x, there in self._values(rows, features):
            low = np.minimum(low, np.where(there, x, np.inf).min(0, initial=np.inf))
            high = np.maximum(high, np.where(there, x, -np.inf).max(0, initial=-np.inf))
        scale = np.where(low <= high, np.maximum(np.abs(low), np.abs(high)), 0.0)
        scale[scale == 0] = 1.0
        count, mean, squares = (np.zeros(channels) for _ in range(3))
        for x, there in self._values(rows, features):
            small, n = np.where(there, x / scale, 0.0), there.sum(0)  # no square overflows
            own = small.sum(0) / np.maximum(n, 1)
            change, count = own - mean, count + n
            share = n / np.maximum(count, 1)
            mean = mean + change * share
            squares += (np.where(there, small - own, 0.0) ** 2).sum(0) + change**2 * (count - n) * share
        deviation = np.sqrt(squares / np.maximum(count, 1)) * scale
        constant = ~(low < high) | (deviation == 0)
        self.mean.copy_(torch.from_numpy(np.where(constant & (count > 0), low, mean * scale)))
        self.deviation.copy_(torch.from_numpy(np.where(constant, 1.0, deviation)))

    @staticmethod
    def _values(
        rows: Sequence[np.ndarray], features: Callable[[np.ndarray], np.ndarray] | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the values of each row in float64, and where they are present."""
        for row in rows:
            x = np.asarray(row if features is None else features(row), dtype=np.float64)
            yield x, ~np.isnan(x)

    def forward(self, x: Tensor) -> Tensor:
        missing = x.isnan()
        y = ((x - self.mean) / self.deviation).clamp(-self.LIMIT, self.LIMIT).masked_fill(missing, 0.0).float()
        return torch.cat((y, (~missing).to(y.dtype)), -1) if self.mask else y
