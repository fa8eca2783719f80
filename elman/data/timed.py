"""Texts with the times of their words, as a recogniser writes them: pauses, and lines of JSON."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Self, TypeGuard

import polars

from elman.data.archive import name_inside
from elman.data.inputs import InputFile, InputLines, InputTable, read_column_inputs
from elman.data.records import is_json
from elman.data.source import InMemory, printable, sources
from elman.data.strict import parse_json
from elman.data.tables import is_table
from elman.data.text import read_text
from elman.errors import ElmanError

#: Endings of files with an object on each line.
_LINES = (".jsonl", ".ndjson")
#: How such an object begins.
_OBJECT = '{"'


class TimedText(str):
    """A text that knows when its words are said; elsewhere it is used like any other text.

    Args:
        text (str): The text.
        words (Sequence[tuple[str, float, float]]): Its words, each with its start and end in seconds. Default: not
            known.
    """

    words: Sequence[tuple[str, float, float]]

    def __new__(cls, text: str, words: Sequence[tuple[str, float, float]] = ()) -> Self:
        self = super().__new__(cls, text)
        self.words = words
        return self


class TimedLine(NamedTuple):
    """A record of a file: its location for messages, the record, and its text."""

    place: str
    record: Mapping[str, Any]
    text: TimedText


def timed_text(record: Any, key: str = "text") -> TimedText:
    """Return the text of a record.

    Args:
        record: ``{"text": ..., "words": [{"text": ..., "start": ..., "end": ...}, ...]}``, where ``words`` may be
            missing; or ``{"answers": [...]}``, as ``elman predict --json`` writes: the first answer, which is such a
            record. Other keys are ignored.
        key (str): The key of the text. Default: ``"text"``.

    Raises:
        ElmanError: The record has another form.

    Example::

        >>> timed_text({"text": "Hello.", "words": [{"text": "hello", "start": 0.1, "end": 0.5}]}).words
        [('hello', 0.1, 0.5)]
    """
    if isinstance(record, Mapping) and "answers" in record and key not in record:
        answers = record["answers"]
        record = answers[0] if isinstance(answers, Sequence) and answers else {key: None}  # nothing was heard
    if not isinstance(record, Mapping) or key not in record:
        raise ElmanError(f"an object with the key {key!r} is required, and perhaps 'words' with their times")
    text, words = record[key], record.get("words")
    if not isinstance(text, str | None):
        raise ElmanError(f"{key}: a text is required, not {type(text).__name__}")
    if not isinstance(words, Sequence | None) or isinstance(words, str):
        raise ElmanError(f"words: a list is required, not {type(words).__name__}; leave it out if there are no times")
    return TimedText(text or "", [_timed_word(word) for word in words or ()])


def _timed_word(word: Any) -> tuple[str, float, float]:
    """Return text, start and end of a word."""
    if isinstance(word, Mapping):
        text, start, end = (word.get(key) for key in ("text", "start", "end"))
        if isinstance(text, str) and _is_time(start) and _is_time(end):
            return text, start, end
    raise ElmanError(f'words: {word!r:.80} is not of the form {{"text": "hello", "start": 0.5, "end": 0.75}}')


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def pauses_after(text: str, words: Sequence[str]) -> list[float | None]:
    """Return the pause after each word of a text in seconds: from its end to the start of the next one.

    The words may be parted and written otherwise than those with times: only letters and digits are compared, without
    their case. Within a word with a time there is no pause.

    Args:
        text (str): The text; without times (`TimedText`) no pause is known.
        words (Sequence[str]): Its words.

    Returns:
        list[float | None]: A pause for each of ``words``; None where it is not known, as after the last one.

    Raises:
        ElmanError: The words with times are not those of the text.

    Example::

        >>> text = TimedText("Well, e-mail me.", [("well", 0.0, 0.5), ("e", 1.0, 1.2), ("mail", 1.2, 1.5),
        ...                                       ("me", 1.75, 2.0)])
        >>> pauses_after(text, ["Well", "e-mail", "me"])
        [0.5, 0.25, None]
    """
    if not isinstance(text, TimedText) or not text.words:
        return [None] * len(words)
    timed = [(letters, start, end) for word, start, end in text.words if (letters := _letters(word))]
    said, pauses = "".join(letters for letters, _, _ in timed), dict[int, float | None]()
    place = 0
    for k, (letters, _, end) in enumerate(timed):
        place += len(letters)
        pauses[place] = max(0.0, timed[k + 1][1] - end) if k + 1 < len(timed) else None
    found: list[float | None] = []
    place = 0
    for word in words:
        letters = _letters(word)
        if not said.startswith(letters, place):
            break
        place += len(letters)
        found.append(pauses.get(place, 0.0) if letters else None)
    if len(found) < len(words) or place < len(said):
        written = repr(words[len(found)]) if len(found) < len(words) else "nothing"
        heard = repr(said[place:][:20]) if place < len(said) else "nothing"
        raise ElmanError(
            f"the words with times are not those of the text: they have {heard} where the text has {written}"
        )
    return found


def _letters(word: str) -> str:
    """Return the letters and digits of a word, without their case."""
    return "".join(c for c in unicodedata.normalize("NFC", word).casefold() if c.isalnum())


def is_timed_lines(path: str, key: str = "text") -> bool:
    """Return whether a source has a record on each line: by its ending, or by the first line of a stream.

    Args:
        path (str): A path, a URL or an in-memory source.
        key (str): The key of the text. Default: ``"text"``.
    """
    if not isinstance(path, InMemory):
        return PurePosixPath(name_inside(path)).suffix.lower() in _LINES
    line = read_text(path).lstrip().partition("\n")[0] if isinstance(path.content, bytes) else ""
    return line.startswith(_OBJECT) and is_json(line) and not {key, "answers"}.isdisjoint(json.loads(line))


def read_timed_lines(path: str, key: str = "text") -> list[TimedLine]:
    """Read a file with a record on each line; see `timed_text`. Empty lines are left out.

    Args:
        path (str): A path, a URL or an in-memory source.
        key (str): The key of the text. Default: ``"text"``.

    Raises:
        ElmanError: The file cannot be read, or a line is no such record; the message names the line.
    """
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            place = f"{printable(path)}, line {number}"
            record = parse_json(line, place)
            try:
                found.append(TimedLine(place, record, timed_text(record, key)))
            except ElmanError as error:
                raise ElmanError(f"{place}: {error}") from None
    return found


def read_timed_inputs(argument: str, key: str) -> InputFile:
    """Read the inputs in a file with a record on each line, in another table, or in the lines of a text file.

    Args:
        argument (str): The path.
        key (str): The key of the text, or the column of the table.

    Raises:
        ElmanError: The file cannot be read, a record has another form, or the column is missing.
    """
    (path,) = sources([argument])
    records = is_timed_lines(path, key)
    if isinstance(path, InMemory) and (records or not is_table(path, [key])):
        return _stream_inputs(path, key)
    if not records:
        return read_column_inputs(path, key)
    lines = read_timed_lines(path, key)
    try:
        table = polars.DataFrame([line.record for line in lines], infer_schema_length=None, strict=False)
    except polars.exceptions.PolarsError as error:
        raise ElmanError(f"{printable(path)}: the records do not form a table: {str(error).splitlines()[0]}") from None
    return InputTable(argument, table, [line.text for line in lines], places=[line.place for line in lines])


def _stream_inputs(path: InMemory, key: str) -> InputLines:
    """Return the lines of a stream, some of which may be records."""
    inputs, places = list[str](), list[str]()
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), 1):
        places.append(f"{path}, line {number}")
        try:
            inputs.append(text_of_line(line, key))
        except ElmanError as error:
            raise ElmanError(f"{places[-1]}: {error}") from None
    return InputLines(inputs, places)


def text_of_line(line: str, key: str = "text") -> str:
    """Return a line of text, or the text of the record in JSON that the line holds.

    Args:
        line (str): The line; one that begins with ``{"`` is a record.
        key (str): The key of the text. Default: ``"text"``.

    Raises:
        ElmanError: The line is JSON of another form.
    """
    return timed_text(parse_json(line, "the record"), key) if line.lstrip().startswith(_OBJECT) else line
