"""Forced alignment: the most probable frames of given tokens in the output of a CTC network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from elman.decoding.heard import as_array
from elman.errors import ElmanError


class Alignment(NamedTuple):
    """Where tokens are in time.

    Args:
        frames (list[tuple[int, int]]): The first frame of each token, and the one after its last.
        confidences (list[float]): The mean probability of each token in its frames, between 0 and 1.
        log_probability (float): The log probability of this alignment, in nats.
    """

    frames: list[tuple[int, int]]
    confidences: list[float]
    log_probability: float


#: How many tokens an alignment may be ahead of the frames that are given for tokens, or behind them.
_WINDOW = 64


def align(
    log_probs: Tensor | np.ndarray, ids: Sequence[int], blank: int = 0, near: Sequence[int] | None = None
) -> Alignment:
    """Find the most probable alignment of tokens with frames, by the Viterbi algorithm.

    An alignment gives each frame a token or the blank; it contains the tokens in their order, with a blank between
    equal ones. Time and memory grow with T times the number of tokens, or with T alone if it is known about where the
    tokens are.

    Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf

    Args:
        log_probs (Tensor or ndarray): Log probabilities (T, V) of a CTC network.
        ids (Sequence[int]): The tokens, without blanks.
        blank (int): The id of the blank. Default: 0.
        near (Sequence[int], optional): A frame near the first one of each token. Alignments that are more than 64
            tokens ahead or behind are not considered. Default: all are.

    Returns:
        Alignment: The frames and the confidence of each token.

    Raises:
        ElmanError: The frames are too few for the tokens, or the tokens have the probability 0.

    Example::

        >>> log_probs = torch.tensor([[0.1, 0.9, 0.0], [0.3, 0.7, 0.0], [0.9, 0.1, 0.0], [0.2, 0.0, 0.8]]).log()
        >>> align(log_probs, [1, 2]).frames
        [(0, 2), (3, 4)]
    """
    x = as_array(log_probs)
    T, U = len(x), len(ids)
    labels = np.full(2 * U + 1, blank)  # a blank before each token, and one at the end
    labels[1::2] = ids
    skips = np.full(2 * U + 1, -np.inf)  # what it costs to leave out the blank before a token
    skips[3::2] = np.where(labels[3::2] != labels[1:-2:2], 0.0, -np.inf)
    needed = U + int((labels[3::2] == labels[1:-2:2]).sum())
    if needed > T:
        raise ElmanError(f"{U} tokens need at least {needed} frames, there are {T}")
    if T == 0:
        return Alignment([], [], 0.0)
    width = 2 * U + 1 if near is None else min(2 * U + 1, 4 * _WINDOW + 1)
    middles = np.zeros(T, dtype=np.int64) if near is None else np.searchsorted(np.sort(near), np.arange(T), "right")
    lows = np.clip(2 * middles - 2 * _WINDOW, 0, 2 * U + 1 - width).tolist()  # the first place at each frame
    moves = np.zeros((T, width), dtype=np.int8)
    best, low = np.full(width, -np.inf), lows[0]
    best[:2] = x[0, labels[:2]] if low == 0 else -np.inf
    for t in range(1, T):
        shift, low = lows[t] - low, lows[t]
        padded = np.full(width + 2 + shift, -np.inf)
        padded[2 : 2 + width] = best
        stay, by_one = padded[2 + shift :], padded[1 + shift : 1 + shift + width]
        by_two = padded[shift : shift + width] + skips[low : low + width]
        best = np.maximum(stay, by_one)
        moves[t] = by_one > stay
        moves[t][by_two > best] = 2
        best = np.maximum(best, by_two) + x[t, labels[low : low + width]]
    place = 2 * U if U == 0 or best[-1] >= best[-2] else 2 * U - 1
    total = float(best[place - low])
    if low + width <= 2 * U or not np.isfinite(total):
        raise ElmanError("the tokens cannot be aligned: their probability is 0 or not a number")
    path = np.empty(T, dtype=np.int64)
    for t in range(T - 1, -1, -1):
        path[t] = place
        place -= int(moves[t, place - lows[t]])
    tokens = np.arange(1, 2 * U, 2)
    starts, ends = np.searchsorted(path, tokens), np.searchsorted(path, tokens, "right")
    frames = list(zip(starts.tolist(), ends.tolist(), strict=True))
    chances = [float(np.exp(x[a:b, i].astype(np.float64)).mean()) for (a, b), i in zip(frames, ids, strict=True)]
    return Alignment(frames, [min(1.0, chance) for chance in chances], total)
