"""Series of numbers in tables: a step in each row, a series in each row, or a series in each table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars

from elman.data.arrays import Missing, as_numbers, check_series, fill_missing, reorder_channels, series_from_cells
from elman.data.cells import Cells, Decimal, listed, read_cells
from elman.data.labels import label_key, normalize_label
from elman.data.tables import column
from elman.data.timestamps import DateOrder, date_order, read_timestamps
from elman.data.wide import step_columns
from elman.errors import ElmanError

_log = logging.getLogger("elman")

Tables = Sequence[tuple[str, polars.DataFrame]]


class SeriesFormat(NamedTuple):
    """How tables are read as series. The format of the training data applies to all data that the model reads later.

    Args:
        decimal (str, optional): The decimal mark, ``"."`` or ``","``. Default: the point, unless it is ambiguous.
        missing (bool): Whether values may be missing. Default: ``False``.
        wide (bool, optional): Whether each row is a series. Default: detected from the columns.
        channels (tuple[str, ...]): The columns to read. Default: all that contain numbers.
        left_out (tuple[str, ...], optional): The other columns of the training data. Default: unknown.
        date_order (str, optional): Whether dates such as 1/2/2020 begin with the ``"day"`` or the ``"month"``.
            Default: unknown.
    """

    decimal: Decimal | None = None
    missing: bool = False
    wide: bool | None = None
    channels: tuple[str, ...] = ()
    left_out: tuple[str, ...] | None = None
    date_order: DateOrder | None = None

    def by_name(self, table: polars.DataFrame) -> bool:
        """Return whether a table has a column for each channel, except if all channels are just numbered."""
        names = set(self.channels)
        return names <= set(table.columns) and not all(name.isdigit() for name in names)


class ColumnRoles(NamedTuple):
    """The columns that are not channels.

    Args:
        series (str, optional): The column that names the series of each row.
        time (str, optional): The column with the time of each row.
        fixed (tuple[str, ...]): The columns with one value for each series, such as its label.
    """

    series: str | None
    time: str | None
    fixed: tuple[str, ...]

    def others(self, names: Sequence[str]) -> list[str]:
        """Return the names of all other columns."""
        return [name for name in names if name not in {self.series, self.time, *self.fixed}]


class TableSeries(NamedTuple):
    """The series in tables.

    Attributes:
        values (list[numpy.ndarray]): Each series (T, C), float64, NaN where missing.
        ids (list[str]): The name of each series.
        places (list[str]): The location of each series, for messages.
        fixed (dict[str, list[str]]): For each column with one value for each series, these values.
        reading (SeriesFormat): The format, with the channels, the order of dates and the columns that were left out.
        reasons (dict[str, str]): Why each column was left out.
    """

    values: list[np.ndarray]
    ids: list[str]
    places: list[str]
    fixed: dict[str, list[str]]
    reading: SeriesFormat
    reasons: dict[str, str]


def is_wide(path: str, table: polars.DataFrame, roles: ColumnRoles, reading: SeriesFormat, min_steps: int = 3) -> bool:
    """Return whether each row of a table is a series.

    This is what ``reading.wide`` says or, if it is None, whether there are columns such as t0, t1, t2, ... and no other
    column contains text. If a column names the series, each series must have a single row.

    Args:
        path (str): The path of the table, for error messages.
        table (polars.DataFrame): The table.
        roles (ColumnRoles): The columns that are not channels.
        reading (SeriesFormat): The format.
        min_steps (int): The minimum number of columns that are steps. Default: 3.
    """
    if reading.wide is not None:
        return reading.wide
    if roles.time is not None or reading.by_name(table):
        return False
    if roles.series is not None and (roles.series not in table.columns or table[roles.series].n_unique() < len(table)):
        return False
    if any(_is_text(table[name]) for name in roles.others(table.columns) if not name.strip("])")[-1:].isdigit()):
        return False
    steps = step_columns(path, roles.others(table.columns), min_steps)
    if not steps or any(table[name].dtype.is_nested() for names in steps.values() for name in names):
        return False
    if reading.channels and reading.left_out is not None and len(steps) != len(reading.channels):
        return False
    first = next(iter(steps.values()))
    return all(read_cells(table[name], path, reading.decimal).kind != "text" for name in first)


def read_wide(tables: Tables, roles: ColumnRoles, reading: SeriesFormat) -> TableSeries:
    """Read series from tables with a series in each row.

    The columns t0, t1, ... are the steps of one channel; x0, x1, ..., y0, y1, ... are those of two channels.

    Args:
        tables (Sequence[tuple[str, polars.DataFrame]]): The tables with their paths.
        roles (ColumnRoles): The columns that are not channels.
        reading (SeriesFormat): The format.

    Returns:
        TableSeries: The series.

    Raises:
        ElmanError: A table has no such columns, or they contain something other than numbers.
    """
    values: list[np.ndarray] = []
    places: list[str] = []
    ids: list[str] = []
    fixed: dict[str, list[str]] = {name: [] for name in roles.fixed}
    names: list[str] = []
    reasons: dict[str, str] = {}
    for path, table in tables:
        chosen = reading.channels if reading.left_out is None else ()
        steps = step_columns(path, roles.others(table.columns), 2, chosen)
        if not steps:
            raise ElmanError(
                f"{path}: no columns are steps, such as t0, t1, t2, ..., or x0, x1, ..., y0, y1, ... for two channels"
            )
        used = {name for names in steps.values() for name in names}
        reasons |= {name: "not one of the steps" for name in roles.others(table.columns) if name not in used}
        channels = [np.stack([_numbers(table, path, step, reading) for step in row], 1) for row in steps.values()]
        names = names or list(steps)
        values += [reorder_channels(x, list(steps), names, path) for x in list(np.stack(channels, 2))]
        places += [f"{path}, row {k}" for k in range(1, len(table) + 1)]
        ids += _texts(table, roles.series) if roles.series else [str(k) for k in range(1, len(table) + 1)]
        for name in roles.fixed:
            fixed[name] += _texts(table, name)
    reading = reading._replace(wide=True, channels=tuple(names), left_out=tuple(reasons))
    return TableSeries(values, ids, places, fixed, reading, reasons)


def read_long(tables: Tables, roles: ColumnRoles, reading: SeriesFormat) -> TableSeries:
    """Read series from tables with a step in each row.

    If no column names the series, each table is one. The channels are those of ``reading`` or, if it has none, all
    columns of numbers. Rows are sorted by time if there is a time column. Series are in order of first appearance.

    Args:
        tables (Sequence[tuple[str, polars.DataFrame]]): The tables with their paths.
        roles (ColumnRoles): The columns that are not channels.
        reading (SeriesFormat): The format.

    Returns:
        TableSeries: The series.

    Raises:
        ElmanError: A column contains both numbers and text, a time is missing, repeated or ambiguous, or a series has
            two values in a column of ``roles.fixed``.

    Example::

        >>> import polars
        >>> table = polars.DataFrame({"id": ["a", "a", "b"], "x": [1, 2, 3]})
        >>> series = read_long([("a.csv", table)], ColumnRoles("id", None, ()), SeriesFormat())
        >>> series.ids, [len(x) for x in series.values]
        (['a', 'b'], [2, 1])
    """
    cells, reasons = _channels(tables, roles, reading)
    order = reading.date_order
    if roles.time is not None:
        order = date_order([(path, table[roles.time]) for path, table in tables], order)
    result = TableSeries([], [], [], {name: [] for name in roles.fixed}, reading, reasons)
    names = list(cells[0]) if cells else []
    for (path, table), columns in zip(tables, cells, strict=True):
        every = np.stack([channel.values for channel in columns.values()], 1)
        keys = _texts(table, roles.series) if roles.series else [""] * len(table)
        fixed = {name: np.array(_texts(table, name)) for name in roles.fixed}
        for key, rows in _rows_of(keys, table, path, roles, order, reading.decimal):
            place = f"{path}, series {key!r}" if roles.series else path
            result.values.append(reorder_channels(every[rows], list(columns), names, place))
            result.ids.append(key)
            result.places.append(place)
            for name, cells_of_rows in fixed.items():
                given = cells_of_rows[rows]
                if len(set(map(label_key, set(given)))) > 1:
                    shown = ", ".join(sorted(set(given))[:3])
                    row = int(rows.min()) + 1
                    raise ElmanError(f"{path}, row {row}: series {key!r} has more than one {name}: {shown}")
                result.fixed[name].append(str(given[0]))
    reading = reading._replace(wide=False, channels=tuple(names), left_out=tuple(reasons), date_order=order)
    return result._replace(reading=reading)


def _channels(
    tables: Tables, roles: ColumnRoles, reading: SeriesFormat
) -> tuple[list[dict[str, Cells]], dict[str, str]]:
    """Return the columns of each table that are channels, and the reasons why other columns are not."""
    wanted = set(reading.channels)
    chosen = bool(wanted) and reading.left_out is None
    for path, table in tables:
        for name in reading.channels if chosen else ():
            if name not in table.columns:
                raise ElmanError(f"{path}: has no column {name!r} (--channels); it has {listed(table.columns)}")
            if name not in roles.others([name]):
                raise ElmanError(f"{path}: column {name!r} has another role and cannot be a channel (--channels)")
    by_name = chosen or all(reading.by_name(table) for _, table in tables)
    read: list[dict[str, Cells]] = []
    kinds: dict[str, tuple[str, str]] = {}
    reasons: dict[str, str] = {}
    for path, table in tables:
        read.append({})
        for name in roles.others(table.columns):
            if name not in wanted and chosen:
                reasons[name] = "not named by --channels"
                continue
            if name in (reading.left_out or ()):
                continue
            cells = read_cells(table[name], path, reading.decimal, numeric=by_name and name in wanted)
            if by_name and name in wanted and cells.kind == "text":
                raise ElmanError(f"{path}: column {name!r} is a channel, but {cells.reason}")
            if by_name and name not in wanted:
                if cells.kind in ("numbers", "flags"):
                    raise ElmanError(
                        f"{path}: column {name!r} contains numbers; the model's channels are {listed(reading.channels)}"
                    )
                continue
            previous, where = kinds.get(name, (cells.kind, path))
            if cells.kind != previous and "empty" not in (cells.kind, previous):
                raise ElmanError(f"{path}: column {name!r} contains {cells.kind}, but in {where} {previous}")
            kinds[name] = (cells.kind if previous == "empty" else previous, path if previous == "empty" else where)
            read[-1][name] = cells
            if cells.kind == "text":
                reasons[name] = cells.reason
    channels = [
        name for name, (kind, _) in kinds.items() if kind in ("numbers", "flags") or (by_name and name in wanted)
    ]
    reasons |= {name: "has no values" for name, (kind, _) in kinds.items() if kind == "empty" and name not in channels}
    if not channels:
        others = [name for name in (roles.series, roles.time, *roles.fixed) if name]
        besides = f" besides {', '.join(others)}" if others else ""
        details = "".join(f"; {name}: {reason}" for name, reason in list(reasons.items())[:3])
        raise ElmanError(f"{tables[0][0]}: no column of numbers{besides}{details}")
    return [{name: columns[name] for name in channels if name in columns} for columns in read], reasons


def _rows_of(
    keys: Sequence[str],
    table: polars.DataFrame,
    path: str,
    roles: ColumnRoles,
    order: DateOrder | None,
    mark: Decimal | None,
) -> list[tuple[str, np.ndarray]]:
    """Return the rows of each series sorted by time; series are in order of first appearance."""
    if "" in keys and roles.series:
        raise ElmanError(f"{path}, row {keys.index('') + 1}: column {roles.series!r} is empty")
    if not len(table):
        return []
    names, first, which = np.unique(np.array(keys), return_index=True, return_inverse=True)
    by_series = np.argsort(which, kind="stable")
    if roles.time is not None:
        times = read_timestamps(table[roles.time], path, order, mark)
        if times.seconds is not None:
            _check_midnight(path, roles.time, times.seconds, which, by_series)
        by_series = np.lexsort((times.ranks, which))
        same = (np.diff(which[by_series]) == 0) & (np.diff(times.ranks[by_series]) == 0)
        if same.any():
            k = int(same.argmax())
            first_row, second_row = by_series[k] + 1, by_series[k + 1] + 1
            where = f" of series {keys[by_series[k]]!r}" if roles.series else ""
            raise ElmanError(
                f"{path}, rows {first_row} and {second_row}{where}: both have "
                f"{str(table[roles.time][int(first_row) - 1])!r} in column {roles.time!r}; each step needs its own time"
            )
    parts = np.split(by_series, np.cumsum(np.bincount(which))[:-1])
    return [(str(names[k]), parts[k]) for k in np.argsort(first)]


def _check_midnight(path: str, time: str, seconds: np.ndarray, which: np.ndarray, rows: np.ndarray) -> None:
    """Raise an error if the rows continue evenly after midnight, since sorting would put the night first."""
    for part in np.split(rows, np.cumsum(np.bincount(which))[:-1]):
        steps = np.diff(seconds[part])
        falls = np.flatnonzero(steps < 0)
        if len(falls) != 1 or len(steps) < 2 or seconds[part].max() >= 86400:
            continue
        step_over_midnight = steps[falls[0]] + 86400
        if step_over_midnight <= 1.5 * np.median(np.delete(steps, falls)):
            row = int(part[falls[0] + 1]) + 1
            raise ElmanError(
                f"{path}, row {row}: the times of column {time!r} continue past midnight; give dates as well"
            )


def _numbers(table: polars.DataFrame, path: str, name: str, reading: SeriesFormat) -> np.ndarray:
    cells = read_cells(table[name], path, reading.decimal, numeric=True)
    if cells.kind == "text":
        raise ElmanError(f"{path}: column {name!r} is a step, but {cells.reason}")
    return cells.values


def _is_text(column: polars.Series) -> bool:
    """Return whether most cells of a column contain several words."""
    if column.dtype != polars.String:
        return False
    return 2 * len(column.str.contains(r"\S\s+\S+\s+\S").arg_true()) > len(column)


def _texts(table: polars.DataFrame, name: str) -> list[str]:
    """Return the cells of a column with a single spelling for each name, and log merged spellings."""
    cells = column(table, name)
    normalized = {cell: normalize_label(cell) for cell in dict.fromkeys(cells)}
    if len(set(normalized.values())) < len(normalized):
        spellings: dict[str, list[str]] = {}
        for cell, label in normalized.items():
            spellings.setdefault(label, []).append(cell)
        merged = next(variants for variants in spellings.values() if len(variants) > 1)
        _log.warning("column %r: %s are merged", name, " and ".join(map(repr, merged[:3])))
    return [normalized[cell] for cell in cells]


__all__ = [
    "ColumnRoles", "Missing", "SeriesFormat", "TableSeries", "Tables", "as_numbers", "check_series", "fill_missing",
    "is_wide", "read_long", "read_wide", "reorder_channels", "series_from_cells",
]  # fmt: skip
