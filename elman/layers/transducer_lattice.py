"""The alignments of a transducer: their total probability, and the posterior probabilities of their arcs."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class Lattice(NamedTuple):
    """The sum over all alignments of each row; see `lattice`.

    Args:
        loss (Tensor): -log p(targets), (B,), in nats.
        blank (Tensor): The probability that an alignment passes from (t, u) to (t + 1, u), (B, T, U + 1).
        token (Tensor): The probability that an alignment passes from (t, u) to (t, u + 1), (B, T, U + 1).
    """

    loss: Tensor
    blank: Tensor
    token: Tensor


def inside(lengths: Tensor, target_lengths: Tensor, T: int, columns: int) -> Tensor:
    """Return a mask (B, T, U + 1), true for the nodes (t, u) with t < length and u <= target length."""
    t = torch.arange(T, device=lengths.device)[:, None]
    u = torch.arange(columns, device=lengths.device)
    return (t < lengths[:, None, None]) & (u <= target_lengths[:, None, None])


def lattice(blank: Tensor, token: Tensor, lengths: Tensor, target_lengths: Tensor, posteriors: bool = True) -> Lattice:
    """Sum over all alignments by the forward-backward algorithm.

    ::

        alpha(t, u) = log(exp(alpha(t-1, u) + blank(t-1, u)) + exp(alpha(t, u-1) + token(t, u-1)))
        beta(t, u)  = log(exp(blank(t, u) + beta(t+1, u)) + exp(token(t, u) + beta(t, u+1)))

    An alignment starts at (0, 0) and ends at (length, target length), which it reaches by a blank. The nodes of an
    anti-diagonal t + u = n depend on those of the neighbouring one only, so that each of the T + U steps computes one
    anti-diagonal of the whole batch. Sums are in float64, since alpha grows with T + U; the tensors are V times smaller
    than the logits.

    Graves 2012, https://arxiv.org/abs/1211.3711

    Args:
        blank (Tensor): log p(blank) at each node, (B, T, U + 1). Nodes outside a row's lengths are ignored.
        token (Tensor): log p(token u of the targets) at each node, (B, T, U + 1); the last column is ignored.
        lengths (Tensor): The number of frames of each row, (B,).
        target_lengths (Tensor): The number of targets of each row, (B,).
        posteriors (bool): Whether to compute the probabilities of the arcs, which are zeros otherwise. Default: True.

    Returns:
        Lattice: The loss and the probabilities, in the dtype of ``blank``.
    """
    dtype, (B, T, C) = blank.dtype, blank.shape
    real = inside(lengths, target_lengths, T, C)
    emits = real & (torch.arange(C, device=blank.device) < target_lengths[:, None, None])
    blank = _skew(blank.double().masked_fill(~real, -math.inf))  # (T + U, B, C)
    token = _skew(token.double().masked_fill(~emits, -math.inf))
    ends, rows = lengths + target_lengths, torch.arange(B, device=blank.device)

    row = blank.new_full((B, C), -math.inf)
    row[:, 0] = 0.0
    alphas = [row]
    for blanks, tokens in zip(blank.unbind(), token.unbind(), strict=True):
        across = pad((row + tokens)[:, :-1], (1, 0), value=-math.inf)
        row = torch.logaddexp(row + blanks, across)
        alphas.append(row)
    alpha = torch.stack(alphas)
    total = alpha[ends, rows, target_lengths]  # log p(targets)
    if not posteriors:
        nothing = alpha.new_zeros(B, T, C, dtype=dtype)
        return Lattice(-total.to(dtype), nothing, nothing)

    end = torch.zeros_like(alpha, dtype=torch.bool)
    end[ends, rows, target_lengths] = True
    row = alpha.new_full((B, C), -math.inf).masked_fill(end[-1], 0.0)
    betas = [row]
    for n in range(len(blank) - 1, -1, -1):
        across = pad(row[:, 1:], (0, 1), value=-math.inf)
        row = torch.logaddexp(row + blank[n], across + token[n]).masked_fill(end[n], 0.0)
        betas.append(row)
    beta = torch.stack(betas[::-1])
    # Without a possible alignment, the arcs have no probability.
    before = alpha[:-1] - total.masked_fill(total == -math.inf, math.inf)[:, None]
    across = pad(beta[1:, :, 1:], (0, 1), value=-math.inf)
    of_blank, of_token = (before + blank + beta[1:]).exp(), (before + token + across).exp()
    return Lattice(-total.to(dtype), _unskew(of_blank, T).to(dtype), _unskew(of_token, T).to(dtype))


def _skew(x: Tensor) -> Tensor:
    """Return x (B, T, C) by anti-diagonals: y[t + u, b, u] = x[b, t, u], (T + C - 1, B, C), elsewhere -inf."""
    _, T, C = x.shape
    # A row that is C longer than T is one longer than the result, so that each following row is shifted by one.
    wide = pad(x.transpose(1, 2), (0, C), value=-math.inf).flatten(1)
    return wide[:, : C * (T + C - 1)].unflatten(1, (C, T + C - 1)).permute(2, 0, 1).contiguous()


def _unskew(y: Tensor, T: int) -> Tensor:
    """Return x (B, T, C) for y (T + C - 1, B, C); the inverse of `_skew`."""
    N, _, C = y.shape
    wide = pad(y.permute(1, 2, 0).flatten(1), (0, C))
    return wide.unflatten(1, (C, N + 1))[:, :, :T].transpose(1, 2).contiguous()
