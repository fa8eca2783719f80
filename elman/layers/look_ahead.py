"""A few future steps for recurrent networks that read forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class LookAhead(nn.Module):
    """Mix each step with the next ones, with a weight for each unit.

    ::

        r_t = sum_j w_j * y_{t+j},  j = 0 .. steps        w_0 starts at 1, the others at 0

    The row convolution of Amodei et al. 2016, https://arxiv.org/abs/1512.02595.

    Args:
        size (int): H, the number of units.
        steps (int): how many future steps are read.

    Shapes:
        - y: (B, T, H), 0 beyond each row's length.
        - r: (B, T, H). The steps of y after the last one count as 0.

    Example::

        >>> LookAhead(8, 2)(torch.randn(4, 10, 8)).shape
        torch.Size([4, 10, 8])
    """

    def __init__(self, size: int, steps: int) -> None:
        super().__init__()
        if steps < 0:
            raise ValueError(f"steps must be at least 0, got: {steps}")
        self.steps = steps
        self.weight = nn.Parameter(torch.zeros(steps + 1, size))
        nn.init.ones_(self.weight[0])

    def forward(self, y: Tensor) -> Tensor:
        T = y.shape[1]
        y = pad(y, (0, 0, 0, self.steps))
        mixed = y[:, :T] * self.weight[0]
        for j in range(1, self.steps + 1):
            mixed = mixed + y[:, j : j + T] * self.weight[j]
        return mixed
