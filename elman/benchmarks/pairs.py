"""Timing of two functions in alternating runs, so that noise on the machine affects both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Pair(NamedTuple):
    """The result of `side_by_side`.

    Attributes:
        ours: median time of elman per call, in seconds.
        theirs: median time of the peer per call, in seconds.
        ratio: median of theirs / ours over adjacent runs. Higher is better.
    """

    ours: float
    theirs: float
    ratio: float


class Row(NamedTuple):
    """One row of a benchmark's table.

    Attributes:
        work: name of the measured work.
        size: its size.
        against: name of the peer.
        pair: the times and the ratio.
        share: elman's operations per second divided by the peak of the machine; None if it does not apply.
    """

    work: str
    size: str
    against: str
    pair: Pair
    share: float | None = None

    @classmethod
    def mean(cls, work: str, against: str, ratios: Sequence[float]) -> Row:
        """Build a row with the geometric mean of ratios.

        Args:
            work: name of the measured work.
            against: name of the peer.
            ratios: the ratios of the rows.

        Returns:
            A row without times.

        Example:
            >>> Row.mean("LSTM", "torch.nn.LSTM", [2.0, 8.0]).pair.ratio
            4.0
        """
        return cls(work, "geometric mean", against, Pair(float("nan"), float("nan"), statistics.geometric_mean(ratios)))

    def record(self) -> dict[str, object]:
        """Return the row as a dictionary for JSON. Values that do not apply are omitted."""
        times = (
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
            **times,
            **share,
        }


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 9, min_seconds: float = 0.05
) -> Pair:
    """Time two functions in alternating runs.

    Args:
        ours: the function of elman.
        theirs: the function of the peer.
        rounds: number of runs of each. Default: 9.
        min_seconds: approximate duration of one run. Short functions are called repeatedly. Default: 0.05.

    Returns:
        The medians.

    Example:
        >>> pair = side_by_side(lambda: sum(range(1000)), lambda: sum(range(2000)))
        >>> pair.ratio  # doctest: +SKIP
        2.03
    """
    repeats = {}
    for work in (ours, theirs):
        work()
        start = time.perf_counter()
        work()
        repeats[work] = max(1, round(min_seconds / (time.perf_counter() - start)))
    times: list[tuple[float, float]] = []
    for k in range(rounds):
        order = (ours, theirs) if k % 2 else (theirs, ours)
        pair = {work: _time(work, repeats[work]) for work in order}
        times.append((pair[ours], pair[theirs]))
    return Pair(
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
    )


def _time(function: Callable[[], object], repeats: int) -> float:
    """Return the mean seconds per call."""
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats
