"""Sentences with a tag for each word: CoNLL-U, files with several columns, and tables."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import polars

from elman.data.archive import name_inside, table_in_memory
from elman.data.columns import ColumnFile, is_tab_separated, split_cells
from elman.data.inputs import InputFile, InputLines, InputTable
from elman.data.source import InMemory, printable, sources
from elman.data.tables import SkippedRows, is_table, read_rows, require_columns
from elman.data.text import read_text
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: Endings of files with one word on each line. Files ending in .txt and .tsv may have other forms.
_COLUMNS = (".conllu", ".conll-u", ".conllup", ".conll", ".bio", ".iob", ".iob1", ".iob2", ".bioes", ".ner", ".pos")
#: Alternative names of the columns of a table.
_WORD_COLUMNS, _TAG_COLUMNS = ("words", "tokens"), ("tags", "ner_tags", "pos_tags", "labels")
#: White space that separates the words in a cell. A no-break space does not.
_SPACES = re.compile("[ \t\r\n]+")
#: The items of an array of texts or numbers as NumPy prints it: ['a' 'b'] or [0 1].
_ITEM = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+|\.\.\.)(?=[\s\]]|$)""")
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_ARRAY = re.compile(rf"\[\s*(?:{_ITEM.pattern}\s*)*\]", re.DOTALL)
_BRAT = re.compile(r"[TRE]\d+\t\S+ \S+|[AMN#*]\d*\t\S+ [TRE]\d+")


class Tagged(NamedTuple):
    """Tagged sentences.

    Attributes:
        words (list[list[str]]): The words of each sentence.
        tags (list[list[str]]): The tags of each sentence.
        places (list[str]): The location of each sentence, for messages.
    """

    words: list[list[str]]
    tags: list[list[str]]
    places: list[str]
    tables: bool = False

    def part(self, rows: Sequence[int]) -> Tagged:
        """Return the sentences with these indices."""
        return self._replace(
            words=[self.words[k] for k in rows],
            tags=[self.tags[k] for k in rows],
            places=[self.places[k] for k in rows],
        )


def read_tagged(data: Sequence[str], tag: str | None, words: str, tags: str, skip_bad: bool = False) -> Tagged:
    """Read tagged sentences.

    A table has a sentence in each row: its cells are lists, or text separated by spaces. Any other file, and a
    ``.tsv`` file without the columns, has one word on each line; see `elman.data.columns.ColumnFile`.

    Args:
        data (Sequence[str]): Paths or data in memory; see `elman.data.source.sources`.
        tag (str, optional): The column of tags in files with one word on each line; see
            `elman.data.columns.ColumnFile`.
        words (str): The column of words in tables. For ``"words"``, a column ``tokens`` is accepted too.
        tags (str): The column of tags in tables. For ``"tags"``, ``ner_tags``, ``pos_tags`` and ``labels`` are accepted
            too.
        skip_bad (bool): Whether to skip rows or sentences that cannot be read and to log their number. Default:
            ``False``.

    Raises:
        ElmanError: A sentence has more or fewer tags than words, a column is missing, the file has brat's format, or
            there are no sentences.

    Example::

        >>> data = read_tagged([(["The", "dog", "barks"], ["DET", "NOUN", "VERB"])], None, "words", "tags")
        >>> data.words[0], data.tags[0]
        (['The', 'dog', 'barks'], ['DET', 'NOUN', 'VERB'])
    """
    result = Tagged([], [], [])
    for path in sources(data):
        if _is_sentences(path, words):
            part = _table(path, words, tags, SkippedRows(path, skip_bad))._replace(tables=True)
        else:
            skipped = SkippedRows(path, skip_bad, "sentence")
            file = ColumnFile(path, tag, skipped=skipped)
            skipped.log(len(file.inputs))
            part = Tagged(file.inputs, file.tags, file.places)
        tables = result.tables or part.tables
        result = Tagged(result.words + part.words, result.tags + part.tags, result.places + part.places, tables)
    if not result.words:
        raise ElmanError(f"{', '.join(data)}: no sentences")
    return result


def read_words(path: str, words: str, tag: str | None, known: Collection[str]) -> InputFile:
    """Read the sentences of a file to be tagged; its own tags, if any, are ignored.

    A text file has one word on each line if its columns are separated by tabs, if each line is a single word, or if
    most cells of the tag column are known tags. In any other text file, each line is a sentence.

    Args:
        path (str): The path of the file.
        words (str): The column of words in tables.
        tag (str, optional): The column of tags in files with one word on each line. Default: the last one.
        known (Collection[str]): The tags of the model.

    Raises:
        ElmanError: The file cannot be read, or a column is missing.
    """
    (path,) = sources([path])
    if _is_sentences(path, words):
        table = read_rows(path, None, SkippedRows(path, None)).table
        return InputTable(path, table, _cells(path, table, _column(path, table, words, _WORD_COLUMNS)))
    if name_inside(path).lower().endswith((*_COLUMNS, ".tsv")) or _has_columns(path, tag, known):
        return ColumnFile(path, tag, tagged=False)
    lines = read_text(path).removesuffix("\n").split("\n")
    return InputLines(lines, [f"{path}, line {k}" for k in range(1, len(lines) + 1)])


def _is_sentences(path: str, words: str) -> bool:
    """Return whether a file is a table with a sentence in each row; raise an error if it has brat's format."""
    if table_in_memory(path) is not None:
        return True
    name = name_inside(path).lower()
    if not is_table(path) or name.endswith(".tsv"):
        lines = [line for line in read_text(path).split("\n") if line.strip()]
        if name.endswith(".ann") or _BRAT.match(lines[0]):
            raise ElmanError(
                f"{printable(path)}: this is brat's standoff format, which does not contain the words; convert it to "
                "lines of a word and its tag (with brat's tools/anntoconll.py)"
            )
    if not is_table(path) or not name.endswith(".tsv"):
        return is_table(path, [words])
    header = {cell.strip(' "') for cell in lines[0].split("\t")}
    has_blank_lines = re.search(r"\n[^\S\n]*\n", read_text(path).strip("\n")) is not None
    named = words in header or (words == "words" and not header.isdisjoint(_WORD_COLUMNS))
    rows = named and any(" " in cell for line in lines[1:] for cell in line.split("\t"))
    return rows or not (has_blank_lines or not any(" " in line for line in lines))


def _has_columns(path: str, tag: str | None, known: Collection[str]) -> bool:
    """Return whether a text file has one word on each line."""
    lines = [line for line in read_text(path).split("\n") if line.strip()]
    tabs = is_tab_separated(lines)
    rows = [split_cells(line, tabs) for line in lines if line[0] != "#" and not line.startswith("-DOCSTART-")]
    if len({len(row) for row in rows}) != 1 or len(rows) < 2:
        return False
    width = len(rows[0])
    column = int(tag) - 1 if tag and tag.isdecimal() and 0 < int(tag) <= width else -1
    return tabs or width == 1 or 2 * sum(row[column] in known for row in rows) > len(rows)


def _table(path: str, words: str, tags: str, skipped: SkippedRows) -> Tagged:
    """Read a table with a sentence in each row."""
    positional = isinstance(path, InMemory) and path.positional  # columns without names get these
    table, lines = read_rows(path, [words, tags] if positional else None, skipped)
    names = _column(path, table, words, _WORD_COLUMNS), _column(path, table, tags, _TAG_COLUMNS)
    require_columns(table, path, {"words": names[0], "tags": names[1]})
    result, empty = Tagged([], [], []), 0
    for row, (w, t) in enumerate(zip(*(_cells(path, table, name) for name in names), strict=True), 1):
        where = f" (line {lines[row - 1]})" if lines[row - 1] else ""
        if len(w) != len(t):
            skipped.add(f"row {row}", f"{len(w)} words and {len(t)} tags{where}")
            continue
        if not all(item.strip() for item in (*w, *t)):
            skipped.add(f"row {row}", f"a word or its tag is empty{where}")
            continue
        if not w:
            empty += 1
            continue
        result.words.append(w)
        result.tags.append(t)
        result.places.append(f"{path}, row {row}")
    skipped.log(len(result.words))
    if len(result.words) > 1 and all(len(sentence) == 1 for sentence in result.words):
        _warn_of_single_words(path, table, result)
    if empty:
        _log.warning("%s: skipped %d of %d rows without words", path, empty, len(table))
    return result


def _warn_of_single_words(path: str, table: polars.DataFrame, data: Tagged) -> None:
    """Warn that each row is a single word; raise an error if a column names the sentence of each word."""
    hint = "put a sentence in each row, or give a file with a word on each line and empty lines between sentences"
    numbers = [name for name in table.columns if name.lower().startswith("sent")]
    if numbers:
        raise ElmanError(f"{path}: each row is one word, and column {numbers[0]!r} names its sentence; {hint} (.conll)")
    _log.warning("%s: each of %d rows is one word and is used as a sentence; %s (.conll)", path, len(data.words), hint)


def _column(path: str, table: polars.DataFrame, name: str, alternatives: Sequence[str]) -> str:
    """Return the column of that name or, if it is the default one, the only one of its alternatives."""
    present = [other for other in alternatives if other in table.columns]
    if name in table.columns or name != alternatives[0] or len(present) != 1:
        require_columns(table, path, [name])
        return name
    return present[0]


def _cells(path: str, table: polars.DataFrame, name: str) -> list[list[str]]:
    """Return the cells of a column as lists: lists, lists written as text, or text separated by spaces."""
    result: list[list[str]] = []
    cells = [cell.strip() if isinstance(cell, str) else cell for cell in table[name].to_list()]
    arrays = all(isinstance(cell, str) and _ARRAY.fullmatch(cell) for cell in cells if cell)
    for row, cell in enumerate(cells, 1):
        value: Any = cell
        if isinstance(value, str) and arrays:
            if "..." in _QUOTED.sub("", value):
                raise ElmanError(
                    f"{path}, row {row}: column {name!r} contains an array that NumPy abbreviated (...); save the lists"
                )
            items = _ITEM.findall(value[1:-1])
            value = [str(ast.literal_eval(item)) if item[0] in "'\"" else item for item in items]
        elif isinstance(value, str) and value[:1] == "[" and value[-1:] == "]":
            value = _literal(value)
        if isinstance(value, str) and value:
            value = _SPACES.split(value)
        elif value is None or value == "":
            value = []
        if not isinstance(value, list) or any(isinstance(item, (list, dict)) or item is None for item in value):
            raise ElmanError(f"{path}, row {row}: column {name!r} must contain a list of texts, or a text")
        result.append([str(item) for item in value])
    return result


def _literal(text: str) -> Any:
    """Parse a list written as text, "['a', 'b']"; return the text itself if it is not a list."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
