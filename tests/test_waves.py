"""Resampling and log-mel frames: block by block and whole, and compared with torch and an exact wave."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import elman
from elman.media import waves
from elman.media.waves import LogMel, Resampler, log_mel, log_mel_of, resample


def noise(n: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def sine(rate: int, pitch: float, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def pieces(x: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(x, np.minimum(np.cumsum(sizes), len(x)))


def whole_log_mel(x: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """The frames of the whole wave from one Fourier transform, as trained models of earlier versions have read them."""
    width, hop = int(rate * 0.025), int(rate * 0.010)
    size = 1 << (width - 1).bit_length()
    padded = torch.from_numpy(np.pad(x, (0, max(0, size - len(x)))))
    window = torch.hann_window(width)
    spectrum = torch.stft(padded, size, hop, width, window, center=True, pad_mode="constant", return_complex=True)
    power = waves.mel_filters(rate, size, bands) @ spectrum.abs().square()
    return power.clamp(min=1e-8).log().t().contiguous().numpy()


@pytest.mark.parametrize("rate", [200, 8000, 11025, 16000, 44100])
@pytest.mark.parametrize("seconds", [0, 0.001, 0.1, 1.234, 19])
def test_frames_of_earlier_versions(rate: int, seconds: float) -> None:
    x = noise(max(1, int(rate * seconds)))
    assert np.array_equal(log_mel(x, rate, 24), whole_log_mel(x, rate, 24))


def test_frames_of_a_long_wave() -> None:
    x = noise(8000 * 65)
    assert np.allclose(log_mel(x, 8000, 24), whole_log_mel(x, 8000, 24), rtol=0, atol=1e-5)


@settings(max_examples=60)
@given(st.integers(0, 3000), st.lists(st.integers(0, 900), max_size=8), st.integers(1, 12), st.integers(0, 9))
def test_frames_by_blocks(n: int, sizes: list[int], block: int, seed: int) -> None:
    x = noise(n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waves, "_BLOCK", block)  # frames at a time: few, so that a short wave has several blocks
        frames = LogMel(8000, 5)
        parts = [frames.push(part) for part in pieces(x, sizes)]
        whole = log_mel(x, 8000, 5)
        assert np.array_equal(np.concatenate((*parts, frames.finish())), whole)
    assert np.allclose(whole, whole_log_mel(x, 8000, 5), rtol=0, atol=1e-4)


@settings(max_examples=60)
@given(
    st.integers(0, 4000),
    st.lists(st.integers(0, 1500), max_size=6),
    st.sampled_from([8000, 11025, 16000, 44100, 48000]),
)
def test_resampling_by_blocks(n: int, sizes: list[int], rate: int) -> None:
    pytest.importorskip("soxr")
    x = noise(n)
    stream = Resampler(rate, 16000)
    parts = [stream.push(part) for part in pieces(x, sizes)]
    found = np.concatenate((*parts, stream.finish()))
    assert np.allclose(found, resample(x, rate, 16000) if rate != 16000 or n else np.zeros(1), rtol=0, atol=1e-6)
    assert abs(len(found) - max(1, n * 16000 / rate)) <= 1 and found.dtype == np.float32
    assert np.allclose(log_mel_of(pieces(x, sizes), rate, 16000, 5), log_mel(found, 16000, 5), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 16000), (48000, 16000), (8000, 16000), (16000, 8000)])
def test_resampling_is_exact(rate: int, wanted: int) -> None:
    """A tone below both limits stays, and one above the new limit goes."""
    pytest.importorskip("soxr")
    middle = slice(wanted // 10, -wanted // 10)
    assert np.abs(resample(sine(rate, 1000), rate, wanted) - sine(wanted, 1000))[middle].max() < 1e-4
    assert wanted > rate or np.abs(resample(sine(rate, wanted * 0.6), rate, wanted))[middle].max() < 1e-3


def test_resampling_as_before() -> None:
    """The features of a resampled wave differ little from those of the Fourier transform of the whole wave."""
    signal = pytest.importorskip("scipy.signal")
    pytest.importorskip("soxr")
    x = noise(44100)
    old = log_mel(signal.resample(x, 16000).astype(np.float32), 16000, 24)
    difference = np.abs(log_mel(resample(x, 44100, 16000), 16000, 24) - old)[2:-2]
    assert difference[:, :-1].max() < 0.05 and difference.max() < 0.5, "the last band contains the filter's edge"


def test_no_resampling_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    x = noise(100)
    assert resample(x, 8000, 8000) is x
    with pytest.raises(elman.ElmanError, match=r"a.wav: sampled at 8,000 Hz, 16,000 Hz are needed; .*'elman\[audio\]'"):
        resample(x, 8000, 16000, "a.wav")


def test_filters() -> None:
    filters = waves.mel_filters(16000, 512, 24)
    assert filters.shape == (24, 257) and filters.min() == 0 and (filters.max(1).values > 0.5).all()
    assert math.isclose(float(filters.sum(0)[100]), 1, abs_tol=1e-5), "triangles overlap to one"
