"""Tables of text from Python objects and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars

from elman.errors import ElmanError

#: A function that receives the location of a row that cannot be read ("line 7") and the reason.
ReportBadRow = Callable[[str, str], None]


def column(table: polars.DataFrame, name: str, path: str = "") -> list[str]:
    """Return the cells of a column as text; missing cells are ``""``.

    Args:
        table (polars.DataFrame): The table.
        name (str): The name of the column.
        path (str): The path of the table, for the error message.

    Raises:
        ElmanError: The column contains lists, records or bytes.
    """
    cells = table[name]
    if cells.dtype.is_nested() or cells.dtype in (polars.Object, polars.Binary):
        raise ElmanError(f"{path}{': ' * bool(path)}column {name!r} contains {cells.dtype}, not text")
    if cells.dtype.is_float():
        cells = cells.fill_nan(None)
    return cells.cast(polars.String).fill_null("").to_list()


def list_column(table: polars.DataFrame, name: str) -> list[list[str]] | None:
    """Return the cells of a column of lists as lists of text; None if the column has another type."""
    cells = table[name]
    if not isinstance(cells.dtype, (polars.List, polars.Array)):
        return None
    return [[str(item) for item in cell or () if item is not None] for cell in cells.to_list()]


def frame_from_columns(columns: Mapping[Any, Iterable[Any]], source: str = "data") -> polars.DataFrame:
    """Return a table of columns in memory.

    Cells become text, None and NaN become nulls, and lists become lists of text.

    Args:
        columns (Mapping[Any, Iterable[Any]]): The cells of each column.
        source (str): The name of the data, for the error message. Default: ``"data"``.

    Raises:
        ElmanError: The columns have unequal lengths, or a column is not a sequence.
    """
    frame: dict[str, polars.Series] = {}
    for key, cells in columns.items():
        name = str(key)
        if isinstance(cells, (str, bytes)) or not isinstance(cells, Iterable):
            raise ElmanError(
                f"{source}: column {name!r} is {type(cells).__name__}; a list with one cell for each row is required"
            )
        if name in frame:
            raise ElmanError(f"{source}: more than one column is named {name!r}")
        frame[name] = cells if isinstance(cells, polars.Series) else _series(name, list(cells), source)
    sizes = {name: len(cells) for name, cells in frame.items()}
    if len(set(sizes.values())) > 1:
        raise ElmanError(
            f"{source}: the columns have unequal lengths: " + ", ".join(f"{n} {k:,}" for n, k in sizes.items())
        )
    return polars.DataFrame(frame)


def frame_from_rows(rows: Sequence[Any]) -> tuple[polars.DataFrame, bool]:
    """Return a table of rows in memory, and whether its columns have only an order and no names.

    Args:
        rows (Sequence[Any]): Dicts, or tuples or lists of two to four cells.

    Raises:
        ElmanError: The rows are of another type, or have different numbers of cells.
    """
    if not rows:
        return polars.DataFrame(), True
    if all(isinstance(row, Mapping) for row in rows):
        return frame_from_columns(_columns_of(rows)), False
    width = len(rows[0]) if isinstance(rows[0], (tuple, list)) else 0
    for k, row in enumerate(rows, 1):
        if isinstance(row, list) and row and all(isinstance(pair, tuple) and len(pair) == 2 for pair in row):
            raise ElmanError(
                f"data, row {k} of {len(rows)}: a list of pairs such as {row[0]!r}; a sentence is one pair, its words "
                f"and its tags: ({[word for word, _ in row][:2]}, {[tag for _, tag in row][:2]})"
            )
        if not isinstance(row, (tuple, list)) or len(row) != width or not 2 <= width <= 4:
            what = f"{len(row)} cells" if isinstance(row, (tuple, list)) else type(row).__name__
            raise ElmanError(
                f"data, row {k} of {len(rows)}: {what}; rows are tuples such as (text, label), or dicts; give columns "
                "as {'text': [...], 'label': [...]}"
            )
    return frame_from_columns({str(k): [row[k] for row in rows] for k in range(width)}), True


def read_json(text: str, path: str, lines: bool, report: ReportBadRow) -> tuple[polars.DataFrame, list[int]]:
    """Read a table in JSON: an array of objects, an object of columns, or an object on each line.

    Args:
        text (str): The text.
        path (str): The path of the file, for the error message.
        lines (bool): Whether to prefer an object on each line if the text could be read in several ways.
        report (ReportBadRow): Receives the rows that cannot be read.

    Returns:
        tuple[polars.DataFrame, list[int]]: The table, and the line number of each row. The list is empty if the rows
        are not on lines of their own.

    Raises:
        ElmanError: The text is not valid JSON, or has another form.
    """
    try:
        value = _load(text, path)
    except ElmanError:
        if lines or is_json(text.lstrip().partition("\n")[0]):
            return _json_lines(text, path, report)
        raise
    if not isinstance(value, list) and (lines or not isinstance(value, dict)):
        return _json_lines(text, path, report)
    if isinstance(value, dict):
        if all(isinstance(cells, list) for cells in value.values()):
            return frame_from_columns(value, path), []
        if any(isinstance(cells, (list, dict)) for cells in value.values()):
            raise ElmanError(
                f"{path}: an object with the keys {', '.join(list(value)[:5])}; an array of records, or a record "
                "on each line, is required (pandas: to_json(orient='records'))"
            )
        value = [value]
    rows = []
    for k, row in enumerate(value, 1):
        if isinstance(row, dict):
            rows.append(row)
        else:
            report(f"record {k}", f"{_kind(row)}; an object with the columns as keys is required")
    return frame_from_columns(_columns_of(rows), path), []


def _json_lines(text: str, path: str, report: ReportBadRow) -> tuple[polars.DataFrame, list[int]]:
    rows, lines = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _load(line, path)
        except ElmanError as error:
            report(f"line {number}", str(error).removeprefix(f"{path}: ").partition(" at line ")[0])
            continue
        if isinstance(row, dict):
            rows.append(row)
            lines.append(number)
        else:
            report(f"line {number}", f"{_kind(row)}; an object with the columns as keys is required")
    return frame_from_columns(_columns_of(rows), path), lines


def _load(text: str, path: str) -> Any:
    """Parse JSON and keep the spelling of its numbers."""
    try:
        return json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
    except json.JSONDecodeError as error:
        raise ElmanError(f"{path}: not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ElmanError(f"{path}: not a table: the JSON is nested too deeply") from None


def is_json(text: str) -> bool:
    """Return whether a text is valid JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _Number(str):
    """The spelling of a number in JSON."""


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a number" if isinstance(value, _Number) else repr(value)[:40]


def _columns_of(rows: Sequence[Mapping[Any, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _series(name: str, cells: list[Any], source: str) -> polars.Series:
    try:
        values = [_cell(cell) for cell in cells]
        if any(isinstance(value, (dict, np.ndarray)) or _is_medium(value) for value in values):
            return polars.Series(name, values, dtype=polars.Object)
        if any(isinstance(value, list) for value in values):
            return polars.Series(
                name,
                [v if v is None or isinstance(v, list) else [v] for v in values],
                dtype=polars.List(polars.String),
            )
        return polars.Series(name, values, dtype=polars.String)
    except UnicodeEncodeError:
        raise ElmanError(f"{source}: column {name!r} contains an unpaired surrogate, which is not valid text") from None


def _is_series(value: Any) -> bool:
    """Return whether a cell is an array of numbers of shape (T,) or (T, C)."""
    if isinstance(value, np.ndarray):
        return value.ndim > 1 or (value.dtype.kind in "iufbc" and value.ndim > 0)
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], (list, tuple, np.ndarray))


def _is_medium(value: Any) -> bool:
    """Return whether a cell is a picture of Pillow, or a sound with its samples and their rate."""
    return type(value).__module__.partition(".")[0] == "PIL" or (hasattr(value, "samples") and hasattr(value, "rate"))


def _array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ElmanError(f"data: a cell is {type(value).__name__}, which cannot become an array: {error}") from None


def _cell(value: Any) -> Any:
    """Convert a cell to text, a list of text, or None; a dict, a picture or a sound stays as it is."""
    if isinstance(value, str) or value is None:
        return None if isinstance(value, _Number) and value == "NaN" else value
    if _is_medium(value):
        return value
    if hasattr(value, "__array__") and not isinstance(value, np.ndarray):  # a tensor, a data frame, a NumPy scalar
        value = _array(value)
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item()
    if _is_series(value):
        return np.asarray(value)
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [None if item is None else str(item) for item in map(_cell, items)]  # keeps the length
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value)
    if isinstance(value, bool):
        return str(value).lower()  # the spelling of JSON and polars
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return {"bytes": value}  # not text: refused by column()
    if type(value).__str__ is object.__str__ and type(value).__repr__ is object.__repr__:
        raise ElmanError(f"data: a cell is {type(value).__name__}, which is not a text, a number or an array")
    text = str(value)  # dates, categories, ...
    return None if text in ("<NA>", "NaT") and type(value).__name__ in ("NAType", "NaTType") else text
