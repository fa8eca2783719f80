"""Read the cells of a table as points in time: numbers, numbered names, times of day, dates, dates with a time."""

from __future__ import annotations

import datetime
import decimal as decimal_numbers
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
import polars

from elman.data.cells import Decimal, all_numbers, plain_numbers, present, short
from elman.errors import ElmanError

DateOrder = Literal["day", "month"]

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    "(?P<name>(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?)"
)
_DATES = {
    "year-month-day": r"(?P<y>\d{4})(?P<mark>[-/.])(?P<m>\d{1,2})(?P=mark)(?P<d>\d{1,2})",
    "numbers and a year": r"(?P<first>\d{1,2})(?P<mark>[-/.])(?P<second>\d{1,2})(?P=mark)(?P<y>\d{4})",
    "day month year": rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[-/. ]*{_MONTH}[-/, ]*(?P<y>\d{{4}})",
    "month day, year": rf"{_MONTH} *(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? +(?P<y>\d{{4}})",
    "month year": rf"{_MONTH}[-/, ]*(?P<y>\d{{4}})",
    "year-month": r"(?P<y>\d{4})[-/](?P<m>\d{1,2})",
}
_CLOCK = (
    r"(?P<hour>\d{1,3}):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?:[.,](?P<fraction>\d{1,12}))?)?"
    r"(?: *(?P<half>[ap]\.?m\.?))?|(?P<hour2>\d{1,2}) *(?P<half2>[ap]\.?m\.?)"
)
_ZONE = r"(?: *(?P<zone>z|utc|gmt|[+-]\d{2}(?::?\d{2})?))?"
_WEEKDAY = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? +)?"
_TIME = re.compile(_CLOCK, re.IGNORECASE)
_DAY = {
    form: re.compile(rf"{_WEEKDAY}{date}(?:(?:[T_]|,? +)(?P<clock>\d.*?){_ZONE})?", re.IGNORECASE)
    for form, date in _DATES.items()
}
_COUNTED = re.compile(r"(?P<before>[^\d+\-:/.,]*)(?P<number>\d{1,40})(?P<after>[^\d+\-:/.,]*)")


class Timestamps(NamedTuple):
    """A column of points in time.

    Attributes:
        ranks (numpy.ndarray): Integers (N,) that sort in the order of the times.
        seconds (numpy.ndarray, optional): Seconds since midnight (N,), if the column contains times of day.
    """

    ranks: np.ndarray
    seconds: np.ndarray | None


class _ParsedCell(NamedTuple):
    """A cell: its form, which all cells must share, and its sort key; two keys for an ambiguous date, 1/2/2020."""

    form: str
    key: Any
    alternative: Any = None


def date_order(columns: Sequence[tuple[str, polars.Series]], known: DateOrder | None) -> DateOrder | None:
    """Determine whether dates such as 13/1/2020 begin with the day or with the month.

    Args:
        columns (Sequence[tuple[str, polars.Series]]): Columns, each with the path of its table for error messages.
        known (str, optional): The order in the training data, ``"day"`` or ``"month"``.

    Returns:
        str, optional: ``"day"`` or ``"month"``; None if all dates are ambiguous.

    Raises:
        ElmanError: The dates contradict each other.

    Example::

        >>> import polars
        >>> date_order([("a.csv", polars.Series("time", ["13/1/2020", "1/2/2020"]))], None)
        'day'
    """
    order, place = known, "the training data"
    for path, column in columns:
        if column.dtype != polars.String:
            continue
        for cell in present(column).drop_nulls().unique(maintain_order=True):
            match = _DAY["numbers and a year"].fullmatch(cell)
            if match is None:
                continue
            first, second = int(match["first"]), int(match["second"])
            implied: DateOrder | None = "day" if first > 12 >= second else "month" if second > 12 >= first else None
            if implied is not None and order not in (None, implied):
                raise ElmanError(
                    f"{path}: column {column.name!r} contains {cell!r}, a date with the {implied} first; "
                    f"{place} has the {order} first"
                )
            if implied is not None and order is None:
                order, place = implied, f"{path} with {cell!r}"
    return order


def read_timestamps(
    column: polars.Series, path: str, order: DateOrder | None = None, decimal: Decimal | None = None
) -> Timestamps:
    """Read a column of a table as points in time.

    Args:
        column (polars.Series): Numbers, dates, times, or text.
        path (str): The path of the table, for error messages.
        order (str, optional): The order of dates such as 1/2/2020, ``"day"`` or ``"month"`` first; see `date_order`.
        decimal (str, optional): The decimal mark of numbers in text; see `elman.data.cells.read_cells`.

    Returns:
        Timestamps: The order of the cells.

    Raises:
        ElmanError: A cell is empty or is not a point in time, the cells have different forms, or the dates are
            ambiguous.

    Example::

        >>> import polars
        >>> read_timestamps(polars.Series("time", ["9:30", "8:00", "10:15"]), "a.csv").ranks
        array([1, 0, 2])
    """
    dtype, place = column.dtype, f"{path}, row %d: column {column.name!r}"

    def error(cell: str, reason: str) -> ElmanError:
        row = int((cells == cell).arg_true()[0]) + 1
        return ElmanError(f"{place % row} contains {short(cell)}{reason}")

    is_text = isinstance(dtype, (polars.String, polars.Categorical, polars.Enum))
    cells = present(column) if is_text else column
    missing = cells.is_null() | cells.is_nan() if dtype.is_float() else cells.is_null()
    if missing.any():
        raise ElmanError(f"{place % (int(missing.arg_true()[0]) + 1)} is empty; every step needs a time")
    if dtype.is_numeric() or dtype.is_temporal():
        return Timestamps(_ranks((cells if dtype.is_numeric() else cells.to_physical()).to_list()), None)
    if not is_text:
        raise ElmanError(f"{place % 1} contains {dtype}, not times")
    distinct = cells.unique(maintain_order=True)
    if all_numbers(distinct):
        numbers = plain_numbers(cells, distinct, path, decimal)
        try:
            return Timestamps(_ranks([decimal_numbers.Decimal(number) for number in numbers]), None)
        except decimal_numbers.InvalidOperation:
            raise ElmanError(f"{path}: column {column.name!r} contains a number that is too large") from None
    parsed: dict[str, _ParsedCell] = {}
    first = distinct[0] if len(distinct) else ""
    for cell in distinct:
        result = _parse(cell, order) if len(cell) < 100 else None
        if result is None:
            raise error(cell, ", which is not a number, time or date; write dates as 2020-12-31")
        parsed[cell] = result
        if result.form != parsed[first].form:
            raise error(cell, f" ({result.form}) and {first!r} ({parsed[first].form}): use a single form")
    rows = [parsed[cell] for cell in cells]
    ranks = _ranks([row.key for row in rows])
    ambiguous = rows[0].alternative is not None and order is None
    if ambiguous and not np.array_equal(ranks, _ranks([row.alternative for row in rows])):
        raise error(
            cells[0],
            ": no date of the column shows whether the day or the month is first; write dates as 2020-12-31",
        )
    is_clock = rows[0].form.startswith("time of day")
    return Timestamps(ranks, np.array([float(row.key) for row in rows]) if is_clock else None)


def _ranks(keys: list[Any]) -> np.ndarray:
    ranks = {key: k for k, key in enumerate(sorted(set(keys)))}
    return np.array([ranks[key] for key in keys], dtype=np.int64)


def _parse(cell: str, order: DateOrder | None) -> _ParsedCell | None:
    """Parse a cell that is not empty and not a number; None if it is not a point in time."""
    clock = _parse_clock(cell)
    if clock is not None:
        return _ParsedCell(f"time of day, {clock[0]}", clock[1])
    for form, pattern in _DAY.items():
        match = pattern.fullmatch(cell)
        if match is not None:
            return _parse_date(form, match, order)
    match = _COUNTED.fullmatch(cell)
    if match is not None and (match["before"] or match["after"]):
        return _ParsedCell(f"{match['before']}#{match['after']}", int(match["number"]))
    return None


def _parse_clock(text: str) -> tuple[str, Fraction] | None:
    """Return the form of a time of day and its seconds since midnight."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    half = match["half"] or match["half2"]
    hour = int(match["hour"] or match["hour2"])
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half[0] in "pP" else 0)
    fraction = match["fraction"]
    seconds = hour * 3600 + int(match["minute"] or 0) * 60 + int(match["second"] or 0)
    form = "hours" if match["hour2"] else "hours, minutes, seconds" if match["second"] else "hours, minutes"
    form += ", am or pm" if half else ""
    return form, seconds + (Fraction(int(fraction), 10 ** len(fraction)) if fraction else 0)  # type: ignore[return-value]


def _parse_date(form: str, match: re.Match[str], order: DateOrder | None) -> _ParsedCell | None:
    """Parse a date with or without a time, in seconds since the year 1."""
    parts = match.groupdict()
    year, form = int(parts["y"]), form + (f", with {parts['mark']}" if parts.get("mark") else "")
    month = int(parts["m"]) if parts.get("m") else 0
    if parts.get("name"):
        month = _MONTHS.index(parts["name"][:3].lower()) + 1
    if parts.get("first"):
        first, second = int(parts["first"]), int(parts["second"])
        days = [
            _ordinal(year, second, first),
            _ordinal(year, first, second),
        ]  # with the day first, with the month first
        if order is not None:
            days = [days[order == "month"]] * 2
        if days == [None, None] or (order is not None and days[0] is None):
            return None
        days = [day if day is not None else swapped for day, swapped in zip(days, days[::-1], strict=True)]
    else:
        days = [_ordinal(year, month, int(parts.get("d") or 1))]
    seconds: Fraction | int = 0
    if parts.get("clock"):
        clock = _parse_clock(parts["clock"])
        if clock is None or clock[1] > 86400:
            return None
        zone = parts["zone"]
        form, seconds = f"{form}; {clock[0]}" + (", with a zone" if zone else ""), clock[1]
        if zone and zone[0] in "+-":
            digits = zone[1:].replace(":", "")
            shift = int(digits[:2]) * 3600 + int(digits[2:] or 0) * 60
            seconds -= shift if zone[0] == "+" else -shift
    if days[0] is None:
        return None
    keys = [day * 86400 + seconds for day in days if day is not None]
    return _ParsedCell(form, *keys)


def _ordinal(year: int, month: int, day: int) -> int | None:
    try:
        return datetime.date(year, month, day).toordinal()
    except ValueError:
        return None
