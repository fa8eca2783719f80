"""Read sound while it arrives: from a pipe, or from a microphone."""

from __future__ import annotations

import logging
import queue
import struct
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from elman.data.sound_formats import is_known
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: Bytes that are read at a time, at most; less where less has arrived.
_AT_ONCE = 1 << 14
#: The types of samples, by the code of their format and their bits.
_TYPES = {(1, 8): "u1", (1, 16): "<i2", (1, 24): "3u1", (1, 32): "<i4", (3, 32): "<f4", (3, 64): "<f8"}
_WANTED = "a pipe must be WAV with PCM or float samples, such as that of: ffmpeg -i INPUT -f wav -"


class Blocks(NamedTuple):
    """A sound that arrives in blocks.

    Attributes:
        rate (int): The sampling rate in Hz.
        blocks (Iterator[ndarray]): The samples, (N,) float32 each.
    """

    rate: int
    blocks: Iterator[np.ndarray]


def read_pipe(file: IO[bytes], name: str, channel: int | None = None, raw: int | None = None) -> Blocks:
    """Read a WAV file from a pipe, whose length need not be known.

    Args:
        file (IO[bytes]): The pipe; it needs not be seekable.
        name (str): Its name, for messages.
        channel (int, optional): The channel to read, numbered from 1. Default: the mean of all.
        raw (int, optional): The sampling rate of samples without a header: 16-bit little-endian integers, one channel.
            Default: ``None``, a WAV file.

    Raises:
        ElmanError: It is not a WAV file with PCM or float samples, or has no such channel.
    """
    if raw is not None:
        return Blocks(raw, _samples(file, name, "<i2", 1, None, None))
    head = _read(file, 12)
    if not head:
        raise ElmanError(f"{name}: nothing arrives")
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise ElmanError(f"{name}: not a WAV file; {_WANTED}; or give the rate of raw samples (--raw)")
    kind: tuple[int, int] | None = None
    channels = rate = 0
    while True:
        start = _read(file, 8)
        if len(start) < 8:
            raise ElmanError(f"{name}: ends before its samples")
        chunk, size = start[:4], struct.unpack("<I", start[4:])[0]
        if chunk == b"data":
            break
        body = _read(file, size + size % 2)
        if chunk == b"fmt " and len(body) >= 16:
            code, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
            kind = (struct.unpack("<H", body[24:26])[0] if code == 0xFFFE and len(body) >= 26 else code), bits
    if kind not in _TYPES or not channels or not 200 <= rate <= 1_000_000:
        raise ElmanError(f"{name}: {'no format of the samples' if kind is None else _what(kind, rate)}; {_WANTED}")
    if channel is not None and channel > channels:
        raise ElmanError(f"{name}: has {channels} channels; channel {channel} is asked for (--channel)")
    length = size if is_known(size) and head[:4] != b"RF64" else None
    return Blocks(rate, _samples(file, name, _TYPES[kind], channels, channel, length))


def _what(kind: tuple[int, int], rate: int) -> str:
    return f"samples of format {kind[0]} with {kind[1]} bits at {rate:,} Hz"


def _read(file: IO[bytes], size: int) -> bytes:
    """Read so many bytes, or all that are left."""
    parts = []
    while size and (part := file.read(min(size, _AT_ONCE))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _samples(
    file: IO[bytes], name: str, kind: str, channels: int, channel: int | None, length: int | None
) -> Iterator[np.ndarray]:
    """Yield the samples as they arrive; ``length``: their bytes, None for all."""
    width = channels * (3 if kind == "3u1" else np.dtype(kind).itemsize)
    available: Any = getattr(file, "read1", file.read)
    left, rest = length, b""
    while left is None or left:
        data = available(_AT_ONCE if left is None else min(left, _AT_ONCE))
        if not data:
            if left or rest:
                missing = f"{left:,} of {length:,} bytes are missing" if left else "the last sample is not whole"
                _log.warning("%s: is cut short, %s", name, missing)
            break
        left = None if left is None else left - len(data)
        data = rest + data
        whole = len(data) - len(data) % width
        rest = data[whole:]
        x = _scaled(data[:whole], kind).reshape(-1, channels)
        x = x.mean(1) if channel is None else x[:, channel - 1]
        if not (np.abs(x) <= 1e9).all():
            raise ElmanError(f"{name}: a sample is not a finite number")
        if len(x):
            yield x.astype(np.float32)


def _scaled(data: bytes, kind: str) -> np.ndarray:
    """Return samples as numbers from -1 to 1."""
    if kind == "3u1":
        parts = np.frombuffer(data, "u1").reshape(-1, 3).astype(np.int32)
        return ((parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24) / 2.0**31).astype(np.float32)
    x = np.frombuffer(data, kind)
    if kind == "u1":
        return (x.astype(np.float32) - 128) / 128
    return x.astype(np.float32) if kind[1] == "f" else (x / 2.0 ** (8 * x.itemsize - 1)).astype(np.float32)


def read_microphone() -> Blocks:
    """Read the default microphone.

    Raises:
        ElmanError: The sounddevice package or a microphone is missing.
    """
    try:
        import sounddevice
    except ImportError:
        raise ElmanError("--microphone: needs the sounddevice package: pip install sounddevice") from None
    except OSError as error:
        raise ElmanError(f"--microphone: sounddevice finds no PortAudio ({error}): install libportaudio2") from None
    try:
        rate = round(sounddevice.query_devices(kind="input")["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        raise ElmanError(f"--microphone: no microphone is found ({error})") from None

    def blocks() -> Iterator[np.ndarray]:
        arrived: queue.Queue[np.ndarray] = queue.Queue()
        callback = lambda data, *_: arrived.put(data[:, 0].copy())  # noqa: E731
        try:
            with sounddevice.InputStream(rate, channels=1, dtype="float32", callback=callback):
                while True:
                    yield arrived.get()
        except sounddevice.PortAudioError as error:
            raise ElmanError(f"--microphone: cannot be read: {error}") from None

    return Blocks(rate, blocks())
