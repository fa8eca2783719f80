"""What is learnt from, what is held out, and what of it is looked at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

#: So many rows are held out at most.
MAX_HELD_OUT = 2000


def hold_out(
    count: int, fraction: float, labels: Sequence[tuple[str, ...]] = (), groups: Sequence[str] = ()
) -> tuple[list[int], list[int]]:
    """Rows to learn from and rows held out, always the same ones.

    With groups (any not "") whole groups are held out, small enough ones, and none that is all there is of a label.
    With one label each: of each label's rows its share, where it has two. Else at random.
    """
    draw, wanted = np.random.default_rng(0), max(1, min(MAX_HELD_OUT, round(count * fraction)))
    if any(groups):
        rows = _of_groups(labels, groups, wanted, draw)
    elif labels and all(len(label) == 1 for label in labels):
        rows = _of_labels(labels, wanted, draw)
    else:
        rows = sorted(draw.choice(count, min(wanted, max(0, count - 1)), replace=False).tolist())
    chosen = set(rows)
    return [k for k in range(count) if k not in chosen], rows


def _of_groups(
    labels: Sequence[tuple[str, ...]], groups: Sequence[str], wanted: int, draw: np.random.Generator
) -> list[int]:
    sizes = Counter(groups)
    has: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        has[group].update(label)
    left = sum(has.values(), Counter())
    names = sorted(sizes)
    order = [names[k] for k in draw.permutation(len(names))]
    held: set[str] = set()
    count = 0
    for fits in (True, False):  # where no group is small enough, the smallest
        for name in order if fits else sorted(order, key=lambda n: sizes[n]):
            lasts = any(left[label] == own for label, own in has[name].items())
            if lasts or (count + sizes[name] > wanted if fits else count > 0) or len(held) == len(names) - 1:
                continue
            held.add(name)
            count += sizes[name]
            left -= has[name]
    return [k for k, group in enumerate(groups) if group in held]


def _of_labels(labels: Sequence[tuple[str, ...]], wanted: int, draw: np.random.Generator) -> list[int]:
    of_label: dict[str, list[int]] = defaultdict(list)
    for k, (label,) in enumerate(labels):
        of_label[label].append(k)
    share, first, more = wanted / len(labels), [], []
    for label in sorted(of_label):
        mine = of_label[label]
        drawn = [mine[k] for k in draw.permutation(len(mine))]
        count = min(len(mine) - 1, max(1, round(share * len(mine))))
        first += drawn[:1] if count else []
        more += drawn[1:count]
    if len(first) > wanted:  # more labels than rows to hold out
        return sorted(first[k] for k in draw.permutation(len(first))[:wanted])
    return sorted(first + [more[k] for k in draw.permutation(len(more))[: wanted - len(first)]])


def evenly_spaced(lengths: Sequence[int] | np.ndarray, limit: int | None) -> np.ndarray:
    """Rows from all over the data, as many as have about ``limit`` steps together; at least one."""
    sizes = np.asarray(lengths)
    if limit is None or sizes.sum() <= limit:
        return np.arange(len(sizes))
    count = max(1, int(len(sizes) * limit / sizes.sum()))
    return np.unique(np.linspace(0, len(sizes) - 1, count).astype(int))
