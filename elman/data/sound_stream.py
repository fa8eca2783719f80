"""The bytes of sound files, as libsndfile reads them."""

from __future__ import annotations

import hashlib
import io
from typing import IO, final

from elman.data.sound_formats import ends_early


@final
class SoundStream:
    """The bytes of a sound file as libsndfile reads them, which cannot take exceptions.

    Args:
        file (IO[bytes]): A seekable stream.
        instead (tuple[int, bytes], optional): A position, and the bytes to give there instead of those of the file; see
            `mended_length`. Default: None.

    Attributes:
        error (Exception, optional): Why bytes could not be read.
    """

    def __init__(self, file: IO[bytes], instead: tuple[int, bytes] | None = None) -> None:
        self._file, self._instead = file, instead
        self.error: Exception | None = None
        self.tell = file.tell

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, as `io.IOBase.seek`; stay where the place is not in the file."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):  # damaged files lead to negative positions
            return self._file.tell()

    def read(self, length: int = -1) -> bytes:
        """Read, as `io.IOBase.read`; return nothing on an error."""
        start = self._file.tell()
        try:
            data = self._file.read(length)
        except Exception as error:
            self.error = error
            return b""
        if self._instead is None:
            return data
        at, own = self._instead
        if not start - len(own) < at < start + len(data):
            return data
        return bytes(own[k - at] if 0 <= k - at < len(own) else byte for k, byte in enumerate(data, start))

    def digest(self) -> str:
        """Return the SHA-256 hash of the bytes, as hexadecimal digits; the position stays."""
        before = self._file.tell()
        self._file.seek(0)
        found = hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]
        self._file.seek(before)
        return found

    def ends_early(self, samples: int) -> bool:
        """Return whether the file ends where it cannot be decoded on; see `ends_early`."""
        return ends_early(self._file, samples)
