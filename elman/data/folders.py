"""The files of a folder or an archive."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from typing import final

from elman.data.archive import is_archive, split_member
from elman.data.encoding import decode_utf8
from elman.data.media_paths import Kind
from elman.data.members import open_members
from elman.data.source import InMemory, files_below, local_path, printable
from elman.data.text import read_bytes


@final
class Tree:
    """The files of a folder with its subfolders, or of an archive.

    Args:
        path (str): The path of the folder or the archive.
        names (Sequence[str]): The paths of the files in it, with slashes.
        in_archive (bool): Whether it is an archive.

    Attributes:
        shown (str): The path, for messages.
        top (list[str]): The names of the files in the outermost folder that does not only contain one folder.
    """

    def __init__(self, path: str, names: Sequence[str], in_archive: bool) -> None:
        self.path, self.names, self._in_archive, self.shown = path, list(names), in_archive, printable(path)
        folders = [posixpath.join("/", posixpath.dirname(name)) for name in names]
        outermost = posixpath.commonpath(folders) if folders else ""
        self.top = [name for name, folder in zip(names, folders, strict=True) if folder == outermost]

    def named(self, base: str) -> list[str]:
        """Return the names of the files with this base name."""
        return [name for name in self.names if posixpath.basename(name) == base]

    def at(self, name: str) -> str:
        """Return the path of a file or a folder in it."""
        if self._in_archive:
            return f"{self.path}::{name}" if name else self.path
        return os.path.join(self.path, name) if name else self.path

    def lines(self, name: str) -> list[str]:
        """Return the lines of a text file; none if it is empty.

        Raises:
            ElmanError: The file cannot be read, or is not UTF-8.
        """
        data = open_members(self.path).read(name) if self._in_archive else read_bytes(self.at(name))
        text = decode_utf8(data, printable(self.at(name))) if data.strip() else ""
        return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def tree_of(path: str, kind: Kind) -> Tree | None:
    """Return the files of a folder, or of an archive with files of a kind; None for any other path.

    Args:
        path (str): A path, a URL or an in-memory source.
        kind (Kind): What an archive must contain.

    Raises:
        ElmanError: The folder or the archive cannot be read.
    """
    if isinstance(path, InMemory):
        return None
    local = local_path(path)
    if local is not None and os.path.isdir(local):
        return Tree(local, [name.replace(os.sep, "/") for name in files_below(local)], False)
    if not is_archive(path) or split_member(path)[1] is not None:
        return None
    names = open_members(path).names
    return Tree(path, names, True) if any(map(kind.has, names)) else None
