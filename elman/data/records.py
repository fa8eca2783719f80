"""Records of Python and JSON as tables of text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars

from elman.errors import ElmanError

#: What a row that cannot be read is reported to: where it stands ("line 7"), and what is wrong with it.
Bad = Callable[[str, str], None]


def column(table: polars.DataFrame, name: str, path: str = "") -> list[str]:
    """The cells of a column as text; empty ones are ''.

    Arguments:
        path: of the table, for the message.

    Raises:
        ElmanError: it holds what is not text: lists, records, bytes.
    """
    found = table[name]
    if found.dtype.is_nested() or found.dtype in (polars.Object, polars.Binary):
        raise ElmanError(f"{path}{': ' * bool(path)}column {name!r} holds {found.dtype}, not text")
    if found.dtype.is_float():
        found = found.fill_nan(None)
    return found.cast(polars.String).fill_null("").to_list()


def list_column(table: polars.DataFrame, name: str) -> list[list[str]] | None:
    """The cells of a column that holds lists, of text each; None where it does not hold lists."""
    found = table[name]
    if not isinstance(found.dtype, (polars.List, polars.Array)):
        return None
    return [[str(one) for one in cell or () if one is not None] for cell in found.to_list()]


def frame_from_columns(columns: Mapping[Any, Iterable[Any]], source: str = "data") -> polars.DataFrame:
    """A table of columns in memory: cells become text, None and NaN become nulls, and lists become lists of text.

    Raises:
        ElmanError: the columns are of unequal length, or a column is no sequence.
    """
    found: dict[str, polars.Series] = {}
    for key, cells in columns.items():
        name = str(key)
        if isinstance(cells, (str, bytes)) or not isinstance(cells, Iterable):
            raise ElmanError(f"{source}: column {name!r} is {type(cells).__name__}; a list with a cell a row is needed")
        if name in found:
            raise ElmanError(f"{source}: the column {name!r} is there twice")
        found[name] = cells if isinstance(cells, polars.Series) else _series(name, list(cells), source)
    sizes = {name: len(cells) for name, cells in found.items()}
    if len(set(sizes.values())) > 1:
        raise ElmanError(f"{source}: columns of unequal length: " + ", ".join(f"{n} {k:,}" for n, k in sizes.items()))
    return polars.DataFrame(found)


def frame_from_rows(rows: Sequence[Any]) -> tuple[polars.DataFrame, bool]:
    """A table of rows in memory, and whether they are tuples, whose columns have an order and no names.

    Raises:
        ElmanError: the rows are neither tuples (or lists) of two to four cells nor dicts.
    """
    if not rows:
        return polars.DataFrame(), True
    if all(isinstance(row, Mapping) for row in rows):
        return frame_from_columns(_by_key(rows)), False
    width = len(rows[0]) if isinstance(rows[0], (tuple, list)) else 0
    for k, row in enumerate(rows, 1):
        if isinstance(row, list) and row and all(isinstance(one, tuple) and len(one) == 2 for one in row):
            raise ElmanError(
                f"data, row {k} of {len(rows)}: a list of pairs such as {row[0]!r}; a sentence is one pair, its words "
                f"and its tags: ({[one[0] for one in row][:2]}, {[one[1] for one in row][:2]})"
            )
        if not isinstance(row, (tuple, list)) or len(row) != width or not 2 <= width <= 4:
            what = f"{len(row)} cells" if isinstance(row, (tuple, list)) else type(row).__name__
            raise ElmanError(
                f"data, row {k} of {len(rows)}: {what}; rows are tuples such as (text, label), or dicts; columns are "
                "given as {'text': [...], 'label': [...]}"
            )
    return frame_from_columns({str(k): [row[k] for row in rows] for k in range(width)}), True


def read_json(text: str, path: str, lines: bool, bad: Bad) -> tuple[polars.DataFrame, list[int]]:
    """The table in a JSON file, and the line of each row, where each has one.

    It is an object a line, an array of objects, or an object of columns. ``lines``: an object a line is meant, where
    that is not clear.

    Raises:
        ElmanError: it is not JSON, or of another form.
    """
    try:
        value = _load(text, path)
    except ElmanError:
        if lines or is_json(text.lstrip().partition("\n")[0]):
            return _json_lines(text, path, bad)
        raise
    if not isinstance(value, list) and (lines or not isinstance(value, dict)):
        return _json_lines(text, path, bad)
    if isinstance(value, dict):
        if all(isinstance(cells, list) for cells in value.values()):
            return frame_from_columns(value, path), []
        if any(isinstance(cells, (list, dict)) for cells in value.values()):
            raise ElmanError(
                f"{path}: an object with {', '.join(list(value)[:5])}; an array of records is needed, or a record a "
                "line (pandas: to_json(orient='records'))"
            )
        value = [value]
    rows = []
    for k, row in enumerate(value, 1):
        if isinstance(row, dict):
            rows.append(row)
        else:
            bad(f"record {k}", f"{_kind(row)}; an object with the columns as keys is needed")
    return frame_from_columns(_by_key(rows), path), []


def _json_lines(text: str, path: str, bad: Bad) -> tuple[polars.DataFrame, list[int]]:
    rows, lines = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _load(line, path)
        except ElmanError as error:
            bad(f"line {number}", str(error).removeprefix(f"{path}: ").partition(" at line ")[0])
            continue
        if isinstance(row, dict):
            rows.append(row)
            lines.append(number)
        else:
            bad(f"line {number}", f"{_kind(row)}; an object with the columns as keys is needed")
    return frame_from_columns(_by_key(rows), path), lines


def _load(text: str, path: str) -> Any:
    """JSON, its numbers as they are spelt."""
    try:
        return json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
    except json.JSONDecodeError as error:
        raise ElmanError(f"{path}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ElmanError(f"{path}: not a table in JSON: nested too deeply") from None


def is_json(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _Number(str):
    """A number of JSON, as it is spelt."""


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a number" if isinstance(value, _Number) else repr(value)[:40]


def _by_key(rows: Sequence[Mapping[Any, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _series(name: str, cells: list[Any], source: str) -> polars.Series:
    try:
        values = [_cell(cell) for cell in cells]
        if any(isinstance(value, (dict, np.ndarray)) for value in values):
            return polars.Series(name, values, dtype=polars.Object)
        if any(isinstance(value, list) for value in values):
            return polars.Series(
                name,
                [v if v is None or isinstance(v, list) else [v] for v in values],
                dtype=polars.List(polars.String),
            )
        return polars.Series(name, values, dtype=polars.String)
    except UnicodeEncodeError:
        raise ElmanError(f"{source}: column {name!r} holds half of a surrogate pair, which is no text") from None


def _is_series(value: Any) -> bool:
    """Whether a cell is an array of numbers, (T,) or (T, C)."""
    if isinstance(value, np.ndarray):
        return value.ndim > 1 or (value.dtype.kind in "iufbc" and value.ndim > 0)
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], (list, tuple, np.ndarray))


def _array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ElmanError(f"data: a cell is {type(value).__name__}, which becomes no array: {error}") from None


def _cell(value: Any) -> Any:
    """A cell as text, a list of text, or None; a dict as it is."""
    if isinstance(value, str) or value is None:
        return None if isinstance(value, _Number) and value == "NaN" else value
    if hasattr(value, "__array__") and not isinstance(value, np.ndarray):  # a tensor, a data frame, a NumPy scalar
        value = _array(value)
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item()
    if _is_series(value):
        return np.asarray(value)
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [None if one is None else str(one) for one in map(_cell, items)]  # none is lost: lists go together
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value)
    if isinstance(value, bool):
        return str(value).lower()  # as JSON and polars spell it
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return {"bytes": value}  # not text: refused where it is asked for
    if type(value).__str__ is object.__str__ and type(value).__repr__ is object.__repr__:
        raise ElmanError(f"data: a cell is {type(value).__name__}, which is neither a text, a number nor an array")
    text = str(value)  # dates, categories, ...
    return None if text in ("<NA>", "NaT") and type(value).__name__ in ("NAType", "NaTType") else text
