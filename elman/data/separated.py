"""Tables as text: cells between commas, semicolons, tabs or bars, in quotes or not."""

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

from elman.data.records import Bad
from elman.errors import ElmanError

#: What may stand between cells, the likeliest first; one that a first line ``sep=X`` names can be any character.
SEPARATORS = (",", ";", "\t", "|")
#: The separator is found in so many characters, so many records.
_LOOKED_AT, _SAMPLE = 1 << 16, 100

#: What stands in names of columns and cannot be seen.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")


class Rows(NamedTuple):
    """A table, and the line of its file that each row begins in, from 1 (0 where there are no lines)."""

    table: polars.DataFrame
    lines: np.ndarray


def read_separated(text: str, path: str, tabs: bool, bad: Bad) -> Rows:
    """The rows of a text, their cells as they are, all of them text; blank lines and rows of empty cells are left out.

    The first line names the columns. What separates cells is found by itself, by how well it cuts the first lines;
    ``tabs`` says that tabs are likeliest, and then quotes may be just quotes. A row with more cells than the header is
    fine where those are empty.

    Raises:
        ElmanError: no header, a name that is there twice. ``bad`` hears of every row that has too many or too few
            cells, or quotes that do not match.
    """
    separator, skipped = None, 0
    if found := re.match(r"[\ufeff]?sep=(.)[^\S\n]*\n", text, re.IGNORECASE):
        separator, skipped = found[1], 1
        text = text[found.end() :]
    blank = len(text) - len(text.lstrip("\n"))
    text, skipped = text[blank:], skipped + blank
    separator = separator or _separator(text, tabs)
    if '"' not in text:
        return _plain(text, path, separator, skipped, bad)
    if separator != "\t":
        return _quoted(text, path, separator, skipped, bad)
    noted: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    rows = _quoted(text, path, separator, skipped, lambda *wrong: noted[0].append(wrong))
    tabs_inside = any(rows.table[name].str.contains("\t").any() for name in rows.table.columns)
    if noted[0] or tabs_inside:  # are the quotes just quotes?
        plain = _plain(text, path, separator, skipped, lambda *wrong: noted[1].append(wrong))
        if (len(noted[1]), 1 - tabs_inside) <= (len(noted[0]), 0):
            rows, noted = plain, (noted[1], [])
    for wrong in noted[0]:
        bad(*wrong)
    return rows


def _separator(text: str, tabs: bool) -> str:
    """The one that cuts the header into two cells or more, and most of the next records into as many."""
    lines = text[:_LOOKED_AT].split("\n")
    lines = (lines[:-1] if len(text) > _LOOKED_AT and len(lines) > 1 else lines)[: 4 * _SAMPLE]
    best, chosen = (0.0, 0), "\t" if tabs else ","
    for one in ("\t", *SEPARATORS) if tabs else SEPARATORS:
        records = csv.reader((f"{line}\n" for line in lines), delimiter=one)
        try:
            widths = [len(cells) for cells in islice(records, _SAMPLE) if any(cells)]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            alike = sum(width == widths[0] for width in widths) / len(widths)
            if tabs and one == "\t":
                return one
            if (round(alike, 1), widths[0]) > best:
                best, chosen = (round(alike, 1), widths[0]), one
    return chosen


def _header(cells: Sequence[str], path: str) -> list[str]:
    names = [_INVISIBLE.sub("", cell).strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise ElmanError(f"{path}: no names of columns in the first line")
    if len(names) > len(set(names)):
        name, count = Counter(names).most_common(1)[0]
        if name:
            raise ElmanError(f"{path}: the column {name!r} is there {count} times; rename them")
        names = [name or f"column {k}" for k, name in enumerate(names, 1)]
    return names


def _fitted(cells: list[str], width: int, separator: str) -> list[str] | str:
    """The cells of a row, as many as the header has; or what is wrong with it. Of a blank row: none."""
    if len(cells) == width:
        return cells
    if not any(cell.strip() for cell in cells):
        return []
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        return cells[:width]
    what = f"{len(cells)} column{'s'[: len(cells) != 1]}, where the header has {width}"
    return what + (f" (a cell with {separator!r} in it stands in quotes)" if len(cells) > width else "")


def _quoted(text: str, path: str, separator: str, skipped: int, bad: Bad) -> Rows:
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
            bad(place, fitted)
        elif fitted:
            rows.append(fitted)
            lines.append(line + skipped)
    columns = zip(*rows, strict=True) if rows else ([] for _ in header or ())
    table = {name: polars.Series(name, c, dtype=polars.String) for name, c in zip(header or (), columns, strict=True)}
    found = Rows(polars.DataFrame(table), np.array(lines, dtype=np.int64))
    return found if len(table) == 1 else _filled(*found)  # the one cell of a row may be "", which is no blank line


def _records(lines: Sequence[str], separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """(line, cells) of each record, or what is wrong with it; after a wrong one it goes on in the next line."""
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
                never = "end of data" in str(error)
                yield (
                    at + 1,
                    "the quote that opens here never closes"
                    if never
                    else "text behind a closing quote; a quote inside a quoted cell is written twice",
                )
                start = at + 1
    finally:
        csv.field_size_limit(limit)


def _plain(text: str, path: str, separator: str, skipped: int, bad: Bad) -> Rows:
    """A table without quotes, or with quotes that are just quotes: each line is cut at every separator."""
    first, _, body = text.partition("\n")
    while not first.strip() and body:
        first, _, body = body.partition("\n")
        skipped += 1
    header = _header(first.split(separator), path)
    data = body.encode()
    letters = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    mark = separator.encode()
    if len(mark) > 1:
        raise ElmanError(f"{path}: sep={separator}: one ASCII character is needed")
    counts = np.diff(np.searchsorted(np.flatnonzero(letters == mark[0]), ends), prepend=0)
    pieces, done = [], 0
    kept = np.ones(len(counts), dtype=bool)
    for k in np.flatnonzero(counts != len(header) - 1).tolist():
        begin = int(ends[k - 1]) + 1 if k else 0
        line = data[begin : int(ends[k])].decode()
        fitted = _fitted(line.split(separator), len(header), separator)
        pieces.append(data[done:begin])
        done = int(ends[k]) + 1
        if isinstance(fitted, str):
            bad(f"line {k + 2 + skipped}", fitted)
        elif fitted:
            pieces.append(f"{separator.join(fitted)}\n".encode())
        kept[k] = isinstance(fitted, list) and bool(fitted)
    pieces.append(data[done:])
    whole = b"".join(pieces)
    if not whole:
        return Rows(polars.DataFrame(schema=dict.fromkeys(header, polars.String)), np.zeros(0, dtype=np.int64))
    table = polars.read_csv(
        io.BytesIO(whole), separator=separator, has_header=False, new_columns=header, infer_schema=False,
        quote_char=None,
    )  # fmt: skip
    return _filled(table.fill_null(""), np.flatnonzero(kept) + 2 + skipped)


def _filled(table: polars.DataFrame, lines: np.ndarray) -> Rows:
    """The rows in which a cell is not empty."""
    if not table.width:
        return Rows(table, lines)
    filled = table.select(polars.any_horizontal(polars.all().str.strip_chars() != "")).to_series()
    return Rows(table.filter(filled), lines[filled.to_numpy()])
