"""Read the cells of a table as numbers: decimal marks, thousands separators, booleans, missing values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars

from elman.errors import ElmanError

Decimal = Literal[".", ","]

#: Spellings of a missing value, in lower case.
MISSING = ("", "?", "na", "n/a", "#n/a", "nan", "-nan", "<na>", "null", "none", "-", "--", ".")
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
#: These are booleans only if a column contains both.
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
    """The cells of a column as numbers.

    Attributes:
        kind (str): ``"numbers"``; ``"flags"``, booleans as 0 and 1; ``"empty"``, all values are missing; or ``"text"``.
        values (numpy.ndarray): Values (N,), float64, NaN where missing. Empty for ``"text"``.
        reason (str): For ``"text"``, why the column is not numeric.
    """

    kind: Literal["numbers", "flags", "empty", "text"]
    values: np.ndarray
    reason: str = ""


def read_cells(column: polars.Series, path: str, decimal: Decimal | None = None, numeric: bool = False) -> Cells:
    """Read a column of a table as numbers.

    Args:
        column (polars.Series): The column, of any type. Text is parsed.
        path (str): The path of the table, for error messages.
        decimal (str, optional): The decimal mark of text, ``"."`` or ``","``. Default: ``None``, the point, and an
            error if a comma could be one.
        numeric (bool): Whether the column is known to contain numbers or booleans. Default: ``False``.

    Returns:
        Cells: The numbers, or the reason why the column is text.

    Raises:
        ElmanError: The column contains both numbers and other text, or its decimal mark is ambiguous.

    Example::

        >>> import polars
        >>> read_cells(polars.Series("price", ["1,5", "2", ""]), "prices.csv", ",").values
        array([1.5, 2. , nan])
    """
    dtype = column.dtype
    if dtype == polars.Boolean:
        return Cells("flags", _floats(column))
    if dtype.is_numeric():
        values = _floats(column)
        return Cells("empty" if np.isnan(values).all() else "numbers", values)
    if isinstance(dtype, polars.Null):
        return Cells("empty", np.full(len(column), np.nan))
    if not isinstance(dtype, (polars.String, polars.Categorical, polars.Enum)):
        return Cells("text", np.empty(0), f"contains {str(dtype).partition('(')[0]}")
    plain = column.cast(polars.Float64, strict=False) if decimal != "," and dtype == polars.String else None
    if plain is not None and len(plain) and not plain.null_count() and plain.is_finite().all():
        return Cells("numbers", plain.to_numpy())  # the fast path of most tables
    cells = present(column)
    distinct = cells.drop_nulls().unique(maintain_order=True)
    if not len(distinct):
        return Cells("empty", np.full(len(column), np.nan))
    is_number = distinct.str.contains(_NUMBER["."]) | distinct.str.contains(_NUMBER[","])
    if is_number.all():
        return Cells("numbers", _floats(plain_numbers(cells, distinct, path, decimal)))
    if is_number.any():
        wrong = distinct.filter(~is_number)[0]
        row = int((cells == wrong).arg_true()[0]) + 1
        raise ElmanError(
            f"{path}, row {row}: column {column.name!r} contains {short(wrong)} among numbers; correct it, "
            "or name the columns to read with --channels"
        )
    lower = cells.str.to_lowercase()
    words = set(lower.drop_nulls().unique())
    letters = [((yes,), (no,)) for yes, no in _LETTERS if numeric or {yes, no} <= words]
    for true, false in ((_TRUE, _FALSE), *letters):
        if words <= {*true, *false}:
            flags = lower.is_in(list(true)).cast(polars.Float64)
            return Cells("flags", _floats(flags.set(lower.is_null(), None)))
    return Cells("text", np.empty(0), f"{short(distinct[0])} is not a number")


def short(cell: str) -> str:
    """Return a cell in quotes for a message, cut to 60 characters."""
    return repr(cell if len(cell) <= 60 else cell[:60] + "...")


def listed(names: Sequence[str]) -> str:
    """Return the first twenty names for a message, separated by commas."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def present(column: polars.Series) -> polars.Series:
    """Return a column as text without surrounding white space, null where a value is missing."""
    cells = column.cast(polars.String).str.strip_chars()
    return cells.set(cells.is_null() | cells.str.to_lowercase().is_in(list(MISSING)), None)


def all_numbers(cells: polars.Series) -> bool:
    """Return whether all cells of text are numbers with a decimal point or a decimal comma."""
    return bool((cells.str.contains(_NUMBER["."]) | cells.str.contains(_NUMBER[","])).all())


def plain_numbers(cells: polars.Series, distinct: polars.Series, path: str, decimal: Decimal | None) -> polars.Series:
    """Rewrite numbers in Python's notation: without thousands separators, with a decimal point.

    Args:
        cells (polars.Series): The cells, all of them numbers.
        distinct (polars.Series): The distinct cells without null.
        path (str): The path of the table, for error messages.
        decimal (str, optional): The decimal mark; see `read_cells`.

    Returns:
        polars.Series: The rewritten cells.

    Raises:
        ElmanError: The decimal mark is ambiguous, or a cell has another one.
    """
    mark = _decimal_mark(cells, distinct, path, decimal)
    bare = cells.str.replace_all(f"[ \u00a0\u2009\u202f'\u2019\\{_OTHER[mark]}]", "")
    return bare.str.replace(mark, ".", literal=True).str.replace_all("\u2212", "-", literal=True)


def _decimal_mark(cells: polars.Series, distinct: polars.Series, path: str, decimal: Decimal | None) -> Decimal:
    """Return the decimal mark of cells that are all numbers with one mark or the other."""

    def error(cell: str, reason: str) -> ElmanError:
        row = int((cells == cell).arg_true()[0]) + 1
        return ElmanError(f"{path}, row {row}: column {cells.name!r} contains {short(cell)}{reason}")

    fits = {mark: distinct.str.contains(_NUMBER[mark]) for mark in _NUMBER}
    if decimal is not None:
        if not fits[decimal].all():
            name = "point" if decimal == "." else "comma"
            raise error(
                distinct.filter(~fits[decimal])[0], f", which is not a number with a decimal {name} (--decimal)"
            )
        return decimal
    commas = distinct.filter(distinct.str.contains(",", literal=True))
    if fits["."].all():
        if len(commas) and not commas.str.contains(r"[.]|,.*,").any():
            raise error(commas[0], ": give --decimal , for a decimal comma, --decimal . for a thousands separator")
        return "."
    if fits[","].all():
        raise error(distinct.filter(~fits["."])[0], ", which has a decimal comma: give --decimal ,")
    other = distinct.filter(~fits[","])[0]
    raise error(distinct.filter(~fits["."])[0], f" and {other!r}: decimal commas and points in one column")


def _floats(column: polars.Series) -> np.ndarray:
    return column.cast(polars.Float64).fill_null(float("nan")).to_numpy()
