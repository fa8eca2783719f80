"""How good labels are, beside the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def label_scores(truth: np.ndarray, guess: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Scores of labels, truth and guess (N, K) of 0 and 1.

    accuracy: the share of rows that are right in all labels. macro_f1: the mean of F1 over the labels that occur in
    truth or guess. labels: precision, recall, f1 and count of each. Where each row has one label, confusion: by true
    label, how often which was said.
    """
    both = (truth & guess).sum(0)
    said, true = guess.sum(0), truth.sum(0)
    f1 = 2 * both / np.maximum(said + true, 1)
    known = (said + true) > 0
    scores: dict[str, Any] = {
        "accuracy": float((truth == guess).all(1).mean()),
        "macro_f1": float(f1[known].mean()) if known.any() else 0.0,
        "labels": {
            name: {
                "precision": float(both[k] / max(said[k], 1)),
                "recall": float(both[k] / max(true[k], 1)),
                "f1": float(f1[k]),
                "count": int(true[k]),
            }
            for k, name in enumerate(names)
        },
    }
    if (truth.sum(1) == 1).all() and (guess.sum(1) == 1).all():
        matrix = np.zeros((len(names), len(names)), dtype=int)
        np.add.at(matrix, (truth.argmax(1), guess.argmax(1)), 1)
        scores["confusion"] = {
            name: {names[j]: int(n) for j, n in enumerate(row) if n} for name, row in zip(names, matrix, strict=True)
        }
    return scores
