"""Print the metrics of a model, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from elman.api import load
from elman.cli.console import console
from elman.cli.info import UNDEFINED, number
from elman.data.output import check_finite, check_writable, json_line
from elman.errors import ElmanError
from elman.tasks.abilities import HasBaselines

#: The number of labels up to which the confusion matrix is printed.
_SHOWN = 20


def evaluate(
    run: str,
    data: Sequence[str],
    device: str = "cpu",
    *,
    json: bool = False,
    int8: bool = False,
    baseline: bool = False,
    plot: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> None:
    """Print the metrics of a run on files, or on the held-out part of its training data."""
    if plot is not None:
        check_writable(plot, "--plot", data)
    model = load(run, device)
    model.read_with(**(reading or {}))
    examples = model.read(data) if data else model.held_out()
    metrics = model.evaluate(examples)
    if plot is not None and "confusion" not in metrics:
        raise ElmanError(f"--plot: draws a confusion matrix, which a {model.name} model does not have")
    if int8:
        model.quantize()
        rounded = model.evaluate(examples)
        known = metrics["loss"] is not None
        metrics |= {"int8_loss": rounded["loss"], "int8_cost": rounded["loss"] - metrics["loss"] if known else None}
    if baseline:
        if not isinstance(model, HasBaselines):
            raise ElmanError(f"--baseline: a {model.name} model has none")
        metrics |= model.baselines(examples)
    check_finite(metrics, "evaluation")
    if plot is not None:
        from elman.cli.plots import confusion_picture

        confusion_picture(plot, metrics["confusion"])
    if json:
        print(json_line(metrics, "evaluation"))
        return
    for name, value in metrics.items():
        if not isinstance(value, dict):
            print(f"{name.replace('_', ' '):20} {number(value)}")
    shown = console()
    if "labels" in metrics:
        shown.print(_labels(metrics["labels"]))
    if 2 <= len(metrics.get("confusion", ())) <= _SHOWN:
        shown.print("\nconfusion matrix: a row for each true label, a column for each predicted label")
        shown.print(_confusion(metrics["confusion"]))


def _labels(labels: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=None)
    for name in ("label", "precision", "recall", "f1", "count"):
        table.add_column(name, justify="left" if name == "label" else "right")
    for name, one in labels.items():
        scores = (UNDEFINED if one[k] is None else f"{one[k]:.3f}" for k in ("precision", "recall", "f1"))
        table.add_row(name, *scores, f"{one['count']:,}")
    return table


def _confusion(confusion: dict[str, dict[str, int]]) -> Table:
    table = Table(box=None)
    for name in ("", *confusion):
        table.add_column(name, justify="right" if name else "left", max_width=8 if name else None)
    for name, said in confusion.items():
        counts = {k: f"{n:,}" for k, n in said.items()}
        table.add_row(name, *(Text(counts.get(k, "0"), "bold") if k == name else counts.get(k, "") for k in confusion))
    return table
