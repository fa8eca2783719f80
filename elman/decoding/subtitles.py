"""Subtitles: what was said, with its times, as lines of .srt, .vtt, .json and .txt files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TextIO

from elman.data.output import json_line
from elman.errors import ElmanError, unknown_name

#: The formats, by the ending of a file.
FORMATS = ("txt", "srt", "vtt", "json")


class Word(NamedTuple):
    """A word with its times.

    Args:
        text (str): The word.
        start (float): Where it begins, in seconds.
        end (float): Where it ends, in seconds.
        confidence (float): How sure the recogniser is, between 0 and 1.
    """

    text: str
    start: float
    end: float
    confidence: float


class Segment(NamedTuple):
    """A line that was said.

    Args:
        start (float): Where it begins, in seconds.
        end (float): Where it ends, in seconds.
        text (str): The text.
        words (Sequence[Word]): Its words. Default: none.
    """

    start: float
    end: float
    text: str
    words: Sequence[Word] = ()


class Subtitles:
    """A writer of segments: each one is written at once, so that a file is whole up to the last one.

    ====== ==============================================================================================
    txt    a text on each line
    srt    SubRip: numbered blocks with times in milliseconds
    vtt    WebVTT, https://www.w3.org/TR/webvtt1/; ``&``, ``<`` and ``>`` are escaped
    json   an array of objects with ``start``, ``end``, ``text`` and ``words``, one on each line
    ====== ==============================================================================================

    Line breaks in a text become spaces. Segments without text are not written. A segment that is shorter than a
    millisecond lasts one, since players refuse shorter ones.

    Args:
        file (TextIO): The file, open for writing; it is flushed after each segment.
        format (str): ``"txt"``, ``"srt"``, ``"vtt"`` or ``"json"``.

    Raises:
        ElmanError: The format is unknown.

    Example::

        >>> import sys
        >>> with Subtitles(sys.stdout, "srt") as subtitles:
        ...     subtitles.write(Segment(0.5, 61.25, "hello"))
        1
        00:00:00,500 --> 00:01:01,250
        hello
        <BLANKLINE>
    """

    def __init__(self, file: TextIO, format: str) -> None:
        if format not in FORMATS:
            raise unknown_name("format of subtitles", format, FORMATS)
        self.file, self.format, self.count = file, format, 0

    def __enter__(self) -> Subtitles:
        self._put({"vtt": "WEBVTT\n\n", "json": "["}.get(self.format, ""))
        return self

    def __exit__(self, *error: object) -> None:
        self._put({"json": "\n]\n"}.get(self.format, ""))

    def write(self, segment: Segment) -> None:
        """Write a segment.

        Args:
            segment (Segment): The segment.

        Raises:
            ElmanError: It ends before it begins, or begins before 0.
        """
        start, end, text, words = segment
        if not 0 <= start <= end < float("inf"):
            raise ElmanError(
                f"a segment from {start} to {end} seconds: it must begin at 0 or later, and end after that"
            )
        text = " ".join(text.split())
        if not text:
            return
        self.count += 1
        if self.format == "txt":
            self._put(f"{text}\n")
        elif self.format == "json":
            record = {"start": _rounded(start), "end": _rounded(end), "text": text, "words": list(map(_record, words))}
            self._put(("," if self.count > 1 else "") + "\n" + json_line(record, "the segment"))
        elif self.format == "srt":
            self._put(f"{self.count}\n{_times(start, end, ',')}\n{text}\n\n")
        else:
            escaped = re.sub("[&<>]", lambda match: {"&": "&amp;", "<": "&lt;", ">": "&gt;"}[match[0]], text)
            self._put(f"{_times(start, end, '.')}\n{escaped}\n\n")

    def _put(self, text: str) -> None:
        self.file.write(text)
        self.file.flush()


def timestamp(milliseconds: int, point: str = ".") -> str:
    """Return a time as hours, minutes, seconds and milliseconds.

    Args:
        milliseconds (int): The time.
        point (str): What separates seconds from milliseconds. Default: ``"."``.

    Example::

        >>> timestamp(3_723_004)
        '01:02:03.004'
    """
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


def _times(start: float, end: float, point: str) -> str:
    """Return the line with the times of a segment."""
    first = round(start * 1000)
    return f"{timestamp(first, point)} --> {timestamp(max(first + 1, round(end * 1000)), point)}"


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def _record(word: Word) -> dict[str, float | str]:
    return {
        "text": word.text, "start": _rounded(word.start), "end": _rounded(word.end),
        "confidence": round(word.confidence, 4),
    }  # fmt: skip
