"""Pairs of texts: two files line by line, or two columns of a table."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from elman.data.source import InMemory, printable, sources
from elman.data.tables import column, is_table, read_table
from elman.data.text import read_text
from elman.errors import ElmanError

_log = logging.getLogger("elman")


class Pairs(NamedTuple):
    """Texts and what they are to become; ``places``: where each pair stands, for messages."""

    sources: list[str]
    targets: list[str]
    places: list[str]


def read_pairs(data: Any, source: str, target: str, skip_bad: bool = False) -> Pairs:
    """The pairs of two aligned text files, or of one table or more with columns ``source`` and ``target``; files, or
    data in memory (`elman.data.source.sources`).

    Pairs with an empty side are left out, and the log says how many and where the first is; with ``skip_bad`` rows of
    tables that cannot be read, too.

    Raises:
        ElmanError: a file cannot be read, a column is missing, or the two files differ in their number of lines.
    """
    data = sources(data)
    alone = len(data) == 1 and isinstance(data[0], InMemory)
    if alone or all(is_table(path, [source, target]) for path in data):
        pairs = Pairs([], [], [])
        for path in data:
            table = read_table(path, {"source": source, "target": target}, skip_bad)
            pairs.sources.extend(column(table, source, printable(path)))
            pairs.targets.extend(column(table, target, printable(path)))
            pairs.places.extend(f"{printable(path)}, row {k}" for k in range(1, len(table) + 1))
    elif len(data) == 2:
        sides = [read_text(path).removesuffix("\n").split("\n") for path in data]
        if len(sides[0]) != len(sides[1]):
            raise ElmanError(_uneven(data, sides))
        pairs = Pairs(sides[0], sides[1], [f"{printable(data[0])}, line {k}" for k in range(1, len(sides[0]) + 1)])
    else:
        raise ElmanError(
            f"{', '.join(map(printable, data))}: give two text files with the same number of lines, train.de "
            "train.en, or tables (.csv, .tsv, .jsonl, .xlsx, .parquet) with --source and --target columns"
        )
    return _whole(pairs)


def _whole(pairs: Pairs) -> Pairs:
    """The pairs with two sides."""
    sources, targets = [s.strip() for s in pairs.sources], [t.strip() for t in pairs.targets]
    kept = [k for k, (s, t) in enumerate(zip(sources, targets, strict=True)) if s and t]
    if not kept:
        raise ElmanError(f"{pairs.places[0] if pairs.places else 'the data'}: no pair has two sides")
    if len(kept) < len(sources):
        first = next(k for k in range(len(sources)) if k == len(kept) or kept[k] != k)
        _log.warning(
            "%s: a side is empty; %d such pairs of %d are left out", pairs.places[first], len(sources) - len(kept),
            len(sources),
        )  # fmt: skip
    return Pairs([sources[k] for k in kept], [targets[k] for k in kept], [pairs.places[k] for k in kept])


def _uneven(data: Sequence[str], sides: list[list[str]]) -> str:
    """What to say of files with different numbers of lines: where they seem to part."""
    ratios = [(len(t) + 5) / (len(s) + 5) for s, t in zip(*sides, strict=False)]
    middle = statistics.median(ratios) if ratios else 1.0
    window = 5  # lines that do not go together differ in length again and again
    odd = [not 0.4 < ratio / middle < 2.5 for ratio in ratios]
    first = next((k for k in range(len(odd)) if odd[k] and sum(odd[k : k + window]) >= 2), None)
    where = min(map(len, sides)) if first is None else first
    return (
        f"{printable(data[0])} has {len(sides[0]):,} lines and {printable(data[1])} {len(sides[1]):,}: "
        f"line by line they must belong together; they seem to part at line {where + 1}"
    )
