"""Transcripts that are no tables: LJSpeech, LibriSpeech, Kaldi, and texts beside sounds."""

from __future__ import annotations

import logging
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from elman.data.folders import Tree
from elman.data.media_paths import SOUND, file_exists, folder_of, resolve
from elman.data.sound_tables import times_of
from elman.data.source import printable
from elman.data.tables import SkippedRows
from elman.data.text import one_line, wrong_text
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: The folder of the sounds in LJSpeech.
_WAVS = "wavs"
#: The end of the names of LibriSpeech's files, and its numbers of the speaker, the chapter and the sentence.
_LIBRI, _LIBRI_ID = ".trans.txt", re.compile(r"(\d+)-\d+-\d+")
#: Text files that come with data sets and are no transcripts.
_ABOUT = {"readme", "license", "licence", "copying", "changelog", "speakers", "chapters", "books", "authors"}
#: Lines by which the columns of LJSpeech are recognised.
_SAMPLE = 100


class Utterance(NamedTuple):
    """A sound, or a part of one, and what is said in it.

    Attributes:
        sound (str | bytes): What `elman.data.sounds.open_sound` takes: a path, a URL, a file in an archive, or the
            bytes of a file.
        text (str): The text as it is written in the data, on one line.
        place (str): The location of the text, for messages: ``corpus.tsv, row 3``.
        speaker (str): Who speaks; ``""`` if not known. Default: ``""``.
        start (float): Where the part begins, in seconds. Default: 0.
        end (float, optional): Where it ends, in seconds. Default: ``None``, at the end of the sound.
    """

    sound: Any
    text: str
    place: str
    speaker: str = ""
    start: float = 0.0
    end: float | None = None


def leave_out(source: str, problems: Sequence[str], skip_bad: bool) -> None:
    """Refuse a source for its problems, or log them if what is wrong is to be left out.

    Raises:
        ElmanError: There are problems, and ``skip_bad`` is false.
    """
    if problems and not skip_bad:
        raise ElmanError(f"{source}: {'; '.join(problems)}; --skip-bad leaves them out")
    for problem in problems:
        _log.warning("%s: %s; left out", source, problem)


def first_three(names: Sequence[str]) -> str:
    """Return the first three names, for a message that counts them."""
    return ", ".join(map(printable, names[:3])) + (", ..." if len(names) > 3 else "")


def is_libri(path: str) -> bool:
    """Return whether a path is that of LibriSpeech's transcripts of a chapter."""
    return path.lower().endswith(_LIBRI)


def read_libri(path: str, lines: Sequence[str], skipped: SkippedRows) -> list[Utterance]:
    """Read lines ``19-198-0000 TEXT``, whose sounds lie beside the file.

    Args:
        path (str): The path of the file.
        lines (Sequence[str]): Its lines.
        skipped (SkippedRows): Gets the lines without a text.
    """
    find, found = _finder(folder_of(path), [""]), _Found(skipped)
    for number, key, text in _keyed(lines):
        found.add(find(key), text, f"line {number}", _libri_speaker(key))
    return found.utterances


def is_barred(path: str, lines: Sequence[str]) -> bool:
    """Return whether lines are those of LJSpeech: ``name|text`` or ``name|text|text``, without names of columns.

    Args:
        path (str): The path of the file.
        lines (Sequence[str]): Its lines.
    """
    rows = [line.split("|") for line in lines if line.strip()][:_SAMPLE]
    if not rows or len(rows[0]) not in (2, 3) or 2 * sum(len(row) == len(rows[0]) for row in rows) < len(rows):
        return False
    find = _finder(folder_of(path), [_WAVS, ""])
    return len(rows) == 1 or file_exists(find(rows[0][0])) or not file_exists(find(rows[1][0]))


def read_barred(path: str, lines: Sequence[str], skipped: SkippedRows) -> list[Utterance]:
    """Read lines ``name|text``, ``name|text|text with numbers in words`` or ``name|speaker|text``.

    Args:
        path (str): The path of the file. The sounds lie beside it, or in the folder ``wavs`` beside it.
        lines (Sequence[str]): Its lines.
        skipped (SkippedRows): Gets the lines with other columns, or without a text.
    """
    rows = [(k, [cell.strip() for cell in line.split("|")]) for k, line in enumerate(lines, 1) if line.strip()]
    width, find, found = len(rows[0][1]), _finder(folder_of(path), [_WAVS, ""]), _Found(skipped)
    with_speakers = _second_are_speakers([cells for _, cells in rows if len(cells) == width == 3])
    if with_speakers:
        _log.warning("%s: the second of its three columns is read as speakers", printable(path))
    for number, cells in rows:
        place = f"line {number}"
        if len(cells) != width:
            skipped.add(place, f"{len(cells)} cells with | between them, where the first line has {width}")
        elif not cells[0]:
            skipped.add(place, "the name of the sound is empty")
        elif with_speakers:
            found.add(find(cells[0]), cells[2], place, cells[1])
        else:
            found.add(find(cells[0]), cells[-1] or cells[1], place)
    return found.utterances


def has_texts_beside(tree: Tree) -> bool:
    """Return whether a folder has a ``.txt`` beside a sound, or a ``.trans.txt``."""
    sounds = {_stem(name) for name in tree.names if SOUND.has(name)}
    return any(is_libri(name) or _stem(name) in sounds for name in tree.names if name.lower().endswith(".txt"))


def read_beside(tree: Tree, skipped: SkippedRows) -> list[Utterance]:
    """Read the sounds of a folder, each with a ``.txt`` beside it or a line of a ``.trans.txt`` in the same folder.

    Args:
        tree (Tree): The folder.
        skipped (SkippedRows): Gets empty and repeated texts.

    Returns:
        list[Utterance]: In alphabetical order of the files with the texts.

    Raises:
        ElmanError: Some sounds have no text, or some texts no sound, and they are not to be left out.
    """
    sounds: dict[str, list[str]] = {}
    for name in tree.names:
        if name.lower().endswith((*SOUND.endings, *SOUND.unreadable)):
            sounds.setdefault(_stem(name), []).append(name)
    files = [name for name in tree.names if name.lower().endswith(".txt")]
    found, seen, without_sound = _Found(skipped, tree.at), set(), []
    for key, text, place, speaker in _texts_of(tree, files, sounds):
        if key in seen:
            skipped.add(place, f"a second text of {printable(posixpath.basename(key))}")
        elif key not in sounds:
            without_sound.append(place)
        elif len(sounds[key]) > 1:
            skipped.add(place, f"several sounds have this name: {first_three(sounds[key])}")
        else:
            found.add(tree.at(sounds[key][0]), text, place, speaker)
        seen.add(key)
    without_text = [names[0] for key, names in sounds.items() if key not in seen]
    _check_pairs(tree, without_text, without_sound, skipped)
    return found.utterances


def is_kaldi(tree: Tree) -> bool:
    """Return whether a folder is one of Kaldi."""
    return any(posixpath.basename(name) == "wav.scp" for name in tree.top)


def read_kaldi(tree: Tree, skipped: SkippedRows) -> list[Utterance]:
    """Read a folder of Kaldi: ``wav.scp``, ``text``, and perhaps ``segments`` and ``utt2spk``.

    Args:
        tree (Tree): The folder. Paths in it are relative to it, to one of the folders around it, or to the working
            directory: to the first one in which the first path leads to a file.
        skipped (SkippedRows): Gets commands, which are not run, and wrong lines.

    Raises:
        ElmanError: A file is missing, a recording is a command, or texts and sounds have different names, and these
            are not to be left out.
    """
    recordings, texts = _kaldi_file(tree, "wav.scp", skipped), _kaldi_file(tree, "text", skipped)
    segments, speakers = _kaldi_file(tree, "segments", skipped), _kaldi_file(tree, "utt2spk", skipped)
    if recordings is None or texts is None:
        raise ElmanError(f"{tree.shown}: has no file 'text', which belongs to 'wav.scp'")
    named = {}
    for key, (given, place) in recordings.items():
        if given.endswith("|"):
            skipped.add(place, f"{given[:60]!r} is a command, which is not run; write its output to a file and name it")
        elif not given or re.search(r"\.ark:\d+$", given):
            skipped.add(place, f"{given[:60]!r} is not the path of a sound file")
        else:
            named[key] = given
    paths = dict(zip(named, resolve(list(named.values()), _kaldi_base(tree, named.values())), strict=True))
    parts = {key: (key, 0.0, None) for key in recordings} if segments is None else _kaldi_parts(segments, skipped)
    found, without_sound = _Found(skipped, tree.at), []
    for key, (text, place) in texts.items():
        recording, start, end = parts.get(key, ("", 0.0, None))
        if recording not in paths:
            without_sound.append(f"{key} ({place})")
        elif speakers is not None and key not in speakers:
            skipped.add(place, f"{key} has no speaker in utt2spk")
        else:
            who = speakers[key][0] if speakers is not None else ""
            found.add(paths[recording], text, place, who, start, end)
    unused = set(recordings) - {recording for recording, _, _ in parts.values()}
    without_text = [f"{key} (wav.scp)" for key in recordings if key in unused]
    _check_pairs(tree, [key for key in parts if key not in texts] + without_text, without_sound, skipped)
    return found.utterances


class _Found:
    """The utterances of a source; those without a text are bad rows.

    Args:
        skipped (SkippedRows): Gets the rows without a text.
        at (Callable, optional): Returns the path of a file in the source, to which the places are relative. Default:
            the source is one file.
    """

    def __init__(self, skipped: SkippedRows, at: Callable[[str], str] | None = None) -> None:
        self.utterances: list[Utterance] = []
        self._skipped, self._at = skipped, at or (lambda place: f"{skipped.source}, {place}")

    def add(
        self, sound: str, text: str, place: str, speaker: str = "", start: float = 0.0, end: float | None = None
    ) -> None:
        if reason := wrong_text(text):
            self._skipped.add(place, reason)
        else:
            self.utterances.append(Utterance(sound, one_line(text), printable(self._at(place)), speaker, start, end))


def _texts_of(tree: Tree, files: Sequence[str], sounds: Collection[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the stem of the sound, the text, its location and the speaker of each text in the files of a folder."""
    for name in files:
        if is_libri(name):
            for number, key, text in _keyed(tree.lines(name)):
                stem = _form(posixpath.join(posixpath.dirname(name), key))
                yield stem, text, f"{name}, line {number}", _libri_speaker(key)
        elif (stem := _stem(name)) in sounds or posixpath.basename(stem).lower() not in _ABOUT:
            yield stem, " ".join(tree.lines(name)), name, ""


def _check_pairs(tree: Tree, without_text: Sequence[str], without_sound: Sequence[str], skipped: SkippedRows) -> None:
    problems = []
    for names, one, several in (
        (without_text, "sound has no text", "sounds have no text"),
        (without_sound, "text has no sound", "texts have no sound"),
    ):
        if names:
            problems.append(f"{len(names):,} {one if len(names) == 1 else several}: {first_three(names)}")
    leave_out(tree.shown, problems, bool(skipped.skip))


def _kaldi_file(tree: Tree, base: str, skipped: SkippedRows) -> dict[str, tuple[str, str]] | None:
    """Return the rest of each line by its first word, with its location; None if there is no such file."""
    name = next((name for name in tree.top if posixpath.basename(name) == base), None)
    if name is None:
        return None
    result: dict[str, tuple[str, str]] = {}
    for number, key, rest in _keyed(tree.lines(name)):
        place = f"{name}, line {number}"
        if key in result:
            skipped.add(place, f"{key} is also on another line")
        else:
            result[key] = (rest, place)
    return result


def _kaldi_parts(
    segments: Mapping[str, tuple[str, str]], skipped: SkippedRows
) -> dict[str, tuple[str, float, float | None]]:
    """Return the recording, the start and the end of each utterance."""
    result = {}
    for key, (rest, place) in segments.items():
        cells = rest.split()
        try:
            if len(cells) != 3:
                raise ElmanError("an utterance, a recording, a start and an end are required")
            result[key] = (cells[0], *times_of(cells[1], "" if cells[2].startswith("-1") else cells[2]))
        except ElmanError as error:
            skipped.add(place, str(error))
    return result


def _kaldi_base(tree: Tree, paths: Iterable[str]) -> str:
    """Return the folder to which the paths of a folder of Kaldi are relative."""
    folder = tree.at(posixpath.dirname(tree.top[0]))
    first = next((path for path in paths if not os.path.isabs(path) and "://" not in path), None)
    if first is None or not os.path.isdir(folder):
        return folder
    around = [folder, *map(str, Path(folder).resolve().parents), os.getcwd()]
    return next((base for base in around if file_exists(os.path.join(base, first))), folder)


def _second_are_speakers(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the second of three columns has speakers: single words, of which some are repeated."""
    second = [row[1] for row in rows]
    words = all(cell and len(cell.split()) == 1 for cell in second)
    return words and len(set(second)) < len(second) and all(row[1].lower() != row[2].lower() for row in rows)


def _finder(folder: str, inside: Sequence[str]) -> Callable[[str], str]:
    """Return a function that returns the path of a sound, which is named with or without its ending.

    Args:
        folder (str): The folder of the file that names the sounds.
        inside (Sequence[str]): The folders in it where they may lie.
    """
    forms = [(posixpath.join(folder, name) if name else folder, end) for end in SOUND.endings for name in inside]

    def find(name: str) -> str:
        whole = name.lower().endswith(SOUND.endings)
        for form in forms:
            path = resolve([name if whole else f"{name}{form[1]}"], form[0])[0]
            if file_exists(path):
                forms.insert(0, forms.pop(forms.index(form)))  # the next one is likely to be alike
                return path
        return resolve([name if whole else f"{name}{forms[0][1]}"], forms[0][0])[0]

    return find


def _keyed(lines: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield the number, the first word and the rest of each line that is not blank."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            key, *rest = line.split(None, 1)
            yield number, key, rest[0].strip() if rest else ""


def _libri_speaker(key: str) -> str:
    match = _LIBRI_ID.fullmatch(key)
    return match[1] if match else ""


def _stem(name: str) -> str:
    return _form(posixpath.splitext(name)[0])


def _form(name: str) -> str:
    """Return a name in the normal form of Unicode, in which the same letters are the same."""
    return unicodedata.normalize("NFC", name)
