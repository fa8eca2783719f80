"""Sentences whose words have tags: CoNLL-U, files of two columns or more, tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from elman.data.source import sources
from elman.data.tables import column, is_table, lists, read_table
from elman.data.text import read_text
from elman.errors import ElmanError, unknown_name

#: The columns of CoNLL-U, https://universaldependencies.org/format.html
CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


class Tagged(NamedTuple):
    """Words and tags of each sentence; places: where each stands, for messages."""

    words: list[list[str]]
    tags: list[list[str]]
    places: list[str]

    def part(self, rows: Sequence[int]) -> Tagged:
        """Those sentences alone."""
        return Tagged([self.words[k] for k in rows], [self.tags[k] for k in rows], [self.places[k] for k in rows])


def read_tagged(data: Sequence[str], tag: str | None, words: str, tags: str) -> Tagged:
    """The sentences of the files.

    .conllu: ``tag`` names its column, by default upos. Tables: columns ``words`` and ``tags``, lists or parted by
    spaces. Others: a word a line, columns parted by tabs or spaces, an empty line between sentences; ``tag`` is the
    number of its column, by default the last.

    Raises:
        ElmanError: a line or a row does not have as many tags as words; a column is missing.
    """
    found = Tagged([], [], [])
    for path in sources(data):
        if is_table(path, [words, tags]):
            _table(path, words, tags, found)
        elif path.lower().removesuffix(".gz").endswith((".conllu", ".conll-u")):
            name = tag or "upos"
            if name not in CONLLU:
                raise unknown_name("column of CoNLL-U", name, CONLLU)
            _lines(path, 1, CONLLU.index(name), True, found)
        else:
            if tag is not None and not (tag.isdecimal() and int(tag) > 0):
                raise ElmanError(f"{path}: --tag is the number of a column there, from 1, not {tag!r}")
            _lines(path, 0, int(tag) - 1 if tag else -1, False, found)
    if not found.words:
        raise ElmanError(f"{', '.join(data)}: no sentences")
    return found


def _table(path: str, words: str, tags: str, found: Tagged) -> None:
    table = read_table(path, [words, tags])
    sides = [lists(table, name) or [cell.split() for cell in column(table, name)] for name in (words, tags)]
    for row, (w, t) in enumerate(zip(*sides, strict=True), 1):
        if len(w) != len(t):
            raise ElmanError(f"{path}, row {row}: {len(w)} words and {len(t)} tags")
        if w:
            found.words.append(w)
            found.tags.append(t)
            found.places.append(f"{path}, row {row}")


def _lines(path: str, word: int, tag: int, conllu: bool, found: Tagged) -> None:
    words: list[str] = []
    tags: list[str] = []
    begin, columns = 0, len(CONLLU) if conllu else 0  # 0: as many as the first line has
    for number, line in enumerate([*read_text(path).split("\n"), ""], 1):
        if not line.strip():
            if words:
                found.words.append(words)
                found.tags.append(tags)
                found.places.append(f"{path}, line {begin}")
            words, tags = [], []
            continue
        if conllu and line.startswith("#") and not words:
            continue
        cells = line.rstrip("\r").split("\t") if "\t" in line else line.split()
        if not columns:
            columns = len(cells)
            if columns < 2 or tag >= columns:
                raise ElmanError(f"{path}, line {number}: {columns} columns; a word and its tag are needed")
        if len(cells) != columns:
            raise ElmanError(f"{path}, line {number}: {len(cells)} columns, not {columns}; every word needs its tag")
        if conllu and ("-" in cells[0] or "." in cells[0]):  # a word of several tokens, or one left out
            continue
        if cells[0] == "-DOCSTART-":
            continue
        if not cells[word].strip() or not cells[tag].strip():
            raise ElmanError(f"{path}, line {number}: a word or its tag is empty")
        begin = begin if words else number
        words.append(cells[word])
        tags.append(cells[tag])
