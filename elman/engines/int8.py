"""The grid that int8 weights lie on."""

from __future__ import annotations

import torch
from torch import Tensor


def on_grid(weight: Tensor) -> bool:
    """Whether all of weight (rows, N) lies on the grid, as far as float32 can tell."""
    steps = weight / int8_scale(weight)[:, None]
    return bool((steps - steps.round()).abs().max() < 1e-3)


def int8_scale(weight: Tensor) -> Tensor:
    """(rows,): the step between the 255 values, from -127 to 127 steps, that each row of weight (rows, N) may take."""
    largest = weight.abs().amax(1)
    return torch.where(largest > 0, largest / 127, 1.0)
