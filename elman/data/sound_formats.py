"""Name the files that are sounds, say what a file is that is none, and find files that were cut short."""

from __future__ import annotations

import io
import re
import struct
import sys
from collections.abc import Iterator
from typing import IO, NamedTuple

#: Endings of the names of sound files.
SOUNDS = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64", ".sph",
)  # fmt: skip
#: Endings of sound files that cannot be read.
UNREADABLE = (".m4a", ".m4b", ".aac", ".ac3", ".wma", ".amr", ".webm", ".mka", ".spx", ".ape", ".wv")

_CONVERT = "convert it: ffmpeg -i IN OUT.wav"
#: What files are, by their first bytes.
_REFUSED = {
    b"\x30\x26\xb2\x75": f"a WMA file; {_CONVERT}",
    b"\x1a\x45\xdf\xa3": f"a WebM or Matroska file; {_CONVERT}",
    b"#!AMR": f"an AMR file; {_CONVERT}",
    b"ADIF": f"an AAC file; {_CONVERT}",
    b"\xff\xf1": f"an AAC file; {_CONVERT}",
    b"\xff\xf9": f"an AAC file; {_CONVERT}",
    b"MAC ": f"a Monkey's Audio file; {_CONVERT}",
    b"wvpk": f"a WavPack file; {_CONVERT}",
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the sound",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"\x1f\x8b": "a compressed file; unpack it",
    b"%PDF": "a PDF document",
}
#: Formats that are read, by their first bytes.
_KNOWN = {
    b"RIFF": "WAV", b"RIFX": "WAV", b"RF64": "RF64", b"BW64": "RF64", b"riff": "W64", b"FORM": "AIFF", b"caff": "CAF",
    b".snd": "AU", b"fLaC": "FLAC", b"OggS": "OGG", b"ID3": "MP3", b"NIST": "NIST SPHERE",
}  # fmt: skip


class _Layout(NamedTuple):
    """How the chunks of a container are written.

    Attributes:
        start: where the first chunk begins.
        name: bytes of a chunk's name.
        length: the `struct` format of its length.
        audio: the name of the chunk with the samples.
        align: chunks begin at multiples of this.
        whole: whether the length counts the name and the length too.
    """

    start: int
    name: int
    length: str
    audio: bytes
    align: int = 2
    whole: bool = False


_LAYOUTS = {
    b"RIFF": _Layout(12, 4, "<I", b"data"),
    b"RIFX": _Layout(12, 4, ">I", b"data"),
    b"RF64": _Layout(12, 4, "<I", b"data"),
    b"BW64": _Layout(12, 4, "<I", b"data"),
    b"FORM": _Layout(12, 4, ">I", b"SSND"),
    b"caff": _Layout(8, 4, ">q", b"data", 1),
    b"riff": _Layout(40, 16, "<Q", b"data", 8, True),
}
#: The maximum number of chunks that are looked at, and of bytes of an Ogg page or a FLAC frame.
_MAX_CHUNKS, _MAX_PAGE = 1000, 65_307


def describe(head: bytes, missing: str = "") -> str:
    """Say what a file is that cannot be read as a sound.

    Args:
        head (bytes): The first bytes of the file, 64 or more where it has them.
        missing (str): What `cut_short` says. Default: ``""``.

    Returns:
        str: What the file is and, where there is one, the remedy.

    Example::

        >>> describe(b"#!AMR-WB")
        'an AMR file; convert it: ffmpeg -i IN OUT.wav'
    """
    if not head:
        return "the file is empty"
    if not head.strip(b"\0"):
        return "the file begins with zero bytes only"
    for start, what in _REFUSED.items():
        if head.startswith(start):
            return what
    if head[4:8] == b"ftyp":
        return f"an M4A, MP4 or MOV file; {_CONVERT}"
    if b"Speex   " in head[:64]:
        return f"a Speex file; {_CONVERT}"
    if head.lstrip().startswith(b"<"):
        return "an HTML or XML page, which a server may have sent instead of the sound; download the sound again"
    if (kind := format_of(head)) is not None:
        cut = f"a file ({kind}) that is cut short, {missing}" if missing else ""
        return _fault(head) or cut or f"a broken {kind} file, or one whose encoding is not supported"
    if all(byte in b"\t\n\r" or byte >= 32 for byte in head[:64]):
        return "a text file"
    return f"not in a known format; {_CONVERT}"


def format_of(head: bytes) -> str | None:
    """Return the name of the format of a sound file, by its first bytes; None if it is not known.

    Example::

        >>> format_of(b"fLaC")
        'FLAC'
    """
    if head[:4] == b"OggS" and b"OpusHead" in head[:64]:
        return "OPUS"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "MP3"
    return next((kind for start, kind in _KNOWN.items() if head.startswith(start)), None)


def cut_short(file: IO[bytes]) -> str:
    """Say how much of a sound file is missing, which most decoders do not.

    The lengths that programs write into a pipe because they do not know the true one (0, the largest number) are no
    promise, and neither is a missing byte of padding.

    Args:
        file (IO[bytes]): A seekable stream; its position changes.

    Returns:
        str: What is missing; ``""`` if nothing is, or if the format does not say.

    Example::

        >>> cut_short(io.BytesIO(b"RIFF" + bytes(4) + b"WAVEdata" + (100).to_bytes(4, "little") + bytes(60)))
        '60 of 100 bytes of audio are there'
    """
    size = file.seek(0, io.SEEK_END)
    head = _at(file, 0, 64)
    if head[:4] == b"OggS":
        return _unfinished_ogg(file, size)
    if head[:4] == b".snd" and len(head) >= 12:
        start, announced = struct.unpack(">II", head[4:12])
    else:
        start, announced = next(((start, n) for name, start, n in _chunks(file, size) if name == b"audio"), (0, 0))
    if not is_known(announced):
        return ""
    present = max(0, size - start)
    return f"{present:,} of {announced:,} bytes of audio are there" if present < announced else ""


def is_known(length: int) -> bool:
    """Return whether the length in a header is one, and not what programs write into a pipe, before they know it.

    Example::

        >>> is_known(100), is_known(0), is_known(0x7FFFF000), is_known(0xFFFFFFFF)
        (True, False, False, False)
    """
    placeholders = range(0x7FFF0000, 0x80000001), range(0xFFFF0000, 1 << 32)
    return 0 < length < 1 << 62 and not any(length in some for some in placeholders)


def mended_length(file: IO[bytes]) -> tuple[int, bytes] | None:
    """Return what to write into the header of a file so that libsndfile reads the samples that are there.

    A WAV file has the length 0 although samples follow, as programs write into a pipe; a CAF file that was cut short
    announces more samples than it has.

    Args:
        file (IO[bytes]): A seekable stream; its position changes.

    Returns:
        tuple[int, bytes] | None: The position of the length, and its bytes; None in any other file.

    Example::

        >>> mended_length(io.BytesIO(b"RIFF" + bytes(4) + b"WAVEdata" + bytes(4) + bytes(60)))
        (16, b'\xff\xff\xff\xff')
    """
    size, kind = file.seek(0, io.SEEK_END), _at(file, 0, 4)
    if kind not in (b"RIFF", b"RIFX", b"caff"):
        return None
    start, length = next(((start, n) for name, start, n in _chunks(file, size) if name == b"audio"), (size, 0))
    if kind == b"caff":
        return (start - 8, struct.pack(">q", size - start)) if length > size - start else None
    following = _at(file, start, 4)
    is_chunk = following.strip().isalnum() and following.isascii()  # such as LIST: there are no samples
    return (start - 4, b"\xff" * 4) if not length and following and not is_chunk else None


def ends_early(file: IO[bytes], samples: int) -> bool:
    """Return whether a FLAC file that cannot be decoded on was cut short there, rather than damaged.

    It was if its last frame is missing, or is the one that cannot be decoded.

    Args:
        file (IO[bytes]): A seekable stream; its position changes.
        samples (int): The number of samples of each channel that were decoded.

    Returns:
        bool: False also for other files, and where the frames are of different sizes, so that the last is not known.
    """
    head = _at(file, 0, 26)
    if head[:4] != b"fLaC" or len(head) < 26:
        return False
    least, most = struct.unpack(">HH", head[8:12])
    longest, total = int.from_bytes(head[15:18], "big"), int.from_bytes(head[18:26], "big") & ((1 << 36) - 1)
    last = (total - 1) // most if least == most > 0 and total else sys.maxunicode + 1
    if last > sys.maxunicode:
        return False
    size = file.seek(0, io.SEEK_END)
    length = min(size, 2 * longest or _MAX_PAGE)
    frame = rb"\xff\xf8.." + re.escape(chr(last).encode("utf-8", "surrogatepass"))  # as FLAC writes numbers
    return samples >= last * most or not re.search(frame, _at(file, size - length, length), re.DOTALL)


def _fault(head: bytes) -> str:
    """Say what is wrong in the header of a WAV file."""
    for name, start, _ in _chunks(io.BytesIO(head), len(head)):
        if name == b"fmt " and head[:4] in (b"RIFF", b"RF64", b"BW64") and len(head) >= start + 8:
            _, channels, rate = struct.unpack_from("<HHI", head, start)
            return "the sampling rate is 0" if not rate else "the file has 0 channels" if not channels else ""
    return ""


def _chunks(file: IO[bytes], size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks up to the samples: the name (``audio`` for the samples), the start and the length."""
    layout = _LAYOUTS.get(_at(file, 0, 4))
    if layout is None:
        return
    header, wide, at = layout.name + struct.calcsize(layout.length), 0, layout.start
    for _ in range(_MAX_CHUNKS):
        head = _at(file, at, header) if at < size else b""
        if len(head) < header:
            return
        name, length = head[:4], struct.unpack(layout.length, head[layout.name :])[0]
        length -= header if layout.whole else 0
        if name == b"ds64":
            wide = int.from_bytes(_at(file, at + header + 8, 8), "little")
        if name == layout.audio:
            yield b"audio", at + header, wide if wide and length == 0xFFFFFFFF else length
            return
        if length < 0:
            return
        yield name, at + header, length
        at += header + length
        at += -at % layout.align


def _unfinished_ogg(file: IO[bytes], size: int) -> str:
    """Say whether the last page of an Ogg file is there as a whole, and marked as the last."""
    tail = _at(file, max(0, size - _MAX_PAGE), _MAX_PAGE)
    at = tail.rfind(b"OggS\0")
    if at < 0 or len(tail) < at + 27:
        return "" if at < 0 else "the last page is incomplete"
    segments = tail[at + 27 : at + 27 + tail[at + 26]]
    if len(tail) < at + 27 + tail[at + 26] + sum(segments):
        return "the last page is incomplete"
    return "" if tail[at + 5] & 4 else "the last page is missing"


def _at(file: IO[bytes], position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)
