"""What is learnt from and what is held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np


def hold_out(
    labels: Sequence[Hashable], groups: Sequence[str], fraction: float, most: int = 2000
) -> tuple[list[int], list[int]]:
    """Rows to learn from and rows held out, always the same ones.

    With groups (any not "") whole groups are held out, until there are enough rows. Without: of each label's rows its
    share, at least one where it has two; so a label with one row is only learnt.
    """
    draw, wanted = np.random.default_rng(0), max(1, min(most, round(len(labels) * fraction)))
    if any(groups):
        names = sorted(set(groups))
        held: set[str] = set()
        count = 0
        for k in draw.permutation(len(names)):
            size = sum(g == names[k] for g in groups)
            if len(held) < len(names) - 1 and (not held or count + size <= wanted):
                held.add(names[k])
                count += size
        rows = [k for k, group in enumerate(groups) if group in held]
    else:
        of_label: dict[Hashable, list[int]] = defaultdict(list)
        for k, label in enumerate(labels):
            of_label[label].append(k)
        share, rows = wanted / len(labels), []
        for label in sorted(of_label, key=str):
            mine = of_label[label]
            count = min(len(mine) - 1, max(1, round(share * len(mine))))
            rows += [mine[k] for k in draw.permutation(len(mine))[:count]]
        rows.sort()
    chosen = set(rows)
    return [k for k in range(len(labels)) if k not in chosen], rows
