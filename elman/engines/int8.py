"""The int8 grid: 255 equally spaced values for each row of a weight."""

from __future__ import annotations

import torch
from torch import Tensor


def on_grid(weight: Tensor) -> bool:
    """Return whether all values of weight (rows, N) are on the grid, up to rounding errors of float32."""
    multiples = weight / int8_scale(weight)[:, None]
    return bool((multiples - multiples.round()).abs().max() < 1e-3)


def int8_scale(weight: Tensor) -> Tensor:
    """Return the distance between values of the grid, from -127 to 127 times it, for each row of weight (rows, N)."""
    largest = weight.abs().amax(1)
    return torch.where(largest > 0, largest / 127, 1.0)
