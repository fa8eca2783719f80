"""Series of numbers: sktime's .ts, tables in long form, a table for each series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars

from elman.data.tables import column, read_table
from elman.data.text import read_text
from elman.errors import ElmanError


def read_ts(path: str) -> tuple[list[np.ndarray], list[str], list[str]]:
    """Series (T, C) float32, their labels and where each stands, from a .ts file.

    Channels stand between colons, the label last: Löning et al. 2019, https://arxiv.org/abs/1909.07872

    Raises:
        ElmanError: the file says that it has no labels or has time stamps, or a line is not such a series.
    """
    series, labels, places, inside = [], [], [], False
    known: list[str] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if not inside:
            name, _, rest = line.partition(" ")
            if name.lower() == "@timestamps" and rest.strip().lower() == "true":
                raise ElmanError(f"{path}, line {number}: time stamps in .ts files are not read; give plain values")
            if name.lower() == "@classlabel":
                said, *known = rest.split() or [""]
                if said.lower() != "true":
                    raise ElmanError(f"{path}, line {number}: the series have no class labels")
            inside = name.lower() == "@data"
            continue
        *channels, label = line.split(":")
        place = f"{path}, line {number}"
        if not channels:
            raise ElmanError(f"{place}: no colon; channels and the label stand between colons")
        if known and label.strip() not in known:
            raise ElmanError(f"{place}: the label {label.strip()!r} is not one of @classLabel: {', '.join(known)}")
        try:
            values = [np.array(one.split(","), dtype=np.float32) for one in channels]
        except ValueError:
            raise ElmanError(f"{place}: not numbers between commas (missing values, '?', are not read)") from None
        if len({len(one) for one in values}) > 1:
            raise ElmanError(f"{place}: channels of unequal length: {', '.join(str(len(v)) for v in values)}")
        series.append(np.stack(values, 1))
        labels.append(label.strip())
        places.append(place)
    if not series:
        raise ElmanError(f"{path}: no series; they stand behind a line @data")
    return series, labels, places


def read_long(
    table: polars.DataFrame, path: str, key: str, fixed: Sequence[str], time: str | None
) -> tuple[list[np.ndarray], dict[str, list[str]], list[str], list[str]]:
    """Series from a table with a row a step: (T, C) each, in order of first appearance; the names of the channels.

    ``key``: the column that says which series a row is of. ``fixed``: columns with one value a series (label, group),
    given back by name. ``time``: the rows are sorted by it. All other columns that hold numbers are channels.
    """
    others = [name for name in table.columns if name not in {key, time, *fixed}]
    read = {name: _numbers(table, path, name) for name in others}
    numbers = {name: values for name, values in read.items() if values is not None}
    channels = list(numbers)
    if not channels:
        raise ElmanError(f"{path}: no column of numbers beside {', '.join([key, *fixed])}")
    values = np.stack(list(numbers.values()), 1).astype(np.float32)
    keys = column(table, key)
    _, first, which = np.unique(np.array(keys), return_index=True, return_inverse=True)
    texts = {name: np.array(column(table, name)) for name in fixed}
    when = None if time is None else _numbers(table, path, time)
    if when is not None and np.isnan(when).any():
        raise ElmanError(f"{path}, row {int(np.isnan(when).argmax()) + 1}: column {time!r} is empty")
    if time is not None and when is None:
        when = np.unique(np.array(column(table, time)), return_inverse=True)[1]  # dates, as they sort
    series: list[np.ndarray] = []
    known: dict[str, list[str]] = {name: [] for name in fixed}
    rows_of = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    for rows in (rows_of[one] for one in np.argsort(first)):
        if when is not None:
            rows = rows[np.argsort(when[rows], kind="stable")]
        series.append(values[rows])
        for name, cells in texts.items():
            if len(set(cells[rows])) > 1:
                raise ElmanError(
                    f"{path}, row {rows[0] + 1}: series {keys[rows[0]]!r} has more than one {name}: "
                    + ", ".join(sorted(set(cells[rows]))[:3])
                )
            known[name].append(str(cells[rows[0]]))
    return series, known, channels, [f"{path}, series {keys[first[one]]!r}" for one in np.argsort(first)]


def ordered(values: np.ndarray, names: Sequence[str], wanted: Sequence[str], place: str) -> np.ndarray:
    """A series with its channels in the order of ``wanted``, by their names; names that are numbers say nothing.

    Raises:
        ElmanError: it has other channels.
    """
    if list(names) == list(wanted):
        return values
    if sorted(names) == sorted(wanted):
        return values[:, [list(names).index(name) for name in wanted]]
    nameless = not names or all(n.isdigit() for n in names) or all(n.isdigit() for n in wanted)
    if values.shape[1] != len(wanted) or not nameless:
        raise ElmanError(
            f"{place}: {values.shape[1]} channels: {', '.join(names)}; {len(wanted)} are wanted: {', '.join(wanted)}"
        )
    return values


def read_one(path: str) -> tuple[np.ndarray, list[str]]:
    """One series (T, C) from a table of numbers, a row a step, and the names of its channels."""
    table = read_table(path)
    values = [(name, _numbers(table, path, name)) for name in table.columns]
    for name, found in values:
        if found is None:
            raise ElmanError(f"{path}: column {name!r} holds no numbers")
    if not len(table):
        raise ElmanError(f"{path}: no rows")
    columns = [found for _, found in values if found is not None]
    return np.stack(columns, 1).astype(np.float32), [name for name, _ in values]


def check(values: np.ndarray, place: str, names: Sequence[str]) -> None:
    """ElmanError where a series is empty or has a value that is no number."""
    if not len(values):
        raise ElmanError(f"{place}: an empty series")
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        step, channel = wrong[0]
        name = names[channel] if channel < len(names) else str(channel + 1)
        raise ElmanError(f"{place}: step {step + 1} of channel {name} is {values[step, channel]}, not a number")


def _numbers(table: polars.DataFrame, path: str, name: str) -> np.ndarray | None:
    """A column as float32, an empty cell as NaN; None where it holds text."""
    found = table[name]
    if found.dtype == polars.String:
        cells = found.str.strip_chars()
        cells = cells.set(cells == "", None)
        numbers = cells.cast(polars.Float64, strict=False)
        if numbers.null_count() > cells.null_count():  # something is not a number
            bad = cells.filter(numbers.is_null() & cells.is_not_null())
            if len(bad) == len(cells) - cells.null_count() or len(bad) > len(cells) // 2:
                return None
            row = int((numbers.is_null() & cells.is_not_null()).arg_true()[0]) + 1
            raise ElmanError(f"{path}, row {row}: column {name!r} holds {bad[0]!r} among numbers")
        found = numbers
    elif not found.dtype.is_numeric():
        return None
    return found.cast(polars.Float64).fill_null(float("nan")).to_numpy()
