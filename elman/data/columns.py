"""Files with one word on each line: CoNLL-U and similar formats."""

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

#: An id: 3. CoNLL-U also has 3-4, a token of several words, and 3.1, an empty node.
_ID = re.compile(r"\d+([-.]\d+)?")
_WORD = ("form", "token", "tokens", "word", "words")
_SENTENCE = {"sentence", "sentence_id", "sent_id", "sentence_number"}
#: Column names by which a header line is recognised.
_NAMES = {
    *_WORD, *_SENTENCE, *CONLLU, "index", "pos", "tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags",
    "pos_tag", "pos_tags", "chunk", "chunks", "entity", "bio", "iob",
}  # fmt: skip


class _Line(NamedTuple):
    """A line that is not empty, with its number from 1."""

    number: int
    text: str
    cells: list[str]


@final
class ColumnFile(InputFile):
    """A file with one word on each line and an empty line between sentences.

    The columns are separated by tabs or spaces. The file is CoNLL-U if it has the ten columns of CoNLL-U and ids.
    Lines before a sentence that begin with ``#`` and are not words are comments; ``-DOCSTART-`` begins a document. A
    first line such as ``token pos ner`` names the columns.

    Args:
        path (str): The path of the file.
        tag (str, optional): The column with the tags: a name of CoNLL-U or of the first line, or a number from 1.
            Default: ``upos`` in CoNLL-U and the last column in other files.
        tagged (bool): Whether each word must have a tag. If not, `tags` is empty. Default: ``True``.
        skipped (SkippedRows, optional): Receives the sentences that cannot be read. Default: they are errors.

    Attributes:
        inputs: The words of each sentence.
        tags: The tags of each sentence.
        places: The location of each sentence, for messages.

    Raises:
        ElmanError: A line has more or fewer columns than the others, a word or its tag is empty, or the column of tags
            is unknown.
    """

    def __init__(
        self, path: str, tag: str | None = None, tagged: bool = True, skipped: SkippedRows | None = None
    ) -> None:
        self._skipped = skipped or SkippedRows(path, None, "sentence")
        self.path, self.lines = printable(path), read_text(path).removesuffix("\n").split("\n")
        self.tabs = is_tab_separated(self.lines)
        sentences = list(self._blocks())
        conllu = name_inside(path).lower().endswith((".conllu", ".conll-u"))
        self.width = len(CONLLU) if conllu else _most_frequent_width(sentences)
        self.header = self._take_header(sentences)
        sentences = self._without_comments(sentences)
        self.has_ids = conllu or self._first_column_counts(sentences)
        self.conllu = self.has_ids and (self.width == len(CONLLU) or self.header is not None)
        if self.conllu and self.header is None:
            self.header = list(CONLLU)
        sentences = [rows for rows in map(self._single_words, sentences) if rows]
        if tagged and self.width < 2 and sentences:
            raise ElmanError(f"{self._at(sentences[0][0])}: {self.width} columns; a word and its tag are required")
        self.word_column = self._find_word_column(sentences)
        self.tag_column = self._find_tag_column(tag) if tagged or self.conllu else -1
        if tagged:
            self._refuse_slash_format(sentences)
        sentences = [rows for rows in sentences if self._is_complete(rows)]
        self.numbers = [[line.number for line in rows] for rows in sentences]
        self.inputs = self.names = [[line.cells[self.word_column] for line in rows] for rows in sentences]
        self.tags = [[line.cells[self.tag_column] for line in rows] for rows in sentences if tagged]
        self.places = [self._at(rows[0]) for rows in sentences]
        if self.conllu and self.tags and {tag for tags in self.tags for tag in tags} == {"_"}:
            raise ElmanError(f"{self.path}: all tags are '_', which means no tag; name another column with --tag")

    def with_predictions(self, out: str, predictions: Sequence[Prediction]) -> bytes:
        """Return the file with predicted tags: in the tag column of CoNLL-U, in an additional column of other files."""
        lines, tabs = list(self.lines), self.tabs or out.lower().endswith(".tsv")
        for numbers, prediction in zip(self.numbers, predictions, strict=True):
            tags = prediction["predicted"] if prediction else ["_"] * len(numbers)
            for number, tag in zip(numbers, tags, strict=True):
                line = lines[number - 1].rstrip(" \t")
                if self.conllu:
                    cells = line.split("\t") if self.tabs else split_cells(line, False)
                    lines[number - 1] = "\t".join([*cells[: self.tag_column], tag, *cells[self.tag_column + 1 :]])
                else:
                    lines[number - 1] = line + ("\t" if tabs else " ") + tag
        return "".join(f"{line}\n" for line in lines).encode()

    def _at(self, line: _Line) -> str:
        return f"{self.path}, line {line.number}"

    def _blocks(self) -> Iterator[list[_Line]]:
        """Yield the lines between empty lines and between beginnings of documents."""
        rows: list[_Line] = []
        for number, line in enumerate([*self.lines, ""], 1):
            if line.lower().startswith("#begin document"):
                raise ElmanError(
                    f"{self.path}, line {number}: this is CoNLL-2012; give only the columns of the word and its tag"
                )
            if not line.strip() or line.startswith("-DOCSTART-"):
                yield from [rows] if rows else []
                rows = []
            else:
                rows.append(_Line(number, line, split_cells(line, self.tabs)))

    def _take_header(self, sentences: list[list[_Line]]) -> list[str] | None:
        """Return the names of the columns, from a comment of CoNLL-U Plus or from the first line, which is removed."""
        for line in sentences[0] if sentences else ():
            if match := re.fullmatch(r"#\s*global\.columns\s*=(.*)", line.text.rstrip(), re.IGNORECASE):
                return [name.lower() for name in match[1].split()]
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
        """Remove comments, and sentences with a line that has another number of columns."""
        last_cells = {line.cells[-1] for rows in sentences for k, line in enumerate(rows) if k or line.text[0] != "#"}
        kept = []
        for block in sentences:
            rows = list(itertools.dropwhile(lambda line: self._is_comment(line, last_cells), block))
            wrong = next((line for line in rows if len(line.cells) != self.width), None)
            if wrong is None:
                kept.append(rows)
                continue
            self._skipped.add(
                f"line {wrong.number}", f"{len(wrong.cells)} columns, not {self.width}; every word needs a tag"
            )
        return [rows for rows in kept if rows]

    def _is_comment(self, line: _Line, last_cells: set[str]) -> bool:
        """Return whether a line before a sentence is a comment, by the last cells of the other lines."""
        if line.text[0] != "#":
            return False
        if len(line.cells) != self.width:
            return True
        word, tag = line.cells[0], line.cells[-1]
        if self.width == 1 or tag in last_cells or (self.tabs and word == "#"):
            return False
        return word == "#" or " " in word or tag.isdecimal()

    def _first_column_counts(self, sentences: list[list[_Line]]) -> bool:
        """Return whether the first column numbers the words of each sentence."""
        if self.header is not None:
            return self.header[0] == "id"
        first = [[line.cells[0] for line in rows if line.text[0] != "#"] for rows in sentences]
        if self.width < 3 or not all(_ID.fullmatch(cell) for rows in first for cell in rows):
            return False
        numbers = [[int(cell) for cell in rows if cell.isdecimal()] for rows in first]
        counts = all(rows in (list(range(len(rows))), list(range(1, len(rows) + 1))) for rows in numbers)
        return self.width == len(CONLLU) or (counts and max(map(len, numbers), default=0) > 1)

    def _single_words(self, rows: list[_Line]) -> list[_Line]:
        """Return the lines of a sentence that are a single word, without tokens of several words and empty nodes."""
        if not self.has_ids:
            return rows
        if rows[0].text[0] == "#":
            return self._single_words(rows[1:]) if rows[1:] else []
        for line in rows:
            if not _ID.fullmatch(line.cells[0]):
                raise ElmanError(f"{self._at(line)}: {line.cells[0]!r} is not an id; ids are 1, 2, 3, ...")
        return [line for line in rows if line.cells[0].isdecimal()]

    def _find_word_column(self, sentences: list[list[_Line]]) -> int:
        if self.header is not None:
            named = [name for name in _WORD if name in self.header]
            if named:
                return self.header.index(named[0])
            raise ElmanError(f"{self.path}: no column is named form; the columns are {', '.join(self.header)}")
        cells = [line.cells[0] for rows in sentences for line in rows]
        if not self.has_ids and self.width > 2 and len(cells) > 2 and all(cell.isdecimal() for cell in cells):
            raise ElmanError(
                f"{self.path}: the first of {self.width} columns contains numbers instead of words; name the "
                "columns in the first line, such as sentence_id, word, tag"
            )
        return int(self.has_ids)

    def _find_tag_column(self, tag: str | None) -> int:
        names = self.header or []
        if tag is None:
            return names.index("upos") if "upos" in names else self.width - 1
        if tag.isdecimal() and 0 < int(tag) <= self.width:
            return int(tag) - 1
        if self.conllu and not tag.isdecimal():
            if tag.lower() not in names:
                raise unknown_name("column of CoNLL-U", tag, names)
        elif tag.lower() not in names:
            columns = f"the columns are {', '.join(names)}" if names else f"the file has {self.width} columns"
            raise ElmanError(f"{self.path}: --tag must be the number of a column, from 1, not {tag!r}; {columns}")
        return names.index(tag.lower())

    def _is_complete(self, rows: Sequence[_Line]) -> bool:
        """Return whether all words of a sentence and their tags are filled."""
        for line in rows:
            if not line.cells[self.word_column].strip() or not line.cells[self.tag_column].strip():
                self._skipped.add(f"line {line.number}", "a word or its tag is empty")
                return False
        return True

    def _refuse_slash_format(self, sentences: Sequence[Sequence[_Line]]) -> None:
        """Raise an error if each cell is a word together with its tag, word/TAG."""
        cells = [cell for rows in sentences for line in rows for cell in line.cells]
        if cells and not self.conllu and all(re.fullmatch(r".+/[^/]+", cell) for cell in cells):
            raise ElmanError(
                f"{self._at(sentences[0][0])}: the line contains words joined to their tags, such as {cells[0]!r}; put "
                "each word and its tag on a line, with an empty line between sentences"
            )


def is_tab_separated(lines: Sequence[str]) -> bool:
    """Return whether most lines contain a tab, so that tabs separate the columns."""
    full = [line for line in lines if line.strip() and line[0] != "#"]
    return 2 * sum("\t" in line for line in full) > len(full)


def split_cells(line: str, tabs: bool) -> list[str]:
    """Split a line into cells, at tabs if ``tabs`` is true or the line has one, else at spaces."""
    if tabs or "\t" in line:
        return [cell.strip() for cell in line.split("\t")]
    return re.split(" +", line.strip(" "))


def _most_frequent_width(sentences: Sequence[Sequence[_Line]]) -> int:
    """Return the number of columns that most lines have."""
    for comments in (False, True):
        counts = Counter(len(line.cells) for rows in sentences for line in rows if comments or line.text[0] != "#")
        if counts:
            return counts.most_common(1)[0][0]
    return 0
