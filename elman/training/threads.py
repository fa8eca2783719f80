"""How many threads a step is fastest with, found while training goes on."""

from __future__ import annotations

import statistics
import time
from collections import deque

import torch

#: Steps that a trial measures after one to settle in, and seconds between trials, at first and at most.
_STEPS, _SOON, _LATE = 3, 1.0, 60.0


class Threads:
    """Halves or doubles the threads for a few steps now and then, and stays with what was faster.

    A recurrent step is many small products. On many cores fewer threads may be faster; and where another
    process keeps one core busy, threads that wait for each other can cost a hundred times what they
    bring. Results depend on the number of threads in their last bits: so this is for runs that end by the
    clock, whose results depend on the machine's speed anyway.
    """

    def __init__(self) -> None:
        self.most = self.best = torch.get_num_threads()
        self._times: deque[float] = deque(maxlen=8)
        self._trial: int | None = None
        self._trial_times: list[float] = []
        self._down = True
        self._wait, self._next = _SOON, 0.0

    def stepped(self, seconds: float) -> None:
        """A step has taken so long; sets the threads of the next one."""
        if self._trial is None:
            self._times.append(seconds)
            if len(self._times) > 2 and time.monotonic() >= self._next:
                self._begin()
            return
        self._trial_times.append(seconds)
        usual, tried = statistics.median(self._times), self._trial_times[1:]  # the first step settles in
        if seconds > 3 * usual or (tried and tried[-1] > 1.5 * usual):
            self._end(False)
        elif len(tried) == _STEPS:
            self._end(statistics.median(tried) < 0.95 * usual)

    def _begin(self) -> None:
        choices = [n for n in (self.best // 2, self.best * 2) if 1 <= n <= self.most]
        if choices:
            self._trial = min(choices) if self._down else max(choices)
            self._trial_times = []
            torch.set_num_threads(self._trial)

    def _end(self, better: bool) -> None:
        assert self._trial is not None
        if better:
            self.best, self._wait = self._trial, _SOON
            self._times = deque(self._trial_times[1:], maxlen=8)
        else:
            self._down, self._wait = not self._down, min(4 * self._wait, _LATE)
        torch.set_num_threads(self.best)
        self._trial, self._next = None, time.monotonic() + self._wait

    def leave(self) -> None:
        """As many threads as before."""
        torch.set_num_threads(self.most)
