"""Rounding of weights: to int8, 255 equally spaced values for each row, or to bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor

#: The dtypes to which weights can be rounded.
ROUNDINGS = (torch.int8, torch.bfloat16)


def rounded(weight: Tensor, to: torch.dtype) -> Tensor:
    """Return weight (rows, N), each value rounded to the nearest that ``to`` has, in its own dtype."""
    if to == torch.int8:
        largest = weight.abs().amax(1, keepdim=True)
        scale = torch.where(largest > 0, largest / 127, 1.0)  # -127 to 127 times it
        return (weight / scale).round() * scale
    return weight.to(to).to(weight.dtype)
