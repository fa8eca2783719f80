"""Dropout along time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from elman.layers.recurrent import probability


class SequenceDropout(nn.Module):
    """Dropout of x (B, T, H): anew at every step, or with ``variational`` one mask through time.

    Variational dropout: Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287
    """

    def __init__(self, p: float, variational: bool = False) -> None:
        super().__init__()
        self.p, self.variational = probability("dropout", p), variational

    def forward(self, x: Tensor) -> Tensor:
        if not (self.p and self.training):
            return x
        if not self.variational:
            return dropout(x, self.p)
        return x * dropout(torch.ones_like(x[:, :1]), self.p)

    def extra_repr(self) -> str:
        return f"{self.p}, variational={self.variational}"
