"""Find the files of one kind, pictures or sounds, that an argument of the command line stands for."""

from __future__ import annotations

import glob
import logging
import os

from elman.data.archive import is_archive, split_member
from elman.data.inputs import InputLines
from elman.data.media_paths import Kind, folder_of, resolve
from elman.data.members import open_members
from elman.data.source import files_below, local_path, printable
from elman.data.text import read_text
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: Endings of text files with a path on each line.
LISTS = (".txt", ".text", ".lst", ".list")


def files_in(path: str, argument: str, kind: Kind) -> InputLines | None:
    """Return the files of a kind in a folder, in an archive, or that a pattern such as ``photos/*.jpg`` stands for.

    Args:
        path (str): The folder with its subfolders, the archive or the pattern, whose ``~`` is expanded.
        argument (str): The same as the user wrote it, for messages.
        kind (Kind): What the files are.

    Returns:
        InputLines | None: The paths in alphabetical order; None for anything else, such as a single file.

    Raises:
        ElmanError: There is no such file, or the folder or archive cannot be read.
    """
    local = local_path(path)
    if local is not None and os.path.isdir(local):
        found = [os.path.join(local, name) for name in files_below(local)]
        left_out = [name for name in found if name.lower().endswith(kind.unreadable)]
        if left_out:
            _log.warning(
                "%s: left out %d files of formats that cannot be read, such as %s", printable(local), len(left_out),
                printable(os.path.relpath(left_out[0], local)),
            )  # fmt: skip
    elif split_member(path)[1] is None and is_archive(path):
        found = [f"{path}::{name}" for name in open_members(path).names]
    elif local is not None and not os.path.lexists(local) and glob.has_magic(local):
        found = sorted(glob.glob(local, recursive=True))
    else:
        return None
    paths = [name for name in found if kind.has(name)]
    if not paths:
        raise ElmanError(f"{argument}: no {kind.plural} ({', '.join(kind.endings[:6])}, ...)")
    return InputLines(paths, [printable(name) for name in paths])


def lines_in(path: str, argument: str, folder: str | None = None) -> InputLines:
    """Return the files that a text file names, one on each line; what follows a tab is kept as it is.

    Args:
        path (str): The text file.
        argument (str): The same as the user wrote it, for messages.
        folder (str, optional): The folder or archive to which the paths are relative. Default: ``None``, the folder of
            the text file.

    Raises:
        ElmanError: The text file or the folder cannot be read.
    """
    parts = [line.partition("\t") for line in read_text(path).removesuffix("\n").split("\n")]
    paths = resolve([name.strip() for name, _, _ in parts], folder_of(path), folder)
    inputs = [f"{name}{tab}{rest}" for name, (_, tab, rest) in zip(paths, parts, strict=True)]
    lines = InputLines(inputs, [f"{argument}, line {k}" for k in range(1, len(inputs) + 1)])
    lines.relative = True
    return lines
