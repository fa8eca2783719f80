"""Metrics of classification with one or several labels for each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.metrics.texts import share


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """Compute the accuracy, the fraction of rows whose labels are all correct.

    With several labels for each row this is the subset accuracy, also called exact match ratio.

    Parameters
    ----------
    truth, predicted : ndarray of shape (N, K)
        1 for each label of a row, else 0.

    Returns
    -------
    float or None
        Between 0 and 1; None without rows.

    Examples
    --------
    >>> accuracy(np.array([[1, 0], [0, 1]]), np.array([[1, 0], [1, 0]]))
    0.5
    """
    return share((truth == predicted).all(1).sum(), len(truth))


def precision(truth: np.ndarray, predicted: np.ndarray) -> list[float | None]:
    """Compute the precision of each label: true positives / predicted positives.

    Parameters
    ----------
    truth, predicted : ndarray of shape (N, K)
        1 for each label of a row, else 0.

    Returns
    -------
    list of (float or None)
        Between 0 and 1 for each label; None for a label that was never predicted.
    """
    correct, positives = (truth & predicted).sum(0), predicted.sum(0)
    return [share(*pair) for pair in zip(correct, positives, strict=True)]


def recall(truth: np.ndarray, predicted: np.ndarray) -> list[float | None]:
    """Compute the recall of each label: true positives / positives.

    Parameters
    ----------
    truth, predicted : ndarray of shape (N, K)
        1 for each label of a row, else 0.

    Returns
    -------
    list of (float or None)
        Between 0 and 1 for each label; None for a label that no row has.
    """
    correct, positives = (truth & predicted).sum(0), truth.sum(0)
    return [share(*pair) for pair in zip(correct, positives, strict=True)]


def f1(truth: np.ndarray, predicted: np.ndarray) -> list[float | None]:
    """Compute F1 of each label, the harmonic mean of precision and recall.

    F1 = 2 * true positives / (positives + predicted positives)

    Parameters
    ----------
    truth, predicted : ndarray of shape (N, K)
        1 for each label of a row, else 0.

    Returns
    -------
    list of (float or None)
        Between 0 and 1 for each label; None for a label that no row has and that was never predicted.
    """
    correct, positives = (truth & predicted).sum(0), predicted.sum(0) + truth.sum(0)
    return [share(2 * both, either) for both, either in zip(correct, positives, strict=True)]


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """Compute macro F1, the unweighted mean of F1 over the labels that occur in the truth or the predictions.

    Parameters
    ----------
    truth, predicted : ndarray of shape (N, K)
        1 for each label of a row, else 0.

    Returns
    -------
    float or None
        Between 0 and 1; None if no label occurs.
    """
    defined = [score for score in f1(truth, predicted) if score is not None]
    return share(sum(defined), len(defined))


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count how often each label was predicted for each true label.

    Parameters
    ----------
    truth, predicted : ndarray of shape (N, K)
        1 for the only label of a row, else 0.

    Returns
    -------
    ndarray of shape (K, K)
        Counts; rows are true labels and columns are predicted labels.
    """
    K = truth.shape[1]
    matrix = np.zeros((K, K), dtype=int)
    np.add.at(matrix, (truth.argmax(1), predicted.argmax(1)), 1)
    return matrix


def label_scores(truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Compute all metrics of classification.

    Parameters
    ----------
    truth, predicted : ndarray of shape (N, K)
        1 for each label of a row, else 0.
    names : sequence of str
        The names of the K labels.

    Returns
    -------
    dict
        ``accuracy`` and ``macro_f1``; ``labels``, with the ``precision``, ``recall``, ``f1`` and ``count`` of each
        label; and, if each row has one label, ``confusion``, the nonzero counts of the confusion matrix by true label
        and predicted label. Metrics that are undefined are None.

    Examples
    --------
    >>> scores = label_scores(np.array([[1, 0], [0, 1]]), np.array([[1, 0], [1, 0]]), ["neg", "pos"])
    >>> scores["accuracy"], scores["confusion"]
    (0.5, {'neg': {'neg': 1}, 'pos': {'neg': 1}})
    """
    columns = zip(
        names, precision(truth, predicted), recall(truth, predicted), f1(truth, predicted), truth.sum(0), strict=True
    )
    scores: dict[str, Any] = {
        "accuracy": accuracy(truth, predicted),
        "macro_f1": macro_f1(truth, predicted),
        "labels": {name: {"precision": p, "recall": r, "f1": f, "count": int(n)} for name, p, r, f, n in columns},
    }
    if (truth.sum(1) == 1).all() and (predicted.sum(1) == 1).all():
        scores["confusion"] = {
            name: {names[j]: int(n) for j, n in enumerate(row) if n}
            for name, row in zip(names, confusion_matrix(truth, predicted), strict=True)
        }
    return scores
