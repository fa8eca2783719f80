"""What the trainer says while it works. It draws and writes nothing itself."""

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
    """Some steps were made. Means over the steps since the last such event.

    Attributes:
        progress: the share of the run that is done, 0 to 1.
        seconds: time spent in training so far, over all resumed parts.
        rate: units (tokens, for a language model) a second.
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
    """The held-out data were looked at; ``metrics`` has ``loss`` and whatever else the task knows."""

    step: int
    progress: float
    seconds: float
    metrics: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Saved:
    """The run can go on from here, whatever happens."""

    step: int
    path: Path


@dataclass(frozen=True)
class Ended:
    """Training is over.

    Attributes:
        reason: finished, early (no validation was better for long), interrupted, failed.
        best: the metrics of the best validation.
        selected_by: the metric that decided which validation that is.
    """

    step: int
    seconds: float
    reason: str
    best: dict[str, float] = field(default_factory=dict)
    selected_by: str = "loss"


Event = Started | Stepped | Validated | Saved | Ended
Listener = Callable[[Event], None]
