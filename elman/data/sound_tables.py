"""Sounds in the columns of tables: paths, bytes, arrays, and parts of files."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from elman.data.media_paths import SOUND, FileInMemory, file_column, folder_of, resolve
from elman.data.records import column
from elman.data.separated import Rows
from elman.data.sounds import LOUDEST, RATES, Wave, wav_bytes
from elman.data.source import printable
from elman.data.tables import SkippedRows
from elman.errors import ElmanError

#: The columns of Common Voice with the sound, the text and the speaker, and the folder of the sounds.
COMMON_VOICE, CLIPS = ("path", "sentence", "client_id"), "clips"


class Part(NamedTuple):
    """A sound, or a part of one.

    Attributes:
        sound (str | bytes): What `elman.data.sounds.open_sound` takes.
        start (float): Where the part begins, in seconds. Default: 0.
        end (float, optional): Where it ends, in seconds. Default: ``None``, at the end of the sound.
    """

    sound: str | bytes
    start: float = 0.0
    end: float | None = None


class PartColumns(NamedTuple):
    """The columns of tables that name sounds.

    Attributes:
        audio (str): The column of the sounds.
        start (str, optional): The column of the starts. Default: ``"start"``, which may be missing.
        end (str, optional): The column of the ends. Default: ``"end"``, which may be missing.
    """

    audio: str = "audio"
    start: str | None = "start"
    end: str | None = "end"

    def required(self) -> dict[str, str]:
        """Return the columns that a table must have, by the options that name them."""
        times = {"start": self.start, "end": self.end}
        return {"audio": self.audio} | {name: value for name, value in times.items() if value and value != name}


def is_common_voice(names: Sequence[str], audio: str) -> bool:
    """Return whether the columns of a table are those of Common Voice and not the default ones."""
    return audio == "audio" and audio not in names and {*COMMON_VOICE[:2]} <= set(names)


def parts_of(rows: Rows, path: str, columns: PartColumns, skipped: SkippedRows) -> list[Part | None]:
    """Return the sounds that the rows of a table name.

    Args:
        rows (Rows): The table.
        path (str): Its path, to which the paths in it are relative.
        columns (PartColumns): Its columns.
        skipped (SkippedRows): Gets the rows without a sound, or with wrong times.

    Returns:
        list[Part | None]: One for each row; None where it was skipped. The sounds are not opened.

    Raises:
        ElmanError: A row is wrong, and is not to be skipped.
    """
    table, shown = rows.table, printable(path)
    beside = folder_of(path)
    if is_common_voice(table.columns, columns.audio):
        columns, beside = columns._replace(audio=COMMON_VOICE[0]), posixpath.join(beside, CLIPS)
    names = file_column(table, columns.audio, shown, SOUND)
    starts, ends = (
        column(table, name, shown) if name is not None and name in table.columns else [""] * len(table)
        for name in (columns.start, columns.end)
    )
    result: list[Part | None] = []
    for row, (name, found, start, end) in enumerate(zip(names, resolve(names, beside), starts, ends, strict=True), 1):
        try:
            if not name.strip():
                raise ElmanError(f"the cell of {columns.audio!r} is empty")
            times = times_of(start, end, columns.start or "", columns.end or "")
            result.append(Part(_content(name.content) if isinstance(name, FileInMemory) else found, *times))
        except ElmanError as error:
            skipped.add(row_place(rows, row), str(error))
            result.append(None)
    return result


def row_place(rows: Rows, row: int) -> str:
    """Return the location of a row, from 1, with the line of the file where it is known."""
    line = rows.lines[row - 1]
    return f"row {row} (line {line})" if line else f"row {row}"


def times_of(start: str, end: str, start_name: str = "start", end_name: str = "end") -> tuple[float, float | None]:
    """Return the start and the end of a part of a sound, in seconds.

    Args:
        start (str): The start; ``""`` for 0.
        end (str): The end; ``""`` for the end of the sound.
        start_name (str): The name of the start in messages. Default: ``"start"``.
        end_name (str): The name of the end in messages. Default: ``"end"``.

    Raises:
        ElmanError: One is no number or negative, or the end is not after the start.

    Example::

        >>> times_of("0.5", "")
        (0.5, None)
    """
    values: list[float | None] = []
    for name, cell in ((start_name, start.strip()), (end_name, end.strip())):
        try:
            value = float(cell) if cell else None
        except ValueError:
            value = math.nan
        if value is not None and not 0 <= value < math.inf:
            raise ElmanError(f"{name!r} is {cell!r}; a number of seconds, 0 or more, is required")
        values.append(value)
    first, last = values[0] or 0.0, values[1]
    if last is not None and last <= first:
        raise ElmanError(f"{start_name!r} is {first:g} and {end_name!r} is {last:g}; a part must end after its start")
    return first, last


def _content(given: Any) -> bytes:
    """Return a sound in memory as the bytes of a file."""
    if isinstance(given, (bytes, bytearray, memoryview)):
        return bytes(given)
    rate = given.get("sampling_rate") if isinstance(given, dict) else getattr(given, "rate", None)
    samples = given.get("array") if isinstance(given, dict) else getattr(given, "samples", given)
    if rate is None:
        raise ElmanError(
            f"a sound is {type(given).__name__} without a sampling rate; a path, the bytes of a file, a Wave or "
            "{'array': ..., 'sampling_rate': ...} is required"
        )
    try:
        wave, number = np.asarray(samples, dtype=np.float32), float(rate)
    except (TypeError, ValueError) as error:
        raise ElmanError(f"a sound cannot become an array of numbers: {error}") from None
    if not (number.is_integer() and int(number) in RATES):
        raise ElmanError(f"the sampling rate is {rate} Hz; whole numbers from {RATES[0]:,} to {RATES[-1]:,} are read")
    if wave.ndim != 1 or not wave.size:
        raise ElmanError(f"a sound has the shape {wave.shape}; an array (N,) is required")
    if not (np.abs(wave) <= LOUDEST).all():  # NaN compares as false
        raise ElmanError("a sound has samples that are NaN, infinite or enormous")
    return wav_bytes(Wave(wave, int(number)))
