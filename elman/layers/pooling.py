"""From a sequence of features to one: what a classifier looks at."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from elman.errors import unknown_name
from elman.layers.arguments import whole
from elman.layers.recurrent import Lengths, check_lengths, real_steps

PoolingKind = Literal["last", "max", "mean", "attention"]


class Pooling(nn.Module):
    """y (B, T, H) to one vector a row (B, H), and how much each step had to do with it, weights (B, T).

    ========= ===================================================================== ==============================
    last      y at the last real step; of a backward half, at the first
    max       the largest over time, unit by unit; weights: the share of the units
    mean      the mean over time
    attention sum_t a_t y_t, a = softmax_t(v tanh(W y_t + b))                       Yang et al. 2016, aclanthology
                                                                                    N16-1174
    ========= ===================================================================== ==============================

    Weights of real steps sum to 1, padding has 0. A row of length 0 gives 0.

    Arguments:
        kind: one of these.
        size: H.
        backward_size: how many of the last units read from the end (for ``last``).
    """

    def __init__(self, kind: PoolingKind, size: int, backward_size: int = 0) -> None:
        super().__init__()
        if kind not in get_args(PoolingKind):
            raise unknown_name("pooling", kind, get_args(PoolingKind))
        if not 0 <= whole("backward_size", backward_size) <= whole("size", size) or size < 1:
            raise ValueError(f"backward_size must be between 0 and size, not {backward_size} of {size}")
        self.kind, self.forward_size = kind, size - backward_size
        if kind == "attention":
            self.query = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))

    def forward(self, y: Tensor, lengths: Lengths = None) -> tuple[Tensor, Tensor]:
        B, T, H = y.shape
        if lengths is not None and not isinstance(lengths, Tensor):
            lengths = check_lengths(lengths, y)
        n = torch.full((B,), T, device=y.device) if lengths is None else lengths.to(y.device)
        real = real_steps(n, T)
        if self.kind == "last":
            end = (n - 1).clamp(min=0)
            weights = torch.zeros(B, T, dtype=y.dtype, device=y.device).scatter(1, end[:, None], 1.0)
            last = y.gather(1, end[:, None, None].expand(B, 1, H))[:, 0]
            pooled = torch.cat((last[:, : self.forward_size], y[:, 0, self.forward_size :]), 1)
        elif self.kind == "max":
            pooled, where = y.masked_fill(~real[..., None], -torch.inf).max(1)
            weights = torch.zeros(B, T, dtype=y.dtype, device=y.device)
            weights = weights.scatter_add(1, where, torch.full_like(pooled, 1 / H))
        elif self.kind == "mean":
            weights = real.to(y.dtype) / n.clamp(min=1)[:, None].to(y.dtype)
            pooled = torch.einsum("bt,bth->bh", weights, y.masked_fill(~real[..., None], 0.0))
        else:
            scores = self.query(y)[..., 0].float().masked_fill(~real, torch.finfo(torch.float32).min)
            weights = scores.softmax(1).to(y.dtype)
            pooled = torch.einsum("bt,bth->bh", weights, y.masked_fill(~real[..., None], 0.0))
        some = (n > 0)[:, None]
        return pooled.masked_fill(~some, 0.0), weights * some.to(weights.dtype)

    def extra_repr(self) -> str:
        return self.kind
