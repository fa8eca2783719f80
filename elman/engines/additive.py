"""The scores of additive attention in operations of torch: the reference of the kernel in `elman.engines.cpu`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from elman.engines.modes import shape_of

#: The queries are split so that the hidden units hold at most this many numbers at a time.
_HIDDEN = 1 << 24


def reference(query: Tensor, keys: Tensor, score: Tensor | Callable[[Tensor], Tensor]) -> Tensor:
    """Compute e_ts = v . tanh(q_t + k_s).

    Args:
        query (Tensor): The projected queries, (B, T, A).
        keys (Tensor): The projected values, (B, S, A).
        score (Tensor | Callable): v, (1, A), or a function from hidden units (..., A) to scores (..., 1).

    Returns:
        Tensor: The scores, (B, T, S).
    """
    chunk = max(1, _HIDDEN // max(1, math.prod(shape_of(keys))))
    scores = []
    for part in query.split(chunk, 1):
        hidden = torch.tanh(part[:, :, None] + keys[:, None])
        scores.append((linear(hidden, score) if isinstance(score, Tensor) else score(hidden)).squeeze(-1))
    return torch.cat(scores, 1)
