"""The lock of a run directory, so that only one training writes to it at a time."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import weakref
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: The name of the lock file. It exists while a training runs, and after one was killed.
LOCK = ".elman-lock"
#: On Windows a locked byte cannot be read, so a byte after the text is locked.
_BYTE = 1 << 20


class Holder(BaseModel):
    """The content of the lock file: the process that holds the lock, and its machine."""

    model_config = ConfigDict(extra="forbid", strict=True)

    elman: str
    pid: int
    host: str


class Lock:
    """A file lock that this process holds from `take` until `release`.

    The operating system releases the lock when the process ends, so that a killed process leaves none behind. A forked
    child does not hold it.

    Args:
        folder (Path): An existing run directory.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._file: int | None = None

    def take(self, version: str) -> None:
        """Take the lock.

        Raises:
            ElmanError: another process holds it, or the folder cannot be written.
        """
        while self._file is None:
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            except OSError as error:
                raise ElmanError(f"{self.path}: cannot be written: {error.strerror}; choose another folder") from None
            try:
                _lock(file)
            except BlockingIOError:
                os.close(file)
                raise ElmanError(
                    f"{self.path.parent}: {_describe_holder(self.path)}; wait until it ends, or stop it"
                ) from None
            except OSError as error:
                _log.warning(
                    "%s: cannot be locked here (%s); do not start another training in this folder", self.path, error
                )
            if _is_open_file(file, self.path):
                self._file = file
            else:  # the previous holder has just removed it
                os.close(file)
        holder = Holder(elman=version, pid=os.getpid(), host=socket.gethostname())
        os.ftruncate(self._file, 0)
        os.write(self._file, (holder.model_dump_json() + "\n").encode())
        _HELD.add(self)

    def release(self, remove: bool = True) -> None:
        """Release the lock. Without ``remove``, its file stays as the mark of a folder that elman has created."""
        if self._file is None:
            return
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close the file; in a forked child, this does not release the lock of the parent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


#: The locks of this process.
_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()


def is_lock(path: Path) -> bool:
    """Return whether the file is a lock file of elman."""
    try:
        Holder.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return False
    return True


def _describe_holder(path: Path) -> str:
    """Describe the process that holds the lock."""
    try:
        holder = Holder.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError):  # it is just being written
        return "another process is training it"
    return f"process {holder.pid} on {holder.host} is training it"


def _is_open_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None
        finally:
            os.lseek(file, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _forked() -> None:
        for lock in list(_HELD):
            lock.close()

    os.register_at_fork(after_in_child=_forked)
