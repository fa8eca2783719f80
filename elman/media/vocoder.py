"""The vocoder: from log-mel frames back to a wave, without a network."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor

from elman.media.waves import mel_filters

#: The weight of the last change of the spectrum in the next estimate.
_MOMENTUM = 0.99
#: Updates of the linear spectrum.
_UPDATES = 20


@final
class Vocoder:
    """Estimate a wave whose log-mel frames are given, with the parameters of `elman.media.waves.LogMel`.

    The linear spectrum is the non-negative one whose bands are nearest to the frames, and the phases are those that
    fast Griffin-Lim finds.

    Lee & Seung 2000, https://papers.nips.cc/paper/1861 (the updates). Griffin & Lim 1984,
    https://doi.org/10.1109/TASSP.1984.1164317. Perraudin, Balazs & Søndergaard 2013,
    https://doi.org/10.1109/WASPAA.2013.6701851 (the momentum).

    Args:
        rate (int): the sampling rate in Hz.
        bands (int): bands of the mel scale.
        window (float): the length of a window in seconds.
        hop (float): the seconds from one window to the next.
        iterations (int): iterations of Griffin-Lim. Default: 40.

    Example::

        >>> frames = log_mel(wave, 16_000, 80, 0.05, 0.0125)  # doctest: +SKIP
        >>> Vocoder(16_000, 80, 0.05, 0.0125).wave(frames)  # doctest: +SKIP
    """

    def __init__(self, rate: int, bands: int, window: float, hop: float, iterations: int = 40) -> None:
        self.rate, self.iterations = rate, iterations
        self._width, self._hop = int(rate * window), int(rate * hop)
        self._size = 1 << (self._width - 1).bit_length()
        self._window = torch.hann_window(self._width)
        self._filters = mel_filters(rate, self._size, bands)

    def wave(self, frames: np.ndarray) -> np.ndarray:
        """Return the wave of frames, the same in every call.

        Args:
            frames (ndarray): log-mel frames (T, bands).

        Returns:
            ndarray: samples ((T - 1) hop,) float32, in [-1, 1].
        """
        if len(frames) < 2:
            return np.zeros(0, dtype=np.float32)
        power = self._linear(torch.from_numpy(np.array(frames, dtype=np.float32)).t().exp())
        wave = self._with_phases(power.sqrt())
        return (wave / wave.abs().max().clamp(min=1.0)).numpy()

    def _linear(self, mel: Tensor) -> Tensor:
        """Return a spectrum (F, T) >= 0 with F.mel(spectrum) near mel (bands, T), by multiplicative updates."""
        filters = self._filters
        covered = filters.sum(0, keepdim=True).t()
        spectrum = filters.t() @ (mel / filters.sum(1, keepdim=True).clamp(min=1e-8)) / covered.clamp(min=1e-8)
        wanted = filters.t() @ mel
        for _ in range(_UPDATES):
            spectrum = spectrum * (wanted / (filters.t() @ (filters @ spectrum)).clamp(min=1e-12))
        return spectrum.where(covered > 0, 0.0)

    def _with_phases(self, magnitude: Tensor) -> Tensor:
        """Return a wave (N,) with the magnitudes (F, T)."""
        shape, length = (self._size, self._hop, self._width, self._window), (magnitude.shape[1] - 1) * self._hop
        draw = torch.Generator().manual_seed(0)
        spectrum = torch.polar(magnitude, 2 * torch.pi * torch.rand(magnitude.shape, generator=draw))
        before = torch.zeros_like(spectrum)
        for _ in range(self.iterations):
            wave = torch.istft(spectrum, *shape, length=length)
            found = torch.stft(wave, *shape, pad_mode="constant", return_complex=True)
            ahead = found + _MOMENTUM * (found - before)
            spectrum, before = magnitude * ahead / ahead.abs().clamp(min=1e-8), found
        return torch.istft(spectrum, *shape, length=length)
