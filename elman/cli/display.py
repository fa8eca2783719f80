"""How training looks: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from elman.cli.console import console as new_console
from elman.training.events import Ended, Event, Started, Stepped, Validated


class Display:
    """A listener that shows the events, by default on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.unit, self._begun = "", 0
        self.console = console or new_console(stderr=True)
        self._bar: Progress | None = None
        self._last_line = -1e9

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, Validated):
            self._validated(event)
        elif isinstance(event, Ended):
            self._end(event)

    def _start(self, event: Started) -> None:
        self.unit, self._begun = event.task.unit, event.step
        for label, value in event.task.about().items():
            self.console.print(Text(label, "bold") + f" {value}", soft_wrap=True)
        if event.step:
            self.console.print(f"going on after step {event.step}")
        if self.console.is_terminal:
            self._bar = Progress(
                BarColumn(None), TextColumn("{task.percentage:3.0f}% {task.description}"), console=self.console
            )
            self._task = self._bar.add_task("starting", total=1.0)
            self._bar.start()

    def _step(self, event: Stepped) -> None:
        left = event.seconds * (1 - event.progress) / max(event.progress, 1e-9)
        line = f"step {event.step}  loss {event.loss:.3f}  {_thousands(event.rate)} {self.unit}/s  {_clock(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=event.progress, description=line)
        elif time.monotonic() - self._last_line >= 10:
            self._last_line = time.monotonic()
            self._print(f"{event.progress:4.0%}  {line}")

    def _validated(self, event: Validated) -> None:
        shown = "  ".join(f"{name} {value:.4g}" for name, value in event.metrics.items() if name != self.unit)
        line = Text(f"{event.progress:4.0%}  step {event.step}  valid {shown}")
        self._print(line.append("  best", "green") if event.best else line)

    def _end(self, event: Ended) -> None:
        if self._bar is not None:
            self._bar.stop()
        if event.reason == "failed":  # the error says the rest
            return
        reasons = {
            "finished": "done",
            "early": f"stopped early: the validation {event.selected_by} no longer improves",
            "interrupted": "interrupted",
        }
        if event.reason == "finished" and event.step == self._begun > 0:
            self._print(
                f"nothing is left to do: the run has {event.step} steps in {_clock(event.seconds)} behind it; "
                "--steps or --minutes count from its beginning, so more than that goes on"
            )
            return
        value = event.best.get(event.selected_by)
        best = "" if value is None else f"; best validation {event.selected_by} {value:.4f}"
        self._print(f"{reasons[event.reason]} after {event.step} steps, {_clock(event.seconds)}{best}")

    def _print(self, line: str | Text) -> None:
        self.console.print(line, soft_wrap=True)
        sys.stderr.flush()


def _thousands(rate: float) -> str:
    return f"{rate / 1000:.0f}k" if rate >= 10_000 else f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
