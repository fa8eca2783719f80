"""Stories with questions: the text format of bAbI, or a table."""

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
    """A question about a story.

    Attributes:
        sentences (list[str]): The sentences of the story.
        question (str): The question.
        answer (str): Its answer.
        kind (str): The kind of the question.
        group (str): The same for all questions about one story.
    """

    sentences: list[str]
    question: str
    answer: str
    kind: str
    group: str = ""


def read_stories(data: Any, columns: tuple[str, str, str], kind: str, skip_bad: bool = False) -> list[Story]:
    """Read questions about stories.

    A table has a question in each row. Any other file has the format of bAbI: lines are numbered from 1 in each story,
    and a question is followed by a tab and its answer and is about the lines before it. The name of the file is then
    the kind of its questions.

    Args:
        data: Paths or data in memory; see `elman.data.source.sources`.
        columns (tuple[str, str, str]): The columns of the story, the question and the answer in tables.
        kind (str): The column of the kind of question in tables, which may be missing.
        skip_bad (bool): Whether to skip rows of tables that cannot be read and to log their number.
            Default: ``False``.

    Returns:
        list[Story]: The questions.

    Raises:
        ElmanError: A file cannot be read, a line is not numbered, a question has no answer, or there is no question.

    Example::

        >>> data = {"story": ["Mary left."], "question": ["Who left?"], "answer": ["Mary"]}
        >>> [story] = read_stories(data, ("story", "question", "answer"), "kind")
        >>> story.sentences, story.answer
        (['Mary left.'], 'Mary')
    """
    stories: list[Story] = []
    for path in sources(data):
        name = printable(name_inside(path).partition(".")[0]) if table_in_memory(path) is None else "question"
        read = _read_table(path, columns, kind, name, skip_bad) if is_story_table(path) else _read_babi(path, name)
        if not read:
            raise ElmanError(f"{printable(path)}: no questions; a question is a line with a tab and its answer")
        stories += read
    return stories


def is_story_table(path: str) -> bool:
    """Return whether a file is a table of questions; a stream is one unless it begins like bAbI's format."""
    if isinstance(path, InMemory) and table_in_memory(path) is None:
        return _LINE.match(read_text(path)) is None
    return is_table(path)


def _read_table(path: str, columns: tuple[str, str, str], kind: str, name: str, skip_bad: bool) -> list[Story]:
    skipped = SkippedRows(path, skip_bad)
    table, lines = read_rows(path, dict(zip(("story", "question", "answer"), columns, strict=True)), skipped)
    story, question, answer = (column(table, column_name, printable(path)) for column_name in columns)
    kinds = column(table, kind, printable(path)) if kind in table.columns else [name] * len(table)
    result = []
    for row, (s, q, a, k) in enumerate(zip(story, question, answer, kinds, strict=True), 1):
        if q.strip() and a.strip():
            result.append(Story(sentences(s), q.strip(), a.strip(), k, f"{path} {s}"))
            continue
        where = f" (line {lines[row - 1]})" if lines[row - 1] else ""
        skipped.add(f"row {row}", f"the {'answer' if q.strip() else 'question'} is empty{where}")
    skipped.log(len(result))
    return result


def read_questions(path: str, story: str, question: str) -> InputFile:
    """Read questions that have no answers yet.

    A table has a question in each row. In the format of bAbI, a question is a line that contains a tab or ends with a
    question mark. Any other text has an input on each line.

    Args:
        path (str): The path of the file.
        story (str): The column of the story in tables.
        question (str): The column of the question in tables.

    Returns:
        InputFile: The inputs; each is a story, a tab and a question.

    Raises:
        ElmanError: The file cannot be read, or a column is missing.
    """
    (path,) = sources([path])
    if is_story_table(path) or not _LINE.match(read_text(path).lstrip()):
        return read_inputs(
            path, lambda table: _joined(column(table, story, path), column(table, question, path)), story, question
        )
    stories = _read_babi(path, "", False)
    texts = _joined([" ".join(s.sentences) for s in stories], [s.question for s in stories])
    return InputLines(texts, [f"{path}, question {k}" for k in range(1, len(stories) + 1)])


def _joined(stories: Sequence[str], questions: Sequence[str]) -> list[str]:
    pairs = zip(stories, questions, strict=True)
    return ["\t".join(" ".join(text.split()) for text in pair) if pair[1].strip() else "" for pair in pairs]


def _read_babi(path: str, name: str, answers: bool = True) -> list[Story]:
    """Read the questions of a file in bAbI's format; ``answers``: whether they must have answers."""
    result: list[Story] = []
    story: list[str] = []
    number_of_stories = 0
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip(" "))
        if not match:
            raise ElmanError(
                f"{printable(path)}, line {number}: a line must begin with its number in the story (bAbI format)"
            )
        if int(match[1]) == 1:
            story, number_of_stories = [], number_of_stories + 1
        question, tab, answer = match[2].partition("\t")
        if not tab and (answers or not question.rstrip().endswith("?")):
            story.append(question.strip())
        elif answers and not answer.partition("\t")[0].strip():
            raise ElmanError(f"{printable(path)}, line {number}: the question has no answer")
        else:
            group = f"{path} {number_of_stories}"
            result.append(Story(list(story), question.strip(), answer.partition("\t")[0].strip(), name, group))
    return result


def sentences(story: str) -> list[str]:
    """Split a text into sentences, after the marks . ! and ? followed by white space."""
    return [part for part in _SENTENCES.split(story.strip()) if part]
