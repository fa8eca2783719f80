"""Tables in text files: cells between commas, semicolons, tabs or bars, with or without quotes."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import polars

from elman.data.records import ReportBadRow
from elman.errors import ElmanError

#: Separators, the most frequent first. A first line ``sep=X`` may name any other character.
SEPARATORS = (",", ";", "\t", "|")
#: The number of characters and of records by which the separator is detected.
_SAMPLE_SIZE, _SAMPLE_RECORDS = 1 << 16, 100

#: Invisible characters in the names of columns.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")


class Rows(NamedTuple):
    """A table and the line of its file on which each row begins.

    Attributes:
        table (polars.DataFrame): The table.
        lines (numpy.ndarray): (N,) line numbers from 1; 0 if the table does not come from lines of text.
    """

    table: polars.DataFrame
    lines: np.ndarray


def read_separated(text: str, path: str, tabs: bool, report: ReportBadRow) -> Rows:
    """Read a table from text. All cells are text; blank lines and rows of empty cells are skipped.

    The first line names the columns. The separator is the one that cuts the first lines into equal numbers of cells.
    A row may have more cells than the header if those are empty.

    Args:
        text (str): The text.
        path (str): The path of the file, for the error message.
        tabs (bool): Whether to prefer tabs as the separator. Quotes may then be literal characters.
        report (ReportBadRow): Receives each row with too many or too few cells or with unmatched quotes.

    Returns:
        Rows: The rows and their line numbers.

    Raises:
        ElmanError: There is no header, or two columns have the same name.
    """
    separator, skipped = None, 0
    if directive := re.match(r"[\ufeff]?sep=(.)[^\S\n]*\n", text, re.IGNORECASE):
        separator, skipped = directive[1], 1
        text = text[directive.end() :]
    blank = len(text) - len(text.lstrip("\n"))
    text, skipped = text[blank:], skipped + blank
    separator = separator or _separator(text, tabs)
    if '"' not in text:
        return _plain(text, path, separator, skipped, report)
    if separator != "\t":
        return _quoted(text, path, separator, skipped, report)
    noted: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    rows = _quoted(text, path, separator, skipped, lambda *wrong: noted[0].append(wrong))
    tabs_inside = any(rows.table[name].str.contains("\t").any() for name in rows.table.columns)
    if noted[0] or tabs_inside:  # the quotes may be literal
        plain = _plain(text, path, separator, skipped, lambda *wrong: noted[1].append(wrong))
        if (len(noted[1]), 1 - tabs_inside) <= (len(noted[0]), 0):
            rows, noted = plain, (noted[1], [])
    for wrong in noted[0]:
        report(*wrong)
    return rows


def _separator(text: str, tabs: bool) -> str:
    """Detect the separator: it cuts the header into two cells or more, and most records into the same number."""
    lines = text[:_SAMPLE_SIZE].split("\n")
    lines = (lines[:-1] if len(text) > _SAMPLE_SIZE and len(lines) > 1 else lines)[: 4 * _SAMPLE_RECORDS]
    best, chosen = (0.0, 0), "\t" if tabs else ","
    for candidate in ("\t", *SEPARATORS) if tabs else SEPARATORS:
        records = csv.reader((f"{line}\n" for line in lines), delimiter=candidate)
        try:
            widths = [len(cells) for cells in islice(records, _SAMPLE_RECORDS) if any(cells)]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            alike = sum(width == widths[0] for width in widths) / len(widths)
            if tabs and candidate == "\t":
                return candidate
            if (round(alike, 1), widths[0]) > best:
                best, chosen = (round(alike, 1), widths[0]), candidate
    return chosen


def _header(cells: Sequence[str], path: str) -> list[str]:
    names = [_INVISIBLE.sub("", cell).strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise ElmanError(f"{path}: the first line does not name the columns")
    if len(names) > len(set(names)):
        name, count = Counter(names).most_common(1)[0]
        if name:
            raise ElmanError(f"{path}: {count} columns are named {name!r}; rename them")
        names = [name or f"column {k}" for k, name in enumerate(names, 1)]
    return names


def _fitted(cells: list[str], width: int, separator: str) -> list[str] | str:
    """Return the cells of a row, one for each column; none if the row is blank, or the reason why it is wrong."""
    if len(cells) == width:
        return cells
    if not any(cell.strip() for cell in cells):
        return []
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        return cells[:width]
    reason = f"{len(cells)} column{'s'[: len(cells) != 1]}, where the header has {width}"
    return reason + (f" (put a cell that contains {separator!r} in quotes)" if len(cells) > width else "")


def _quoted(text: str, path: str, separator: str, skipped: int, report: ReportBadRow) -> Rows:
    """Read a table whose cells may be in quotes."""
    records = _records(text.split("\n"), separator)
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, cells in records:
        place = f"line {line + skipped}"
        if header is None:
            if isinstance(cells, str):
                raise ElmanError(f"{path}, {place}: {cells}")
            if any(cell.strip() for cell in cells):
                header = _header(cells, path)
            continue
        fitted = cells if isinstance(cells, str) else _fitted(cells, len(header), separator)
        if isinstance(fitted, str):
            report(place, fitted)
        elif fitted:
            rows.append(fitted)
            lines.append(line + skipped)
    columns = zip(*rows, strict=True) if rows else ([] for _ in header or ())
    table = {name: polars.Series(name, c, dtype=polars.String) for name, c in zip(header or (), columns, strict=True)}
    result = Rows(polars.DataFrame(table), np.array(lines, dtype=np.int64))
    return result if len(table) == 1 else _drop_empty(*result)  # a single cell may be "", which is not a blank line


def _records(lines: Sequence[str], separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the line and the cells of each record, or the reason why it is wrong; then continue on the next line."""
    start, limit = 0, csv.field_size_limit(sys.maxsize)
    try:
        while start < len(lines):
            reader = csv.reader((f"{lines[k]}\n" for k in range(start, len(lines))), delimiter=separator, strict=True)
            at = start
            try:
                for cells in reader:
                    yield at + 1, cells
                    at = start + reader.line_num
                return
            except csv.Error as error:
                unclosed = "end of data" in str(error)
                yield (
                    at + 1,
                    "a quote is opened on this line and never closed"
                    if unclosed
                    else "text after a closing quote; write a quote inside a quoted cell twice",
                )
                start = at + 1
    finally:
        csv.field_size_limit(limit)


def _plain(text: str, path: str, separator: str, skipped: int, report: ReportBadRow) -> Rows:
    """Read a table whose quotes, if any, are literal: each line is cut at every separator."""
    first, _, body = text.partition("\n")
    while not first.strip() and body:
        first, _, body = body.partition("\n")
        skipped += 1
    header = _header(first.split(separator), path)
    data = body.encode()
    characters = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    mark = separator.encode()
    if len(mark) > 1:
        raise ElmanError(f"{path}: sep={separator}: the separator must be one ASCII character")
    counts = np.diff(np.searchsorted(np.flatnonzero(characters == mark[0]), ends), prepend=0)
    pieces, copied = [], 0
    kept = np.ones(len(counts), dtype=bool)
    for k in np.flatnonzero(counts != len(header) - 1).tolist():
        begin = int(ends[k - 1]) + 1 if k else 0
        line = data[begin : int(ends[k])].decode()
        fitted = _fitted(line.split(separator), len(header), separator)
        pieces.append(data[copied:begin])
        copied = int(ends[k]) + 1
        if isinstance(fitted, str):
            report(f"line {k + 2 + skipped}", fitted)
        elif fitted:
            pieces.append(f"{separator.join(fitted)}\n".encode())
        kept[k] = isinstance(fitted, list) and bool(fitted)
    pieces.append(data[copied:])
    repaired = b"".join(pieces)
    if not repaired:
        return Rows(polars.DataFrame(schema=dict.fromkeys(header, polars.String)), np.zeros(0, dtype=np.int64))
    table = polars.read_csv(
        io.BytesIO(repaired), separator=separator, has_header=False, new_columns=header, infer_schema=False,
        quote_char=None,
    )  # fmt: skip
    return _drop_empty(table.fill_null(""), np.flatnonzero(kept) + 2 + skipped)


def _drop_empty(table: polars.DataFrame, lines: np.ndarray) -> Rows:
    """Drop rows whose cells are all empty."""
    if not table.width:
        return Rows(table, lines)
    kept = table.select(polars.any_horizontal(polars.all().str.strip_chars() != "")).to_series()
    return Rows(table.filter(kept), lines[kept.to_numpy()])
