"""Listeners that write metrics.jsonl and TensorBoard files."""

from __future__ import annotations

import dataclasses

from elman.data.output import json_line
from elman.errors import ElmanError
from elman.training.events import Ended, Event, Listener, Stepped, Validated
from elman.training.run import METRICS, Run


def jsonl(run: Run) -> Listener:
    """Return a listener that writes {"event": "step" | "validation" | "end", "step": ..., ...} for each event."""
    names = {Stepped: "step", Validated: "validation", Ended: "end"}

    def listen(event: Event) -> None:
        if name := names.get(type(event)):
            values = {"event": name, **dataclasses.asdict(event)}
            values |= values.pop("metrics", {})
            run.append(METRICS, json_line(values, "the training"))

    return listen


def tensorboard(run: Run) -> Listener:
    """Return a listener that writes TensorBoard files into the run: ``tensorboard --logdir RUN``."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ElmanError("tensorboard: the package is missing; pip install 'elman[tensorboard]'") from None
    writer = SummaryWriter(str(run.path))

    def listen(event: Event) -> None:
        if isinstance(event, Stepped):
            for name in ("loss", "gradient_norm", "learning_rate", "rate"):
                writer.add_scalar(f"train/{name}", getattr(event, name), event.step)
        elif isinstance(event, Validated):
            for name, value in event.metrics.items():
                writer.add_scalar(f"valid/{name}", value, event.step)
            writer.flush()
        elif isinstance(event, Ended):
            writer.close()

    return listen
