"""Encoded examples, and what is learnt of inputs and labels."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from elman.media import Medium
from elman.training.recipe import Learnt

LABELS = "labels.json"


class Labels(Learnt):
    """The labels, and what the medium has learnt.

    Args:
        names (list[str]): the labels, in the order of the network's outputs.
        several (bool): whether an input can have several labels.
        medium (Medium): the medium of the inputs.
    """

    medium: Medium

    def __init__(self, names: list[str], several: bool, medium: Medium) -> None:
        self.names, self.several, self.medium = names, several, medium

    def files(self) -> dict[str, str | bytes]:
        record = {"labels": self.names, "several": self.several, "medium": self.medium.name}
        record |= self.medium.state().model_dump()
        labels: dict[str, str | bytes] = {LABELS: json.dumps(record, ensure_ascii=False, indent=1) + "\n"}
        return labels | self.medium.files()


class Examples(NamedTuple):
    """Inputs and labels as numbers.

    Attributes:
        rows: what the medium makes of each input: ids (T,), numbers (T, C), ...
        labels: (N, K + U) of 0 and 1; the last U are labels that the model does not know.
        unseen: the names of these U labels.
        texts: the inputs where they are texts.
        places: the origin of each input.
    """

    rows: list[Any]
    labels: np.ndarray
    unseen: list[str]
    texts: list[str]
    places: list[str]
