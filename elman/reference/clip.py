"""Gradient clipping, against exploding gradients.

Backpropagation through T steps multiplies the gradient T times by R^T. If R has a singular value above
1 the gradient can grow exponentially, and one update with it can ruin the weights.

::

    by value:  g -> min(max(g, -limit), limit)                each element by itself
    by norm:   g -> g * min(1, limit / (|g| + 1e-6))          |g| over all arrays together

Clipping by value changes the direction of the update; clipping by norm keeps it. The 1e-6, which avoids
a division by zero, is that of torch.

Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks",
https://arxiv.org/abs/1211.5063
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def clip_by_value(gradients: Iterable[np.ndarray], limit: float) -> list[np.ndarray]:
    """Clip each element of each array to [-limit, limit].

    Args:
        gradients: arrays of any shapes. They are not changed.
        limit: largest absolute value.

    Returns:
        New arrays of the same shapes.

    Example:
        >>> clip_by_value([np.array([0.5, -3.0])], 1.0)
        [array([ 0.5, -1. ])]
    """
    return [np.clip(g, -limit, limit) for g in gradients]


def clip_by_norm(gradients: Iterable[np.ndarray], limit: float) -> tuple[list[np.ndarray], float]:
    """Scale all arrays by one factor so that their common norm is at most ``limit``.

    Args:
        gradients: arrays of any shapes. They are not changed.
        limit: largest norm, the square root of the sum of all squares.

    Returns:
        New arrays of the same shapes, and the norm before clipping.

    Example:
        >>> clipped, norm = clip_by_norm([np.array([3.0]), np.array([4.0])], 1.0)
        >>> norm, [g.round(4).tolist() for g in clipped]
        (5.0, [[0.6], [0.8]])
    """
    gradients = list(gradients)
    # |g| = sqrt(sum over all arrays of the sum of their squares)
    norm = float(np.sqrt(sum(np.sum(g**2) for g in gradients)))
    # np.minimum, not min(): a norm of NaN must stay NaN, not become 1
    scale = float(np.minimum(1.0, limit / (norm + 1e-6)))
    return [g * scale for g in gradients], norm
