"""Timing two things side by side: they take turns, so that a noisy machine is unfair to neither."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Pair(NamedTuple):
    """Median seconds of each, and the median of the ratios ours / theirs of neighbouring runs."""

    ours: float
    theirs: float
    ratio: float


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 15, least: float = 0.1
) -> Pair:
    """Runs both in turn, each time often enough to last ``least`` seconds."""
    for _ in range(2):
        ours()
        theirs()
    began = time.perf_counter()
    theirs()
    repeat = max(1, round(least / (time.perf_counter() - began)))
    times: list[tuple[float, float]] = []
    for turn in range(rounds):
        order = (ours, theirs) if turn % 2 else (theirs, ours)
        pair = {id(f): _time(f, repeat) for f in order}
        times.append((pair[id(ours)], pair[id(theirs)]))
    return Pair(
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(a / b for a, b in times),
    )


def _time(function: Callable[[], object], repeat: int) -> float:
    began = time.perf_counter()
    for _ in range(repeat):
        function()
    return (time.perf_counter() - began) / repeat
