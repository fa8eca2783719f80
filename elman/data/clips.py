"""Sounds, or parts of them, that can be read and are not decoded yet."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from elman.data.broken import located, report_broken
from elman.data.sounds import open_sound
from elman.data.source import InMemory, printable, sources
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: A part may end this many seconds after the end of its file, since times are often rounded.
_ROUNDED = 0.01
#: The seconds between two log lines while many sounds are opened.
_LOG_SECONDS = 10.0

Part = tuple[float, float | None]


class Clip(NamedTuple):
    """A sound file, or a part of one, that is not decoded yet.

    Attributes:
        source (Any): What `elman.data.sounds.open_sound` takes, and can take again.
        digest (str): The SHA-256 hash of the file, without its compression, as hexadecimal digits.
        rate (int): The sampling rate in Hz.
        channels (int): The number of channels of the file.
        seconds (float): The duration of the file.
        start (float): Where the part begins, in seconds. Default: 0.
        end (float, optional): Where the part ends, in seconds. Default: None, the end of the file.
    """

    source: Any
    digest: str
    rate: int
    channels: int
    seconds: float
    start: float = 0.0
    end: float | None = None

    @property
    def duration(self) -> float:
        """The duration of the part in seconds."""
        return (self.seconds if self.end is None else self.end) - self.start

    @property
    def name(self) -> str:
        """The name of the file, for messages."""
        return _name(self.source)


def read_clips(
    given: Sequence[Any],
    places: Sequence[str],
    channel: int | None = None,
    parts: Sequence[Part] | None = None,
    skip_broken: bool | None = False,
) -> list[Clip | None]:
    """Open sound files, without decoding them, and report those that cannot be read together.

    Each file is opened once, however many of its parts are given, in as many threads as there are processors.

    Args:
        given (Sequence): Paths, or anything else that `elman.data.sounds.open_sound` takes.
        places (Sequence[str]): The location of each in the data, for messages: ``table.tsv, row 3``.
        channel (int, optional): The channel that will be read, numbered from 1. Default: None, the mean of all.
        parts (Sequence[tuple[float, float | None]], optional): Where the part to read of each begins and ends, in
            seconds. Default: None, whole files.
        skip_broken (bool, optional): Whether to leave out sounds that cannot be read, and to log their number.
            ``None``: they are errors, and the message does not suggest ``--skip-broken``. Default: ``False``.

    Returns:
        list[Clip | None]: One for each; None where the sound cannot be read.

    Raises:
        ElmanError: A sound cannot be read, has no such channel, or ends before its part does; with ``skip_broken``,
            none can be read. The message has the number of such sounds and the reason for the first.

    Example::

        >>> read_clips(["speech.flac"], ["talk.tsv, row 1"], parts=[(0.5, 2.0)])  # doctest: +SKIP
        [Clip(source='speech.flac', digest='2cf2...', rate=16000, channels=1, seconds=7.1, start=0.5, end=2.0)]
    """
    keys = [os.fspath(one) if isinstance(one, (str, os.PathLike)) else id(one) for one in given]
    first: dict[Any, int] = {}
    for k, key in enumerate(keys):
        first.setdefault(key, k)
    opened = dict(zip(first, _open_all([given[k] for k in first.values()], channel), strict=True))
    results = [opened[key] for key in keys]
    if parts is not None:
        results = [
            one if isinstance(one, str) else _part_of(one, *part) for one, part in zip(results, parts, strict=True)
        ]
    wrong = [k for k, result in enumerate(results) if isinstance(result, str)]
    if wrong:
        k = wrong[0]
        message = located(places[k], _name(given[k]), str(results[k]))
        report_broken(message, len(wrong), len(results), "sounds", skip_broken)
    return [one if isinstance(one, Clip) else None for one in results]


def _open_all(given: list[Any], channel: int | None) -> list[Clip | str]:
    """Open sounds in threads; what cannot be read becomes the reason."""
    results: list[Clip | str] = []
    logged = time.monotonic()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for result in pool.map(lambda one: _open(one, channel), given):
            results.append(result)
            if time.monotonic() - logged > _LOG_SECONDS:
                logged = time.monotonic()
                _log.warning("opened %s of %s sounds", f"{len(results):,}", f"{len(given):,}")
    return results


def _open(given: Any, channel: int | None) -> Clip | str:
    """Open a sound and read its header; a header that does not tell the length has the sound decoded."""
    try:
        source = given
        if not isinstance(given, (bytes, bytearray)):
            (source,) = sources([given])  # reads what can be read only once
        with open_sound(source, channel) as sound:
            digest, frames = sound.digest(), sound.frames
            if not frames:  # not known, or none
                frames = sum(map(len, sound.blocks()))
            return Clip(source, digest, sound.rate, sound.channels, frames / sound.rate)
    except ElmanError as error:
        return str(error)


def _part_of(clip: Clip, start: float, end: float | None) -> Clip | str:
    """Return a part of a sound, or what is wrong with it."""
    if not (math.isfinite(start) and start >= 0) or (end is not None and not (math.isfinite(end) and end > start)):
        shown = "its end" if end is None else f"{end:g} s"
        return f"{clip.name}: the part from {start:g} s to {shown}: an end after a start that is 0 or more is required"
    if end is not None and clip.seconds < end <= clip.seconds + _ROUNDED:
        end = None
    if start >= clip.seconds or (end is not None and end > clip.seconds):
        asked = f"a part from {start:g} s on" if end is None else f"a part from {start:g} to {end:g} s"
        return f"{clip.name}: ends at {clip.seconds:.3f} s; {asked} is asked for"
    length = (clip.seconds if end is None else end) - start
    if round((start + length) * clip.rate) <= round(start * clip.rate):
        return f"{clip.name}: the part from {start:g} s is shorter than a sample"
    return clip._replace(start=float(start), end=None if end is None else float(end))


def _name(given: Any) -> str:
    """Return the name of a sound for messages."""
    if isinstance(given, (str, os.PathLike)):
        path = os.fspath(given)
        return path if isinstance(path, InMemory) else printable(os.fsdecode(path))
    return "<sound in memory>"


__all__ = ["Clip", "read_clips"]
