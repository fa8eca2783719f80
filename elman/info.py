"""What a run directory holds, for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from elman.start import load
from elman.training.run import LAST, Run


def info(run: str) -> None:
    """Prints task, data, options, sizes, and how far the training got."""
    model = load(run)
    console = Console(highlight=False)
    console.print(f"[bold]{run}[/]: a {model.name} model")
    for label, value in model.about().items():
        console.print(f"{label}: {value}", soft_wrap=True)
    directory = Run(run)
    if (directory.path / LAST).exists():
        _, about = directory.read_tensors(LAST)
        progress = about.get("progress", {"step": 0, "seconds": 0, "best": {}})
        console.print(f"trained: {progress['step']:,} steps in {progress['seconds']:.0f} s")
        for name, value in progress["best"].items():
            console.print(f"held out, {name.replace('_', ' ')}: {number(value)}")
    for title, rows in (
        ("options", [(key, str(value)) for key, value in model.config.model_dump().items()]),
        ("parameters", [(key, " x ".join(map(str, p.shape))) for key, p in model.network.named_parameters()]),
    ):
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def number(value: float | str) -> str:
    """A metric as people read it."""
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
