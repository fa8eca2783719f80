"""Series of numbers in tables: a row a step, a row a series, a table a series."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import polars

from elman.data.cells import Cells, Decimal, listed, read_cells
from elman.data.labels import label_key, normalize_label
from elman.data.tables import column
from elman.data.timestamps import DateOrder, date_order, read_timestamps
from elman.data.wide import step_columns
from elman.errors import ElmanError

_log = logging.getLogger("elman")

Missing = Literal["refuse", "interpolate", "zero", "mask"]
Tables = Sequence[tuple[str, polars.DataFrame]]


class SeriesFormat(NamedTuple):
    """How tables become series; what the training data said of it holds for all data that the model reads later.

    decimal: the decimal mark. missing: whether values can be. wide: a row a series; None: where the columns say so.
    channels: the columns to read; empty: all that hold numbers. left_out: the other columns that the training data had;
    None: any. date_order: of dates such as 1/2/2020.
    """

    decimal: Decimal | None = None
    missing: bool = False
    wide: bool | None = None
    channels: tuple[str, ...] = ()
    left_out: tuple[str, ...] | None = None
    date_order: DateOrder | None = None

    def by_name(self, table: polars.DataFrame) -> bool:
        """Whether a table has the wanted channels by their names; those that are numbers are none."""
        wanted = set(self.channels)
        return wanted <= set(table.columns) and not all(name.isdigit() for name in wanted)


class ColumnRoles(NamedTuple):
    """Columns that are no channels: which series a row is of, its time, and what has one value a series."""

    series: str | None
    time: str | None
    fixed: tuple[str, ...]

    def beside(self, names: Sequence[str]) -> list[str]:
        """The other columns."""
        return [name for name in names if name not in {self.series, self.time, *self.fixed}]


class TableSeries(NamedTuple):
    """Series of tables.

    values: (T, C) float64 each, NaN where missing. ids, places: of each, for people and for messages. fixed: the values
    of the columns with one value a series. reading: with the channels, the order of dates and what was left out;
    reasons: why each column was left out.
    """

    values: list[np.ndarray]
    ids: list[str]
    places: list[str]
    fixed: dict[str, list[str]]
    reading: SeriesFormat
    reasons: dict[str, str]


def is_wide(path: str, table: polars.DataFrame, roles: ColumnRoles, reading: SeriesFormat, least: int = 3) -> bool:
    """Whether each row is a series: as ``reading`` says, or by columns such as t0, t1, t2, ... beside the others,
    of which none holds texts.

    Where ``roles`` name the series, only if no series has a second row. ``least``: so many columns are steps.
    """
    if reading.wide is not None:
        return reading.wide
    if roles.time is not None or reading.by_name(table):
        return False
    if roles.series is not None and (roles.series not in table.columns or table[roles.series].n_unique() < len(table)):
        return False
    if any(_is_prose(table[name]) for name in roles.beside(table.columns) if not name.strip("])")[-1:].isdigit()):
        return False
    steps = step_columns(path, roles.beside(table.columns), least)
    if not steps or any(table[name].dtype.is_nested() for names in steps.values() for name in names):
        return False
    if reading.channels and reading.left_out is not None and len(steps) != len(reading.channels):
        return False
    first = next(iter(steps.values()))
    return all(read_cells(table[name], path, reading.decimal).kind != "text" for name in first)


def read_wide(tables: Tables, roles: ColumnRoles, reading: SeriesFormat) -> TableSeries:
    """Series from tables with a row a series; columns such as t0, t1, ... are its steps, x0, ... y0, ... two channels.

    Raises:
        ElmanError: the columns of the tables are no such steps, or hold something else than numbers.
    """
    values: list[np.ndarray] = []
    places: list[str] = []
    ids: list[str] = []
    fixed: dict[str, list[str]] = {name: [] for name in roles.fixed}
    named: list[str] = []
    reasons: dict[str, str] = {}
    for path, table in tables:
        chosen = reading.channels if reading.left_out is None else ()
        steps = step_columns(path, roles.beside(table.columns), 2, chosen)
        if not steps:
            raise ElmanError(
                f"{path}: no columns that are steps: t0, t1, t2, ..., or of two channels x0, x1, ..., y0, y1, ..."
            )
        used = {name for names in steps.values() for name in names}
        reasons |= {n: "not one of the steps" for n in roles.beside(table.columns) if n not in used}
        channels = [np.stack([_numbers(table, path, name, reading) for name in names], 1) for names in steps.values()]
        named = named or list(steps)
        values += [reorder_channels(x, list(steps), named, path) for x in list(np.stack(channels, 2))]
        places += [f"{path}, row {k}" for k in range(1, len(table) + 1)]
        ids += _texts(table, roles.series) if roles.series else [str(k) for k in range(1, len(table) + 1)]
        for name in roles.fixed:
            fixed[name] += _texts(table, name)
    known = reading._replace(wide=True, channels=tuple(named), left_out=tuple(reasons))
    return TableSeries(values, ids, places, fixed, known, reasons)


def read_long(tables: Tables, roles: ColumnRoles, reading: SeriesFormat) -> TableSeries:
    """Series from tables with a row a step, in order of first appearance; without a column that names the series,
    each table is one.

    All columns beside those of ``roles`` that hold numbers are channels, or those of ``reading``. Rows are sorted by
    the time, where there is one.

    Raises:
        ElmanError: a column holds numbers and something else, a time is missing, twice there or ambiguous, or a series
            has two values in a column of ``roles.fixed``.
    """
    cells, reasons = _channels(tables, roles, reading)
    order = reading.date_order
    if roles.time is not None:
        order = date_order([(path, table[roles.time]) for path, table in tables], order)
    found = TableSeries([], [], [], {name: [] for name in roles.fixed}, reading, reasons)
    names = list(cells[0]) if cells else []
    for (path, table), columns in zip(tables, cells, strict=True):
        every = np.stack([one.values for one in columns.values()], 1)
        keys = _texts(table, roles.series) if roles.series else [""] * len(table)
        texts = {name: np.array(_texts(table, name)) for name in roles.fixed}
        for key, rows in _rows_of(keys, table, path, roles, order, reading.decimal):
            place = f"{path}, series {key!r}" if roles.series else path
            found.values.append(reorder_channels(every[rows], list(columns), names, place))
            found.ids.append(key)
            found.places.append(place)
            for name, given in texts.items():
                if len(set(map(label_key, set(given[rows])))) > 1:
                    shown = ", ".join(sorted(set(given[rows]))[:3])
                    row = int(rows.min()) + 1
                    raise ElmanError(f"{path}, row {row}: series {key!r} has more than one {name}: {shown}")
                found.fixed[name].append(str(given[rows[0]]))
    known = reading._replace(wide=False, channels=tuple(names), left_out=tuple(reasons), date_order=order)
    return found._replace(reading=known)


def reorder_channels(values: np.ndarray, names: Sequence[str], wanted: Sequence[str], place: str) -> np.ndarray:
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
            f"{place}: {values.shape[1]} channels: {listed(names)}; {len(wanted)} are wanted: {listed(wanted)}"
        )
    return values


def as_numbers(given: Any) -> np.ndarray:
    """An array or nested lists as float64; TypeError, ValueError or OverflowError where they are no real numbers."""
    if np.iscomplexobj(given):
        raise TypeError("complex numbers")
    return np.asarray(given, dtype=np.float64)


def series_from_cells(cells: Sequence[Any], places: Sequence[str], name: str) -> list[np.ndarray]:
    """Series (T, C) from the cells of a column in memory: arrays (T,) or (T, C), or lists of numbers."""
    found = []
    for cell, place in zip(cells, places, strict=True):
        try:
            values = as_numbers(cell)
        except (TypeError, ValueError):
            raise ElmanError(f"{place}: column {name!r} holds neither a text nor a series of numbers") from None
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2:
            raise ElmanError(f"{place}: column {name!r} holds an array {values.shape}; a series is (T,) or (T, C)")
        found.append(values)
    return found


def check_series(values: np.ndarray, place: str, names: Sequence[str], missing: bool = False) -> None:
    """ElmanError where a series is empty or has a value that is no number; ``missing``: NaN is one."""
    if not len(values):
        raise ElmanError(f"{place}: an empty series")
    wrong = np.argwhere(np.isinf(values) | (np.abs(values) > 1e300) if missing else ~(np.abs(values) <= 1e300))
    if len(wrong):
        step, channel = wrong[0]
        value, name = values[step, channel], names[channel] if channel < len(names) else str(channel + 1)
        what = f"{value:g}, not a number" if not np.isfinite(value) else f"{value:g}, too large"
        hint = "; for missing values give --missing interpolate, zero or mask" if np.isnan(value) else ""
        raise ElmanError(f"{place}: step {step + 1} of channel {name} is {what}{hint}")


def fill_missing(values: np.ndarray, missing: Missing) -> np.ndarray:
    """A series (T, C) with its missing values filled: by zero, or by linear interpolation between the steps that have
    one, the nearest of these beyond them. With mask, and where a channel has none, they stay NaN."""
    gaps = np.isnan(values)
    if missing in ("refuse", "mask") or not gaps.any():
        return values
    if missing == "zero":
        return np.where(gaps, 0.0, values)
    steps, values = np.arange(len(values)), values.copy()
    for k in np.flatnonzero(gaps.any(0) & ~gaps.all(0)):
        there = ~gaps[:, k]
        values[~there, k] = np.interp(steps[~there], steps[there], values[there, k])
    return values


def _channels(
    tables: Tables, roles: ColumnRoles, reading: SeriesFormat
) -> tuple[list[dict[str, Cells]], dict[str, str]]:
    """The columns of each table that are channels; those that are not, and why."""
    wanted = set(reading.channels)
    chosen = bool(wanted) and reading.left_out is None
    for path, table in tables:
        for name in reading.channels if chosen else ():
            if name not in table.columns:
                raise ElmanError(f"{path}: has no column {name!r} (--channels); it has {listed(table.columns)}")
            if name not in roles.beside([name]):
                raise ElmanError(f"{path}: column {name!r} says something else of the series (--channels)")
    by_name = chosen or all(reading.by_name(table) for _, table in tables)
    read: list[dict[str, Cells]] = []
    kinds: dict[str, tuple[str, str]] = {}
    reasons: dict[str, str] = {}
    for path, table in tables:
        read.append({})
        for name in roles.beside(table.columns):
            if name not in wanted and chosen:
                reasons[name] = "not named by --channels"
                continue
            if name in (reading.left_out or ()):
                continue
            found = read_cells(table[name], path, reading.decimal, known=by_name and name in wanted)
            if by_name and name in wanted and found.kind == "text":
                raise ElmanError(f"{path}: column {name!r} is a channel, but {found.why}")
            if by_name and name not in wanted:
                if found.kind in ("numbers", "flags"):
                    raise ElmanError(
                        f"{path}: column {name!r} holds numbers; the model's channels are {listed(reading.channels)}"
                    )
                continue
            before, where = kinds.get(name, (found.kind, path))
            if found.kind != before and "empty" not in (found.kind, before):
                raise ElmanError(f"{path}: column {name!r} holds {found.kind}, where {where} has {before}")
            kinds[name] = (found.kind if before == "empty" else before, path if before == "empty" else where)
            read[-1][name] = found
            if found.kind == "text":
                reasons[name] = found.why
    channels = [
        name for name, (kind, _) in kinds.items() if kind in ("numbers", "flags") or (by_name and name in wanted)
    ]
    reasons |= {name: "has no values" for name, (kind, _) in kinds.items() if kind == "empty" and name not in channels}
    if not channels:
        others = [name for name in (roles.series, roles.time, *roles.fixed) if name]
        beside = f" beside {', '.join(others)}" if others else ""
        why = "".join(f"; {name}: {reason}" for name, reason in list(reasons.items())[:3])
        raise ElmanError(f"{tables[0][0]}: no column of numbers{beside}{why}")
    return [{name: one[name] for name in channels if name in one} for one in read], reasons


def _rows_of(
    keys: Sequence[str],
    table: polars.DataFrame,
    path: str,
    roles: ColumnRoles,
    order: DateOrder | None,
    mark: Decimal | None,
) -> list[tuple[str, np.ndarray]]:
    """The rows of each series, in order of first appearance, sorted by the time."""
    if "" in keys and roles.series:
        raise ElmanError(f"{path}, row {keys.index('') + 1}: column {roles.series!r} is empty")
    if not len(table):
        return []
    names, first, which = np.unique(np.array(keys), return_index=True, return_inverse=True)
    by_series = np.argsort(which, kind="stable")
    if roles.time is not None:
        moments = read_timestamps(table[roles.time], path, order, mark)
        if moments.seconds is not None:
            _check_midnight(path, roles.time, moments.seconds, which, by_series)
        by_series = np.lexsort((moments.ranks, which))
        same = (np.diff(which[by_series]) == 0) & (np.diff(moments.ranks[by_series]) == 0)
        if same.any():
            k = int(same.argmax())
            one, two = by_series[k] + 1, by_series[k + 1] + 1
            of = f" of series {keys[by_series[k]]!r}" if roles.series else ""
            raise ElmanError(
                f"{path}, rows {one} and {two}{of}: both have {str(table[roles.time][int(one) - 1])!r} in column "
                f"{roles.time!r}; steps have different times"
            )
    parts = np.split(by_series, np.cumsum(np.bincount(which))[:-1])
    return [(str(names[k]), parts[k]) for k in np.argsort(first)]


def _check_midnight(path: str, time: str, seconds: np.ndarray, which: np.ndarray, rows: np.ndarray) -> None:
    """ElmanError where the rows, as they stand, go on evenly after midnight: sorted, the night would come first."""
    for part in np.split(rows, np.cumsum(np.bincount(which))[:-1]):
        steps = np.diff(seconds[part])
        falls = np.flatnonzero(steps < 0)
        if len(falls) != 1 or len(steps) < 2 or seconds[part].max() >= 86400:
            continue
        over = steps[falls[0]] + 86400
        if over <= 1.5 * np.median(np.delete(steps, falls)):
            row = int(part[falls[0] + 1]) + 1
            raise ElmanError(f"{path}, row {row}: the times of column {time!r} pass midnight; give the dates too")


def _numbers(table: polars.DataFrame, path: str, name: str, reading: SeriesFormat) -> np.ndarray:
    found = read_cells(table[name], path, reading.decimal, known=True)
    if found.kind == "text":
        raise ElmanError(f"{path}: column {name!r} is a step, but {found.why}")
    return found.values


def _is_prose(column: polars.Series) -> bool:
    """Whether a column holds texts of several words."""
    if column.dtype != polars.String:
        return False
    return 2 * len(column.str.contains(r"\S\s+\S+\s+\S").arg_true()) > len(column)


def _texts(table: polars.DataFrame, name: str) -> list[str]:
    """The cells of a column, each spelling of one name as one; the log says which."""
    cells = column(table, name)
    plain = {cell: normalize_label(cell) for cell in dict.fromkeys(cells)}
    if len(set(plain.values())) < len(plain):
        by_name: dict[str, list[str]] = {}
        for cell, one in plain.items():
            by_name.setdefault(one, []).append(cell)
        several = next(given for given in by_name.values() if len(given) > 1)
        _log.warning("column %r: %s are taken as one", name, " and ".join(map(repr, several[:3])))
    return [plain[cell] for cell in cells]
