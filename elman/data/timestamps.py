"""Cells of a table as points in time: numbers, counted names, times of day, dates, dates with a time."""

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
    """A column as ranks (N,), which sort as the times do; seconds (N,) since midnight where it holds times of day."""

    ranks: np.ndarray
    seconds: np.ndarray | None


class _Read(NamedTuple):
    """A cell: its form, which all must share; what sorts it; of 1/2/2020, both readings of the date."""

    form: str
    key: Any
    other: Any = None


def date_order(columns: Sequence[tuple[str, polars.Series]], known: DateOrder | None) -> DateOrder | None:
    """Whether dates such as 13/1/2020 have the day first or the month, as columns of several tables say it.

    Arguments:
        columns: with the path of the table, for messages.
        known: as the training data said it.

    Raises:
        ElmanError: they contradict each other.
    """
    found, place = known, "the training data"
    for path, column in columns:
        if column.dtype != polars.String:
            continue
        for cell in present(column).drop_nulls().unique(maintain_order=True):
            match = _DAY["numbers and a year"].fullmatch(cell)
            if match is None:
                continue
            first, second = int(match["first"]), int(match["second"])
            says: DateOrder | None = "day" if first > 12 >= second else "month" if second > 12 >= first else None
            if says is not None and found not in (None, says):
                raise ElmanError(
                    f"{path}: column {column.name!r} holds {cell!r}, a date with the {says} first; "
                    f"{place} has the {found} first"
                )
            if says is not None and found is None:
                found, place = says, f"{path} with {cell!r}"
    return found


def read_timestamps(
    column: polars.Series, path: str, order: DateOrder | None = None, decimal: Decimal | None = None
) -> Timestamps:
    """A column of a table as points in time.

    Arguments:
        column: numbers, dates or times as such, or text.
        path: for messages.
        order: of dates such as 1/2/2020.
        decimal: the decimal mark of numbers that are text.

    Raises:
        ElmanError: a cell is empty, or holds no time, or cells have different forms, or dates are ambiguous.
    """
    kind, place = column.dtype, f"{path}, row %d: column {column.name!r}"

    def wrong(cell: str, what: str) -> ElmanError:
        row = int((cells == cell).arg_true()[0]) + 1
        return ElmanError(f"{place % row} holds {short(cell)}{what}")

    text = isinstance(kind, (polars.String, polars.Categorical, polars.Enum))
    cells = present(column) if text else column
    missing = cells.is_null() | cells.is_nan() if kind.is_float() else cells.is_null()
    if missing.any():
        raise ElmanError(f"{place % (int(missing.arg_true()[0]) + 1)} is empty; every step needs its time")
    if kind.is_numeric() or kind.is_temporal():
        return Timestamps(_ranks((cells if kind.is_numeric() else cells.to_physical()).to_list()), None)
    if not text:
        raise ElmanError(f"{place % 1} holds {kind}, not times")
    given = cells.unique(maintain_order=True)
    if all_numbers(given):
        plain = plain_numbers(cells, given, path, decimal)
        try:
            return Timestamps(_ranks([decimal_numbers.Decimal(x) for x in plain]), None)
        except decimal_numbers.InvalidOperation:
            raise ElmanError(f"{path}: column {column.name!r} holds a number that is too large") from None
    read: dict[str, _Read] = {}
    for cell in given:
        one = _read(cell, order) if len(cell) < 100 else None
        if one is None:
            raise wrong(cell, ", which is no number, time or date that sorts; write dates as 2020-12-31")
        read[cell] = one
        first = given[0]
        if one.form != read[first].form:
            raise wrong(cell, f" ({one.form}) and {first!r} ({read[first].form}): give one form of time")
    every = [read[cell] for cell in cells]
    ranks = _ranks([one.key for one in every])
    if every[0].other is not None and order is None and not np.array_equal(ranks, _ranks([x.other for x in every])):
        raise wrong(
            cells[0],
            ": no date of the column says whether the day or the month is first; write them as 2020-12-31",
        )
    clock = every[0].form.startswith("time of day")
    return Timestamps(ranks, np.array([float(one.key) for one in every]) if clock else None)


def _ranks(keys: list[Any]) -> np.ndarray:
    places = {key: k for k, key in enumerate(sorted(set(keys)))}
    return np.array([places[key] for key in keys], dtype=np.int64)


def _read(cell: str, order: DateOrder | None) -> _Read | None:
    """A cell that is not empty and not a number; None where it is no time."""
    clock = _clock(cell)
    if clock is not None:
        return _Read(f"time of day, {clock[0]}", clock[1])
    for form, pattern in _DAY.items():
        match = pattern.fullmatch(cell)
        if match is not None:
            return _dated(form, match, order)
    match = _COUNTED.fullmatch(cell)
    if match is not None and (match["before"] or match["after"]):
        return _Read(f"{match['before']}#{match['after']}", int(match["number"]))
    return None


def _clock(text: str) -> tuple[str, Fraction] | None:
    """The form of a time and its seconds."""
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


def _dated(form: str, match: re.Match[str], order: DateOrder | None) -> _Read | None:
    """A date with or without a time, in seconds since the year 1."""
    parts = match.groupdict()
    year, form = int(parts["y"]), form + (f", with {parts['mark']}" if parts.get("mark") else "")
    month = int(parts["m"]) if parts.get("m") else 0
    if parts.get("name"):
        month = _MONTHS.index(parts["name"][:3].lower()) + 1
    if parts.get("first"):
        first, second = int(parts["first"]), int(parts["second"])
        days = [_day(year, second, first), _day(year, first, second)]  # the day first, the month first
        if order is not None:
            days = [days[order == "month"]] * 2
        if days == [None, None] or (order is not None and days[0] is None):
            return None
        days = [day if day is not None else other for day, other in zip(days, days[::-1], strict=True)]
    else:
        days = [_day(year, month, int(parts.get("d") or 1))]
    seconds: Fraction | int = 0
    if parts.get("clock"):
        clock = _clock(parts["clock"])
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
    return _Read(form, *keys)


def _day(year: int, month: int, day: int) -> int | None:
    try:
        return datetime.date(year, month, day).toordinal()
    except ValueError:
        return None
