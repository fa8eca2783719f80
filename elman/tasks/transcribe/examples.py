"""Recordings with their texts, and what is learnt of both."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from elman.data.padding import pad
from elman.data.tokenizer import Tokenizer, TokenKind
from elman.media.sound import Sound
from elman.media.text import encode_all, spaced
from elman.training.recipe import Learnt
from elman.training.run import Run

_SOUND, _TARGET = "sound.json", "target.json"
#: Apostrophes that are not inside a word.
_QUOTES = re.compile(r"(?<!\S)'+|'+(?!\S)")
#: Characters inside words of some writing systems that join letters or keep them apart.
_JOINERS = "\u200c\u200d"


class Examples(NamedTuple):
    """Recordings as the network reads them.

    Attributes:
        rows (list[ndarray]): The frames of each, (T, bands).
        target_ids (list[ndarray]): The ids of its text.
        texts (list[str]): Its text.
        places (list[str]): Its location.
        seconds (list[float]): Its duration.
    """

    rows: list[np.ndarray]
    target_ids: list[np.ndarray]
    texts: list[str]
    places: list[str]
    seconds: list[float]

    def part(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples with these numbers."""
        return Examples(*([column[k] for k in rows] for column in self))  # type: ignore[arg-type]


class Batch(NamedTuple):
    """frames (B, T, D), lengths (B,); the targets (B, U) and target_lengths (B,)."""

    frames: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(t.to(device) for t in self))


class Learned(Learnt):
    """How sounds are read, and the tokens that are written.

    Args:
        medium (Sound): reads sounds.
        target (Tokenizer): the tokens.
    """

    medium: Sound

    def __init__(self, medium: Sound, target: Tokenizer) -> None:
        self.medium, self.target = medium, target

    def files(self) -> Mapping[str, str | bytes]:
        return {_SOUND: self.medium.state().model_dump_json(indent=2) + "\n", _TARGET: self.target.to_json()}

    @classmethod
    def load(cls, run: Run, config: Any) -> Learned:
        """Read that of a run."""
        medium = Sound.load(config, run.record(_SOUND, TypeAdapter(Sound.State)), run)
        return cls(medium, Tokenizer.from_json(run.read(_TARGET), str(run.path / _TARGET)))

    def encode(self, texts: Sequence[str], tokens: TokenKind) -> list[np.ndarray]:
        """Return the ids of texts; none for an empty text, which is silence."""
        none = np.zeros(0, dtype=np.int64)
        ids = encode_all(self.target, spaced(tokens, texts))
        return [row if text else none for row, text in zip(ids, texts, strict=True)]

    def collate(self, rows: Sequence[np.ndarray], target_ids: Sequence[np.ndarray]) -> Batch:
        """Return a batch of frames (T, bands) and of the ids of their texts."""
        return Batch(*self.medium.batch(rows), *pad([np.asarray(ids, dtype=np.int64) for ids in target_ids]))


def normalize(text: str) -> str:
    """Return a text in lower case, without punctuation except apostrophes inside words.

    Hyphens separate words, and other apostrophes become plain ones; Unicode is composed (NFC).

    Example::

        >>> normalize("Well-known: It's 5 o'clock!")
        "well known it's 5 o'clock"
    """
    text = unicodedata.normalize("NFC", text).lower()
    for other in "\u2019\u02bc\u2018\u0060\u00b4":
        text = text.replace(other, "'")
    plain = "".join(_plain(character) for character in text)
    return " ".join(_QUOTES.sub(" ", plain).split())


def _plain(character: str) -> str:
    """A letter, mark, digit, apostrophe or joiner as it is; nothing for other invisible characters; else a space."""
    kind = unicodedata.category(character)
    if kind[0] in "LMN" or character == "'" or character in _JOINERS:
        return character
    return "" if kind == "Cf" else " "
