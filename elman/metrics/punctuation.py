"""Metrics of restored punctuation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from elman.metrics.labels import f1, macro_f1, precision, recall
from elman.metrics.texts import share


def punctuation_scores(
    truth: np.ndarray, predicted: np.ndarray, marks: Sequence[str], ends: Collection[str]
) -> dict[str, Any]:
    """Compute F1 of marks and of sentence ends.

    F1 = 2 * correct / (true + predicted); a mark is correct where the same mark follows the same word.

    Parameters
    ----------
    truth, predicted : ndarray of shape (N,)
        The number of the mark after each word; 0 for none.
    marks : sequence of str
        The names of the marks, by number; the first stands for none.
    ends : collection of str
        The marks that end a sentence.

    Returns
    -------
    dict
        ``mark_f1`` over all marks (micro-averaged), ``macro_mark_f1``, the mean over the marks that occur in the truth
        or the predictions, ``sentence_f1``, for which all marks that end a sentence are the same; and ``labels``, with
        the ``precision``, ``recall``, ``f1`` and ``count`` of each mark. None for what is undefined.

    Examples
    --------
    >>> scores = punctuation_scores(np.array([0, 1, 2]), np.array([2, 1, 1]), ["", ".", ","], ".")
    >>> scores["mark_f1"], scores["labels"]["."]["recall"]
    (0.4, 1.0)
    """
    numbers = np.arange(1, len(marks))
    true, said = truth[:, None] == numbers, predicted[:, None] == numbers
    columns = zip(marks[1:], precision(true, said), recall(true, said), f1(true, said), true.sum(0), strict=True)
    ending = np.array([mark in set(ends) for mark in marks])
    (sentence,) = f1(ending[truth][:, None], ending[predicted][:, None])
    return {
        "mark_f1": share(2 * (true & said).sum(), true.sum() + said.sum()),
        "macro_mark_f1": macro_f1(true, said),
        "sentence_f1": sentence,
        "labels": {name: {"precision": p, "recall": r, "f1": f, "count": int(n)} for name, p, r, f, n in columns},
    }
