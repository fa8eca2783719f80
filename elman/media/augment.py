"""Augmentation of series and sounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from elman.data.series import fill_missing


def vary_series(x: np.ndarray, deviation: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Change the speed and the scale of a series (T, C) at random, and add noise; missing values stay NaN.

    Args:
        x (ndarray): (T, C).
        deviation (ndarray): (C,), the standard deviation of each channel.
        draw (Generator): the random number generator.
    """
    gaps = np.isnan(x)
    if gaps.any():
        there = np.maximum((~gaps).sum(0), 1)
        mean = np.where(gaps, 0.0, x).sum(0) / there
        full = fill_missing(x, "interpolate")
        x = np.where(np.isnan(full), mean, full)
    factor = draw.uniform(0.85, 1.18)
    x = stretch(x, factor, 0)
    x = x.mean(0) + (x - x.mean(0)) * draw.uniform(0.9, 1.1)
    x = x + 0.08 * deviation * draw.standard_normal(x.shape)
    if gaps.any():
        x[stretch(gaps.astype(np.float32), factor, 0) >= 0.5] = np.nan
    return x


class Variation(NamedTuple):
    """How much `vary_frames` changes sounds.

    Attributes:
        speed (tuple[float, float]): The range of the factor of the duration.
        tract (tuple[float, float]): The range of the factor of frequencies.
        bend (float): The largest shift of a part of the bands, as a fraction of all.
        tilt (float): The largest change of the first and the last band, in nats.
        masks (int): Masks of time, and of bands.
        width (float): The largest width of a mask, as a fraction.
        frames (int): The largest width of a mask of time, in frames.
    """

    speed: tuple[float, float]
    tract: tuple[float, float]
    bend: float
    tilt: float
    masks: int
    width: float
    frames: int

    def with_voices(self, factor: float) -> Variation:
        """Return the same variation with other ranges of vocal tract and spectrum, ``factor`` times as wide."""
        low, high = (1 + (edge - 1) * factor for edge in self.tract)
        return self._replace(tract=(max(low, 0.5), high), bend=self.bend * factor, tilt=self.tilt * factor)


#: For labels of sounds, which no change of speed or voice makes another one.
SOUNDS = Variation((0.65, 1.4), (0.85, 1.15), 1 / 16, 2.5, 1, 1 / 5, 10**6)
#: For texts of speech.
SPEECH = Variation((0.85, 1.18), (0.88, 1.12), 1 / 24, 2.0, 2, 1 / 7, 20)


def vary_frames(
    x: np.ndarray,
    decibels: float | None,
    draw: np.random.Generator,
    how: Variation = SOUNDS,
    floor: Callable[[np.ndarray, float], np.ndarray] | None = None,
) -> np.ndarray:
    """Simulate another voice in another room in log-mel frames (T, bands).

    Changes speed, pitch, vocal tract and spectral tilt at random, adds a noise floor about ``decibels`` below the
    loudest value, and masks ranges of time and of bands.

    Vocal tract length: Jaitly & Hinton 2013; masks: Park et al. 2019, https://arxiv.org/abs/1904.08779

    Args:
        x (ndarray): (T, bands).
        decibels (float, optional): The distance of the noise floor; None: no noise is added.
        draw (Generator): The random number generator.
        how (Variation): The ranges of the changes. Default: `SOUNDS`.
        floor: Adds the noise floor to frames, given its distance. Default: `add_noise_floor`.
    """
    bands = x.shape[1]
    x = stretch(x, draw.uniform(*how.speed), 0)
    bend = np.concatenate(([0.0], draw.uniform(-1, 1, 3))) * bands * how.bend
    x = shift(x, draw.uniform(*how.tract), np.interp(np.arange(bands), np.linspace(0, bands - 1, 4), bend))
    x = x + (draw.uniform(-1, 1) + draw.uniform(-how.tilt, how.tilt) * np.linspace(-1, 1, bands)).astype(np.float32)
    if decibels is not None:
        x = (floor or add_noise_floor)(x, decibels * draw.uniform(0.65, 1.5))
    middle = x.mean()
    for axis, most in ((0, min(how.frames, int(len(x) * how.width))), (1, int(bands * how.width))):
        for _ in range(how.masks):
            width = draw.integers(0, most + 1)
            start = draw.integers(0, x.shape[axis] - width + 1)
            hidden = slice(start, start + width)
            x[(hidden, slice(None)) if axis == 0 else (slice(None), hidden)] = middle
    return x


def add_noise_floor(x: np.ndarray, decibels: float, loudest: np.ndarray | None = None) -> np.ndarray:
    """Add noise of equal power in all bands to log-mel frames (T, bands).

    Args:
        x (ndarray): (T, bands).
        decibels (float): How far the noise is below the loudest value.
        loudest (ndarray, optional): (T, 1), the loudest value for each frame. Default: that of all frames.
    """
    loudest = x.max() if loudest is None else loudest
    return np.logaddexp(x, loudest - decibels * math.log(10) / 10).astype(np.float32)


def silence_of(x: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return silence (N, bands) like that of log-mel frames (T, bands): their quietest tenth, in random order.

    One time in four it is a single frame, repeated, as digital silence is. It lasts up to 3 s.
    """
    quiet = x[np.argsort(x.mean(1), kind="stable")[: max(1, len(x) // 10)]]
    frames = quiet[draw.integers(0, len(quiet), draw.integers(10, 300))]
    return np.broadcast_to(frames[:1], frames.shape).copy() if draw.random() < 0.25 else frames


def stretch(x: np.ndarray, factor: float, axis: int) -> np.ndarray:
    """Resample x to ``factor`` times as many steps by linear interpolation."""
    n = x.shape[axis]
    places = np.linspace(0, n - 1, max(1, round(n * factor)))
    return _at(x, places, axis)


def shift(x: np.ndarray, factor: float, bend: np.ndarray | float = 0.0) -> np.ndarray:
    """Shift the bands of frames (T, bands): band b is read at b * factor + bend, as with another vocal tract."""
    bands = x.shape[1]
    return _at(x, np.clip(np.arange(bands) * factor + bend, 0, bands - 1), 1)


def _at(x: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    share = (places - low).astype(np.result_type(x.dtype, np.float32))
    share = share[:, None] if axis == 0 else share
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
