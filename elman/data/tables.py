"""Read tables with named columns: .csv, .tsv, .json, .jsonl, .parquet, .feather, .arrow, .xlsx, or in memory."""

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
from elman.data.records import ReportBadRow, column, is_json, list_column, read_json
from elman.data.separated import Rows, read_separated
from elman.data.source import InMemory, printable
from elman.data.text import read_bytes, read_text
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: Endings of tables in text files.
SEPARATED = (".csv", ".tsv", ".tab", ".psv")
_JSON, _ARROW = (".json", ".jsonl", ".ndjson"), (".feather", ".arrow", ".ipc")
#: Endings of tables, before the ending of a compression.
TABLES = (*SEPARATED, *_JSON, ".parquet", *_ARROW, *BOOKS)

#: The exceptions that polars raises for a damaged file.
_POLARS_ERRORS = (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError, ValueError)

#: Common names of the columns, by the names that elman uses.
_SYNONYMS = {
    "text": {
        "review", "sentence", "content", "body", "comment", "message", "tweet", "document", "input", "utterance",
        "transcript", "transcription", "normalized_text",
    },
    "audio": {
        "sound", "wav", "file", "filename", "file_name", "path", "audio_path", "audio_file", "audio_filepath",
        "wav_path", "clip",
    },
    "speaker": {"speaker_id", "client_id", "spk", "voice", "reader"},
    "start": {"offset", "begin", "start_time"},
    "end": {"stop", "end_time"},
    "label": {"class", "category", "sentiment", "target", "stars", "rating", "y", "intent", "tag", "labels", "output"},
    "source": {"src", "input", "from", "text"},
    "target": {"tgt", "output", "to", "translation", "label"},
    "words": {"tokens", "word", "token", "sentence", "text", "form"},
    "tags": {"tag", "labels", "ner_tags", "pos_tags", "pos", "upos", "ner"},
    "story": {"context", "passage", "text"},
    "question": {"query", "q"},
    "answer": {"answers", "a", "target"},
    "image": {
        "picture", "photo", "img", "file", "filename", "file_name", "path", "image_path", "image_name", "image_id",
    },
    "caption": {"captions", "text", "description", "sentence", "comment", "title"},
}  # fmt: skip


def is_table(path: str, columns: Sequence[str] = ()) -> bool:
    """Return whether a source is a table.

    The ending of a file's name decides. For a stream, the content decides, and the table must have the columns.

    Args:
        path (str): The source.
        columns (Sequence[str]): The columns that a stream must have. Default: none.
    """
    if table_in_memory(path) is not None:
        return True
    ending = _ending(path)
    if not ending and isinstance(path, InMemory):
        return _detect_format(path, columns) is not None
    return ending in TABLES


def read_table(
    path: str, columns: Sequence[str] | Mapping[str, str] | None = None, skip_bad: bool = False
) -> polars.DataFrame:
    """Read a table.

    Args:
        path (str): A path, a URL or an in-memory source; see `elman.data.source.sources`.
        columns (Sequence[str] | Mapping[str, str], optional): The names of required columns, or a mapping from the
            option that sets each name to the name. The error message suggests the option. Default: none are required.
        skip_bad (bool): Whether to skip rows that cannot be read and to log their number. Default: ``False``, the first
            such row is an error.

    Returns:
        polars.DataFrame: The table. Cells of ``.csv``, ``.tsv``, ``.json`` and ``.xlsx`` files are text.

    Raises:
        ElmanError: The table cannot be read, a row is wrong, or a column is missing.

    Example::

        >>> from elman.data.source import sources
        >>> [path] = sources({"text": ["A fine film."], "label": ["pos"]})
        >>> read_table(path, ["text", "label"]).columns
        ['text', 'label']
    """
    return read_rows(path, columns, SkippedRows(path, skip_bad)).table


def read_rows(path: str, columns: Sequence[str] | Mapping[str, str] | None, skipped: SkippedRows) -> Rows:
    """Read a table together with the line number of each row.

    Args:
        path (str): See `read_table`.
        columns (Sequence[str] | Mapping[str, str], optional): See `read_table`.
        skipped (SkippedRows): Receives the rows that cannot be read.

    Returns:
        Rows: The table, and for each row the line of the file on which it begins, or 0.

    Raises:
        ElmanError: See `read_table`.
    """
    shown, required, lines = printable(path), columns or {}, np.zeros(0, dtype=np.int64)
    held = table_in_memory(path)
    if held is not None:
        table = _with_names(held, path, required)
        return Rows(table, np.zeros(len(table), dtype=np.int64))
    ending = _ending(path) or ((_detect_format(path, ()) or ".csv") if isinstance(path, InMemory) else "")
    try:
        if ending == ".parquet":
            table = polars.read_parquet(io.BytesIO(read_bytes(path)))
        elif ending in _ARROW:
            table = _arrow(read_bytes(path), shown)
        elif ending in BOOKS:
            table = _book(path, shown)
        elif ending in _JSON:
            table, numbers = read_json(read_text(path), shown, ending != ".json", skipped.add)
            lines = np.array(numbers, dtype=np.int64)
        else:
            table, lines = read_separated(read_text(path), shown, ending in (".tsv", ".tab"), skipped.add)
    except _POLARS_ERRORS as error:
        if isinstance(error, ElmanError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ElmanError(f"{shown}: not a valid {ending[1:]} table: {reason}") from None
    skipped.log(len(table))
    require_columns(table, shown, required)
    return Rows(table, lines if len(lines) == len(table) else np.zeros(len(table), dtype=np.int64))


class SkippedRows:
    """A collector of rows that cannot be used: the first one is an error, or all are skipped and counted.

    Args:
        source (str): The source, for messages.
        skip (bool, optional): Whether to skip such rows. ``None``: they are errors, and the message does not suggest
            ``--skip-bad``.
        unit (str): What the rows are called in messages. Default: ``"row"``.
    """

    def __init__(self, source: str, skip: bool | None, unit: str = "row") -> None:
        self.source, self.skip, self.unit, self.count = printable(source), skip, unit, 0
        self._first = ""

    def add(self, place: str, reason: str) -> None:
        """Record a row that cannot be used.

        Args:
            place (str): The location in the source, such as ``line 7``.
            reason (str): What is wrong with it.

        Raises:
            ElmanError: Rows are not to be skipped.
        """
        if not self.skip:
            hint = "" if self.skip is None else f"; --skip-bad skips such {self.unit}s"
            raise ElmanError(f"{self.source}, {place}: {reason}{hint}")
        self._first = self._first or f"{place}: {reason}"
        self.count += 1

    def log(self, kept: int) -> None:
        """Log how many rows were skipped, and reset the count.

        Args:
            kept (int): The number of rows that were kept.
        """
        if self.count:
            _log.warning(
                "%s: skipped %d bad %s%s of %d; the first, %s", self.source, self.count, self.unit,
                "s"[: self.count > 1],
                kept + self.count, self._first,
            )  # fmt: skip
            self.count, self._first = 0, ""


def read_plain_text(path: str) -> str:
    """Read the whole text of a file, and log a warning if its name is that of a table."""
    if not isinstance(path, InMemory) and _ending(path) in TABLES:
        _log.warning(
            "%s: the table is read as plain text, including its separators; to read the texts alone, give a data frame",
            path,
        )
    return read_text(path)


def require_columns(table: polars.DataFrame, path: str, columns: Sequence[str] | Mapping[str, str]) -> None:
    """Check that a table has columns.

    Args:
        table (polars.DataFrame): The table.
        path (str): The path of the table, for the error message.
        columns (Sequence[str] | Mapping[str, str]): The names, or a mapping from the option that sets each name to the
            name.

    Raises:
        ElmanError: A column is missing. The message lists the table's columns and suggests the most similar one.
    """
    options = columns if isinstance(columns, Mapping) else {}
    by_name = {name: option for option, name in options.items()}
    if len(by_name) < len(options):
        first, second = [option for option, name in options.items() if list(options.values()).count(name) > 1][:2]
        raise ElmanError(f"{path}: --{first} and --{second} name the same column, {options[first]!r}")
    for name in by_name or columns:
        if name not in table.columns:
            message = f"{path}: has no column {name!r}; it has {', '.join(table.columns) or 'none'}"
            raise ElmanError(message + _suggestion(name, by_name.get(name), table.columns))


def _suggestion(name: str, option: str | None, existing: Sequence[str]) -> str:
    folded = {column.casefold().strip(): column for column in existing}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    guess = folded.get(name.casefold()) or next((folded[s] for s in _SYNONYMS.get(name, ()) if s in folded), None)
    guess = guess or (folded[near[0]] if near else None)
    flag = f"--{option.replace('_', '-')}" if option else ""
    if guess is None:
        return f"; {flag} sets the name, and the first line must name all columns" if flag else ""
    quoted = shlex.quote(guess)
    return f": did you mean {flag} {quoted}?" if flag else f": did you mean {quoted}?"


def _with_names(table: polars.DataFrame, path: str, required: Sequence[str] | Mapping[str, str]) -> polars.DataFrame:
    """Name the columns of a table in memory that has only an order, and check the names of others."""
    names = list(required.values()) if isinstance(required, Mapping) else list(required)
    if isinstance(path, InMemory) and path.positional:
        if table.width and names and table.width != len(names):
            raise ElmanError(
                f"{path}: {table.width} cells in each row; the {len(names)} cells {', '.join(names)} are required; "
                "give other columns as {'name': [...]}"
            )
        return table.rename(dict(zip(table.columns, names, strict=False)))
    require_columns(table, path, required)
    return table


def _arrow(data: bytes, shown: str) -> polars.DataFrame:
    if data.startswith(b"FEA1"):
        raise ElmanError(f"{shown}: a Feather table of version 1; write it as version 2, or as .parquet")
    if data.startswith(b"ARROW1"):
        return polars.read_ipc(io.BytesIO(data))
    return polars.read_ipc_stream(io.BytesIO(data))


def _book(path: str, shown: str) -> polars.DataFrame:
    """Return the only sheet of a workbook that has rows, or the one that the path names."""
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
        raise ElmanError(f"{shown}: not a readable workbook: {str(error).splitlines()[0]}") from None
    filled = {name: sheet for name, sheet in sheets.items() if len(sheet)}
    if len(filled) > 1:
        first = next(iter(filled))
        raise ElmanError(f"{shown}: has {len(filled)} sheets: {', '.join(filled)}; name one: {shown}::{first}")
    table = next(iter((filled or sheets).values()))
    table = table.rename({name: name.strip() for name in table.columns})
    return table.filter(~polars.all_horizontal(polars.all().fill_null("").str.strip_chars() == ""))


def _detect_format(path: InMemory, columns: Sequence[str]) -> str | None:
    """Detect the format of a table in a stream; None if it does not seem to be a table."""
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
    sample = text[: 1 << 16].rpartition("\n")[0] or text
    ending = ".tsv" if "\t" in sample.partition("\n")[0] else ".csv"
    try:
        names = read_separated(sample, path, ending == ".tsv", lambda place, reason: None).table.columns
    except ElmanError:
        return None
    return ending if (len(names) > 1 or names == list(columns)) and set(columns) <= set(names) else None


def _ending(path: str) -> str:
    return PurePosixPath(name_inside(path)).suffix.lower()


__all__ = [
    "SEPARATED",
    "TABLES",
    "ReportBadRow",
    "SkippedRows",
    "column",
    "is_table",
    "list_column",
    "read_rows",
    "read_table",
    "require_columns",
]
