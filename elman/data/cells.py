"""Cells of a table as numbers: decimal marks, thousands separators, booleans, missing values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars

from elman.errors import ElmanError

Decimal = Literal[".", ","]

#: How tables write a missing value, in small letters.
MISSING = ("", "?", "na", "n/a", "#n/a", "nan", "-nan", "<na>", "null", "none", "-", "--", ".")
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
#: These are booleans only where a column has both.
_LETTERS = (("t", "f"), ("y", "n"))
_OTHER: dict[Decimal, Decimal] = {".": ",", ",": "."}


def _pattern(decimal: Decimal) -> str:
    groups = [f"\\{_OTHER[decimal]}", "[ \u00a0\u2009\u202f]", "['\u2019]"]
    thousands = "|".join(f"[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+" for mark in groups)
    return (
        rf"^[+\-\u2212]?(?:(?:[0-9]+|{thousands})(?:\{decimal}[0-9]*)?|\{decimal}[0-9]+)(?:[eE][+\-\u2212]?[0-9]+)?$"
    ).replace("\\u2212", "\u2212")


_NUMBER: dict[Decimal, str] = {".": _pattern("."), ",": _pattern(",")}


class Cells(NamedTuple):
    """A column as numbers.

    kind: numbers; flags, which are booleans as 0 and 1; empty, all values missing; or text. values: (N,) float64, NaN
    where missing; of text none. why: what a column of text holds instead of numbers.
    """

    kind: Literal["numbers", "flags", "empty", "text"]
    values: np.ndarray
    why: str = ""


def read_cells(column: polars.Series, path: str, decimal: Decimal | None = None, known: bool = False) -> Cells:
    """A column of a table as numbers.

    Arguments:
        column: of any type; text is parsed.
        path: for messages.
        decimal: the decimal mark of text. None: the point, and an error where a comma could be one.
        known: the column holds numbers or booleans for sure.

    Raises:
        ElmanError: the column holds numbers and something else, or it does not say which mark is the decimal one.
    """
    kind = column.dtype
    if kind == polars.Boolean:
        return Cells("flags", _floats(column))
    if kind.is_numeric():
        values = _floats(column)
        return Cells("empty" if np.isnan(values).all() else "numbers", values)
    if isinstance(kind, polars.Null):
        return Cells("empty", np.full(len(column), np.nan))
    if not isinstance(kind, (polars.String, polars.Categorical, polars.Enum)):
        return Cells("text", np.empty(0), f"holds {str(kind).partition('(')[0]}")
    plain = column.cast(polars.Float64, strict=False) if decimal != "," and kind == polars.String else None
    if plain is not None and len(plain) and not plain.null_count() and plain.is_finite().all():
        return Cells("numbers", plain.to_numpy())  # as most tables are
    cells = present(column)
    given = cells.drop_nulls().unique(maintain_order=True)
    if not len(given):
        return Cells("empty", np.full(len(column), np.nan))
    number = given.str.contains(_NUMBER["."]) | given.str.contains(_NUMBER[","])
    if number.all():
        return Cells("numbers", _floats(plain_numbers(cells, given, path, decimal)))
    if number.any():
        bad = given.filter(~number)[0]
        row = int((cells == bad).arg_true()[0]) + 1
        raise ElmanError(
            f"{path}, row {row}: column {column.name!r} holds {short(bad)} among numbers; correct it, "
            "or name the columns to read with --channels"
        )
    small = cells.str.to_lowercase()
    found = set(small.drop_nulls().unique())
    for true, false in ((_TRUE, _FALSE), *(((yes,), (no,)) for yes, no in _LETTERS if known or {yes, no} <= found)):
        if found <= {*true, *false}:
            flags = small.is_in(list(true)).cast(polars.Float64)
            return Cells("flags", _floats(flags.set(small.is_null(), None)))
    return Cells("text", np.empty(0), f"{short(given[0])} is not a number")


def short(cell: str) -> str:
    """A cell for a message, in quotes."""
    return repr(cell if len(cell) <= 60 else cell[:60] + "...")


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first twenty."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def present(column: polars.Series) -> polars.Series:
    """A column of text without white space around its cells, null where a value is missing."""
    cells = column.cast(polars.String).str.strip_chars()
    return cells.set(cells.is_null() | cells.str.to_lowercase().is_in(list(MISSING)), None)


def all_numbers(given: polars.Series) -> bool:
    """Whether all cells of text are numbers, with one decimal mark or the other."""
    return bool((given.str.contains(_NUMBER["."]) | given.str.contains(_NUMBER[","])).all())


def plain_numbers(cells: polars.Series, given: polars.Series, path: str, decimal: Decimal | None) -> polars.Series:
    """Cells that are numbers, as Python writes them: without thousands separators, with a decimal point.

    ``given``: the cells once each, without null. ElmanError where it is not clear which mark is the decimal one.
    """
    mark = _decimal(cells, given, path, decimal)
    bare = cells.str.replace_all(f"[ \u00a0\u2009\u202f'\u2019\\{_OTHER[mark]}]", "")
    return bare.str.replace(mark, ".", literal=True).str.replace_all("\u2212", "-", literal=True)


def _decimal(cells: polars.Series, given: polars.Series, path: str, decimal: Decimal | None) -> Decimal:
    """The decimal mark of cells that are all numbers with one mark or the other."""

    def wrong(cell: str, what: str) -> ElmanError:
        row = int((cells == cell).arg_true()[0]) + 1
        return ElmanError(f"{path}, row {row}: column {cells.name!r} holds {short(cell)}{what}")

    fits = {mark: given.str.contains(_NUMBER[mark]) for mark in _NUMBER}
    if decimal is not None:
        if not fits[decimal].all():
            name = "point" if decimal == "." else "comma"
            raise wrong(given.filter(~fits[decimal])[0], f", which is no number with a decimal {name} (--decimal)")
        return decimal
    commas = given.filter(given.str.contains(",", literal=True))
    if fits["."].all():
        if len(commas) and not commas.str.contains(r"[.]|,.*,").any():
            raise wrong(commas[0], ": give --decimal , for a decimal comma, --decimal . for a thousands separator")
        return "."
    if fits[","].all():
        raise wrong(given.filter(~fits["."])[0], ", which has a decimal comma: give --decimal ,")
    other = given.filter(~fits[","])[0]
    raise wrong(given.filter(~fits["."])[0], f" and {other!r}: decimal commas and points in one column")


def _floats(column: polars.Series) -> np.ndarray:
    return column.cast(polars.Float64).fill_null(float("nan")).to_numpy()
