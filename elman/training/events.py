"""The events of a training, which the trainer passes to its listeners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from elman.training.model import Model


@dataclass(frozen=True)
class Started:
    """Training of ``model`` starts, or resumes, at ``step``."""

    step: int
    model: Model


@dataclass(frozen=True)
class Stepped:
    """Steps were made; values are means over the steps since the last such event.

    Attributes:
        progress: the completed fraction of the run, 0 to 1.
        seconds: the time of training so far, including the parts before resuming.
        rate: units, such as tokens, per second.
    """

    step: int
    progress: float
    seconds: float
    loss: float
    gradient_norm: float
    learning_rate: float
    rate: float


@dataclass(frozen=True)
class Validated:
    """A validation was made; ``best`` is whether it ranks above all before it."""

    step: int
    progress: float
    seconds: float
    metrics: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written, from which the run can be resumed."""

    step: int
    path: Path


@dataclass(frozen=True)
class Ended:
    """Training has ended.

    Attributes:
        reason: finished, early (early stopping), interrupted, or failed.
        best: the metrics of the best validation.
        selected_by: the metric by which the best validation was selected.
    """

    step: int
    seconds: float
    reason: str
    best: dict[str, float] = field(default_factory=dict)
    selected_by: str = "loss"


Event = Started | Stepped | Validated | Saved | Ended
Listener = Callable[[Event], None]
