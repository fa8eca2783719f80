"""How good labels are, beside the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.metrics.texts import share


def label_scores(truth: np.ndarray, guess: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Scores of labels, truth and guess (N, K) of 0 and 1.

    accuracy: the share of rows that are right in all labels. macro_f1: the mean of F1 over the labels that occur in
    truth or guess. labels: precision, recall, f1 and count of each. Where each row has one label, confusion: by true
    label, how often which was said.

    None stands for what is over nothing: the precision of a label that was never said, the recall of one that no row
    has, the F1 of one that is neither.
    """
    both = (truth & guess).sum(0)
    said, true = guess.sum(0), truth.sum(0)
    f1 = [share(2 * both[k], said[k] + true[k]) for k in range(len(names))]
    known = [one for one in f1 if one is not None]
    scores: dict[str, Any] = {
        "accuracy": share((truth == guess).all(1).sum(), len(truth)),
        "macro_f1": share(sum(known), len(known)),
        "labels": {
            name: {
                "precision": share(both[k], said[k]),
                "recall": share(both[k], true[k]),
                "f1": f1[k],
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
