"""Sounds with what is said in them: tables, LJSpeech, Common Voice, LibriSpeech, Kaldi, and texts beside sounds."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from elman.data.archive import name_inside, table_in_memory
from elman.data.folders import Tree, tree_of
from elman.data.media_paths import SOUND, file_exists, hint_for
from elman.data.records import column
from elman.data.sound_tables import COMMON_VOICE, PartColumns, is_common_voice, parts_of, row_place
from elman.data.source import InMemory, printable, sources
from elman.data.tables import SEPARATED, TABLES, SkippedRows, is_table, read_rows, require_columns
from elman.data.text import one_line, read_text, wrong_text
from elman.data.transcript_formats import (
    Utterance,
    first_three,
    has_texts_beside,
    is_barred,
    is_kaldi,
    is_libri,
    leave_out,
    read_barred,
    read_beside,
    read_kaldi,
    read_libri,
)
from elman.errors import ElmanError

_log = logging.getLogger("elman")

_FORMATS = (
    "a table with the columns of sounds and texts (.csv, .tsv, .jsonl, .parquet, ...), lines 'name|text' (LJSpeech), "
    "a .tsv of Common Voice, a folder with .trans.txt files (LibriSpeech) or with a .txt beside each sound, or a "
    "folder with wav.scp and text (Kaldi)"
)
#: Endings of tables that are not read line by line.
_NO_LINES = tuple(ending for ending in TABLES if ending not in SEPARATED)
#: Speakers and texts are compared in this many rows or more; shares of different cells by which they are told apart.
_MIN_COMPARED, _FEW, _MOST = 8, 0.5, 0.9


class Transcripts(NamedTuple):
    """What is said in sounds.

    Attributes:
        utterances (list[Utterance]): One for each text, in the order of the data.
        tables (bool): Whether some come from tables, whose columns have names.
    """

    utterances: list[Utterance]
    tables: bool


class _Columns(NamedTuple):
    """The columns of tables."""

    parts: PartColumns
    text: str
    speaker: str | None

    def required(self) -> dict[str, str]:
        speaker = {} if self.speaker is None else {"speaker": self.speaker}
        return self.parts.required() | {"text": self.text} | speaker


def read_transcripts(
    data: Any,
    audio: str = "audio",
    text: str = "text",
    speaker: str | None = None,
    start: str = "start",
    end: str = "end",
    skip_bad: bool = False,
) -> Transcripts:
    """Read which sounds there are and what is said in them. The sounds are not decoded.

    The content decides on the format:

    - A table (.csv, .tsv, .jsonl, .xlsx, .parquet, ..., or in memory) with a sound, a text, and perhaps a speaker, a
      start and an end in each row. Sounds are paths relative to the table, bytes, records ``{"bytes", "path"}`` or
      ``{"array", "sampling_rate"}``, or `elman.data.sounds.Wave`.
    - A ``.tsv`` of Common Voice, with the sounds in the folder ``clips`` beside it.
    - Lines ``name|text`` or ``name|text|text with numbers in words``, as in LJSpeech's ``metadata.csv``, with the
      sounds beside it or in the folder ``wavs``. Of the texts, the last one is taken. In ``name|speaker|text`` the
      second column has few different cells.
    - A folder or an archive with ``.trans.txt`` files, as LibriSpeech has, or with a ``.txt`` beside each sound, also
      in subfolders. Other texts are left out if they are called ``README``, ``LICENSE`` or the like.
    - A folder of Kaldi with ``wav.scp``, ``text``, and perhaps ``segments`` and ``utt2spk``.
    - A folder or an archive with one table.

    Args:
        data: Paths or data in memory; see `elman.data.source.sources`.
        audio (str): The column of the sounds in tables. Default: ``"audio"``.
        text (str): The column of the texts in tables. Default: ``"text"``.
        speaker (str, optional): The column of the speakers in tables. Default: ``None``, ``speaker`` if there is one.
        start (str): The column of the starts in tables, in seconds. Default: ``"start"``, which may be missing.
        end (str): The column of the ends in tables, in seconds. Default: ``"end"``, which may be missing.
        skip_bad (bool): Whether to leave out, and count in the log, rows that cannot be used, sounds without a text,
            and texts without a sound. Default: ``False``, they are errors.

    Raises:
        ElmanError: The data have another format or no transcripts; a text is empty, a time is wrong, or a sound does
            not exist.

    Example::

        >>> read_transcripts("corpus.tsv").utterances[0]  # doctest: +SKIP
        Utterance(sound='wavs/a.wav', text='Good morning.', place='corpus.tsv, row 1', speaker='', start=0.0, end=None)
    """
    columns = _Columns(PartColumns(audio, start, end), text, speaker)
    utterances: list[Utterance] = []
    tables = False
    given = sources(data)
    if not given:
        raise ElmanError("no data: give one file or more")
    for path in given:
        found, from_table = _read(path, columns, skip_bad)
        if not found:
            raise ElmanError(f"{printable(path)}: no transcripts; give {_FORMATS}")
        utterances += _existing(found, printable(path), skip_bad)
        tables |= from_table
    return Transcripts(utterances, tables)


def _read(path: str, columns: _Columns, skip_bad: bool) -> tuple[list[Utterance], bool]:
    """Return the utterances of a source, and whether it is a table."""
    tree = tree_of(path, SOUND)
    table = None if tree is None else _only_table(tree)
    if table is not None:
        return _read(table, columns, skip_bad)
    skipped = SkippedRows(path, skip_bad)
    lines = None if tree is not None else _lines_of(path, columns)
    if tree is not None:
        found = read_kaldi(tree, skipped) if is_kaldi(tree) else read_beside(tree, skipped)
    elif lines is None:
        found = _read_table(path, columns, skipped)
    else:
        found = read_libri(path, lines, skipped) if is_libri(path) else read_barred(path, lines, skipped)
    skipped.log(len(found))
    return found, tree is None and lines is None


def _only_table(tree: Tree) -> str | None:
    """Return the path of the only table of a folder or an archive; None if it has another format.

    Raises:
        ElmanError: It contains several folders of Kaldi, several tables, or nothing that can be read.
    """
    tables = [name for name in tree.top if name.lower().endswith(TABLES)]
    if is_kaldi(tree):
        return None
    if folders := tree.named("wav.scp"):
        raise ElmanError(f"{tree.shown}: contains {len(folders)} folders of Kaldi; {_choose(tree, folders)}")
    if has_texts_beside(tree):
        if tables:
            _log.warning("%s: the texts beside the sounds are read, not %s", tree.shown, printable(tables[0]))
        return None
    if len(tables) > 1:
        raise ElmanError(f"{tree.shown}: contains {len(tables)} tables; {_choose(tree, tables)}")
    if not tables:
        what = "no texts beside its sounds" if any(map(SOUND.has, tree.names)) else "no sounds"
        raise ElmanError(f"{tree.shown}: contains {what}; give {_FORMATS}")
    return tree.at(tables[0])


def _choose(tree: Tree, names: Sequence[str]) -> str:
    """Return how to give some of several files or folders, as the end of a message."""
    places = [tree.at(name.removesuffix("wav.scp").rstrip("/")) for name in names]
    more = ", ..." if len(places) > 3 else ""
    return f"give one or several of {', '.join(map(printable, places[:3]))}{more}"


def _lines_of(path: str, columns: _Columns) -> list[str] | None:
    """Return the lines of a file of LibriSpeech or LJSpeech; None for a table.

    Raises:
        ElmanError: The file cannot be read, or is neither.
    """
    if table_in_memory(path) is not None:
        return None
    if is_libri(path):
        return read_text(path).split("\n")
    names = [columns.parts.audio, columns.text]
    if is_table(path, names) if isinstance(path, InMemory) else name_inside(path).lower().endswith(_NO_LINES):
        return None
    lines = read_text(path).split("\n")
    cells = [cell.strip(' "') for cell in re.split(r"[\t,;|]", next(line for line in lines if line.strip()))]
    if set(names) <= set(cells) or is_common_voice(cells, columns.parts.audio):
        return None
    if is_barred(path, lines):
        return lines
    if is_table(path):
        return None
    raise ElmanError(f"{printable(path)}: not transcripts in a known format; give {_FORMATS}")


def _read_table(path: str, columns: _Columns, skipped: SkippedRows) -> list[Utterance]:
    """Read a table with a sound and a text in each row."""
    shown, held = printable(path), table_in_memory(path)
    if isinstance(path, InMemory) and path.positional and held is not None and held.width == 3:
        columns = columns._replace(speaker=columns.speaker or "speaker")
    ordered = isinstance(path, InMemory) and path.positional
    rows = read_rows(path, columns.required() if ordered else None, skipped)
    table = rows.table
    if is_common_voice(table.columns, columns.parts.audio):
        _, sentence, client = COMMON_VOICE
        columns = columns._replace(
            text=columns.text if columns.text != "text" else sentence,
            speaker=columns.speaker or (client if client in table.columns else None),
        )
        require_columns(table, shown, {k: v for k, v in columns.required().items() if k != "audio"})
    else:
        require_columns(table, shown, columns.required())
    speaker = columns.speaker or ("speaker" if "speaker" in table.columns else None)
    texts = column(table, columns.text, shown)
    speakers = column(table, speaker, shown) if speaker else [""] * len(table)
    result = []
    parts = parts_of(rows, path, columns.parts, skipped)
    for row, (part, said, who) in enumerate(zip(parts, texts, speakers, strict=True), 1):
        if part is None:
            continue
        if reason := wrong_text(said):
            skipped.add(row_place(rows, row), reason)
        else:
            place = f"{shown}, row {row}"
            result.append(Utterance(part.sound, one_line(said), place, one_line(who), part.start, part.end))
    if speaker:
        _warn_of_confused(shown, columns.text, texts, speaker, speakers)
    return result


def _existing(found: list[Utterance], shown: str, skip_bad: bool) -> list[Utterance]:
    """Return the utterances whose sounds exist.

    Raises:
        ElmanError: All are missing, or some, and they are not to be left out. The message has the first three and the
            number.
    """
    places: dict[str, str] = {}
    for one in found:
        if isinstance(one.sound, str):
            places.setdefault(one.sound, one.place)
    missing = {path: place for path, place in places.items() if not file_exists(path)}
    if not missing:
        return found
    first = next(iter(missing))
    names = [
        f"{path} ({place.removeprefix(f'{shown}, ')}{', a folder' if os.path.isdir(path) else ''})"
        for path, place in missing.items()
    ]
    what = f"sound{'s'[: len(places) > 1]} {'does' if len(missing) == 1 else 'do'} not exist"
    problem = f"{len(missing):,} of {len(places):,} {what}: {first_three(names)}{hint_for(first, True, SOUND)}"
    if len(missing) == len(places):
        raise ElmanError(f"{shown}: {problem}")
    leave_out(shown, [problem], skip_bad)
    return [one for one in found if one.sound not in missing]


def _warn_of_confused(shown: str, text: str, texts: Sequence[str], speaker: str, speakers: Sequence[str]) -> None:
    """Log that the columns of texts and speakers seem to be confused."""
    few, most = len(set(texts)), len(set(speakers))
    shorter = sum(len(x.split()) for x in texts) < sum(len(x.split()) for x in speakers)
    if len(texts) >= _MIN_COMPARED and few <= _FEW * len(texts) and most >= _MOST * len(texts) and shorter:
        _log.warning(
            "%s: texts and speakers seem to be confused: %r has %d different texts in %d rows, and %r %d different "
            "speakers; did you mean --text %s --speaker %s?",
            shown, text, few, len(texts), speaker, most, shlex.quote(speaker), shlex.quote(text),
        )  # fmt: skip


__all__ = ["Transcripts", "Utterance", "read_transcripts"]
