"""Show the gates and states of recurrent layers over time, and the norm of the gradient at each step."""

from __future__ import annotations

from typing import Any

import torch
from rich.table import Table

from elman.api import load
from elman.cli.console import console
from elman.data.inputs import is_file_argument
from elman.data.output import check_writable
from elman.errors import ElmanError
from elman.layers.recorder import Recorded, Recorder
from elman.tasks.abilities import Describes
from elman.training.model import Model


def inspect(run: str, text: str, out: str, layer: str | None = None) -> None:
    """Draw the recurrent layers of a model for one input, and print the gradient norm of each step."""
    from elman.cli.plots import inside_picture

    check_writable(out, "--out", [text])
    model = load(run)
    if not model.reads_paths and is_file_argument(text):
        raise ElmanError(f"{text}: this is a file; give a text")
    pieces, layers = record(model, text)
    names = [one.layer for one in layers]
    if layer is not None:
        if layer not in names:
            raise ElmanError(f"--layer: {layer!r} is not one of {', '.join(names)}")
        layers = [one for one in layers if one.layer == layer]
    inside_picture(out, pieces, layers)
    shown, gradients = console(), [one.gradients() for one in layers]
    if isinstance(model, Describes) and (line := model.describe(text)):
        shown.print(line, soft_wrap=True)
    table = Table(box=None)
    for name in ("step", "input", *(f"|dLoss/dh| {one.layer}" for one in layers)):
        table.add_column(name, justify="left" if name == "input" else "right")
    steps = max(map(len, gradients))
    for t in range(steps):
        norms = [f"{float(g[t]):.2e}" if t < len(g) else "" for g in gradients]
        table.add_row(str(t + 1), pieces[t].strip() if len(pieces) == steps else "", *norms)
    shown.print(table)
    shown.print(f"written to {out}", soft_wrap=True)


def record(model: Model, given: Any) -> tuple[list[str], list[Recorded]]:
    """Return the pieces of an input, and what each recurrent layer computed for it.

    The gradients are those of the loss of the model's own answer.

    Raises:
        ElmanError: the model has no recurrent layer that reads one sequence.
    """
    network = model.network
    network.eval()
    with torch.enable_grad(), Recorder(network) as recorder:
        pieces, loss = model.probe(given)
        loss.backward()
    network.zero_grad(set_to_none=True)
    layers = recorder.layers()
    if not layers:
        raise ElmanError(f"this {model.name} model has no recurrent layer that reads the input as one sequence")
    return list(pieces), layers
