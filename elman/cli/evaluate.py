"""Print the metrics of a model, as a table or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import polars
import torch
from rich.table import Table
from rich.text import Text

from elman.api import load
from elman.chains import chain, is_chain
from elman.cli.console import console
from elman.cli.info import UNDEFINED, number
from elman.data.inputs import InputTable, check_output, write_output
from elman.data.output import check_finite, check_writable, json_line
from elman.errors import ElmanError
from elman.tasks.abilities import Answered, Answers, HasBaselines

#: The number of labels up to which the confusion matrix is printed.
_SHOWN = 20


def evaluate(
    run: str,
    data: Sequence[str],
    device: str = "cpu",
    *,
    json: bool = False,
    int8: bool = False,
    bf16: bool = False,
    baseline: bool = False,
    plot: str | None = None,
    answers: str | None = None,
    reading: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
) -> None:
    """Print the metrics of a run on files, or on the held-out part of its training data.

    Args:
        run: the run directory.
        data: the files.
        device: cpu, cuda, ...
        json: print one JSON object.
        int8: also with int8 weights.
        bf16: also with bfloat16 weights.
        baseline: also of baselines.
        plot: the file to draw the confusion matrix to.
        answers: the file to write the answer to each example to.
        reading: the options of ``model.read_with``.
        search: the options of ``model.search_with``.
    """
    if is_chain(run):
        options = {"--int8": int8, "--bf16": bf16, "--baseline": baseline, "--plot": plot, "--answers": answers}
        for option, given in options.items():
            if given:
                raise ElmanError(f"{option}: is for a run; {run} names a chain of runs")
        _evaluate_chain(run, data, device, json, reading or {})
        return
    to = rounding(int8, bf16)
    if plot is not None:
        check_writable(plot, "--plot", data)
    if answers is not None:
        check_output(answers, "--answers")
    model = load(run, device)
    if answers is not None and not isinstance(model, Answers):
        raise ElmanError(f"--answers: a {model.name} model does not write texts")
    model.read_with(**(reading or {}))
    if search and isinstance(model, Answers):
        model.search_with(**search)
    examples = model.read(data) if data else model.held_out()
    metrics = model.evaluate(examples)
    if plot is not None and "confusion" not in metrics:
        raise ElmanError(f"--plot: draws a confusion matrix, which a {model.name} model does not have")
    if to is not None:
        model.quantize(to)
        name, loss, before = "int8" if int8 else "bf16", model.evaluate(examples)["loss"], metrics["loss"]
        metrics |= {f"{name}_loss": loss, f"{name}_cost": None if before is None else loss - before}
    if baseline:
        if not isinstance(model, HasBaselines):
            raise ElmanError(f"--baseline: a {model.name} model has none")
        metrics |= model.baselines(examples)
    check_finite(metrics, "evaluation")
    if plot is not None:
        from elman.cli.plots import confusion_picture

        confusion_picture(plot, metrics["confusion"])
    if answers is not None and isinstance(model, Answers):
        _write_answers(answers, model.answered(examples))
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


def rounding(int8: bool, bf16: bool) -> torch.dtype | None:
    """Return the dtype that the options --int8 and --bf16 ask for; None for none of them."""
    if int8 and bf16:
        raise ElmanError("--int8, --bf16: weights can be rounded to one of them; leave one out")
    return torch.int8 if int8 else torch.bfloat16 if bf16 else None


def _write_answers(path: str, answered: Sequence[Answered]) -> None:
    """Write a table with the columns input, target and predicted."""
    columns = {name: [getattr(one, name) for one in answered] for name in ("input", "target")}
    table = InputTable(path, polars.DataFrame(columns), columns["input"])
    rows = [{"predicted": one.predicted} for one in answered]
    write_output(path, table.with_predictions(path, rows), "--answers")
    print(f"answers to {len(answered):,} examples in {path}", file=sys.stderr)


def _evaluate_chain(path: str, data: Sequence[str], device: str, json: bool, reading: Mapping[str, Any]) -> None:
    """Print the metrics of every stage of a chain that has references."""
    if not data:
        raise ElmanError(f"{path}: name a table to evaluate the chain on")
    model = chain(path, device=device)
    if any(value is not None for value in reading.values()):
        model.read_with(**reading)
    scores = model.evaluate(data)
    check_finite(scores, "evaluation")
    if json:
        print(json_line(scores, "evaluation"))
        return
    for stage in scores["stages"]:
        alone = stage.get("alone", {})
        print(f"stage {stage['stage']}: {stage['task']}, {stage['run']}, compared with {stage['reference']!r}")
        if alone:
            print(f"{'':20} {'in the chain':14}  on the right inputs")
        for name, value in stage["in_chain"].items():
            other = f"  {number(alone[name])}" if name in alone and not isinstance(value, str) else ""
            print(f"{name.replace('_', ' '):20} {number(value):14}{other}".rstrip())
        print()
    for name in ("examples", "unanswered"):
        print(f"{name:20} {number(scores[name])}")


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
