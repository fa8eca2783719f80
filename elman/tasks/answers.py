"""What a model answers, and what it attended to."""

from __future__ import annotations

import itertools
import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from torch import Tensor

from elman.data.sounds import Wave, write_sound
from elman.errors import ElmanError


@dataclass(frozen=True)
class Axis:
    """One side of an attention matrix.

    Attributes:
        kind: what a position is: a piece of text ("words"), a step of a series ("steps"), a frame of a sound
            ("frames"), or a cell of a picture ("grid").
        shape: the number of positions; of a grid, its rows and columns.
        pieces: the text of each position, for words.
        picture: the picture of a grid: a path, or whatever else `elman.data.pictures.open_picture` takes.
    """

    kind: Literal["words", "steps", "frames", "grid"]
    shape: tuple[int, ...]
    pieces: tuple[str, ...] = ()
    picture: Any = None

    @classmethod
    def of_words(cls, pieces: Sequence[str]) -> Axis:
        return cls("words", (len(pieces),), tuple(pieces))

    def record(self) -> dict[str, Any]:
        """Return the axis for JSON."""
        return {"kind": self.kind, "shape": list(self.shape)} | ({"pieces": list(self.pieces)} if self.pieces else {})


class Attention(NamedTuple):
    """Attention weights of an answer.

    Attributes:
        weights (Tensor): (target positions, source positions), each row sums to 1.
        source (Axis): what was read.
        target (Axis): what was written.
    """

    weights: Tensor
    source: Axis
    target: Axis

    def by_words(self) -> tuple[list[str], list[str], np.ndarray]:
        """Return source words, target words, and the weights between them.

        The weights are summed over the pieces of a source word and averaged over those of a target word.

        Raises:
            ElmanError: the source is not a text.
        """
        if self.source.kind != "words":
            raise ElmanError("attention is shown on texts only; elman inspect draws series and sounds")
        source, target = by_words(self.source.pieces), by_words(self.target.pieces)
        weights = self.weights.float().numpy()
        rows = [
            [float(weights[written, read].sum(1).mean()) if weights[written, read].size else 0.0 for _, read in source]
            for _, written in target
        ]
        return [w for w, _ in source], [w for w, _ in target], np.array(rows).reshape(len(target), len(source))

    def record(self) -> dict[str, Any]:
        """Return weights and axes for JSON."""
        return {"source": self.source.record(), "target": self.target.record(), "weights": self.weights.tolist()}


class Answer(ABC):
    """What a model answers to one input.

    Attributes:
        text (str): the answer; "" where the model gives none.
        score (float): how sure the model is; greater is better, among the answers to one input.
        log_probability (float, optional): log p(answer | input), in nats; None where it is not known.
        blank (int): which of several blanks of an input it is for, from 1.
    """

    #: What an empty text means.
    empty_means: ClassVar[str] = "no answer"

    text: str
    score: float
    log_probability: float | None
    blank: int = 1

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return the answer for JSON."""

    @property
    @abstractmethod
    def attention(self) -> Attention | None:
        """What the model attended to; None for a model without attention."""

    @property
    @abstractmethod
    def output(self) -> Any:
        """The answer as an input of the next model of a chain, of the kind that the model `writes`; empty for none."""

    @property
    @abstractmethod
    def cell(self) -> str | list[str]:
        """The answer as the cell of a table: the text, or a list of texts."""


def log_of(probability: float) -> float:
    """Return the logarithm of a probability; finite where it was rounded to 0."""
    return math.log(max(probability, sys.float_info.min))


class Sounding(Answer, ABC):
    """An answer that is a sound.

    Attributes:
        wave (ndarray): samples (N,) float32, in [-1, 1].
        rate (int): the sampling rate in Hz.
    """

    wave: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """The duration."""
        return len(self.wave) / self.rate

    @property
    def output(self) -> Wave:
        return Wave(self.wave, self.rate)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the sound to a file, whose ending sets the format: .wav, .flac, .ogg, ..."""
        write_sound(path, self.wave, self.rate)


def cells_of(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the columns of a table for the answers to one input: predicted, score, predicted_2, score_2, ...

    Words for several blanks are joined by spaces, and their scores multiplied.
    """
    blanks = [list(group) for _, group in itertools.groupby(answers, lambda answer: answer.blank)]
    cells: dict[str, Any] = {}
    for k, ranked in enumerate(zip(*blanks, strict=True), 1):
        number = f"_{k}" if k > 1 else ""
        cells[f"predicted{number}"] = ranked[0].cell if len(ranked) == 1 else " ".join(a.text for a in ranked)
        cells[f"score{number}"] = math.prod(a.score for a in ranked)
    return cells


def by_words(pieces: Sequence[str]) -> list[tuple[str, slice]]:
    """Group pieces of text into words: each word, and which pieces it consists of.

    Where every piece is a single character, each stays a group of its own.
    """
    if all(len(piece) <= 1 for piece in pieces):
        return [(piece, slice(k, k + 1)) for k, piece in enumerate(pieces)]
    words: list[tuple[str, slice]] = []
    for k, piece in enumerate(pieces):
        last = words[-1][0] if words else ""
        begins = piece[:1].isspace() or (not last.isspace() and piece[:1].isalnum() != last[-1:].isalnum())
        if (piece and begins and (not words or words[-1][0])) or not words:
            words.append((piece, slice(k, k + 1)))
        else:  # continues the word, or is a part of a character
            words[-1] = words[-1][0] + piece, slice(words[-1][1].start, k + 1)
    return words


def target_words(attention: Attention) -> tuple[list[str], np.ndarray]:
    """Return the words that were written, and the weights of each, averaged over its pieces: (words, source)."""
    words = by_words(attention.target.pieces)
    weights = attention.weights.float().numpy()
    rows = [weights[pieces].mean(0) for _, pieces in words]
    return [word.strip() for word, _ in words], np.array(rows).reshape(len(words), weights.shape[1])


def best_word(source: Sequence[str], weights: Tensor) -> str:
    """Return the word with the largest sum of ``weights`` (source positions,)."""
    words = by_words(source)
    if not words:
        return ""
    return max(words, key=lambda word: float(weights[word[1]].sum()))[0].strip()
