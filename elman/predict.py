"""Answers to many inputs: as they come, in order, with bounded memory."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from json import dumps
from typing import Any

import numpy as np

from elman.errors import ElmanError
from elman.start import load

#: Inputs that are answered together.
_AT_ONCE = 256


def predict(
    run: str,
    inputs: Sequence[str],
    device: str = "cpu",
    *,
    json: bool = False,
    plot: str | None = None,
    show_attention: bool = False,
    options: dict[str, Any] | None = None,
) -> None:
    """Prints the answers to the inputs, or to the lines of standard input where there are none."""
    model = load(run, device)
    if not hasattr(model, "predict"):
        raise ElmanError(f"{run}: a {model.name} model generates text: elman generate {run}")
    several = len(inputs) > 1 or not inputs
    answered = 0
    for texts in _batches(inputs or _lines()):
        for text, answers in zip(texts, model.predict(texts, **(options or {})), strict=True):
            answered += 1
            if json:
                found = [{"text": a.text, "score": a.score, "log_probability": a.log_probability} for a in answers]
                print(dumps({"input": text, "answers": found}, ensure_ascii=False))
            else:
                for answer in answers:
                    print(f"{answer.score:.3f}\t{answer.text}" if len(answers) > 1 else answer.text)
            if show_attention:
                _colour(answers[0])
            if plot:
                _plot(_numbered(plot, answered) if several else plot, answers[0])
        sys.stdout.flush()


def _lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            raise ElmanError(f"standard input, line {number}: is empty; each line is one input")
        yield line.rstrip("\n")


def _batches(inputs: Sequence[str] | Iterator[str]) -> Iterator[list[str]]:
    iterator = iter(inputs)
    at_once = 1 if sys.stdin.isatty() and not isinstance(inputs, Sequence) else _AT_ONCE  # a person waits
    while texts := list(itertools.islice(iterator, at_once)):
        yield texts


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


def looked_at(answer: Any) -> tuple[list[str], list[str], np.ndarray]:
    """Source words, written words, and the weights between them: the sum over a source word's pieces, the mean over
    those of a written one."""
    source, target = by_words(answer.source), by_words(answer.tokens)
    weights = answer.weights.float().numpy()
    rows = [
        [float(weights[written, read].sum(1).mean()) if weights[written, read].size else 0.0 for _, read in source]
        for _, written in target
    ]
    return [w for w, _ in source], [w for w, _ in target], np.array(rows).reshape(len(target), len(source))


def _plot(path: str, answer: Any) -> None:
    from elman.plots import attention_picture

    attention_picture(path, *looked_at(answer))


def _colour(answer: Any) -> None:
    """A line for each written word: it, and the source with the words it looked at in colour."""
    from rich.console import Console
    from rich.text import Text

    source, target, weights = looked_at(answer)
    width = max((len(word.strip()) for word in target), default=0)
    console = Console(highlight=False)
    for word, row in zip(target, weights, strict=True):
        line = Text(f"{word.strip():>{width}}  ")
        for read, weight in zip(source, row, strict=True):
            shade = int(255 - 175 * min(1.0, weight / max(1e-6, row.max())))
            strong = weight > 0.05
            line.append(" " if read[:1].isspace() else "")
            line.append(read.strip(), style=f"black on rgb({shade},{shade},255)" if strong else "dim")
        console.print(line, soft_wrap=True)


def _numbered(path: str, number: int) -> str:
    name, ending = os.path.splitext(path)
    return f"{name}-{number}{ending}"
