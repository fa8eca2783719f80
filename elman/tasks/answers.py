"""What a model says, and where it looked for it."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from elman.data.source import to_memory
from elman.data.text import texts_in_memory
from elman.errors import ElmanError


class Answer(NamedTuple):
    """What the model says.

    text: "" where the model gives no answer. score: of the search; log_probability: of the text. source: the pieces of
    text that could be looked at; tokens: those that were written ("" where one is a part of a character, or for the
    end where that is all); weights (tokens, source): where the model looked.
    """

    text: str
    score: float
    log_probability: float
    source: list[str]
    tokens: list[str]
    weights: Tensor

    @property
    def nothing(self) -> str:
        """What an empty text means."""
        return "no answer"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {"text": self.text, "score": self.score, "log_probability": self.log_probability}


class Label(NamedTuple):
    """A label that the model gives.

    text: the label (or several, or "" for none of them); probability: of it; probabilities: of all labels; weights
    (pieces,): how much each piece of the input had to do with it; pieces(): the text of each, where the input is one.
    """

    text: str
    probability: float
    probabilities: dict[str, float]
    weights: Tensor
    pieces: Callable[[], list[str]]

    @property
    def score(self) -> float:
        """The probability."""
        return self.probability

    @property
    def nothing(self) -> str:
        """What an empty text means."""
        return "no label"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {"text": self.text, "probability": self.probability, "probabilities": self.probabilities}


def inputs_of(inputs: Any, text: bool, column: str = "text") -> list[Any]:
    """One input, or several, as a list; texts are checked.

    Texts can be a Series, an array or a DataFrame (pandas, polars, Arrow, a dict of columns): its column of that name,
    or the only one.

    Raises:
        ElmanError: one is empty, or not text; a table has no such column.
    """
    single = isinstance(inputs, (str, os.PathLike)) or (hasattr(inputs, "shape") and not text)
    if text and not single and (table := to_memory(inputs)) is not None:
        given: list[Any] = texts_in_memory(table, column)
    else:
        given = [inputs] if single else list(inputs)
    for k, x in enumerate(given, 1):
        if not text:
            continue
        if not isinstance(x, str):
            raise ElmanError(f"input {k} of {len(given)}: a text is needed, not {type(x).__name__}")
        if not x.strip():
            raise ElmanError(f"input {k} of {len(given)} is empty")
        if any("\ud800" <= c <= "\udfff" for c in x):  # how Python shows bytes that are no text
            raise ElmanError(f"input {k} of {len(given)}: not UTF-8")
    return given


def cells_of(answers: Sequence[Any]) -> dict[str, Any]:
    """What a table says of an input's answers, the best first: predicted, score, predicted_2, score_2, ...

    The tags of a text are a list. Words for several blanks stand side by side; their score is the product.
    """
    blanks = [list(group) for _, group in itertools.groupby(answers, lambda a: getattr(a, "blank", 1))]
    cells: dict[str, Any] = {}
    for k, ranked in enumerate(zip(*blanks, strict=True), 1):
        number = f"_{k}" if k > 1 else ""
        cells[f"predicted{number}"] = getattr(ranked[0], "tags", None) or " ".join(a.text for a in ranked)
        cells[f"score{number}"] = math.prod(a.score for a in ranked)
    return cells


def explained(x: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """How much each step of x (1, T, D) speaks for a score, (T,): the gradient times the input, summed over D.

    Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(score(x), x)
    return (gradient * x.detach())[0].sum(-1)


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


def looked_at(answer: Answer | Label) -> tuple[list[str], list[str], np.ndarray]:
    """Source words, written words, and the weights between them: the sum over a source word's pieces, the mean over
    those of a written one. Of a label: its words, the label, and one row of weights."""
    if isinstance(answer, Label):
        source, target = by_words(answer.pieces()), [(answer.text, slice(0, 1))]
        if not source:
            raise ElmanError("where a model looks is shown for texts; elman inspect draws series and sounds")
        weights = answer.weights.float().numpy()[None]
    else:
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
