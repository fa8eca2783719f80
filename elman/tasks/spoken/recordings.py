"""Recordings with their texts, as all tasks read them that learn from these."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from elman.data.clips import Clip, read_clips
from elman.data.split import hold_out_groups
from elman.data.transcripts import read_transcripts
from elman.errors import ElmanError
from elman.media.sound import channel_of

_log = logging.getLogger("elman")


class Recordings(NamedTuple):
    """Recordings with their texts, not decoded yet.

    Attributes:
        clips (list[Clip]): The recordings.
        texts (list[str]): What is said in each.
        places (list[str]): The location of each, for messages.
        speakers (list[str]): The speaker of each; "" where it is not known.
        tables (bool): Whether they come from tables.
    """

    clips: list[Clip]
    texts: list[str]
    places: list[str]
    speakers: list[str]
    tables: bool

    def part(self, rows: Sequence[int] | np.ndarray) -> Recordings:
        """Return the recordings with these numbers."""
        return self._replace(
            clips=[self.clips[k] for k in rows],
            texts=[self.texts[k] for k in rows],
            places=[self.places[k] for k in rows],
            speakers=[self.speakers[k] for k in rows],
        )

    def divided(self, groups: Sequence[str], fraction: float) -> tuple[Recordings, Recordings] | None:
        """Hold out some groups with all their recordings; None where there is only one group."""
        chosen = hold_out_groups(groups, fraction)
        if chosen is None:
            return None
        held = [k for k, group in enumerate(groups) if group in chosen]
        return self.part([k for k, group in enumerate(groups) if group not in chosen]), self.part(held)

    def without(self, rows: Sequence[int] | np.ndarray, reason: str) -> Recordings:
        """Leave out recordings, and log how many these are.

        Args:
            rows (Sequence[int]): their numbers.
            reason (str): why the first of them is left out.

        Raises:
            ElmanError: these are all.
        """
        if not len(rows):
            return self
        message = (
            f"{self.places[rows[0]]}: {reason}; {len(rows):,} of {len(self.clips):,} recordings are left out for that"
        )
        if len(rows) == len(self.clips):
            raise ElmanError(message)
        _log.warning("%s", message)
        return self.part(sorted({*range(len(self.clips))} - {*map(int, rows)}))

    def at_most(self, seconds: float) -> Recordings:
        """Leave out longer recordings; see `without`."""
        durations = np.array([clip.duration for clip in self.clips])
        long = np.flatnonzero(durations > seconds)
        first = durations[long[0]] if len(long) else 0.0
        return self.without(long, f"{first:.1f} s, longer than --max-seconds {seconds:g}")


def read_recordings(data: Sequence[str], config: Any, change: Callable[[str], str]) -> tuple[Recordings, list[str]]:
    """Read which recordings there are, and what is said in them.

    Args:
        data (Sequence[str]): paths, URLs or data in memory; see `elman.data.transcripts.read_transcripts`.
        config: the options of `SpokenData`, and ``channel``.
        change (Callable): what the task makes of a text.

    Returns:
        tuple[Recordings, list[str]]: the recordings with the changed texts, and the texts as they are written.

    Raises:
        ElmanError: a file cannot be read, or no recording can.
    """
    c = config
    found = read_transcripts(data, c.audio, c.text, c.speaker, c.start, c.end, c.skip_bad)
    said = found.utterances
    places, parts = [one.place for one in said], [(one.start, one.end) for one in said]
    clips = read_clips([one.sound for one in said], places, channel_of(c), parts, c.skip_broken)
    there = [(one, clip) for one, clip in zip(said, clips, strict=True) if clip is not None]
    if not there:
        raise ElmanError(f"{said[0].place}: no recording can be read")
    read = Recordings(
        [clip for _, clip in there], [change(one.text) for one, _ in there], [one.place for one, _ in there],
        [one.speaker for one, _ in there], found.tables,
    )  # fmt: skip
    return read, [one.text for one, _ in there]
