"""Which inputs a score depends on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_times_input(x: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the contribution of each step to a score: the gradient times the input, summed over features.

    Args:
        x (Tensor): (1, T, D).
        score: maps x to a tensor of one value.

    Returns:
        Tensor: (T,); positive where a step increases the score.

    Source: Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(score(x), x)
    return (gradient * x.detach())[0].sum(-1)
