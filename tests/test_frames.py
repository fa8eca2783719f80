"""Features of log-mel frames: of a whole sound, and frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.media import frames as frames_module
from elman.media.augment import add_noise_floor
from elman.media.frames import FrameStream, RunningMean, add_running_floor, frame_features

BANDS = 3


def some(n: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (-8 + 4 * draw.standard_normal((n, BANDS)) + draw.standard_normal(BANDS)).astype(np.float32)


def test_features_of_a_whole_sound() -> None:
    x = some(20)
    found = frame_features(x)
    assert found.shape == (20, 2 * BANDS) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, :BANDS], x - x.mean(0), atol=1e-5)
    np.testing.assert_allclose(found[1:-1, BANDS:], (x[2:] - x[:-2]) / 2, atol=1e-5)
    assert np.array_equal(frame_features(x, False), found[:, :BANDS])
    assert not frame_features(x[:1]).any()


def test_the_running_mean_is_the_weighted_mean_of_the_frames_so_far() -> None:
    x = some(900)
    t = np.arange(900)
    weights = np.tril(np.exp(-(t[:, None] - t) / 300))
    expected = weights @ x / weights.sum(1, keepdims=True)
    found = RunningMean(BANDS).push(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.array_equal(found[0], x[0])


def test_the_running_mean_follows_and_stays_exact_for_hours() -> None:
    mean = RunningMean(1)
    for level in (5.0, -3.0):
        for _ in range(10):
            found = mean.push(np.full((10_000, 1), level))
        np.testing.assert_allclose(found, level, rtol=1e-6)


@settings(max_examples=80)
@given(
    n=st.integers(0, 60),
    sizes=st.lists(st.integers(0, 12), max_size=12),
    segment=st.integers(1, 20),
    deltas=st.booleans(),
    decibels=st.none() | st.floats(1, 60),
    seed=st.integers(0, 9),
)
def test_frames_that_arrive_in_blocks_have_the_same_features(
    n: int, sizes: list[int], segment: int, deltas: bool, decibels: float | None, seed: int
) -> None:
    x = some(n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames_module, "_SEGMENT", segment)
        whole, stream = (FrameStream(BANDS, deltas, decibels) for _ in range(2))
        expected = np.concatenate((whole.push(x), whole.finish()))
        parts = np.split(x, np.minimum(np.cumsum(sizes), n).astype(int))
        found = np.concatenate((*map(stream.push, parts), stream.finish()))
    assert np.array_equal(found, expected)
    assert expected.shape == (n, (1 + deltas) * BANDS) and expected.dtype == np.float32


def test_what_a_stream_computes() -> None:
    x = some(500).astype(np.float16).astype(np.float32)
    stream = FrameStream(BANDS)
    found = np.concatenate((stream.push(x), stream.finish()))
    y = x - RunningMean(BANDS).push(x)
    assert np.array_equal(found, np.concatenate((y, np.gradient(y, axis=0)), 1))
    late = FrameStream(BANDS, deltas=False).push(x + 5)
    np.testing.assert_allclose(late, y, atol=0.02)  # the level does not matter, but for the rounding to float16


def test_the_noise_floor_follows_the_loudest_frame_so_far() -> None:
    x = np.full((1000, BANDS), -15.0, dtype=np.float32)
    x[200:210] = 0.0
    floor = FrameStream(BANDS, deltas=False, decibels=20.0)
    levels = floor.push(x) + RunningMean(BANDS).push(add_noise_floor(x, 20.0, floor_of(x)))
    assert np.array_equal(add_running_floor(x, 20.0), add_noise_floor(x, 20.0, floor_of(x)))
    noise = 20 * np.log(10) / 10
    np.testing.assert_allclose(levels[:200], np.logaddexp(-15, -15 - noise), atol=1e-3)
    np.testing.assert_allclose(levels[210], np.logaddexp(-15, -1 / 300 - noise), atol=1e-3)
    np.testing.assert_allclose(levels[509], np.logaddexp(-15, -1 - noise), atol=1e-3)


def floor_of(x: np.ndarray) -> np.ndarray:
    """The peak, frame by frame."""
    peak, found = -np.inf, []
    for frame in x:
        peak = max(float(frame.max()), peak - 1 / 300)
        found.append([peak])
    return np.array(found, dtype=np.float32)
