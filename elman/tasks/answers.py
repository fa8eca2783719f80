"""What a model says, and where it looked for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor


class Answer(NamedTuple):
    """What the model says.

    score: of the search; log_probability: of the text. source: the pieces of text that could be looked at; tokens:
    those that were written ("" where one is a part of a character); weights (tokens, source): where the model looked.
    """

    text: str
    score: float
    log_probability: float
    source: list[str]
    tokens: list[str]
    weights: Tensor


def by_words(pieces: Sequence[str]) -> list[tuple[str, slice]]:
    """Words and the pieces that make them; pieces of one character each stay apart."""
    if all(len(piece) <= 1 for piece in pieces):
        return [(piece, slice(k, k + 1)) for k, piece in enumerate(pieces)]
    words: list[tuple[str, slice]] = []
    for k, piece in enumerate(pieces):
        last = words[-1][0] if words else ""
        begins = piece[:1].isspace() or (not last.isspace() and piece[:1].isalnum() != last[-1:].isalnum())
        if (piece and begins and (not words or words[-1][0])) or not words:
            words.append((piece, slice(k, k + 1)))
        else:  # goes on, or is a part of a character
            words[-1] = words[-1][0] + piece, slice(words[-1][1].start, k + 1)
    return words


def looked_at(answer: Answer) -> tuple[list[str], list[str], np.ndarray]:
    """Source words, written words, and the weights between them: the sum over a source word's pieces, the mean over
    those of a written one."""
    source, target = by_words(answer.source), by_words(answer.tokens)
    weights = answer.weights.float().numpy()
    rows = [
        [float(weights[written, read].sum(1).mean()) if weights[written, read].size else 0.0 for _, read in source]
        for _, written in target
    ]
    return [w for w, _ in source], [w for w, _ in target], np.array(rows).reshape(len(target), len(source))


def best_word(source: Sequence[str], weights: Tensor) -> str:
    """The word of the source that was looked at most, weights (source,)."""
    words = by_words(source)
    if not words:
        return ""
    return max(words, key=lambda word: float(weights[word[1]].sum()))[0].strip()
