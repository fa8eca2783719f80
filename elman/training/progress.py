"""The progress of a training as lines of text."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from elman.training.events import Ended, Event, Started, Stepped, Validated

#: Seconds between the lines about steps where they are not overwritten.
_EVERY = 10.0


class Describe:
    """Describe the events of one training in words."""

    def __init__(self) -> None:
        self.unit, self._first_step = "", 0

    def started(self, event: Started) -> list[tuple[str, str]]:
        """Return lines about data and model, each with its label."""
        self.unit, self._first_step = event.model.unit, event.step
        lines = list(event.model.about().items())
        return [*lines, ("resumed", f"at step {event.step}")] if event.step else lines

    def stepped(self, event: Stepped) -> str:
        """Return loss, speed and remaining time."""
        left = event.seconds * (1 - event.progress) / max(event.progress, 1e-9)
        rate = f"{_thousands(event.rate)} {self.unit}/s"
        return f"step {event.step}  loss {event.loss:.3f}  {rate}  {_clock(left)} left"

    def validated(self, event: Validated) -> str:
        """Return the metrics of a validation."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in event.metrics.items() if name != self.unit)
        return f"{event.progress:4.0%}  step {event.step}  valid {shown}"

    def ended(self, event: Ended) -> str:
        """Return how the training ended; nothing where an error says it."""
        if event.reason == "failed":
            return ""
        if event.reason == "finished" and event.step == self._first_step > 0:
            return (
                f"nothing left to do: the run has {event.step} steps and {_clock(event.seconds)}; --steps and "
                "--minutes count from its start, larger values continue it"
            )
        reasons = {
            "finished": "done",
            "early": f"stopped early: the validation {event.selected_by} no longer improves",
            "interrupted": "interrupted",
        }
        value = event.best.get(event.selected_by)
        best = "" if value is None else f"; best validation {event.selected_by} {value:.4f}"
        return f"{reasons[event.reason]} after {event.step} steps, {_clock(event.seconds)}{best}"


class Progress:
    """A listener that prints events as lines of text.

    Args:
        stream (TextIO, optional): where to print. Default: standard error. On a terminal the line about steps is
            overwritten; elsewhere there is one every ten seconds.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._describe = Describe()
        self._printed = -1e9
        self._width = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            for label, value in self._describe.started(event):
                self._print(f"{label} {value}")
        elif isinstance(event, Stepped):
            self._step(f"{event.progress:4.0%}  {self._describe.stepped(event)}")
        elif isinstance(event, Validated):
            self._print(self._describe.validated(event) + ("  best" if event.best else ""))
        elif isinstance(event, Ended) and (text := self._describe.ended(event)):
            self._print(text)

    def _step(self, line: str) -> None:
        stream = self._stream or sys.stderr
        if stream.isatty():
            stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
            stream.flush()
        elif time.monotonic() - self._printed >= _EVERY:
            self._printed = time.monotonic()
            self._print(line)

    def _print(self, line: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(("\r" if self._width else "") + line.ljust(self._width) + "\n")
        self._width = 0
        stream.flush()


def _thousands(rate: float) -> str:
    return f"{rate / 1000:.0f}k" if rate >= 10_000 else f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
