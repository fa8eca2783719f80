"""Recordings with the symbols of their texts, and what is learnt of both."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, Field, TypeAdapter
from torch import Tensor

from elman.data.padding import pad
from elman.data.tokenizer import Tokenizer
from elman.data.words import word_pattern
from elman.errors import unknown_name
from elman.tasks.speak.phonemes import Pronouncer
from elman.tasks.speak.spelling import clean
from elman.training.recipe import Learnt
from elman.training.run import MAX_COUNT, Run

_SYMBOLS, _VOICE, _LEXICON = "symbols.json", "voice.json", "lexicon.json"

#: Seconds of a window, and from one frame to the next.
WINDOW, HOP = 0.05, 0.0125
#: Quiet frames at both ends are cut: those that are so many decibels below the loudest one, but for a margin.
_QUIET = 40.0
_MARGIN = 4, 8


class Examples(NamedTuple):
    """Recordings as the network learns them.

    Attributes:
        ids (list[ndarray]): The symbols of each text, and the end.
        frames (list[ndarray]): The log-mel frames of each, (T, bands).
        speakers (list[int]): The number of the speaker.
        texts (list[str]): The text.
    """

    ids: list[np.ndarray]
    frames: list[np.ndarray]
    speakers: list[int]
    texts: list[str]

    def part(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples with these numbers."""
        return Examples(*([column[k] for k in rows] for column in self))  # type: ignore[arg-type]

    def steps(self, frames_per_step: int) -> np.ndarray:
        """Return the number of steps of the decoder for each, (N,)."""
        return np.array([math.ceil(len(frames) / frames_per_step) for frames in self.frames])


class Batch(NamedTuple):
    """ids (B, S), lengths (B,), speakers (B,); log-mel frames (B, T r, M) and their steps (B,)."""

    ids: Tensor
    lengths: Tensor
    speakers: Tensor
    frames: Tensor
    steps: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(t.to(device) for t in self))


class VoiceState(BaseModel):
    """voice.json: the sampling rate; the speakers, the one with most recordings first; the number of symbols of the
    longest training text; the seconds of a symbol, in slow speech."""

    rate: Annotated[int, Field(ge=4000, le=48_000)]
    speakers: Annotated[list[str], Field(min_length=1)]
    longest: Annotated[int, Field(ge=1, le=MAX_COUNT)]
    pace: Annotated[float, Field(gt=0, le=1000)]


class Spelled(NamedTuple):
    """A text as symbols.

    Attributes:
        ids (ndarray): The ids of the symbols, and the end.
        symbols (list[str]): The symbols.
        unknown (list[str]): Symbols of the text that are not known, and left out.
    """

    ids: np.ndarray
    symbols: list[str]
    unknown: list[str]


class Voice(Learnt):
    """The symbols of the texts, the speakers, and how they speak.

    Args:
        symbols (Tokenizer): the symbols.
        state (VoiceState): the rest.
        lowercase (bool): whether texts are converted to lower case.
        pronouncer (Pronouncer, optional): says the phonemes of words; None: symbols are characters.
    """

    def __init__(
        self, symbols: Tokenizer, state: VoiceState, lowercase: bool, pronouncer: Pronouncer | None = None
    ) -> None:
        self.symbols, self.state, self.lowercase, self.pronouncer = symbols, state, lowercase, pronouncer

    @classmethod
    def load(cls, run: Run, config: Any) -> Voice:
        """Read that of a run."""
        symbols = Tokenizer.from_json(run.read(_SYMBOLS), str(run.path / _SYMBOLS))
        pronouncer = None
        if config.phonemes is not None:
            lexicon = run.record(_LEXICON, TypeAdapter(dict[str, list[str]]))
            pronouncer = Pronouncer(config.phonemes, lexicon)
        return cls(symbols, run.record(_VOICE, TypeAdapter(VoiceState)), config.lowercase, pronouncer)

    def files(self) -> Mapping[str, str | bytes]:
        files = {_SYMBOLS: self.symbols.to_json(), _VOICE: self.state.model_dump_json(indent=2) + "\n"}
        if self.pronouncer is not None:
            files[_LEXICON] = json.dumps(self.pronouncer.lexicon, ensure_ascii=False, indent=0) + "\n"
        return files

    def clean(self, text: str) -> str:
        """Return a text as it is spoken; see `elman.tasks.speak.spelling.clean`."""
        return clean(text, self.lowercase)

    def encode(self, text: str) -> Spelled:
        """Return the symbols of a clean text."""
        symbols = to_symbols(text, self.pronouncer)
        ids = self.symbols.encode_words(symbols)
        known = (ids != Tokenizer.unknown_id).tolist()
        kept = [symbol for symbol, is_known in zip(symbols, known, strict=True) if is_known]
        unknown = [symbol for symbol, is_known in zip(symbols, known, strict=True) if not is_known]
        return Spelled(np.append(ids[known], Tokenizer.end_id), kept, list(dict.fromkeys(unknown)))

    def speaker(self, name: str | None) -> int:
        """Return the number of a speaker; 0, the one with most recordings, for None.

        Raises:
            ElmanError: there is no such speaker.
        """
        if name is None:
            return 0
        if name not in self.state.speakers:
            raise unknown_name("speaker", name, filter(None, self.state.speakers))
        return self.state.speakers.index(name)


def to_symbols(text: str, pronouncer: Pronouncer | None) -> list[str]:
    """Return the characters of a text; with a pronouncer, the phonemes of its words and the characters between them."""
    if pronouncer is None:
        return list(text)
    parts = re.split(f"({word_pattern()})", text)  # every second one is a word
    return [x for k, part in enumerate(parts) for x in (pronouncer.pronounce(part) if k % 2 else part)]


def words_of(texts: Iterable[str]) -> set[str]:
    """Return the words that a pronouncer is asked about."""
    return {word for text in texts for word in re.findall(word_pattern(), text)}


def collate(examples: Examples, rows: Sequence[int] | np.ndarray, frames_per_step: int) -> Batch:
    """Return a batch of these examples."""
    some = examples.part(rows)
    frames, _ = pad([_whole_steps(one, frames_per_step) for one in some.frames])
    return Batch(
        *pad(some.ids), torch.tensor(some.speakers), frames, torch.from_numpy(some.steps(frames_per_step))
    )  # fmt: skip


def trim(frames: np.ndarray) -> np.ndarray:
    """Cut the quiet frames at both ends of log-mel frames (T, bands), but for a short margin."""
    loudness = np.logaddexp.reduce(frames.astype(np.float32), axis=1)
    loud = np.flatnonzero(loudness >= loudness.max() - _QUIET * math.log(10) / 10)
    return frames[max(0, loud[0] - _MARGIN[0]) : loud[-1] + 1 + _MARGIN[1]]


def _whole_steps(frames: np.ndarray, frames_per_step: int) -> np.ndarray:
    """Return frames as float32, the last one repeated until they fill the last step."""
    missing = -len(frames) % frames_per_step
    return np.pad(frames.astype(np.float32), ((0, missing), (0, 0)), "edge")
