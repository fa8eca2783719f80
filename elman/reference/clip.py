"""Gradients that explode, and two ways to keep them small.

Back through T steps the gradient is multiplied T times by R^T; where R has a singular value above 1 it
can grow without bound, and one such step of descent throws the weights far away.

::

    by value:  g -> min(max(g, -limit), limit)                every number by itself
    by norm:   g -> g * min(1, limit / (|g| + 1e-6))          |g| over all arrays together

By value turns the direction of the step, by norm keeps it. The 1e-6 is torch's: no division by zero.

Pascanu, Mikolov & Bengio 2013, https://arxiv.org/abs/1211.5063
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def clip_by_value(gradients: Iterable[np.ndarray], limit: float) -> list[np.ndarray]:
    """Each number of each array brought into [-limit, limit]: new arrays, of the same shapes."""
    return [np.clip(g, -limit, limit) for g in gradients]


def clip_by_norm(gradients: Iterable[np.ndarray], limit: float) -> tuple[list[np.ndarray], float]:
    """All arrays scaled by one number so that their common norm is at most limit.

    Returns new arrays of the same shapes, and the norm they had before: sqrt of the sum of all squares.
    """
    gradients = list(gradients)
    # |g| = sqrt(sum over all arrays of the sum of their squares)
    norm = float(np.sqrt(sum(np.sum(g**2) for g in gradients)))
    # np.minimum and not min(): a norm that is not a number must stay one, not become 1
    scale = float(np.minimum(1.0, limit / (norm + 1e-6)))
    return [g * scale for g in gradients], norm
