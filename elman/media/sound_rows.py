"""Rows of sounds: log-mel frames, from the cache or computed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, final

import numpy as np
import torch

from elman.data.broken import BrokenFile, located, report_broken
from elman.data.cache import cache_folder
from elman.data.clips import Clip
from elman.data.sounds import SoundReader, open_sound
from elman.errors import ElmanError
from elman.media.store import Rows, RowStore, computed
from elman.media.waves import HOP, WINDOW, log_mel_blocks

#: The computation of the frames; another one is never read.
_VERSION = 1
#: Files that a thread reads before it gives its rows.
_AT_ONCE = 4


class _Job(NamedTuple):
    """The clips of a file that do not overlap, in their order, and where each comes from."""

    clips: list[Clip]
    places: list[str]


@final
class SoundRows:
    """The log-mel frames of sounds, from the cache, or computed and then kept there.

    Args:
        rate (int): the sampling rate of the frames in Hz.
        bands (int): bands of the mel scale.
        channel (int, optional): the channel to read, numbered from 1. Default: None, the mean of all.
        window, hop (float): see `elman.media.waves.LogMel`.
    """

    def __init__(
        self, rate: int, bands: int, channel: int | None = None, window: float = WINDOW, hop: float = HOP
    ) -> None:
        self.rate, self.bands, self.channel, self.window, self.hop = rate, bands, channel, window, hop
        steps = "" if (window, hop) == (WINDOW, HOP) else f"-{1000 * window:g}-{1000 * hop:g}"
        folder = cache_folder("sounds") / f"log-mel-{_VERSION}-{rate}-{bands}{steps}"
        self._store = RowStore(folder, (None, bands), np.float16)

    def read(
        self, clips: Sequence[Clip], places: Sequence[str], skip_broken: bool | None = False
    ) -> list[np.ndarray | None]:
        """Return the frames of clips, (T, bands) float16, of which the cache maps most into memory.

        Args:
            clips (Sequence[Clip]): what `elman.data.clips.read_clips` gives.
            places (Sequence[str]): the origin of each, for messages.
            skip_broken (bool, optional): whether to leave out sounds that cannot be decoded, and to log their number.
                ``None``: they are errors, and the message does not suggest ``--skip-broken``. Default: False.

        Returns:
            list[ndarray | None]: One for each clip; None where the sound cannot be decoded.

        Raises:
            ElmanError: a sound cannot be decoded, or its file has changed.
        """
        keys = [self._key(clip) for clip in clips]
        found: dict[str, np.ndarray] = self._store.find(list(dict.fromkeys(keys)))
        missing = {key: (clip, place) for key, clip, place in zip(keys, clips, places, strict=True) if key not in found}
        broken: dict[str, str] = {}

        def compute(jobs: Sequence[_Job]) -> list[tuple[str, Rows]]:
            with torch.inference_mode():
                rows = [row for job in jobs for row in self._compute(job, broken)]
            if broken and not skip_broken:
                remedy = "" if skip_broken is None else "; --skip-broken leaves such sounds out"
                raise BrokenFile(f"{next(iter(broken.values()))}{remedy}")
            return rows

        jobs = _jobs(missing.values())
        parts = [jobs[k : k + _AT_ONCE] for k in range(0, len(jobs), _AT_ONCE)]
        for _, rows in computed(parts, compute, lambda _: self._store, len(missing), "sounds"):
            found.update(rows)
        if broken:
            wrong = [key for key in keys if key in broken]
            report_broken(broken[wrong[0]], len(wrong), len(keys), "sounds", skip_broken, verb="decoded")
        return [found.get(key) for key in keys]

    def _key(self, clip: Clip) -> str:
        """Return the hash of all that the frames of a clip depend on, beside the settings of the store."""
        start = round(clip.start * clip.rate)
        end = "" if clip.end is None else round(clip.end * clip.rate)
        channel = 1 if clip.channels == 1 else self.channel or "mix"
        return hashlib.sha256(f"{clip.digest} {start} {end} {channel}".encode()).hexdigest()

    def _compute(self, job: _Job, broken: dict[str, str]) -> Iterator[tuple[str, Rows]]:
        """Yield the frames of clips; what cannot be decoded goes to ``broken``, with the reason."""
        left = list(zip(job.clips, job.places, strict=True))
        while left:
            clip, place = left[0]
            try:
                with open_sound(clip.source, self.channel) as sound:
                    if sound.digest() != clip.digest:
                        raise ElmanError(f"{clip.name}: has changed since it was opened; start again")
                    while left:
                        clip, place = left[0]
                        frames = self._frames(sound, clip)
                        left.pop(0)
                        yield self._key(clip), {"": frames}
            except ElmanError as error:
                broken[self._key(clip)] = located(place, clip.name, str(error))
                left.pop(0)
                yield self._key(clip), {}

    def _frames(self, sound: SoundReader, clip: Clip) -> np.ndarray:
        blocks = sound.blocks(start=clip.start, end=clip.end)
        return frames_of(blocks, sound.rate, self.rate, self.bands, clip.name, self.window, self.hop)


def frames_of(
    blocks: Iterable[np.ndarray], rate: int, wanted: int, bands: int, name: str = "sound",
    window: float = WINDOW, hop: float = HOP,
) -> np.ndarray:  # fmt: skip
    """Return the log-mel frames of a wave that arrives in blocks, (T, bands) float16; see `log_mel_blocks`."""
    found = log_mel_blocks(blocks, rate, wanted, bands, name, window, hop)
    return np.concatenate([x.astype(np.float16) for x in found])


def _jobs(clips: Iterable[tuple[Clip, str]]) -> list[_Job]:
    """Group the clips of each file, so that it is decoded once, or several times where its clips overlap."""
    files: dict[str, list[tuple[Clip, str]]] = {}
    for clip, place in clips:
        files.setdefault(clip.digest, []).append((clip, place))
    jobs: list[_Job] = []
    for own in files.values():
        of_file: list[_Job] = []
        for clip, place in sorted(own, key=lambda one: one[0].start):
            job = next((job for job in of_file if _end(job.clips[-1]) <= clip.start), None)
            if job is None:
                of_file.append(job := _Job([], []))
            job.clips.append(clip)
            job.places.append(place)
        jobs += of_file
    return jobs


def _end(clip: Clip) -> float:
    return clip.seconds if clip.end is None else clip.end
