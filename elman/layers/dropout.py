"""Dropout for sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elman.layers.arguments import flag, probability


class SequenceDropout(nn.Module):
    """Dropout of x (B, T, H) in training.

    Args:
        p (float): The probability that a number is set to 0; at least 0 and below 1. The others are divided by 1 - p.
        variational (bool): Whether all steps of a row share one mask (Gal & Ghahramani 2016,
            https://arxiv.org/abs/1512.05287). Default: ``False``, a mask for each step.

    Shapes:
        - x: (B, T, H); the result likewise.

    Raises:
        ValueError: ``p`` is not a probability below 1.
        TypeError: ``variational`` is not a bool.
    """

    def __init__(self, p: float, variational: bool = False) -> None:
        super().__init__()
        self.p, self.variational = probability("dropout", p), flag("variational", variational)

    @property
    def active(self) -> bool:
        """Whether the module changes its input: in training, with p above 0."""
        return bool(self.p and self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, T, H) with numbers dropped."""
        if not self.active:
            return x
        return x * dropout_mask(x[:, :1] if self.variational else x, self.p)

    def extra_repr(self) -> str:
        """Return the options, as ``repr`` prints them."""
        return f"{self.p}, variational={self.variational}"


def dropout_mask(x: Tensor, p: float) -> Tensor:
    """Return a dropout mask: 0 with probability p, else 1 / (1 - p).

    On the CPU, the mask is drawn from 64-bit random numbers, which is ten times as fast as torch's own: 8 bits for each
    number if p is within 1% of a multiple of 1 / 256, else 16 bits. p is rounded accordingly, but stays below 1.

    Args:
        x (Tensor): A tensor, which gives the shape, dtype and device.
        p (float): The probability; at least 0 and below 1.

    Returns:
        Tensor: The mask.
    """
    if x.device.type != "cpu":
        return torch.empty_like(x).bernoulli_(1 - p).div_(1 - p)
    bits, kind = (8, torch.int8) if abs(round(p * 256) / 256 - p) <= 0.01 * p and p < 0.99 else (16, torch.int16)
    dropped = min(round(p * 2**bits), 2**bits - 1)  # of the 2^bits possible values
    draws = torch.empty(-(-x.numel() * bits // 64), dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(kind)[: x.numel()].ge_(dropped - 2 ** (bits - 1))  # in place: much faster than a bool tensor
    return keep.view(x.shape) * torch.tensor(1 / (1 - dropped / 2**bits), dtype=x.dtype)


def drop_words(ids: Tensor, p: float, unknown_id: int) -> Tensor:
    """Replace each id by ``unknown_id`` with probability p; negative ids and the first two, the special ones, stay."""
    drop = (torch.rand(ids.shape, device=ids.device) < p) & (ids > 1)
    return torch.where(drop, unknown_id, ids)
