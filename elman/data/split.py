"""Split data into training and validation data, and choose rows for a quick evaluation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

#: The maximum number of rows that are held out.
MAX_HELD_OUT = 2000


def hold_out(
    count: int, fraction: float, labels: Sequence[tuple[str, ...]] = (), groups: Sequence[str] = ()
) -> tuple[list[int], list[int]]:
    """Split rows into training rows and held-out rows. The split is the same in every call.

    - With groups, whole groups are held out. A group that has all remaining examples of a label is not held out.
    - With one label for each row, the split is stratified: it keeps the proportions of the labels. A label with a
      single row is not held out.
    - Otherwise, rows are drawn at random.

    Args:
        count (int): The number of rows.
        fraction (float): The fraction of rows to hold out; at least one and at most 2,000 rows are held out.
        labels (Sequence[tuple[str, ...]]): The labels of each row. Default: none.
        groups (Sequence[str]): The group of each row; groups are used if any name is not empty. Default: none.

    Returns:
        tuple[list[int], list[int]]: The indices of the training rows and of the held-out rows, sorted.

    Example::

        >>> train, held_out = hold_out(10, 0.2)
        >>> len(train), len(held_out)
        (8, 2)
    """
    generator, target = np.random.default_rng(0), max(1, min(MAX_HELD_OUT, round(count * fraction)))
    if any(groups):
        rows = _choose_groups(labels, groups, target, generator)
    elif labels and all(len(label) == 1 for label in labels):
        rows = _choose_stratified(labels, target, generator)
    else:
        rows = sorted(generator.choice(count, min(target, max(0, count - 1)), replace=False).tolist())
    chosen = set(rows)
    return [k for k in range(count) if k not in chosen], rows


def _choose_groups(
    labels: Sequence[tuple[str, ...]], groups: Sequence[str], target: int, generator: np.random.Generator
) -> list[int]:
    """Return the rows of randomly chosen groups with at most ``target`` rows, or of the smallest group possible."""
    sizes = Counter(groups)
    labels_of: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        labels_of[group].update(label)
    remaining = sum(labels_of.values(), Counter())
    names = sorted(sizes)
    order = [names[k] for k in generator.permutation(len(names))]
    held_out: set[str] = set()
    count = 0
    for fits in (True, False):  # if no group is small enough, take the smallest
        for name in order if fits else sorted(order, key=lambda n: sizes[n]):
            exhausts_label = any(remaining[label] == number for label, number in labels_of[name].items())
            too_many = count + sizes[name] > target if fits else count > 0
            if exhausts_label or too_many or len(held_out) == len(names) - 1:
                continue
            held_out.add(name)
            count += sizes[name]
            remaining -= labels_of[name]
    return [k for k, group in enumerate(groups) if group in held_out]


def _choose_stratified(labels: Sequence[tuple[str, ...]], target: int, generator: np.random.Generator) -> list[int]:
    """Return rows in the proportions of their labels, at least one of each label that has two."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for k, (label,) in enumerate(labels):
        rows_of[label].append(k)
    share, first, more = target / len(labels), [], []
    for label in sorted(rows_of):
        rows = rows_of[label]
        drawn = [rows[k] for k in generator.permutation(len(rows))]
        count = min(len(rows) - 1, max(1, round(share * len(rows))))
        first += drawn[:1] if count else []
        more += drawn[1:count]
    if len(first) > target:  # more labels than rows to hold out
        return sorted(first[k] for k in generator.permutation(len(first))[:target])
    return sorted(first + [more[k] for k in generator.permutation(len(more))[: target - len(first)]])


def evenly_spaced(lengths: Sequence[int] | np.ndarray, limit: int | None) -> np.ndarray:
    """Choose rows at equal distances that have about ``limit`` steps in total.

    Args:
        lengths (Sequence[int] | numpy.ndarray): The number of steps of each row, (N,).
        limit (int, optional): The number of steps. ``None``: all rows.

    Returns:
        numpy.ndarray: The indices of the rows; at least one.

    Example::

        >>> evenly_spaced([5] * 10, 15)
        array([0, 4, 9])
    """
    sizes = np.asarray(lengths)
    if limit is None or sizes.sum() <= limit:
        return np.arange(len(sizes))
    count = max(1, int(len(sizes) * limit / sizes.sum()))
    return np.unique(np.linspace(0, len(sizes) - 1, count).astype(int))


def hold_out_groups(groups: Sequence[str], fraction: float) -> set[str] | None:
    """Choose groups to hold out, always the same ones.

    Args:
        groups (Sequence[str]): the group of each row.
        fraction (float): The fraction of the groups, at most `MAX_HELD_OUT` of them.

    Returns:
        set[str]: the chosen groups; None where there is only one group.
    """
    different = sorted(set(groups))
    if len(different) < 2:
        return None
    count = min(MAX_HELD_OUT, max(1, round(len(different) * fraction)))
    return {different[k] for k in np.random.default_rng(0).choice(len(different), count, replace=False)}
