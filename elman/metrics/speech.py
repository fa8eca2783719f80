"""Metrics of synthetic speech."""

from __future__ import annotations

import math

import numpy as np


def mel_cepstral_distortion(frames: np.ndarray, reference: np.ndarray, coefficients: int = 13) -> float:
    """Return the mel-cepstral distortion of log-mel frames from those of a recording, in dB.

    The cepstra are the cosine transforms of the frames without coefficient 0, the loudness. They are aligned by dynamic
    time warping, and the mean is over the pairs of the alignment. What is more than 60 dB below the loudest value
    counts as silence. Values depend on the bands: compare only those of one representation.

    Kubichek 1993, https://doi.org/10.1109/PACRIM.1993.407206

    Args:
        frames (ndarray): log-mel frames, in power, (T, bands).
        reference (ndarray): those of the recording, (U, bands).
        coefficients (int): the number of coefficients. Default: 13.

    Example::

        >>> frames = np.random.default_rng(0).standard_normal((5, 20))
        >>> mel_cepstral_distortion(frames, np.repeat(frames, 2, 0))
        0.0
    """
    a, b = (_cepstra(_above_silence(x), coefficients) for x in (frames, reference))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    total, length = _warped(np.sqrt(2 * squares.clip(min=0)))
    return 10 / math.log(10) * total / length


def _above_silence(frames: np.ndarray) -> np.ndarray:
    """Return frames whose values are at most 60 dB below the largest one."""
    x = np.asarray(frames, dtype=np.float64)
    return np.maximum(x, x.max() - 6 * math.log(10))


def _cepstra(frames: np.ndarray, coefficients: int) -> np.ndarray:
    """Return c_1, ..., of log amplitudes log A = c_0 + sum_k c_k cos(k w), given frames (T, bands) of log power."""
    bands = frames.shape[1]
    k, n = np.arange(1, coefficients + 1)[:, None], np.arange(bands)[None]
    return frames / bands @ np.cos(math.pi * k * (n + 0.5) / bands).T


def _warped(costs: np.ndarray) -> tuple[float, int]:
    """Return the cost of the cheapest path through costs (T, U) from corner to corner, and the number of its cells."""
    T, U = costs.shape
    total, length = np.full((T + 1, U + 1), np.inf), np.zeros((T + 1, U + 1), dtype=np.int64)
    total[0, 0] = 0.0
    for diagonal in range(T + U - 1):
        t = np.arange(max(0, diagonal - U + 1), min(T, diagonal + 1))
        u = diagonal - t
        before = np.stack((total[t, u], total[t, u + 1], total[t + 1, u]))
        lengths = np.stack((length[t, u], length[t, u + 1], length[t + 1, u]))
        best, each = before.argmin(0), np.arange(len(t))
        total[t + 1, u + 1] = before[best, each] + costs[t, u]
        length[t + 1, u + 1] = lengths[best, each] + 1
    return float(total[T, U]), int(length[T, U])
