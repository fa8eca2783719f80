"""Choose the number of threads of a training step by measuring it while training runs."""

from __future__ import annotations

import math

import numpy as np
import torch

#: Consecutive steps with one number of threads within a trial, of which the first is not measured (threads start
#: and caches fill), and the largest number of such blocks for each of the two numbers.
_BLOCK, _BLOCKS = 4, 4
#: Seconds of training before the first trial and after each, at least; and after a trial, a multiple of what it lost.
_PAUSE, _REST = 2.0, 20.0
#: A number of threads wins if it is faster by 5% and by three standard errors. A step that takes more than four times
#: as long for its work as any with the number in use ends the trial.
_CLEAR, _ERRORS, _TOO_SLOW = math.log(1.05), 3.0, math.log(4.0)


class Threads:
    """Compare the current number of threads with others repeatedly, and keep the faster one.

    A recurrent step is many small products. On many cores fewer threads may be faster; and where another process
    keeps a core busy, threads that wait for each other can cost many times what they bring. Neighbours come and go,
    so no choice is final: trials go on as long as training does, and rest so long that they cost 5% of it.

    A trial alternates blocks of steps with the two numbers. Steps of different shapes are compared by what they do::

        log(seconds) = a + b log(units) + gain [step had the other number of threads]

    by least squares; the standard error of ``gain`` says whether it is more than chance.

    Results depend on the number of threads in their last bits, so this is for runs that end by the clock, whose
    results depend on the machine's speed anyway.
    """

    def __init__(self) -> None:
        self.maximum = self.best = torch.get_num_threads()
        self._tried = 0
        self._wait = _PAUSE
        self._other: int | None = None  # what `best` is compared with; None between trials
        self._measured: list[tuple[bool, float, float]] = []  # whether with `other`, log units, log seconds
        self._steps, self._spent = 0, 0.0

    def stepped(self, seconds: float, units: int) -> None:
        """Record the time and the units of a step, and set the number of threads of the next step."""
        self._spent += seconds
        if self._other is None:
            if self._spent >= self._wait:
                self._begin()
            return
        if self._steps % _BLOCK:
            other = torch.get_num_threads() == self._other
            self._measured.append((other, math.log(max(units, 1)), math.log(max(seconds, 1e-9))))
        self._steps += 1
        if self._too_slow():
            self._end(False)
        elif self._steps % (2 * _BLOCK) == 0:
            gain, error = self._gain()
            clear = abs(gain) > max(_CLEAR, _ERRORS * error)
            if clear or self._steps == 2 * _BLOCK * _BLOCKS:
                self._end(clear and gain > 0)
        if self._other is not None:
            torch.set_num_threads((self.best, self._other)[self._steps // _BLOCK % 2])

    def _begin(self) -> None:
        self._spent, self._steps, self._measured = 0.0, 0, []
        choices = dict.fromkeys((max(self.best // 2, 1), min(self.best * 2, self.maximum), 1, self.maximum))
        others = [count for count in choices if count != self.best]
        if others:
            self._other = others[self._tried % len(others)]

    def _too_slow(self) -> bool:
        usual = [seconds - units for other, units, seconds in self._measured if not other]
        return any(seconds - units > max(usual) + _TOO_SLOW for other, units, seconds in self._measured[-1:] if other)

    def _gain(self) -> tuple[float, float]:
        """Return the logarithm of the speed-up of the other number of threads, and its standard error."""
        other, units, seconds = np.array(self._measured).T
        terms = np.stack([other, np.ones_like(units), units - units.mean()], axis=1)
        solution, _, rank, _ = np.linalg.lstsq(terms, seconds, rcond=1e-9)
        variance = np.square(seconds - terms @ solution).sum() / (len(seconds) - rank)
        return -float(solution[0]), math.sqrt(variance * np.linalg.pinv(terms.T @ terms)[0, 0])

    def _end(self, better: bool) -> None:
        assert self._other is not None
        if better:  # there may be more to gain in the same direction
            self.best, self._wait = self._other, _PAUSE
        else:
            used = [(math.exp(seconds), math.exp(seconds - units), other) for other, units, seconds in self._measured]
            usual = float(np.mean([cost for _, cost, other in used if not other]))
            lost = sum(seconds * (1 - usual / cost) for seconds, cost, other in used if other)
            self._tried, self._wait = self._tried + 1, max(_PAUSE, self._spent + _REST * lost)
        self._other, self._spent = None, 0.0
        torch.set_num_threads(self.best)

    def leave(self) -> None:
        """Restore the number of threads from before the training."""
        torch.set_num_threads(self.maximum)
