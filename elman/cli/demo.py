"""``elman demo``: train a language model on the text that every Python installation contains."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from pydoc_data.topics import topics
from shlex import quote

from rich.console import Console

from elman import tasks
from elman.api import train
from elman.cli.console import console as new_console
from elman.cli.display import Display
from elman.errors import ElmanError
from elman.training.events import Event, Listener, Started, Validated
from elman.training.run import Run

#: The fractions of the run after which a sample is printed, and the prompt of a sample.
_SHOWN, _PROMPT = (0.1, 0.3, 0.6, 1.0), "The "


def demo(out: str, minutes: float) -> None:
    """Train on the documentation topics of this Python, print samples as they improve, and suggest next commands."""
    console = new_console()
    run = Run(out)
    with run.claim():
        if run.exists():
            raise ElmanError(f"{out}: holds a run already; choose another --out")
        text = "\n\n".join(topics[name] for name in sorted(topics))
        run.write("topics.txt", text)
        time = f"{minutes:g} minute{'s' if minutes != 1 else ''}"
        console.print(
            f"A recurrent network reads the documentation of this Python ({len(text):,} characters of English),\n"
            f"one character at a time, for {time}.\n",
            soft_wrap=True,
        )
        listeners: list[Listener] = [Display(console), _Samples(console)]
        data = str(run.path / "topics.txt")
        train(tasks.DEMO, data, out=run, minutes=minutes, progress=False, listeners=listeners)
    elman, line = _command(), "  {:<53} {}"
    console.print(f"\nThe model is in {out}. What next:\n", soft_wrap=True)
    for command, what in (
        (f'generate {quote(out)} "The with statement"', "continue a text"),
        (f"evaluate {quote(out)}", "compute metrics on held-out text"),
        ("train language YOUR.txt --minutes 5", "train on your own text"),
        ("train language --help", "list all options"),
    ):
        console.print(line.format(f"{elman} {command}", what), soft_wrap=True)


def _command() -> str:
    """Return how elman can be called from here."""
    if shutil.which("elman"):
        return "elman"
    script = Path(sys.argv[0])
    return os.path.relpath(script) if script.name == "elman" else "python -m elman"


class _Samples:
    """Print what the model generates, at some of the validations."""

    def __init__(self, console: Console) -> None:
        self.console, self.left = console, list(_SHOWN)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.model = event.model
        elif isinstance(event, Validated) and self.left and event.progress >= self.left[0] - 1e-6:
            while self.left and event.progress >= self.left[0] - 1e-6:
                self.left.pop(0)
            text = self.model.generate(_PROMPT, max_new_tokens=240, seed=1)  # type: ignore[attr-defined]
            self.console.rule(f"a sample after {event.seconds:.0f} s", align="left")
            self.console.print(text + "\n", soft_wrap=True)
