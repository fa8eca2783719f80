"""Stories with questions: bAbI's text format, or a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from elman.data.archive import name_inside, table_in_memory
from elman.data.inputs import InputFile, InputLines, read_inputs
from elman.data.source import InMemory, printable, sources
from elman.data.tables import SkippedRows, column, is_table, read_rows
from elman.data.text import read_text
from elman.errors import ElmanError

_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_LINE = re.compile(r"(\d+)\s+(\S.*)")


class Story(NamedTuple):
    """Sentences, a question, its answer, what kind of question it is; questions on one story are of one group."""

    sentences: list[str]
    question: str
    answer: str
    kind: str
    group: str = ""


def read_stories(data: Any, columns: tuple[str, str, str], kind: str, skip_bad: bool = False) -> list[Story]:
    """The questions of each file, or of data in memory (`elman.data.source.sources`).

    A table has a row for each: ``columns`` name its story, question and answer; one called ``kind`` (if there is one)
    says what kind of question it is. Any other file is in bAbI's format: numbered lines, 1 where a story begins; a
    question has a tab and its answer behind it, and is about the lines before it. There the file's name is the kind.

    Raises:
        ElmanError: a file cannot be read; a line is not numbered; a question has no answer; nothing is asked.
    """
    told: list[Story] = []
    for path in sources(data):
        name = printable(name_inside(path).partition(".")[0]) if table_in_memory(path) is None else "question"
        found = _table(path, columns, kind, name, skip_bad) if _is_table(path) else _babi(path, name)
        if not found:
            raise ElmanError(f"{printable(path)}: nothing is asked; a question is a line with a tab and its answer")
        told += found
    return told


def _is_table(path: str) -> bool:
    """A pipe is one, unless it begins as bAbI's format does."""
    if isinstance(path, InMemory) and table_in_memory(path) is None:
        return _LINE.match(read_text(path)) is None
    return is_table(path)


def _table(path: str, columns: tuple[str, str, str], kind: str, name: str, skip_bad: bool) -> list[Story]:
    left_out = SkippedRows(path, skip_bad)
    table, lines = read_rows(path, dict(zip(("story", "question", "answer"), columns, strict=True)), left_out)
    story, question, answer = (column(table, one, printable(path)) for one in columns)
    kinds = column(table, kind, printable(path)) if kind in table.columns else [name] * len(table)
    found = []
    for row, (s, q, a, k) in enumerate(zip(story, question, answer, kinds, strict=True), 1):
        if q.strip() and a.strip():
            found.append(Story(sentences(s), q.strip(), a.strip(), k, f"{path} {s}"))
            continue
        where = f" (line {lines[row - 1]})" if lines[row - 1] else ""
        left_out.add(f"row {row}", f"the {'answer' if q.strip() else 'question'} is empty{where}")
    left_out.log(len(found))
    return found


def read_questions(path: str, story: str, question: str) -> InputFile:
    """The questions of a file that have no answers yet, each behind its story and a tab.

    A table has a row for each, with the columns ``story`` and ``question``. In bAbI's format a question is a line with
    a tab behind it, or one that ends with a question mark. Any other text has an input on each line.
    """
    (path,) = sources([path])
    if _is_table(path) or not _LINE.match(read_text(path).lstrip()):
        return read_inputs(
            path, lambda table: _joined(column(table, story, path), column(table, question, path)), story, question
        )
    told = _babi(path, "", False)
    texts = _joined([" ".join(s.sentences) for s in told], [s.question for s in told])
    return InputLines(texts, [f"{path}, question {k}" for k in range(1, len(told) + 1)])


def _joined(stories: Sequence[str], questions: Sequence[str]) -> list[str]:
    pairs = zip(stories, questions, strict=True)
    return ["\t".join(" ".join(text.split()) for text in pair) if pair[1].strip() else "" for pair in pairs]


def _babi(path: str, name: str, answers: bool = True) -> list[Story]:
    told: list[Story] = []
    so_far: list[str] = []
    stories = 0
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip(" "))
        if not match:
            raise ElmanError(
                f"{printable(path)}, line {number}: does not begin with its number in the story, as bAbI's lines do"
            )
        if int(match[1]) == 1:
            so_far, stories = [], stories + 1
        question, tab, answer = match[2].partition("\t")
        if not tab and (answers or not question.rstrip().endswith("?")):
            so_far.append(question.strip())
        elif answers and not answer.partition("\t")[0].strip():
            raise ElmanError(f"{printable(path)}, line {number}: the question has no answer")
        else:
            told.append(
                Story(list(so_far), question.strip(), answer.partition("\t")[0].strip(), name, f"{path} {stories}")
            )
    return told


def sentences(story: str) -> list[str]:
    """The sentences of a running text."""
    return [part for part in _SENTENCES.split(story.strip()) if part]
