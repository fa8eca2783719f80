"""Files with a word a line: CoNLL-U and its kin, columns parted by tabs or spaces, an empty line between sentences."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, final

from elman.data.archive import name_inside
from elman.data.inputs import InputFile, Prediction
from elman.data.source import printable
from elman.data.tables import SkippedRows
from elman.data.text import read_text
from elman.errors import ElmanError, unknown_name

#: The columns of CoNLL-U, https://universaldependencies.org/format.html
CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")

#: 3; of CoNLL-U also 3-4, a token of several words, and 3.1, a word that is left out.
_ID = re.compile(r"\d+([-.]\d+)?")
_WORD = ("form", "token", "tokens", "word", "words")
_SENTENCE = {"sentence", "sentence_id", "sent_id", "sentence_number"}
#: What a first line says that names the columns.
_NAMES = {
    *_WORD, *_SENTENCE, *CONLLU, "index", "pos", "tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags",
    "pos_tag", "pos_tags", "chunk", "chunks", "entity", "bio", "iob",
}  # fmt: skip


class _Line(NamedTuple):
    """A line that is not empty; number: from 1."""

    number: int
    text: str
    cells: list[str]


@final
class ColumnFile(InputFile):
    """A file with a word a line.

    It is CoNLL-U where it has its ten columns and ids. Lines before a sentence that begin with # and are no words are
    comments; -DOCSTART- begins a document. A first line such as "token pos ner" names the columns.

    inputs: the words of each sentence; tags: theirs; places: where each sentence begins.

    Arguments:
        path: of the file.
        tag: the column with the tags: a name of CoNLL-U or of the first line, or a number from 1; by default upos of
            CoNLL-U, elsewhere the last.
        left_out: hears of sentences with a line that cannot be read.
        tagged: whether the words must have tags; if not, ``tags`` is empty.

    Raises:
        ElmanError: a line does not have as many columns as the others; a word or its tag is empty; the column is
            unknown.
    """

    def __init__(
        self, path: str, tag: str | None = None, tagged: bool = True, left_out: SkippedRows | None = None
    ) -> None:
        self._left_out = left_out or SkippedRows(path, None, "sentence")
        self.path, self.lines = printable(path), read_text(path).removesuffix("\n").split("\n")
        self.tabs = is_tab_separated(self.lines)
        sentences = list(self._blocks())
        conllu = name_inside(path).lower().endswith((".conllu", ".conll-u"))
        self.width = len(CONLLU) if conllu else _width(sentences)
        self.header = self._named(sentences)
        sentences = self._without_comments(sentences)
        self.ids = conllu or self._has_ids(sentences)
        self.conllu = self.ids and (self.width == len(CONLLU) or self.header is not None)
        if self.conllu and self.header is None:
            self.header = list(CONLLU)
        sentences = [rows for rows in map(self._words, sentences) if rows]
        if tagged and self.width < 2 and sentences:
            raise ElmanError(f"{self._at(sentences[0][0])}: {self.width} columns; a word and its tag are needed")
        self.word = self._word_column(sentences)
        self.tag = self._tag_column(tag) if tagged or self.conllu else -1
        if tagged:
            self._no_slashes(sentences)
        sentences = [rows for rows in sentences if self._is_whole(rows)]
        self.numbers = [[line.number for line in rows] for rows in sentences]
        self.inputs = self.names = [[line.cells[self.word] for line in rows] for rows in sentences]
        self.tags = [[line.cells[self.tag] for line in rows] for rows in sentences if tagged]
        self.places = [self._at(rows[0]) for rows in sentences]
        if self.conllu and self.tags and {one for tags in self.tags for one in tags} == {"_"}:
            raise ElmanError(
                f"{self.path}: all tags are '_', which says that there is none; --tag names another column"
            )

    def with_predictions(self, out: str, said: Sequence[Prediction]) -> bytes:
        """The file with the tags: of CoNLL-U in their column, of others in a column behind those that there are."""
        lines, tabs = list(self.lines), self.tabs or out.lower().endswith(".tsv")
        for numbers, one in zip(self.numbers, said, strict=True):
            for number, tag in zip(numbers, one["predicted"] if one else ["_"] * len(numbers), strict=True):
                line = lines[number - 1].rstrip(" \t")
                if self.conllu:
                    cells = line.split("\t") if self.tabs else split_cells(line, False)
                    lines[number - 1] = "\t".join([*cells[: self.tag], tag, *cells[self.tag + 1 :]])
                else:
                    lines[number - 1] = line + ("\t" if tabs else " ") + tag
        return "".join(f"{line}\n" for line in lines).encode()

    def _at(self, line: _Line) -> str:
        return f"{self.path}, line {line.number}"

    def _blocks(self) -> Iterator[list[_Line]]:
        """The lines between empty ones and those that begin a document."""
        rows: list[_Line] = []
        for number, line in enumerate([*self.lines, ""], 1):
            if line.lower().startswith("#begin document"):
                raise ElmanError(
                    f"{self.path}, line {number}: this is CoNLL-2012; give the columns of the word and its tag alone"
                )
            if not line.strip() or line.startswith("-DOCSTART-"):
                yield from [rows] if rows else []
                rows = []
            else:
                rows.append(_Line(number, line, split_cells(line, self.tabs)))

    def _named(self, sentences: list[list[_Line]]) -> list[str] | None:
        """The columns' names, where a comment of CoNLL-U Plus has them, or the first line, which is then taken out."""
        for line in sentences[0] if sentences else ():
            if found := re.fullmatch(r"#\s*global\.columns\s*=(.*)", line.text.rstrip(), re.IGNORECASE):
                return [name.lower() for name in found[1].split()]
            if line.text.startswith("#"):
                continue
            names = [cell.lower() for cell in line.cells]
            if len(names) != self.width or not set(names) <= _NAMES or set(names).isdisjoint(_WORD):
                return None
            sentences[0].remove(line)
            key = next((k for k, name in enumerate(names) if name in _SENTENCE), None)
            if key is not None:
                sentences[:] = [
                    list(rows)
                    for block in sentences
                    for _, rows in itertools.groupby(block, lambda line, key=key: line.cells[key:][:1])  # type: ignore[misc]
                ]
            return names
        return None

    def _without_comments(self, sentences: list[list[_Line]]) -> list[list[_Line]]:
        """The lines of each sentence that are words, all with as many columns."""
        last = {line.cells[-1] for rows in sentences for k, line in enumerate(rows) if k or line.text[0] != "#"}
        found = []
        for block in sentences:
            rows = list(itertools.dropwhile(lambda line: self._is_comment(line, last), block))
            wrong = next((line for line in rows if len(line.cells) != self.width), None)
            if wrong is None:
                found.append(rows)
                continue
            self._left_out.add(
                f"line {wrong.number}", f"{len(wrong.cells)} columns, not {self.width}; every word needs its tag"
            )
        return [rows for rows in found if rows]

    def _is_comment(self, line: _Line, last: set[str]) -> bool:
        """Whether a line before a sentence that begins with # is no word; ``last``: the last cells of other lines."""
        if line.text[0] != "#":
            return False
        if len(line.cells) != self.width:
            return True
        word, tag = line.cells[0], line.cells[-1]
        if self.width == 1 or tag in last or (self.tabs and word == "#"):
            return False
        return word == "#" or " " in word or tag.isdecimal()

    def _has_ids(self, sentences: list[list[_Line]]) -> bool:
        """Whether the first column numbers the words of each sentence."""
        if self.header is not None:
            return self.header[0] == "id"
        first = [[line.cells[0] for line in rows if line.text[0] != "#"] for rows in sentences]
        if self.width < 3 or not all(_ID.fullmatch(cell) for rows in first for cell in rows):
            return False
        plain = [[int(cell) for cell in rows if cell.isdecimal()] for rows in first]
        counted = all(rows in (list(range(len(rows))), list(range(1, len(rows) + 1))) for rows in plain)
        return self.width == len(CONLLU) or (counted and max(map(len, plain), default=0) > 1)

    def _words(self, rows: list[_Line]) -> list[_Line]:
        """The lines of a sentence that are one word each."""
        if not self.ids:
            return rows
        if rows[0].text[0] == "#":
            return self._words(rows[1:]) if rows[1:] else []
        for line in rows:
            if not _ID.fullmatch(line.cells[0]):
                raise ElmanError(f"{self._at(line)}: {line.cells[0]!r} is no id, which are 1, 2, 3, ...")
        return [line for line in rows if line.cells[0].isdecimal()]

    def _word_column(self, sentences: list[list[_Line]]) -> int:
        if self.header is not None:
            named = [name for name in _WORD if name in self.header]
            if named:
                return self.header.index(named[0])
            raise ElmanError(f"{self.path}: no column is named form; there are {', '.join(self.header)}")
        every = [line.cells[0] for rows in sentences for line in rows]
        if not self.ids and self.width > 2 and len(every) > 2 and all(cell.isdecimal() for cell in every):
            raise ElmanError(
                f"{self.path}: the first of {self.width} columns holds numbers, where words should be; name the "
                "columns in the first line, such as sentence_id, word, tag"
            )
        return int(self.ids)

    def _tag_column(self, tag: str | None) -> int:
        known = self.header or []
        if tag is None:
            return known.index("upos") if "upos" in known else self.width - 1
        if tag.isdecimal() and 0 < int(tag) <= self.width:
            return int(tag) - 1
        if self.conllu and not tag.isdecimal():
            if tag.lower() not in known:
                raise unknown_name("column of CoNLL-U", tag, known)
        elif tag.lower() not in known:
            named = f"; there are {', '.join(known)}" if known else f", and there are {self.width}"
            raise ElmanError(f"{self.path}: --tag is the number of a column there, from 1, not {tag!r}{named}")
        return known.index(tag.lower())

    def _is_whole(self, rows: Sequence[_Line]) -> bool:
        """Whether all words of a sentence and their tags are there."""
        for line in rows:
            if not line.cells[self.word].strip() or not line.cells[self.tag].strip():
                self._left_out.add(f"line {line.number}", "a word or its tag is empty")
                return False
        return True

    def _no_slashes(self, sentences: Sequence[Sequence[_Line]]) -> None:
        """ElmanError where each cell is a word and its tag, word/TAG."""
        cells = [cell for rows in sentences for line in rows for cell in line.cells]
        if cells and not self.conllu and all(re.fullmatch(r".+/[^/]+", cell) for cell in cells):
            raise ElmanError(
                f"{self._at(sentences[0][0])}: the line holds words with their tags, such as {cells[0]!r}; a word and "
                "its tag a line are needed, and an empty line between sentences"
            )


def is_tab_separated(lines: Sequence[str]) -> bool:
    """Whether tabs part the columns of all lines: most have one."""
    full = [line for line in lines if line.strip() and line[0] != "#"]
    return 2 * sum("\t" in line for line in full) > len(full)


def split_cells(line: str, tabs: bool) -> list[str]:
    """The cells of a line."""
    if tabs or "\t" in line:
        return [cell.strip() for cell in line.split("\t")]
    return re.split(" +", line.strip(" "))


def _width(sentences: Sequence[Sequence[_Line]]) -> int:
    """How many columns most lines have."""
    for comments in (False, True):
        counts = Counter(len(line.cells) for rows in sentences for line in rows if comments or line.text[0] != "#")
        if counts:
            return counts.most_common(1)[0][0]
    return 0
