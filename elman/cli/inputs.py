"""The inputs of a command: arguments, the rows of files, and the lines of standard input."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from shlex import quote
from typing import Any, NamedTuple, final

import polars

from elman.data.inputs import InputFile, InputLines, InputTable, Prediction, looks_like_file
from elman.data.pictures import PICTURES
from elman.data.tables import TABLES
from elman.errors import ElmanError
from elman.tasks.abilities import Predicts

_STANDARD_INPUT = ("-", "/dev/stdin")
#: The number of inputs of one call of the model.
_BATCH = 1024


class Given(NamedTuple):
    """An input.

    Attributes:
        input: what the model gets.
        shown: how it is printed.
        place (str | None): its location; None for an argument of the command line.
        question (str | None): the question about it; None for models that take no questions.
    """

    input: Any
    shown: Any
    place: str | None
    question: str | None = None

    @property
    def empty(self) -> bool:
        """Whether it is an empty line or row."""
        return self.place is not None and isinstance(self.input, (str, list)) and not "".join(self.input).strip()


class Inputs:
    """All inputs, in order.

    Args:
        model: the model that they are for.
        arguments: texts, files, or "-" for the lines of standard input, as if there are none. For a model that takes
            questions, pictures are followed by the questions about them.
        column: the column of tables to read.

    Raises:
        ElmanError: a file cannot be read; a question is missing, or the model takes none.
    """

    def __init__(self, model: Predicts, arguments: Sequence[str], column: str | None) -> None:
        self.model = model
        given = list(arguments) or ["-"]
        self.parts = _with_questions(model, given, column) if model.takes_questions else _parts(model, given, column)
        if column is not None and not any(isinstance(part, InputFile) for part in self.parts):
            raise ElmanError("--column: names a column of a table; there is none among the inputs")

    @property
    def several(self) -> bool:
        """Whether there can be more than one input."""
        return len(self.parts) > 1 or self.parts == ["-"] or isinstance(self.parts[0], InputFile)

    def check_reading(self, images: str | None, skip_bad: bool) -> None:
        """Refuse --images and --skip-bad where no input is a file that they are for."""
        files = [part for part in self.parts if isinstance(part, InputFile)]
        if images is not None and not any(file.relative for file in files):
            raise ElmanError("--images: is for the paths in a table or another file; there is none among the inputs")
        if skip_bad and not any(isinstance(file, InputTable) for file in files):
            raise ElmanError(
                "--skip-bad: is for the rows of tables and the records of JSON; there is none among the inputs"
            )

    def one_file(self) -> InputFile | None:
        """Return the only file, if there is one; ElmanError if there are other inputs too."""
        files = [part for part in self.parts if isinstance(part, InputFile)]
        if files and len(self.parts) > 1:
            raise ElmanError("--out: the answers to one file are written; give one at a time")
        return files[0] if files else None

    def as_file(self, given: Sequence[Given]) -> InputFile:
        """Return inputs that are not in a file as one, to write them with their answers."""
        if not self.model.takes_questions:
            return InputLines([one.shown for one in given], [])
        return Asked([(one.shown, one.question or "") for one in given], [])

    def batches(self) -> Iterator[list[Given]]:
        """Yield all inputs in order, in batches; one by one if a person types them."""
        at_once = 1 if "-" in self.parts and sys.stdin is not None and sys.stdin.isatty() else _BATCH
        every = self._every()
        while batch := list(itertools.islice(every, at_once)):
            yield batch

    def _every(self) -> Iterator[Given]:
        for part in self.parts:
            if isinstance(part, InputFile):
                for one, name, place in zip(part.inputs, part.names, part.places, strict=True):
                    yield self._given(one, name, place)
            elif part == "-":
                for line, place in _standard_input():
                    yield from self._line(line, place)
            else:
                yield self._given(part, part, None)

    def _given(self, one: Any, name: Any, place: str | None) -> Given:
        if not self.model.takes_questions or not isinstance(name, str):
            return Given(one, name, place)
        picture, _, question = name.partition("\t")
        return Given(one, picture, place, question)

    def _line(self, line: str, place: str) -> Iterator[Given]:
        """Yield the inputs of a line: the line itself, or the inputs in the file that it names."""
        file = None
        if self.model.reads_paths and line.strip() and not self.model.takes_questions:
            with contextlib.suppress(ElmanError):  # reported with the answers to the others
                file = self.model.in_file(line, None)
        if file is None:
            try:
                one = self.model.in_line(line)
            except ElmanError as error:
                raise ElmanError(f"{place}: {error}") from None
            yield self._given(one, one, place)
        else:
            yield from (Given(x, name, place) for x, name in zip(file.inputs, file.names, strict=True))


@final
class Asked(InputFile):
    """Pictures, each with a question.

    Args:
        pairs (Sequence[tuple[str, str]]): pictures and questions.
        places (list[str]): the location of each, for messages.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], places: list[str]) -> None:
        self.pairs = pairs
        self.inputs = self.names = [f"{picture}\t{question}" for picture, question in pairs]
        self.places = places

    def with_predictions(self, out: str, predictions: Sequence[Prediction]) -> bytes:
        """Return a table of pictures, questions and predictions, or the first prediction for each on a line."""
        if not out.lower().endswith(TABLES):
            return InputLines(self.inputs, self.places).with_predictions(out, predictions)
        table = polars.DataFrame({"image": [p for p, _ in self.pairs], "question": [q for _, q in self.pairs]})
        return InputTable(out, table, self.inputs).with_predictions(out, predictions)


def _parts(model: Predicts, arguments: Sequence[str], column: str | None) -> list[InputFile | str]:
    """Return the file that each argument names, or the argument where it is an input itself."""
    parts: list[InputFile | str] = []
    for argument in arguments:
        if model.reads_paths and (" " in argument or argument.endswith("?")) and _is_question(argument):
            raise ElmanError(f"{argument!r}: no such file, and the model takes no questions")
        parts.append(_file(model, argument, column) or argument)
        if model.reads_paths and parts[-1] in _STANDARD_INPUT:  # a path on each line
            parts[-1] = "-"
    return parts


def _file(model: Predicts, argument: str, column: str | None) -> InputFile | None:
    return None if argument == "-" else model.in_file(argument, column)


def _with_questions(model: Predicts, arguments: Sequence[str], column: str | None) -> list[InputFile | str]:
    """Return pictures with the questions that follow them: each question is about the pictures named
    since the last question."""
    parts: list[InputFile | str] = []
    pictures: list[str] = []
    questions: list[str] = []
    for argument in arguments:
        if argument == "-" or not _is_question(argument):
            parts += _asked(model, pictures, questions, column) if questions else []
            pictures = [*([] if questions else pictures), argument]
            questions = []
        elif pictures:
            questions.append(" ".join(argument.split()))
        else:
            raise ElmanError(
                f"{argument!r}: no such file, and a question follows the picture that it is about: "
                f"photo.jpg {quote(argument)}"
            )
    return parts + _asked(model, pictures, questions, column)


def _asked(
    model: Predicts, pictures: Sequence[str], questions: Sequence[str], column: str | None
) -> list[InputFile | str]:
    """Return all pictures with all questions, and between them the files that have questions of their own."""
    parts: list[InputFile | str] = []
    used = False
    for argument in pictures:
        file = None if "\t" in argument else _file(model, argument, column)
        lines = file is None and argument in _STANDARD_INPUT
        if lines or "\t" in argument or (file is not None and _has_questions(file)):
            parts.append("-" if lines else file or argument)
        elif not questions:
            raise ElmanError(f'{argument}: no question; give it after the picture: {quote(argument)} "what is it?"')
        else:
            parts += [f"{argument}\t{question}" for question in questions] if file is None else [_all(file, questions)]
            used = True
    if questions and not used:
        raise ElmanError(f"{pictures[-1]}: has questions already; {questions[0]!r} is one too many")
    return parts


def _has_questions(file: InputFile) -> bool:
    return not file.inputs or any("\t" in one for one in file.names if isinstance(one, str))


def _all(file: InputFile, questions: Sequence[str]) -> Asked:
    """Return every picture of a file with every question."""
    every = list(itertools.product(zip(file.inputs, file.places, strict=True), questions))
    return Asked([(path, question) for (path, _), question in every], [place for (_, place), _ in every])


def _is_question(argument: str) -> bool:
    """Return whether an argument is a text, and neither the name of a file nor a pattern of names."""
    path = os.path.expanduser(argument)
    if "\t" in argument or "://" in argument or "::" in argument or os.path.lexists(path):
        return False
    if argument.startswith(("/", "~", "./", "../")) or argument.endswith("/"):
        return False
    if "*" in argument and " " not in argument:
        return False
    if looks_like_file(argument) or argument.lower().endswith(PICTURES):
        return False
    return not (glob.has_magic(path) and glob.glob(path, recursive=True))


def _standard_input() -> Iterator[tuple[str, str]]:
    """Yield the lines and their locations."""
    number = 0
    try:
        for number, line in enumerate(sys.stdin or (), 1):
            if "\0" in line:
                raise ElmanError(f"standard input, line {number}: not text: it contains a zero byte; UTF-8 is required")
            yield line.rstrip("\n"), f"standard input, line {number}"
    except UnicodeDecodeError:  # of a terminal
        raise ElmanError(f"standard input, after line {number}: not UTF-8") from None
