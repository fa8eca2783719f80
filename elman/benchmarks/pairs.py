"""Timing two things side by side: they take turns, so that a noisy machine is unfair to neither."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Pair(NamedTuple):
    """Median seconds of each, and the median of the ratios theirs / ours of neighbouring runs: more is better."""

    ours: float
    theirs: float
    ratio: float


class Row(NamedTuple):
    """One line of a table: some work of some size, beside what it is compared with.

    ``share``: of the machine's peak, in operations a second; None where that says nothing.
    """

    work: str
    size: str
    against: str
    pair: Pair
    share: float | None = None

    @classmethod
    def mean(cls, work: str, against: str, ratios: Sequence[float]) -> Row:
        """The geometric mean of some rows' ratios."""
        return cls(work, "geometric mean", against, Pair(float("nan"), float("nan"), statistics.geometric_mean(ratios)))

    def record(self) -> dict[str, object]:
        """For JSON."""
        known = (
            {}
            if self.pair.ours != self.pair.ours
            else {"ours_ms": 1e3 * self.pair.ours, "theirs_ms": 1e3 * self.pair.theirs}
        )
        share = {} if self.share is None else {"share_of_peak": self.share}
        return {
            "work": self.work,
            "size": self.size,
            "against": self.against,
            "ratio": self.pair.ratio,
            **known,
            **share,
        }


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 9, least: float = 0.05
) -> Pair:
    """Runs both in turn, each time often enough to last ``least`` seconds."""
    counts = {}
    for work in (ours, theirs):
        work()
        began = time.perf_counter()
        work()
        counts[work] = max(1, round(least / (time.perf_counter() - began)))
    times: list[tuple[float, float]] = []
    for turn in range(rounds):
        order = (ours, theirs) if turn % 2 else (theirs, ours)
        pair = {work: _time(work, counts[work]) for work in order}
        times.append((pair[ours], pair[theirs]))
    return Pair(
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
    )


def _time(function: Callable[[], object], repeat: int) -> float:
    began = time.perf_counter()
    for _ in range(repeat):
        function()
    return (time.perf_counter() - began) / repeat
