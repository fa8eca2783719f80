"""Select the best validation of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Criterion(NamedTuple):
    """A metric by which validations are ranked.

    Attributes:
        metric: its name among the metrics of a validation.
        higher_is_better: True for accuracies, False for losses.
    """

    metric: str
    higher_is_better: bool = False


def rank(metrics: Mapping[str, float], criteria: Sequence[Criterion]) -> tuple[float, ...]:
    """Convert metrics to a tuple that compares greater for the better validation.

    The first criterion decides, the next ones break ties. A metric that is missing ranks below every number.

    >>> rank({"accuracy": 0.8, "loss": 0.5}, [Criterion("accuracy", True), Criterion("loss")])
    (0.8, -0.5)
    """
    values = []
    for metric, higher_is_better in criteria:
        value = metrics.get(metric)
        values.append(-math.inf if value is None else value if higher_is_better else -value)
    return tuple(values)
