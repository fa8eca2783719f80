"""Answers to many inputs: as they come, in order, with bounded memory."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from json import dumps
from typing import Any

from elman.errors import ElmanError
from elman.start import load
from elman.tasks.answers import looked_at

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
    number = 0
    try:
        for number, line in enumerate(sys.stdin, 1):
            if not line.strip():
                raise ElmanError(f"standard input, line {number}: is empty; each line is one input")
            yield line.rstrip("\n")
    except UnicodeDecodeError:
        raise ElmanError(f"standard input, after line {number}: not UTF-8") from None


def _batches(inputs: Sequence[str] | Iterator[str]) -> Iterator[list[str]]:
    iterator = iter(inputs)
    at_once = 1 if sys.stdin.isatty() and not isinstance(inputs, Sequence) else _AT_ONCE  # a person waits
    while texts := list(itertools.islice(iterator, at_once)):
        yield texts


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
