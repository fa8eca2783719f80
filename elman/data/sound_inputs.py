"""Find the sounds that an argument of the command line stands for."""

from __future__ import annotations

from typing import Any

from elman.data.inputs import InputFile, InputTable
from elman.data.media_inputs import LISTS, files_in, lines_in
from elman.data.media_paths import SOUND
from elman.data.sound_tables import Part, PartColumns, is_common_voice, parts_of
from elman.data.source import expand_home
from elman.data.tables import SkippedRows, is_table, read_rows, require_columns


def sounds_in(
    argument: str,
    audio: str = "audio",
    start: str | None = "start",
    end: str | None = "end",
    skip_bad: bool = False,
) -> InputFile | None:
    """Return the sounds that an argument of the command line names, if it does not name a single one.

    Args:
        argument (str): A folder, whose sounds and those of its subfolders are taken in alphabetical order; an archive;
            a pattern such as ``calls/*.wav``; a table with a column of sounds, or of Common Voice; or a text file with
            a path on each line.
        audio (str): The column of the sounds in tables. Default: ``"audio"``.
        start (str, optional): The column of the starts in tables, in seconds; ``None``: parts are not read. Default:
            ``"start"``, which may be missing.
        end (str, optional): The column of the ends in tables, in seconds. Default: ``"end"``, which may be missing.
        skip_bad (bool): Whether to skip rows that cannot be read and to log their number. Default: ``False``.

    Returns:
        InputFile | None: The paths or bytes of the sounds, which may not be readable, or an
        `elman.data.sound_tables.Part` where a row names a part of a sound; None for a single sound.

    Raises:
        ElmanError: There is no sound, the file cannot be read, a time is wrong, or a column is missing.
    """
    path = argument if "://" in argument else expand_home(argument)
    several = files_in(path, argument, SOUND)
    if several is not None or path.lower().endswith((*SOUND.endings, *SOUND.unreadable)):
        return several
    if is_table(path, [audio]):
        return _in_table(path, argument, PartColumns(audio, start, end), SkippedRows(path, skip_bad or None))
    return lines_in(path, argument) if path.lower().endswith(LISTS) else None


def _in_table(path: str, argument: str, columns: PartColumns, skipped: SkippedRows) -> InputFile:
    """Return the sounds of a table."""
    rows = read_rows(path, None, skipped)
    if not is_common_voice(rows.table.columns, columns.audio):
        require_columns(rows.table, argument, list(columns.required().values()))
    parts = parts_of(rows, path, columns, skipped)
    kept = [k for k, part in enumerate(parts) if part is not None]
    skipped.log(len(kept))
    places = [f"{argument}, row {k + 1}" for k in kept]
    found = [part for part in parts if part is not None]
    names = [part.sound if isinstance(part.sound, str) else place for part, place in zip(found, places, strict=True)]
    inputs: list[Any] = [part.sound if part == Part(part.sound) else part for part in found]
    return InputTable(argument, rows.table[kept], inputs, names, places)
