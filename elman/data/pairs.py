"""Pairs of texts: two aligned files, or two columns of a table."""

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

#: Misaligned lines differ in length again and again; this many lines are compared.
_WINDOW = 5


class Pairs(NamedTuple):
    """Pairs of texts.

    Attributes:
        sources (list[str]): The source texts.
        targets (list[str]): The target texts.
        places (list[str]): The location of each pair, for messages: ``train.de, line 3``.
        tables (bool): Whether the pairs come from tables.
    """

    sources: list[str]
    targets: list[str]
    places: list[str]
    tables: bool = False


def read_pairs(data: Any, source: str, target: str, skip_bad: bool = False) -> Pairs:
    """Read pairs from two aligned text files, or from tables.

    Pairs with an empty side are skipped, and their number and the location of the first one are logged.

    Args:
        data: Paths or data in memory; see `elman.data.source.sources`.
        source (str): The column of the source texts in tables.
        target (str): The column of the target texts in tables.
        skip_bad (bool): Whether to skip rows of tables that cannot be read. Default: ``False``, they are errors.

    Raises:
        ElmanError: A file cannot be read, a column is missing, the two files have different numbers of lines, or no
            pair is complete.

    Example::

        >>> pairs = read_pairs([("Guten Morgen!", "Good morning!")], "source", "target")
        >>> pairs.sources[0], pairs.targets[0]
        ('Guten Morgen!', 'Good morning!')
    """
    data = sources(data)
    in_memory = len(data) == 1 and isinstance(data[0], InMemory)
    tables = in_memory or all(is_table(path, [source, target]) for path in data)
    if tables:
        pairs = Pairs([], [], [])
        for path in data:
            table = read_table(path, {"source": source, "target": target}, skip_bad)
            pairs.sources.extend(column(table, source, printable(path)))
            pairs.targets.extend(column(table, target, printable(path)))
            pairs.places.extend(f"{printable(path)}, row {k}" for k in range(1, len(table) + 1))
    elif len(data) == 2:
        sides = [read_text(path).removesuffix("\n").split("\n") for path in data]
        if len(sides[0]) != len(sides[1]):
            raise ElmanError(_misalignment(data, sides))
        pairs = Pairs(sides[0], sides[1], [f"{printable(data[0])}, line {k}" for k in range(1, len(sides[0]) + 1)])
    else:
        raise ElmanError(
            f"{', '.join(map(printable, data))}: give two text files with the same number of lines, train.de "
            "train.en, or tables (.csv, .tsv, .jsonl, .xlsx, .parquet) with --source and --target columns"
        )
    return _complete(pairs)._replace(tables=tables)


def _complete(pairs: Pairs) -> Pairs:
    """Return the pairs whose sides are both filled."""
    sources, targets = [s.strip() for s in pairs.sources], [t.strip() for t in pairs.targets]
    kept = [k for k, (s, t) in enumerate(zip(sources, targets, strict=True)) if s and t]
    if not kept:
        raise ElmanError(f"{pairs.places[0] if pairs.places else 'the data'}: every pair has an empty side")
    if len(kept) < len(sources):
        first = next(k for k in range(len(sources)) if k == len(kept) or kept[k] != k)
        _log.warning(
            "%s: skipped %d of %d pairs with an empty side, this is the first", pairs.places[first],
            len(sources) - len(kept), len(sources),
        )  # fmt: skip
    return Pairs([sources[k] for k in kept], [targets[k] for k in kept], [pairs.places[k] for k in kept])


def _misalignment(data: Sequence[str], sides: list[list[str]]) -> str:
    """Return the message for files with different numbers of lines, with the line from which they seem misaligned."""
    ratios = [(len(t) + 5) / (len(s) + 5) for s, t in zip(*sides, strict=False)]
    median = statistics.median(ratios) if ratios else 1.0
    odd = [not 0.4 < ratio / median < 2.5 for ratio in ratios]
    first = next((k for k in range(len(odd)) if odd[k] and sum(odd[k : k + _WINDOW]) >= 2), None)
    line = (min(map(len, sides)) if first is None else first) + 1
    return (
        f"{printable(data[0])} has {len(sides[0]):,} lines and {printable(data[1])} {len(sides[1]):,}: the files must "
        f"be aligned line by line; they seem to be misaligned from line {line}"
    )
