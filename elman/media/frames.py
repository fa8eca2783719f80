"""Turn log-mel frames into the features that a network reads: of a whole sound, or frame by frame."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from elman.media.augment import add_noise_floor

#: The time constant of running means and peaks, in frames: 3 s.
_DECAY = 300.0
#: Frames after which the sums of a running mean are scaled down.
_SEGMENT = 3000


def frame_features(frames: np.ndarray, deltas: bool = True) -> np.ndarray:
    """Return log-mel frames (T, bands) without their mean, and their differences in time: (T, 2 bands).

    The mean is that of the voice and the room. Source: Furui 1986, https://doi.org/10.1109/TASSP.1986.1164788, with the
    difference of neighbours.

    Args:
        frames (ndarray): (T, bands) float32.
        deltas (bool): whether to append the differences. Default: True.
    """
    x = frames - frames.mean(0)
    if not deltas:
        return x.astype(np.float32)
    change = np.gradient(x, axis=0) if len(x) > 1 else np.zeros_like(x)
    return np.concatenate((x, change), 1).astype(np.float32)


@final
class RunningMean:
    """The mean of all frames so far, which forgets exponentially, with a time constant of 3 s.

    mean_t = sum_s w_(t-s) x_s / sum_s w_(t-s) over s <= t, with w_k = exp(-k / 300) and 100 frames a second. At the
    first frame it is that frame. It depends on no later frame, and not on the division into blocks, bit for bit.

    Args:
        bands (int): the width of a frame.

    Example::

        >>> RunningMean(1).push(np.array([[2.0], [2.0]])).tolist()
        [[2.0], [2.0]]
    """

    def __init__(self, bands: int) -> None:
        self._growth = np.exp(np.arange(1, _SEGMENT + 1) / _DECAY)[:, None]
        self._sums = np.zeros(bands + 1)  # of the frames and of the weights, scaled by the growth of the next weight
        self._count = 0

    def push(self, frames: np.ndarray) -> np.ndarray:
        """Take the next frames (T, bands); return the mean at each of them, (T, bands) float32."""
        x = np.concatenate((frames, np.ones((len(frames), 1))), 1, dtype=np.float64)
        means = np.empty(frames.shape, dtype=np.float32)
        done = 0
        while done < len(x):
            n = min(len(x) - done, _SEGMENT - self._count)
            weighted = self._growth[self._count : self._count + n] * x[done : done + n]
            sums = np.cumsum(np.concatenate((self._sums[None], weighted)), 0)[1:]  # adds one frame after the other
            means[done : done + n] = sums[:, :-1] / sums[:, -1:]
            self._sums, self._count, done = sums[-1].copy(), self._count + n, done + n
            if self._count == _SEGMENT:
                self._sums, self._count = self._sums / self._growth[-1], 0
        return means


@final
class _RunningPeak:
    """The loudest value so far; it falls by 1 in 3 s, of the logarithm of the power."""

    def __init__(self) -> None:
        self._peak, self._count = -math.inf, 0

    def push(self, frames: np.ndarray) -> np.ndarray:
        """Take the next frames (T, bands), T > 0; return the peak at each of them, (T, 1) float32."""
        fall = np.arange(self._count, self._count + len(frames)) / _DECAY
        peaks = np.maximum.accumulate(np.concatenate(([self._peak], frames.max(1) + fall)))[1:]
        self._peak, self._count = peaks[-1], self._count + len(frames)
        return (peaks - fall)[:, None].astype(np.float32)


def add_running_floor(x: np.ndarray, decibels: float) -> np.ndarray:
    """Add noise to log-mel frames (T, bands), ``decibels`` below the loudest value so far, as `FrameStream` does."""
    return add_noise_floor(x, decibels, _RunningPeak().push(x))


@final
class FrameStream:
    """Turn log-mel frames that arrive in blocks into features, which depend on no later frame but the next one.

    The running mean is subtracted; see `RunningMean`. The result is that of all frames at once, however they are
    divided, bit for bit.

    Args:
        bands (int): the width of a frame.
        deltas (bool): whether to append the differences of neighbouring frames. Default: True.
        decibels (float, optional): mix the frames with noise this far below the loudest so far. Default: None, none.
    """

    def __init__(self, bands: int, deltas: bool = True, decibels: float | None = None) -> None:
        self._mean, self._peak = RunningMean(bands), _RunningPeak()
        self._deltas, self._decibels = deltas, decibels
        self._held = np.zeros(
            (0, bands), dtype=np.float32
        )  # the last frame, which waits for the next, and its neighbour

    def push(self, frames: np.ndarray) -> np.ndarray:
        """Take the next frames (T, bands); return features, (N, bands) float32, with deltas (N, 2 bands).

        With deltas, the last frame waits for the next one.
        """
        x = frames.astype(np.float16).astype(np.float32)  # as rows are kept
        if self._decibels is not None and len(x):
            x = add_noise_floor(x, self._decibels, self._peak.push(x))
        x = x - self._mean.push(x)
        if not self._deltas:
            return x
        begun, x = len(self._held) == 2, np.concatenate((self._held, x))
        if len(x) < 2:
            self._held = x
            return np.zeros((0, 2 * x.shape[1]), dtype=np.float32)
        self._held = x[-2:].copy()
        change = (x[2:] - x[:-2]) / 2
        if begun:
            return np.concatenate((x[1:-1], change), 1)
        return np.concatenate((x[:-1], np.concatenate((x[1:2] - x[:1], change))), 1)

    def finish(self) -> np.ndarray:
        """Return the features of the frame that waits, if there is one."""
        last = self._held[-1:]
        if not self._deltas:
            return last[:0]
        change = last - self._held[:1]  # 0 if it is the only frame
        return np.concatenate((last, change), 1)
