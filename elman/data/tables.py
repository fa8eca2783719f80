"""Tables with named columns: .csv, .tsv, .json, .jsonl, .parquet, .feather, .arrow, .xlsx; or in memory."""

from __future__ import annotations

import difflib
import io
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import polars

from elman.data.archive import BOOKS, name_inside, split_member, table_in_memory
from elman.data.records import Bad, column, is_json, list_column, read_json
from elman.data.separated import Rows, read_separated
from elman.data.source import InMemory, printable
from elman.data.text import read_bytes, read_text
from elman.errors import ElmanError

_log = logging.getLogger("elman")

_SEPARATED, _JSON, _ARROW = (
    (".csv", ".tsv", ".tab", ".psv"),
    (".json", ".jsonl", ".ndjson"),
    (".feather", ".arrow", ".ipc"),
)
#: How a table's name ends, without what compresses it.
TABLES = (*_SEPARATED, *_JSON, ".parquet", *_ARROW, *BOOKS)

#: What polars raises of a damaged file; a panic is one that it did not foresee.
_BROKEN = (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError, ValueError)

#: What people call the columns that elman calls so.
_SYNONYMS = {
    "text": {"review", "sentence", "content", "body", "comment", "message", "tweet", "document", "input", "utterance"},
    "label": {"class", "category", "sentiment", "target", "stars", "rating", "y", "intent", "tag", "labels", "output"},
    "source": {"src", "input", "from", "text"},
    "target": {"tgt", "output", "to", "translation", "label"},
    "words": {"tokens", "word", "token", "sentence", "text", "form"},
    "tags": {"tag", "labels", "ner_tags", "pos_tags", "pos", "upos", "ner"},
    "story": {"context", "passage", "text"},
    "question": {"query", "q"},
    "answer": {"answers", "a", "target"},
}


def is_table(path: str, columns: Sequence[str] = ()) -> bool:
    """Whether a source is a table: by its name; a pipe by what it holds, where it must have these ``columns``."""
    if table_in_memory(path) is not None:
        return True
    ending = _ending(path)
    if not ending and isinstance(path, InMemory):
        return _form_of(path, columns) is not None
    return ending in TABLES


def read_table(
    path: str, columns: Sequence[str] | Mapping[str, str] | None = None, skip_bad: bool = False
) -> polars.DataFrame:
    """The table in a source; cells of .csv, .tsv, .json and .xlsx are text.

    Arguments:
        columns: those that must be there; by the option that names each, for the message, or as they are.
        skip_bad: leave out rows that cannot be read, and log how many; by default the first one is an error.

    Raises:
        ElmanError: it cannot be read, or lacks one of the columns; those present are named.
    """
    return read_rows(path, columns, SkippedRows(path, skip_bad)).table


def read_rows(path: str, columns: Sequence[str] | Mapping[str, str] | None, left_out: SkippedRows) -> Rows:
    """As `read_table`, with the line of each row; rows that cannot be read are told to ``left_out``."""
    shown, wanted, lines = printable(path), columns or {}, np.zeros(0, dtype=np.int64)
    held = table_in_memory(path)
    if held is not None:
        table = _named(held, path, wanted)
        return Rows(table, np.zeros(len(table), dtype=np.int64))
    ending = _ending(path) or ((_form_of(path, ()) or ".csv") if isinstance(path, InMemory) else "")
    try:
        if ending == ".parquet":
            table = polars.read_parquet(io.BytesIO(read_bytes(path)))
        elif ending in _ARROW:
            table = _arrow(read_bytes(path), shown)
        elif ending in BOOKS:
            table = _book(path, shown)
        elif ending in _JSON:
            table, numbers = read_json(read_text(path), shown, ending != ".json", left_out.add)
            lines = np.array(numbers, dtype=np.int64)
        else:
            table, lines = read_separated(read_text(path), shown, ending in (".tsv", ".tab"), left_out.add)
    except _BROKEN as error:
        if isinstance(error, ElmanError):
            raise
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ElmanError(f"{shown}: not a {ending[1:]} table: {why}") from None
    left_out.tell(len(table))
    require_columns(table, shown, wanted)
    return Rows(table, lines if len(lines) == len(table) else np.zeros(len(table), dtype=np.int64))


class SkippedRows:
    """Rows of a source that cannot be used: the first is an error, or all are counted and left out.

    Arguments:
        skip: whether they are left out; None: they cannot be, and the error does not say how.
        unit: what they are called.
    """

    def __init__(self, source: str, skip: bool | None, unit: str = "row") -> None:
        self.source, self.skip, self.unit, self.rows = printable(source), skip, unit, 0
        self._first = ""

    def add(self, place: str, why: str) -> None:
        """Takes note of a row; ElmanError where rows are not to be left out."""
        if not self.skip:
            hint = "" if self.skip is None else f"; --skip-bad leaves such {self.unit}s out"
            raise ElmanError(f"{self.source}, {place}: {why}{hint}")
        self._first = self._first or f"{place}: {why}"
        self.rows += 1

    def tell(self, kept: int) -> None:
        """Logs how many rows were left out."""
        if self.rows:
            _log.warning(
                "%s: %d bad %s%s of %d left out; the first, %s", self.source, self.rows, self.unit,
                "s"[: self.rows > 1],
                kept + self.rows, self._first,
            )  # fmt: skip
            self.rows, self._first = 0, ""


def read_plain_text(path: str) -> str:
    """The text of a file, all of it, as it is; the log says so where its name is that of a table."""
    if not isinstance(path, InMemory) and _ending(path) in TABLES:
        _log.warning(
            "%s: read as plain text, with what separates its cells; a data frame gives its texts alone",
            path,
        )
    return read_text(path)


def require_columns(table: polars.DataFrame, path: str, columns: Sequence[str] | Mapping[str, str]) -> None:
    """ElmanError where a table lacks one of the columns; those present are named, and the nearest one."""
    options = columns if isinstance(columns, Mapping) else {}
    by_name = {name: option for option, name in options.items()}
    if len(by_name) < len(options):
        one, two = [option for option, name in options.items() if list(options.values()).count(name) > 1][:2]
        raise ElmanError(f"{path}: --{one} and --{two} name the same column, {options[one]!r}")
    for name in by_name or columns:
        if name not in table.columns:
            message = f"{path}: has no column {name!r}; it has {', '.join(table.columns) or 'none'}"
            raise ElmanError(message + _suggestion(name, by_name.get(name), table.columns))


def _suggestion(name: str, option: str | None, there: Sequence[str]) -> str:
    folded = {one.casefold().strip(): one for one in there}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    guess = folded.get(name.casefold()) or next((folded[s] for s in _SYNONYMS.get(name, ()) if s in folded), None)
    guess = guess or (folded[near[0]] if near else None)
    flag = f"--{option.replace('_', '-')}" if option else ""
    if guess is None:
        return f"; {flag} names it, the first line all columns" if flag else ""
    quoted = shlex.quote(guess)
    return f": did you mean {flag} {quoted}?" if flag else f": did you mean {quoted}?"


def _named(table: polars.DataFrame, path: str, wanted: Sequence[str] | Mapping[str, str]) -> polars.DataFrame:
    """A table in memory, with the columns' names where it has only an order."""
    names = list(wanted.values()) if isinstance(wanted, Mapping) else list(wanted)
    if isinstance(path, InMemory) and path.positional:
        if table.width and names and table.width != len(names):
            raise ElmanError(
                f"{path}: {table.width} cells a row; the {len(names)} cells {', '.join(names)} are needed; columns of "
                "other names are given as {'name': [...]}"
            )
        return table.rename(dict(zip(table.columns, names, strict=False)))
    require_columns(table, path, wanted)
    return table


def _arrow(data: bytes, shown: str) -> polars.DataFrame:
    if data.startswith(b"FEA1"):
        raise ElmanError(f"{shown}: a Feather table of version 1; write it as version 2, or as .parquet")
    if data.startswith(b"ARROW1"):
        return polars.read_ipc(io.BytesIO(data))
    return polars.read_ipc_stream(io.BytesIO(data))


def _book(path: str, shown: str) -> polars.DataFrame:
    """The one sheet of a workbook that has rows, or the one that is named."""
    try:
        import fastexcel
    except ImportError:
        raise ElmanError(f"{shown}: .xlsx needs the fastexcel package: pip install 'elman[excel]'") from None
    _, wanted = split_member(path)
    try:
        book = fastexcel.read_excel(read_bytes(path))
        if wanted is not None and wanted not in book.sheet_names:
            raise ElmanError(f"{shown}: has no sheet {wanted!r}; it has {', '.join(book.sheet_names)}")
        names = book.sheet_names if wanted is None else [wanted]
        sheets = {name: book.load_sheet(name, dtypes="string").to_polars() for name in names}
    except fastexcel.FastExcelError as error:
        raise ElmanError(f"{shown}: not a workbook that can be read: {str(error).splitlines()[0]}") from None
    full = {name: sheet for name, sheet in sheets.items() if len(sheet)}
    if len(full) > 1:
        first = next(iter(full))
        raise ElmanError(f"{shown}: has {len(full)} sheets: {', '.join(full)}; name one: {shown}::{first}")
    table = next(iter((full or sheets).values()))
    table = table.rename({name: name.strip() for name in table.columns})
    return table.filter(~polars.all_horizontal(polars.all().fill_null("").str.strip_chars() == ""))


def _form_of(path: InMemory, columns: Sequence[str]) -> str | None:
    """What kind of table a pipe gives; None where it seems to be none."""
    assert isinstance(path.content, bytes)
    data = read_bytes(path)
    if data.startswith(b"PAR1"):
        return ".parquet"
    if data.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return ".arrow"
    text = read_text(path)
    start = text.lstrip()
    if start[:1] in ("{", "[") and (not columns or is_json(start.partition("\n")[0]) or is_json(start)):
        return ".jsonl"
    some = text[: 1 << 16].rpartition("\n")[0] or text
    ending = ".tsv" if "\t" in some.partition("\n")[0] else ".csv"
    try:
        names = read_separated(some, path, ending == ".tsv", lambda place, why: None).table.columns
    except ElmanError:
        return None
    return ending if (len(names) > 1 or names == list(columns)) and set(columns) <= set(names) else None


def _ending(path: str) -> str:
    return PurePosixPath(name_inside(path)).suffix.lower()


__all__ = [
    "TABLES",
    "Bad",
    "SkippedRows",
    "column",
    "is_table",
    "list_column",
    "read_rows",
    "read_table",
    "require_columns",
]
