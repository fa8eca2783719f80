"""Read sound files as waves, and compute log-mel frames."""

from __future__ import annotations

import functools
import io
import math

import numpy as np
import torch
from torch import Tensor

from elman.data.text import read_bytes
from elman.errors import ElmanError

#: How a sound file's name ends.
SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au")

#: Seconds of a window, and from one to the next.
_WINDOW, _HOP = 0.025, 0.010


def read_sound(path: str) -> tuple[np.ndarray, int]:
    """Read a sound file: the wave (N,) float32 in -1..1, averaged over channels, and its sampling rate in Hz.

    Raises:
        ElmanError: the soundfile package is missing, or the file does not decode or is empty.
    """
    try:
        import soundfile
    except ImportError:
        raise ElmanError(f"{path}: sound needs the soundfile package: pip install 'elman[audio]'") from None
    data = read_bytes(path)
    try:
        wave, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ElmanError(
            f"{path}: not a sound file that can be decoded: {getattr(error, 'error_string', error)}"
        ) from None
    if not len(wave):
        raise ElmanError(f"{path}: the file contains no audio")
    return wave.mean(1), rate


def resample(wave: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Resample a wave to ``wanted`` Hz with the Fourier transform."""
    if rate == wanted:
        return wave
    samples = max(1, round(len(wave) * wanted / rate))
    spectrum = np.fft.rfft(wave)[: samples // 2 + 1]
    return (np.fft.irfft(spectrum, samples) * (samples / len(wave))).astype(np.float32)


def log_mel(wave: np.ndarray, rate: int, bands: int = 40) -> np.ndarray:
    """Compute log-mel frames (T, bands) float32: windows of 25 ms, every 10 ms.

    mel(f) = 2595 log10(1 + f / 700): Davis & Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420
    """
    width, hop = int(rate * _WINDOW), int(rate * _HOP)
    size = 1 << (width - 1).bit_length()
    x = torch.from_numpy(np.pad(wave, (0, max(0, size - len(wave)))))
    spectrum = torch.stft(
        x, size, hop, width, torch.hann_window(width), center=True, pad_mode="constant", return_complex=True
    )
    power = spectrum.abs().square()
    return (_filters(rate, size, bands) @ power).clamp(min=1e-8).log().t().contiguous().numpy()


@functools.cache
def _filters(rate: int, size: int, bands: int) -> Tensor:
    """Return triangular filters (bands, size / 2 + 1) of equal width in mel, from 50 Hz to half the rate."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (50.0, rate / 2))
    edges = 700 * (10 ** (torch.linspace(low, high, bands + 2) / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, size // 2 + 1)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - left) / (middle - left), (right - frequencies) / (right - middle)
    return torch.minimum(rising, falling).clamp(min=0)
