"""Scaled dot-product attention over masked memories."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from elman.layers.dropout import dropout_mask


def dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Compute scaled dot-product attention: softmax(q k^T / sqrt(d)) v.

    Args:
        q (Tensor): Queries (B, heads, T, d).
        k (Tensor): Keys (B, heads, S, d).
        v (Tensor): Values (B, heads, S, d).
        mask (Tensor, optional): Bool, broadcast over (B, heads, T, S), true on steps that may be read. None: all steps.
        dropout (float): The dropout probability of the weights. Default: 0.0.

    Returns:
        tuple[Tensor, Tensor]: The result (B, heads, T, d), and the weights (B, heads, T, S) before dropout.
    """
    scores = (q @ k.transpose(2, 3)).mul(1 / math.sqrt(q.shape[3]))
    weights = scores.softmax(-1) if mask is None else masked_softmax(scores, mask)
    return (weights * dropout_mask(weights, dropout) if dropout else weights) @ v, weights


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Compute the softmax over the last dimension, restricted to the positions where a mask is true.

    Args:
        scores (Tensor): Scores (..., S).
        mask (Tensor): Bool, broadcast over ``scores``.

    Returns:
        Tensor: Weights (..., S): 0 where the mask is false, and in rows where it is false everywhere.
    """
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1).mul(mask)
