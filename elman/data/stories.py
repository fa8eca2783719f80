"""Stories with questions: bAbI's text format, or a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from elman.data.tables import column, is_table, read_table
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


def read_stories(data: Sequence[str], columns: tuple[str, str, str], kind: str) -> list[Story]:
    """The questions of each file.

    A table has a row for each: ``columns`` name its story, question and answer; one called ``kind`` (if there is one)
    says what kind of question it is. Any other file is in bAbI's format: numbered lines, 1 where a story begins; a
    question has a tab and its answer behind it, and is about the lines before it. There the file's name is the kind.

    Raises:
        ElmanError: a file cannot be read; a line is not numbered; a question has no answer; nothing is asked.
    """
    told: list[Story] = []
    for path in data:
        name = PurePosixPath(path.replace("\\", "/")).name.partition(".")[0]
        found = _table(path, columns, kind, name) if is_table(path) else _babi(path, name)
        if not found:
            raise ElmanError(f"{path}: nothing is asked; a question is a line with a tab and its answer")
        told += found
    return told


def _table(path: str, columns: tuple[str, str, str], kind: str, name: str) -> list[Story]:
    table = read_table(path, columns)
    story, question, answer = (column(table, one) for one in columns)
    kinds = column(table, kind) if kind in table.columns else [name] * len(table)
    for row, (q, a) in enumerate(zip(question, answer, strict=True), 1):
        if not q.strip() or not a.strip():
            raise ElmanError(f"{path}, row {row}: the {'question' if not q.strip() else 'answer'} is empty")
    rows = zip(story, question, answer, kinds, strict=True)
    return [Story(sentences(s), q.strip(), a.strip(), k, f"{path} {s}") for s, q, a, k in rows]


def _babi(path: str, name: str) -> list[Story]:
    told: list[Story] = []
    so_far: list[str] = []
    stories = 0
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip(" "))
        if not match:
            raise ElmanError(f"{path}, line {number}: does not begin with its number in the story, as bAbI's lines do")
        if int(match[1]) == 1:
            so_far, stories = [], stories + 1
        question, tab, answer = match[2].partition("\t")
        if not tab:
            so_far.append(question.strip())
        elif not answer.partition("\t")[0].strip():
            raise ElmanError(f"{path}, line {number}: the question has no answer")
        else:
            told.append(
                Story(list(so_far), question.strip(), answer.partition("\t")[0].strip(), name, f"{path} {stories}")
            )
    return told


def sentences(story: str) -> list[str]:
    """The sentences of a running text."""
    return [part for part in _SENTENCES.split(story.strip()) if part]
