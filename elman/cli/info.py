"""Describe a run directory."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from elman.api import load
from elman.cli.console import console
from elman.training.checkpoint import Checkpoint
from elman.training.run import LAST, Run

#: What is printed for a metric over nothing, such as the precision of a label that was never predicted.
UNDEFINED = "undefined"


def info(run: str) -> None:
    """Print task, data, options, parameters, and the state of the training."""
    model = load(run)
    shown = console()
    shown.print(Text(run, "bold") + f": a {model.name} model", soft_wrap=True)
    for label, value in model.about().items():
        shown.print(f"{label}: {value}", soft_wrap=True)
    directory = Run(run)
    if (directory.path / LAST).exists():
        progress = Checkpoint(directory).about.progress
        shown.print(f"trained: {progress.step:,} steps in {progress.seconds:.0f} s")
        for name, value in progress.best.items():
            shown.print(f"validation {name.replace('_', ' ')}: {number(value)}")
    for title, rows in (
        ("options", [(key, str(value)) for key, value in model.config.model_dump().items()]),
        ("parameters", [(key, " x ".join(map(str, p.shape))) for key, p in model.network.named_parameters()]),
    ):
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        for row in rows:
            table.add_row(*row)
        shown.print(table)


def number(value: float | str | None) -> str:
    """Format a metric; None is one over nothing."""
    if value is None:
        return UNDEFINED
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
