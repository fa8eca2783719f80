"""Find pictures and sounds: beside a table, in a folder, or in an archive."""

from __future__ import annotations

import difflib
import os
import posixpath
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars

from elman.data import picture_formats, sound_formats
from elman.data.archive import is_archive, split_member
from elman.data.members import open_members
from elman.data.records import column
from elman.data.source import InMemory, expand_home, is_system_file, local_path, printable
from elman.errors import ElmanError

#: For hints: the maximum number of characters of a path, names in a folder to compare, and bytes of an archive.
_MAX_PATH, _MAX_COMPARED, _MAX_SEARCHED = 4096, 10_000, 1 << 31


class Kind(NamedTuple):
    """A kind of files that arguments, tables and folders name.

    Attributes:
        name (str): Its name.
        plural (str): Its name for several.
        endings (tuple[str, ...]): The endings of the names of such files.
        unreadable (tuple[str, ...]): The endings of such files in formats that cannot be read.
        option (str): The option that names the folder or archive of the files; ``""`` if there is none.
    """

    name: str
    plural: str
    endings: tuple[str, ...]
    unreadable: tuple[str, ...]
    option: str = ""

    def has(self, path: str) -> bool:
        """Return whether a path is that of such a file, by its name, and not a folder."""
        return path.lower().endswith(self.endings) and not os.path.isdir(path)


PICTURE = Kind("picture", "pictures", picture_formats.PICTURES, picture_formats.UNREADABLE, "--images")
SOUND = Kind("sound", "sounds", sound_formats.SOUNDS, sound_formats.UNREADABLE)


class FileInMemory(str):
    """A picture or a sound in memory, under a name that is used like a path in messages.

    Args:
        name (str): The name.
        content (Any): What `elman.data.pictures.open_picture` takes; of a sound, bytes or an array.
    """

    content: Any

    def __new__(cls, name: str, content: Any) -> FileInMemory:
        self = super().__new__(cls, name)
        self.content = content
        return self


def folder_of(source: str) -> str:
    """Return the folder of a table, relative to which its paths are; ``""`` for data in memory."""
    if isinstance(source, InMemory):
        return ""
    archive, member = split_member(source)
    if member is not None and is_archive(archive):
        return f"{archive}::{posixpath.dirname(member)}"
    if local_path(source) is None:
        return source.rpartition("/")[0]
    return os.path.dirname(local_path(source) or source)


def resolve(names: Sequence[str], beside: str, folder: str | None = None) -> list[str]:
    """Return the paths of files that a table names.

    Absolute paths, URLs and files in memory stay as they are.

    Args:
        names (Sequence[str]): The names in the table.
        beside (str): The folder of the table, to which the names are relative; see `folder_of`.
        folder (str, optional): A folder or an archive (``.zip``, ``.tar``, ...) to which the names are relative
            instead. In an archive, the base name is enough if only one file has it. Default: ``None``.

    Returns:
        list[str]: The paths, ``archive.tar::name`` in an archive. Whether they exist is not checked.

    Raises:
        ElmanError: The folder or the archive does not exist or cannot be read.

    Example::

        >>> resolve(["images/dog.jpg", "https://host/cat.jpg"], "animals")
        ['animals/images/dog.jpg', 'https://host/cat.jpg']
    """
    if folder is not None:
        folder = _checked_folder(folder)
    found: dict[str, str] = {}
    for name in names:
        if name not in found and not isinstance(name, FileInMemory):
            found[name] = _resolved(name, beside, folder)
    return [name if isinstance(name, FileInMemory) else found[name] for name in names]


def file_column(table: polars.DataFrame, name: str, path: str, kind: Kind = PICTURE) -> list[str]:
    """Return the pictures or sounds in a column of a table: paths, or files in memory.

    Args:
        table (polars.DataFrame): The table.
        name (str): The name of the column. Its cells are paths, bytes, records ``{"bytes": ..., "path": ...}`` or
            ``{"array": ..., "sampling_rate": ...}``, PIL images, arrays or `elman.data.sounds.Wave`.
        path (str): The path of the table, for messages.
        kind (Kind): What the files are. Default: pictures.

    Raises:
        ElmanError: The column contains lists.
    """
    cells = table[name]
    fields = {field.name for field in cells.dtype.fields} if isinstance(cells.dtype, polars.Struct) else set()
    if cells.dtype not in (polars.Object, polars.Binary) and not fields & {"bytes", "array"}:
        return column(table, name, path)
    files = []
    for k, cell in enumerate(cells.to_list(), 1):
        label = f"<{kind.name} of row {k}>"
        if isinstance(cell, dict) and cell.get("array") is None:
            label, cell = cell.get("path") or label, cell.get("bytes") or cell.get("path")
        files.append("" if cell is None else cell if isinstance(cell, str) else FileInMemory(label, cell))
    return files


def hint_for(path: str, listed: bool = True, kind: Kind = PICTURE) -> str:
    """Return where a missing file may be instead, as the end of a message; ``""`` if nothing is found.

    Args:
        path (str): The path.
        listed (bool): Whether a table or another file names it, so that the option of its kind can help. Default:
            ``True``.
        kind (Kind): What the file is. Default: a picture.
    """
    local = local_path(path)
    if local is None or "::" in path or len(local) > _MAX_PATH or os.path.isdir(local):
        return ""
    option = kind.option if listed else ""
    folder, base = os.path.split(local)
    nearest = _nearest(base, _entries(folder or "."), kind)
    if nearest is not None:
        return f"; did you mean {printable(os.path.join(folder, nearest))}?"
    existing = folder or "."
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing) or "."
    for around in dict.fromkeys((existing, os.path.dirname(os.path.abspath(existing)))):
        for name in _entries(around):
            place = os.path.normpath(os.path.join(around, name))
            if os.path.exists(os.path.join(place, base)):
                found = f"; {printable(os.path.join(place, base))} exists"
                return f"{found}: did you mean {option} {printable(place)}?" if option else found
            if _archive_has(place, base):
                found = f"; {printable(place)} has a file of this name"
                return f"{found}: did you mean {option} {printable(place)}?" if option else found
    missing = "" if os.path.isdir(folder or ".") else f"; there is no folder {printable(folder)}"
    return f"{missing}; {option} names another" if missing and option else missing


def file_exists(path: str) -> bool:
    """Return whether a path leads to a file, which may lie in an archive; True for a URL, which is not opened."""
    archive, member = split_member(path)
    local = local_path(archive)
    try:
        found = local is None or (os.path.exists(local) and not os.path.isdir(local))
    except ValueError:  # a zero byte
        return False
    return found and (member is None or open_members(archive).find(member) is not None)


def _nearest(name: str, names: list[str], kind: Kind) -> str | None:
    """Return the most similar name of a file: with other capitals, another ending, or spelled alike."""
    for candidate in names:
        if candidate.lower() == name.lower():
            return candidate
    for candidate in names:
        if os.path.splitext(candidate)[0].lower() == os.path.splitext(name)[0].lower() and kind.has(candidate):
            return candidate
    files = [candidate for candidate in names if kind.has(candidate)] if len(names) <= _MAX_COMPARED else []
    return next(iter(difflib.get_close_matches(name, files, n=1, cutoff=0.9)), None)


def _checked_folder(folder: str) -> str:
    """Return the folder or archive of ``--images``, which must exist."""
    folder = os.fspath(folder)
    folder = folder if "://" in folder else expand_home(folder)
    local = local_path(folder)
    if is_archive(folder) and not (local is not None and os.path.isdir(local)):
        open_members(folder)
    elif local is not None and not os.path.isdir(local):
        is_file = os.path.exists(local)
        reason = "a folder or an archive (.zip, .tar, ...) is required" if is_file else "no such folder or archive"
        raise ElmanError(f"--images {printable(folder)}: {reason}")
    return folder


def _resolved(name: str, beside: str, folder: str | None) -> str:
    if not name.strip() or "://" in name:
        return name
    name = expand_home(name.strip())
    is_whole = os.path.isabs(name) or (split_member(name)[1] is not None and os.path.exists(name.partition("::")[0]))
    if is_whole and (folder is None or _exists(name)):
        return name
    if folder is None:
        return _joined(beside, name)
    if os.path.isdir(folder) or not is_archive(folder):
        full = name if is_whole else _joined(folder, name)
        base = _joined(folder, posixpath.basename(name.replace("\\", "/")))
        return base if not _exists(full) and _exists(base) else full
    return f"{folder}::{open_members(folder).find(name) or name}"


def _joined(folder: str, name: str) -> str:
    """Return a path in a folder, which may be a URL or lie in an archive."""
    archive, inside, inner = folder.partition("::")
    if inside and is_archive(archive):
        found = open_members(archive).find(posixpath.join(inner, name))
        if found is not None:
            return f"{archive}::{found}"
        return _joined(os.path.dirname(archive), name)
    if local_path(folder) is None:
        return f"{folder.rstrip('/')}/{name}"
    path = os.path.join(local_path(folder) or "", os.path.normpath(name)) if folder else os.path.normpath(name)
    if os.path.exists(path):
        return path
    forms = [unicodedata.normalize(form, path) for form in ("NFC", "NFD")]
    return next((form for form in (*forms, path.replace("\\", "/")) if os.path.exists(form)), path)


def _exists(path: str) -> bool:
    local = local_path(path)
    return local is None or os.path.exists(local)


def _entries(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not is_system_file(name))
    except OSError:
        return []


def _archive_has(path: str, name: str) -> bool:
    """Return whether an archive that is quickly opened has a file."""
    try:
        if not path.lower().endswith((".tar", ".zip")) or os.path.getsize(path) > _MAX_SEARCHED:
            return False
        return open_members(path).find(name) is not None
    except (ElmanError, OSError):
        return False
