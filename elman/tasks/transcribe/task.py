"""The transcription task: recordings and what is said in them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elman.data.split import hold_out
from elman.data.tokenizer import Tokenizer
from elman.errors import ElmanError
from elman.media import Content
from elman.media.sound import Sound
from elman.media.text import spaced
from elman.networks.transcriber import required_steps
from elman.tasks.spoken.recordings import Recordings, read_recordings
from elman.tasks.transcribe.examples import Examples, Learned, normalize
from elman.tasks.transcribe.model import SpeechRecognizer
from elman.tasks.transcribe.options import TranscribeConfig
from elman.training.recipe import Counts
from elman.training.run import Run
from elman.training.task import Task

_log = logging.getLogger("elman")

#: A sentence that so many recordings share, on average, is a command, and is held out with some of its recordings.
_COMMANDS = 5.0


class Transcribe(Task):
    """Learn p(text | speech)."""

    name = "transcribe"
    Config = TranscribeConfig
    model_class = SpeechRecognizer
    usage = "elman train transcribe recordings.tsv --minutes 15"
    items = "recordings"
    takes_folders = True

    config: TranscribeConfig

    def read(self, data: Sequence[str], like: Recordings | None = None) -> Recordings:
        read, written = read_recordings(data, self.config, normalize if self.config.normalize else str)
        if none := [k for k, text in enumerate(read.texts) if not text]:
            _log.warning(
                "%s: nothing is left of the text %r without punctuation; it counts as silence, as do %d in all",
                read.places[none[0]], written[none[0]], len(none),
            )  # fmt: skip
        return read

    def split(self, data: Recordings) -> tuple[Recordings, Recordings] | None:
        """Hold out whole sentences, whole speakers, or recordings."""
        by = self.config.group
        if by is None:
            by = "none" if len(data.texts) > _COMMANDS * len(set(data.texts)) else "text"
        if by == "speaker" and not all(data.speakers):
            place = next(place for place, speaker in zip(data.places, data.speakers, strict=True) if not speaker)
            raise ElmanError(f"{place}: no speaker, which --group speaker needs; --speaker names the column")
        if by == "none":
            train, held = hold_out(len(data.clips), self.config.valid_fraction)
            return (data.part(train), data.part(held)) if train and held else None
        return data.divided(data.texts if by == "text" else data.speakers, self.config.valid_fraction)

    def contents(self, train: Recordings, held: Recordings) -> list[str]:
        pairs = [pair for part in (train, held) for pair in zip(part.clips, part.texts, strict=True)]
        return [t for clip, text in pairs for t in (Sound.digest(clip), text)] + [str(len(train.clips))]

    def facts(self, data: Recordings) -> Mapping[str, Any]:
        return {"tables": data.tables, "medium": Sound.name, **Sound.facts(Content(data.clips))}

    def learn(self, train: Recordings, held: Recordings) -> Learned:
        c = self.config
        if c.streaming:
            c = c.model_copy(update={"mean": "running"})
        target = Tokenizer.train(c.tokens, spaced(c.tokens, train.texts), c.vocab_size)
        if target.vocab_size <= 2 or not any(train.texts):
            raise ElmanError(f"{train.places[0]}: no text says a word")
        if not any(held.texts):
            raise ElmanError(f"{held.places[0]}: no validation text says a word; --valid names others")
        return Learned(Sound.learn(c, Content(train.clips)), target)

    def restore(self, run: Run) -> Learned:
        return Learned.load(run, self.config)

    def encode(self, learnt: Learned, data: Recordings, training: bool = False) -> Examples:
        """Encode recordings and texts; in training, those that are too long, or too short for their text, are left out.

        Raises:
            ElmanError: none is left.
        """
        c = self.config
        if training:
            data = data.at_most(c.max_seconds)
        else:
            _warn_of_unknown(learnt.target, data)
        encoded = learnt.medium.encode(Content(data.clips, c.skip_broken), data.places, training)
        data = data.part([k for k, row in enumerate(encoded) if row is not None])
        rows = [row for row in encoded if row is not None]
        ids = learnt.encode(data.texts, c.tokens)
        if training and c.model != "transducer":
            need, have = np.array([required_steps(row.tolist()) for row in ids]), np.array([len(row) for row in rows])
            have = -(-have // c.stride)
            if (short := np.flatnonzero(need > have)).size:
                k, kept = short[0], np.flatnonzero(need <= have)
                data = data.without(
                    short, f"{have[k]} steps of {10 * c.stride} ms are too few for the {len(ids[k])} tokens of "
                    f"{data.texts[k]!r} (a smaller --stride gives more)",
                )  # fmt: skip
                rows, ids = [rows[k] for k in kept], [ids[k] for k in kept]
        return Examples(rows, ids, data.texts, data.places, [clip.duration for clip in data.clips])

    def count(self, learnt: Learned, train: Recordings, examples: Examples) -> Counts:
        return Counts(len(examples.rows), round(sum(examples.seconds)))

    def resolve(self, learnt: Learned, train: Recordings, examples: Examples) -> TranscribeConfig:
        """Set the duration from the data; docs/log.md says why."""
        config: TranscribeConfig = learnt.medium.options
        if config.minutes is None and config.steps is None:
            minutes = min(20.0, max(2.0, sum(examples.seconds) / 200))
            config = config.model_copy(update={"minutes": round(minutes, 1)})
        return config


def _warn_of_unknown(target: Tokenizer, data: Recordings) -> None:
    """Log which characters or words of the texts the model cannot write."""
    unknown: dict[str, str] = {}
    count = 0
    for text, place in zip(data.texts, data.places, strict=True):
        pieces = target.unknown_pieces(text)
        count += bool(pieces)
        for piece in pieces:
            unknown.setdefault(piece.strip(), place)
    if unknown:
        shown = ", ".join(map(repr, list(unknown)[:10])) + (", ..." if len(unknown) > 10 else "")
        _log.warning(
            "%s: not in the training texts, so the model cannot write it: %s; %d of %d texts have such",
            next(iter(unknown.values())), shown, count, len(data.texts),
        )  # fmt: skip
