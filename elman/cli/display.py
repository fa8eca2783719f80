"""The progress of a training on a terminal: a bar, and lines above it."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from elman.cli.console import console as new_console
from elman.training.events import Ended, Event, Started, Stepped, Validated
from elman.training.progress import Describe

#: Seconds between the lines about steps where there is no bar.
_EVERY = 10.0


class Display:
    """A listener that shows the events of a training.

    Args:
        console (Console, optional): where to show them. Default: standard error. A bar is shown on a terminal only;
            elsewhere a line every ten seconds.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or new_console(stderr=True)
        self._describe = Describe()
        self._bar: Progress | None = None
        self._printed = -1e9

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, Validated):
            line = Text(self._describe.validated(event))
            self._print(line.append("  best", "green") if event.best else line)
        elif isinstance(event, Ended):
            self._end(event)

    def _start(self, event: Started) -> None:
        for label, value in self._describe.started(event):
            self.console.print(Text(label, "bold") + f" {value}", soft_wrap=True)
        if self.console.is_terminal:
            self._bar = Progress(
                BarColumn(None), TextColumn("{task.percentage:3.0f}% {task.description}"), console=self.console
            )
            self._task = self._bar.add_task("starting", total=1.0)
            self._bar.start()

    def _step(self, event: Stepped) -> None:
        line = self._describe.stepped(event)
        if self._bar is not None:
            self._bar.update(self._task, completed=event.progress, description=line)
        elif time.monotonic() - self._printed >= _EVERY:
            self._printed = time.monotonic()
            self._print(f"{event.progress:4.0%}  {line}")

    def _end(self, event: Ended) -> None:
        if self._bar is not None:
            self._bar.stop()
        if text := self._describe.ended(event):
            self._print(text)

    def _print(self, line: str | Text) -> None:
        self.console.print(line, soft_wrap=True)
        sys.stderr.flush()
