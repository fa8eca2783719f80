"""Sentences whose words have tags: CoNLL-U, files of two columns or more, tables."""

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

#: How the names of files with a word a line end, without what compresses them; .txt and .tsv can be others.
_COLUMNS = (".conllu", ".conll-u", ".conllup", ".conll", ".bio", ".iob", ".iob1", ".iob2", ".bioes", ".ner", ".pos")
#: Other names of the columns of a table.
_LIKE_WORDS, _LIKE_TAGS = ("words", "tokens"), ("tags", "ner_tags", "pos_tags", "labels")
#: What parts words in a cell; a no-break space does not.
_SPACES = re.compile("[ \t\r\n]+")
#: How NumPy writes an array of texts or numbers, ['a' 'b'] or [0 1].
_ITEM = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+|\.\.\.)(?=[\s\]]|$)""")
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_ARRAY = re.compile(rf"\[\s*(?:{_ITEM.pattern}\s*)*\]", re.DOTALL)
_BRAT = re.compile(r"[TRE]\d+\t\S+ \S+|[AMN#*]\d*\t\S+ [TRE]\d+")


class Tagged(NamedTuple):
    """Words and tags of each sentence; places: where each stands, for messages."""

    words: list[list[str]]
    tags: list[list[str]]
    places: list[str]

    def part(self, rows: Sequence[int]) -> Tagged:
        """Those sentences alone."""
        return Tagged([self.words[k] for k in rows], [self.tags[k] for k in rows], [self.places[k] for k in rows])


def read_tagged(data: Sequence[str], tag: str | None, words: str, tags: str, skip_bad: bool = False) -> Tagged:
    """The sentences of the files.

    Tables: columns ``words`` and ``tags`` (or tokens, ner_tags and the like), lists or parted by spaces. Others, and a
    .tsv that has no such columns: a word a line; see `ColumnFile`, also for ``tag``. ``skip_bad``: leave out rows, or
    sentences of the latter, that cannot be read, and log how many.

    Raises:
        ElmanError: a line or a row does not have as many tags as words; a column is missing; the file is BRAT's.
    """
    found = Tagged([], [], [])
    for path in sources(data):
        if _is_sentences(path, words):
            part = _table(path, words, tags, SkippedRows(path, skip_bad))
        else:
            left_out = SkippedRows(path, skip_bad, "sentence")
            file = ColumnFile(path, tag, left_out=left_out)
            left_out.tell(len(file.inputs))
            part = Tagged(file.inputs, file.tags, file.places)
        found = Tagged(found.words + part.words, found.tags + part.tags, found.places + part.places)
    if not found.words:
        raise ElmanError(f"{', '.join(data)}: no sentences")
    return found


def read_words(path: str, words: str, tag: str | None, known: Collection[str]) -> InputFile:
    """The sentences of a file whose words have no tags yet, or others: lists of words.

    A text file has a word a line if its columns are parted by tabs, if each line is one word, or if the column of tags
    (the last) holds ``known`` ones; else its lines are sentences as they are.
    """
    (path,) = sources([path])
    if _is_sentences(path, words):
        table = read_rows(path, None, SkippedRows(path, None)).table
        return InputTable(path, table, _cells(path, table, _column(path, table, words, _LIKE_WORDS)))
    if name_inside(path).lower().endswith((*_COLUMNS, ".tsv")) or _has_columns(path, tag, known):
        return ColumnFile(path, tag, tagged=False)
    lines = read_text(path).removesuffix("\n").split("\n")
    return InputLines(lines, [f"{path}, line {k}" for k in range(1, len(lines) + 1)])


def _is_sentences(path: str, words: str) -> bool:
    """Whether a file is a table with a sentence in each row; ElmanError where it is BRAT's."""
    if table_in_memory(path) is not None:
        return True
    name = name_inside(path).lower()
    if not is_table(path) or name.endswith(".tsv"):
        lines = [line for line in read_text(path).split("\n") if line.strip()]
        if name.endswith(".ann") or _BRAT.match(lines[0]):
            raise ElmanError(
                f"{printable(path)}: this is BRAT's standoff format, which has no words; convert it to a word and its "
                "tag a line (brat's tools/anntoconll.py does)"
            )
    if not is_table(path) or not name.endswith(".tsv"):
        return is_table(path, [words])
    header = {cell.strip(' "') for cell in lines[0].split("\t")}
    parted = re.search(r"\n[^\S\n]*\n", read_text(path).strip("\n")) is not None
    named = words in header or (words == "words" and not header.isdisjoint(_LIKE_WORDS))
    rows = named and any(" " in cell for line in lines[1:] for cell in line.split("\t"))
    return rows or not (parted or not any(" " in line for line in lines))


def _has_columns(path: str, tag: str | None, known: Collection[str]) -> bool:
    lines = [line for line in read_text(path).split("\n") if line.strip()]
    tabs = is_tab_separated(lines)
    rows = [split_cells(line, tabs) for line in lines if line[0] != "#" and not line.startswith("-DOCSTART-")]
    if len({len(row) for row in rows}) != 1 or len(rows) < 2:
        return False
    width = len(rows[0])
    column = int(tag) - 1 if tag and tag.isdecimal() and 0 < int(tag) <= width else -1
    return tabs or width == 1 or 2 * sum(row[column] in known for row in rows) > len(rows)


def _table(path: str, words: str, tags: str, left_out: SkippedRows) -> Tagged:
    ordered = isinstance(path, InMemory) and path.positional  # columns that have no names get these
    table, lines = read_rows(path, [words, tags] if ordered else None, left_out)
    names = _column(path, table, words, _LIKE_WORDS), _column(path, table, tags, _LIKE_TAGS)
    require_columns(table, path, {"words": names[0], "tags": names[1]})
    found, empty = Tagged([], [], []), 0
    for row, (w, t) in enumerate(zip(*(_cells(path, table, name) for name in names), strict=True), 1):
        where = f" (line {lines[row - 1]})" if lines[row - 1] else ""
        if len(w) != len(t):
            left_out.add(f"row {row}", f"{len(w)} words and {len(t)} tags{where}")
            continue
        if not all(one.strip() for one in (*w, *t)):
            left_out.add(f"row {row}", f"a word or its tag is empty{where}")
            continue
        if not w:
            empty += 1
            continue
        found.words.append(w)
        found.tags.append(t)
        found.places.append(f"{path}, row {row}")
    left_out.tell(len(found.words))
    if len(found.words) > 1 and all(len(one) == 1 for one in found.words):
        _one_word_each(path, table, found)
    if empty:
        _log.warning("%s: %d of %d rows have no words; they are left out", path, empty, len(table))
    return found


def _one_word_each(path: str, table: polars.DataFrame, found: Tagged) -> None:
    """Says that each row is one word; ElmanError where a column names the sentence that it is of."""
    how = "give a sentence in each row, or a file with a word a line and an empty line between sentences (.conll)"
    numbers = [name for name in table.columns if name.lower().startswith("sent")]
    if numbers:
        raise ElmanError(f"{path}: each row is one word, and {numbers[0]!r} says of which sentence; {how}")
    _log.warning("%s: each of %d rows is one word, taken as a sentence; %s", path, len(found.words), how)


def _column(path: str, table: polars.DataFrame, name: str, others: Sequence[str]) -> str:
    """The column of that name or, where it is the usual one, the only one of the others."""
    like = [other for other in others if other in table.columns]
    if name in table.columns or name != others[0] or len(like) != 1:
        require_columns(table, path, [name])
        return name
    return like[0]


def _cells(path: str, table: polars.DataFrame, name: str) -> list[list[str]]:
    """Lists, lists written as text, or text parted by spaces."""
    found: list[list[str]] = []
    cells = [cell.strip() if isinstance(cell, str) else cell for cell in table[name].to_list()]
    arrays = all(isinstance(cell, str) and _ARRAY.fullmatch(cell) for cell in cells if cell)
    for row, cell in enumerate(cells, 1):
        read: Any = cell
        if isinstance(read, str) and arrays:
            if "..." in _QUOTED.sub("", read):
                raise ElmanError(
                    f"{path}, row {row}: the column {name!r} holds an array that NumPy has cut short (...)"
                )
            read = [str(ast.literal_eval(one)) if one[0] in "'\"" else one for one in _ITEM.findall(read[1:-1])]
        elif isinstance(read, str) and read[:1] == "[" and read[-1:] == "]":
            read = _literal(read)
        read = _SPACES.split(read) if isinstance(read, str) and read else [] if read is None or read == "" else read
        if not isinstance(read, list) or any(isinstance(one, (list, dict)) or one is None for one in read):
            raise ElmanError(f"{path}, row {row}: the column {name!r} holds no list of texts, and no text")
        found.append([str(one) for one in read])
    return found


def _literal(text: str) -> Any:
    """The list that a text such as "['a', 'b']" writes; the text itself where it writes none."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
