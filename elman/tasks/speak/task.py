"""The speech synthesis task: texts and recordings of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elman.data.clips import Clip
from elman.data.source import absolute
from elman.data.tokenizer import Tokenizer
from elman.errors import ElmanError
from elman.media.sound import channel_of
from elman.media.sound_rows import SoundRows
from elman.tasks.speak.examples import (
    HOP,
    WINDOW,
    Examples,
    Voice,
    VoiceState,
    to_symbols,
    trim,
    words_of,
)
from elman.tasks.speak.model import SpeechSynthesizer
from elman.tasks.speak.options import SpeakConfig
from elman.tasks.speak.phonemes import Pronouncer
from elman.tasks.speak.spelling import clean
from elman.tasks.spoken.recordings import Recordings, read_recordings
from elman.training.recipe import Counts
from elman.training.run import Run
from elman.training.task import Task

_log = logging.getLogger("elman")

#: The highest default sampling rate in Hz.
_RATE = 22_050
#: The fraction of the recordings that are spoken faster than what counts as slow.
_SLOW = 0.95


class Speak(Task):
    """Learn to speak texts."""

    name = "speak"
    Config = SpeakConfig
    model_class = SpeechSynthesizer
    usage = "elman train speak recordings.tsv --minutes 20"
    items = "recordings"
    takes_folders = True

    config: SpeakConfig

    def read(self, data: Sequence[str], like: Recordings | None = None) -> Recordings:
        read, written = read_recordings(data, self.config, lambda text: clean(text, self.config.lowercase))
        silent = [k for k, text in enumerate(read.texts) if not any(map(str.isalnum, text))]
        return read.without(silent, f"no words in the text {written[silent[0]]!r}" if silent else "")

    def split(self, data: Recordings) -> tuple[Recordings, Recordings] | None:
        """Hold out some texts with all their recordings."""
        return data.divided(data.texts, self.config.valid_fraction)

    def contents(self, train: Recordings, held: Recordings) -> list[str]:
        rows = [row for part in (train, held) for row in zip(part.clips, part.texts, part.speakers, strict=True)]
        return [t for clip, text, who in rows for t in (_part(clip), text, who)] + [str(len(train.clips))]

    def facts(self, data: Recordings) -> Mapping[str, Any]:
        return {"tables": data.tables, "several_channels": any(clip.channels > 1 for clip in data.clips)}

    def learn(self, train: Recordings, held: Recordings) -> Voice:
        c = self.config
        pronouncer = None
        if c.phonemes is not None:
            pronouncer = Pronouncer(absolute(c.phonemes))
            pronouncer.learn(words_of([*train.texts, *held.texts]))
        spelled = [to_symbols(text, pronouncer) for text in train.texts]
        symbols = Tokenizer.from_words((symbol for row in spelled for symbol in row), 1 << 20)
        rate = c.rate or min(_RATE, Counter(clip.rate for clip in train.clips).most_common(1)[0][0])
        self._check_speakers(train)
        speakers = [name for name, _ in Counter(sorted(train.speakers)).most_common()]
        longest = max(map(len, train.texts))
        pairs = zip(train.clips, spelled, strict=True)
        pace = float(np.quantile([clip.duration / (len(row) + 1) for clip, row in pairs], _SLOW))
        state = VoiceState(rate=rate, speakers=speakers, longest=longest, pace=pace)
        return Voice(symbols, state, c.lowercase, pronouncer)

    def _check_speakers(self, data: Recordings) -> None:
        """ElmanError where only some recordings have a speaker."""
        if any(data.speakers) and not all(data.speakers):
            place = next(place for place, name in zip(data.places, data.speakers, strict=True) if not name)
            raise ElmanError(f"{place}: no speaker is named, but others have one")

    def restore(self, run: Run) -> Voice:
        return Voice.load(run, self.config)

    def encode(self, learnt: Voice, data: Recordings, training: bool = False) -> Examples:
        """Encode recordings and texts; in training, recordings longer than ``max_seconds`` are left out.

        Raises:
            ElmanError: none is left, or a speaker is not known.
        """
        c = self.config
        if training:
            data = data.at_most(c.max_seconds)
        rows = SoundRows(learnt.state.rate, c.bands, channel_of(c), WINDOW, HOP)
        found = rows.read(data.clips, data.places, c.skip_broken)
        data, frames = (
            data.part([k for k, row in enumerate(found) if row is not None]),
            [x for x in found if x is not None],
        )
        ids, unknown = [], {}
        for text, place in zip(data.texts, data.places, strict=True):
            row = learnt.encode(text)
            ids.append(row.ids)
            unknown.update({symbol: place for symbol in row.unknown if symbol not in unknown})
        if unknown:
            shown = ", ".join(map(repr, list(unknown)[:10]))
            _log.warning("%s: not in the training texts, and left out: %s", next(iter(unknown.values())), shown)
        speakers = [learnt.speaker(name) if len(learnt.state.speakers) > 1 else 0 for name in data.speakers]
        return Examples(ids, [trim(row) for row in frames], speakers, data.texts)

    def count(self, learnt: Voice, train: Recordings, examples: Examples) -> Counts:
        return Counts(len(examples.ids), round(HOP * sum(map(len, examples.frames))))

    def resolve(self, learnt: Voice, train: Recordings, examples: Examples) -> SpeakConfig:
        """Set the rate and the duration from the data; docs/log.md says why."""
        c = self.config
        left: dict[str, Any] = {"rate": learnt.state.rate}
        if c.phonemes is not None:
            left["phonemes"] = absolute(c.phonemes)
        if c.minutes is None and c.steps is None:
            left["minutes"] = round(min(20.0, max(5.0, HOP * sum(map(len, examples.frames)) / 300)), 1)
        return c.model_copy(update=left)


def _part(clip: Clip) -> str:
    """Return what identifies a recording."""
    return f"{clip.digest} {clip.start} {clip.end}"
