"""Dropout along time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elman.layers.arguments import flag, probability


class SequenceDropout(nn.Module):
    """Dropout of x (B, T, H): anew at every step, or with ``variational`` one mask through time.

    Variational dropout: Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287
    """

    def __init__(self, p: float, variational: bool = False) -> None:
        super().__init__()
        self.p, self.variational = probability("dropout", p), flag("variational", variational)

    @property
    def active(self) -> bool:
        return bool(self.p and self.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.active:
            return x
        return x * dropout_mask(x[:, :1] if self.variational else x, self.p)

    def extra_repr(self) -> str:
        return f"{self.p}, variational={self.variational}"


def dropout_mask(x: Tensor, p: float) -> Tensor:
    """A mask of x's shape, dtype and device: 0 with probability p, else 1 / (1 - p).

    On the CPU the draws are parts of 64-bit random numbers, ten times as fast as torch's own: of 8 bits where p is
    a multiple of 1 / 256 to within 1%, else of 16 (p is rounded to that, and below 1).
    """
    if x.device.type != "cpu":
        return torch.empty_like(x).bernoulli_(1 - p).div_(1 - p)
    bits, kind = (8, torch.int8) if abs(round(p * 256) / 256 - p) <= 0.01 * p and p < 0.99 else (16, torch.int16)
    dropped = min(round(p * 2**bits), 2**bits - 1)  # of all values
    draws = torch.empty(-(-x.numel() * bits // 64), dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(kind)[: x.numel()].ge_(dropped - 2 ** (bits - 1))  # in place: much faster than to bool
    return keep.view(x.shape) * torch.tensor(1 / (1 - dropped / 2**bits), dtype=x.dtype)
