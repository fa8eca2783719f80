"""The folder in which files are kept that can be made again: compiled kernels, features of pictures."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

#: Temporary folders of this process, where there is no cache that can be written to.
_temporary: list[tempfile.TemporaryDirectory] = []


def cache_folder(name: str, runs: bool = False) -> Path:
    """Return a folder of the cache, which exists and can be written to.

    The cache is ``ELMAN_CACHE``, or ``elman`` in the user's cache folder (``XDG_CACHE_HOME``, or ``~/.cache``). Where
    it cannot be written to, the folder is a temporary one of this process.

    Args:
        name (str): The name of the folder.
        runs (bool): Whether files in it are run, so that nobody else may be able to write there. Default: False.
    """
    base = os.environ.get("ELMAN_CACHE")
    try:
        home = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elman"
        folder = home / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        about = folder.stat()
        if runs and hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o022):
            raise OSError("others can write there, and what is loaded from there is run")
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):
        if not _temporary:
            _temporary.append(tempfile.TemporaryDirectory(prefix="elman-"))
        folder = Path(_temporary[0].name) / name
        folder.mkdir(exist_ok=True)
        return folder
