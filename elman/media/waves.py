"""Resample waves, and compute log-mel frames; both also block by block, with the same result."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from elman.errors import ElmanError

#: Seconds of a window, and from one to the next.
WINDOW, HOP = 0.025, 0.010
#: Frames that are computed at a time: 20 s. A shorter sound is one block.
_BLOCK = 2048


@final
class Resampler:
    """Resample a wave that arrives in blocks, with soxr.

    The result is that of the whole wave, however it is divided.

    Args:
        rate (int): the sampling rate of the wave in Hz.
        wanted (int): the sampling rate of the result in Hz.
        name (str): the sound, for messages. Default: ``"sound"``.

    Raises:
        ElmanError: the rates differ and the soxr package is missing.
    """

    def __init__(self, rate: int, wanted: int, name: str = "sound") -> None:
        self._stream: Any = None
        self._empty = True
        if rate != wanted:
            try:
                import soxr
            except ImportError:
                raise ElmanError(
                    f"{name}: sampled at {rate:,} Hz, {wanted:,} Hz are needed; resampling needs the soxr package: "
                    "pip install 'elman[audio]'"
                ) from None
            self._stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32")

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take the next samples (N,) float32; return the samples that can be computed, (M,)."""
        return self._made(block if self._stream is None else self._stream.resample_chunk(np.ascontiguousarray(block)))

    def finish(self) -> np.ndarray:
        """Return the samples that remain at the end; there is at least one in all."""
        none = np.zeros(0, dtype=np.float32)
        rest = self._made(none if self._stream is None else self._stream.resample_chunk(none, last=True))
        return np.zeros(1, dtype=np.float32) if self._empty else rest

    def _made(self, samples: np.ndarray) -> np.ndarray:
        self._empty = self._empty and not len(samples)
        return samples


@final
class LogMel:
    """Compute log-mel frames of a wave that arrives in blocks: the logarithm of the power in bands of the mel scale.

    The result is that of the whole wave, however it is divided: frames are computed a fixed number at a time.

    mel(f) = 2595 log10(1 + f / 700): Davis & Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420

    Args:
        rate (int): the sampling rate in Hz.
        bands (int): bands of the mel scale. Default: 40.
        block (int): frames that are computed at a time. Default: 2,048.
        window (float): the length of a window in seconds. Default: 0.025.
        hop (float): the seconds from one window to the next. Default: 0.010.
    """

    def __init__(
        self, rate: int, bands: int = 40, block: int = _BLOCK, window: float = WINDOW, hop: float = HOP
    ) -> None:
        self._width, self._hop, self._bands = int(rate * window), int(rate * hop), bands
        self._size = 1 << (self._width - 1).bit_length()
        self._block = block
        self._window = torch.hann_window(self._width)
        self._filters = mel_filters(rate, self._size, bands)
        self._waiting = [np.zeros(self._size // 2, dtype=np.float32)]  # the first window is centred on the first sample
        self._count, self._total = self._size // 2, 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take the next samples (N,) float32; return frames (T, bands), none where a block of them is not full."""
        self._waiting.append(block)
        self._count += len(block)
        self._total += len(block)
        step, need = self._block * self._hop, (self._block - 1) * self._hop + self._size
        if self._count < need:
            return np.zeros((0, self._bands), dtype=np.float32)
        x, frames = np.concatenate(self._waiting), []
        while len(x) >= need:
            frames.append(self._frames(x[:need]))
            x = x[step:]
        self._waiting, self._count = [x.copy()], len(x)
        return np.concatenate(frames)

    def finish(self) -> np.ndarray:
        """Return the frames that remain at the end, (T, bands)."""
        end = np.zeros(self._size // 2 + max(0, self._size - self._total), dtype=np.float32)
        first = self.push(end)
        x = np.concatenate(self._waiting)
        return np.concatenate((first, self._frames(x))) if len(x) >= self._size else first

    def _frames(self, x: np.ndarray) -> np.ndarray:
        spectrum = torch.stft(
            torch.from_numpy(x), self._size, self._hop, self._width, self._window, center=False, return_complex=True
        )
        power = spectrum.abs().square()
        return (self._filters @ power).clamp(min=1e-8).log().t().contiguous().numpy()


def resample(wave: np.ndarray, rate: int, wanted: int, name: str = "sound") -> np.ndarray:
    """Resample a wave (N,) to ``wanted`` Hz; see `Resampler`."""
    if rate == wanted:
        return wave
    stream = Resampler(rate, wanted, name)
    return np.concatenate((stream.push(wave), stream.finish()))


def log_mel(wave: np.ndarray, rate: int, bands: int = 40, window: float = WINDOW, hop: float = HOP) -> np.ndarray:
    """Compute the log-mel frames (T, bands) float32 of a wave (N,) float32; see `LogMel`."""
    frames = LogMel(rate, bands, window=window, hop=hop)
    return np.concatenate((frames.push(wave), frames.finish()))


def log_mel_blocks(
    blocks: Iterable[np.ndarray], rate: int, wanted: int, bands: int, name: str = "sound",
    window: float = WINDOW, hop: float = HOP,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Compute the log-mel frames of a wave that arrives in blocks at another rate.

    Args:
        blocks (Iterable[ndarray]): the samples, (N,) float32 each.
        rate (int): their sampling rate in Hz.
        wanted (int): the sampling rate of the frames in Hz.
        bands (int): bands of the mel scale.
        name (str): the sound, for messages. Default: ``"sound"``.
        window, hop (float): see `LogMel`.

    Yields:
        ndarray: Some frames at a time, (T, bands) float32; T can be 0.
    """
    stream, frames = Resampler(rate, wanted, name), LogMel(wanted, bands, window=window, hop=hop)
    for block in blocks:
        yield frames.push(stream.push(block))
    yield frames.push(stream.finish())
    yield frames.finish()


def log_mel_of(blocks: Iterable[np.ndarray], rate: int, wanted: int, bands: int, name: str = "sound") -> np.ndarray:
    """Compute the log-mel frames (T, bands) of a wave that arrives in blocks; see `log_mel_blocks`."""
    return np.concatenate(list(log_mel_blocks(blocks, rate, wanted, bands, name)))


@functools.cache
def mel_filters(rate: int, size: int, bands: int) -> Tensor:
    """Return triangular filters (bands, size / 2 + 1) of equal width in mel, from 50 Hz to half the rate."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (50.0, rate / 2))
    edges = 700 * (10 ** (torch.linspace(low, high, bands + 2) / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, size // 2 + 1)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - left) / (middle - left), (right - frequencies) / (right - middle)
    return torch.minimum(rising, falling).clamp(min=0)
