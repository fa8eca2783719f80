"""Answers to many inputs: as they come, in order, with bounded memory."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from shlex import quote
from typing import Any

import numpy as np

from elman.errors import ElmanError
from elman.output import console, finite, json_line, writable
from elman.start import load
from elman.tasks.answers import by_words, looked_at

#: Inputs that are answered together.
_AT_ONCE = 1024


def predict(
    run: str,
    inputs: Sequence[str],
    device: str = "cpu",
    *,
    json: bool = False,
    plot: str | None = None,
    show: str | None = None,
    vectors: bool = False,
    options: dict[str, Any] | None = None,
) -> None:
    """Prints the answers to the inputs, or to the lines of standard input where there are none."""
    if plot:
        writable(plot, "--plot", inputs)
    model = load(run, device)
    if not hasattr(model, "predict"):
        raise ElmanError(f"{run}: a {model.name} model generates text: elman generate {quote(run)}")
    if vectors and not hasattr(model, "vectors"):
        raise ElmanError(f"--vectors: a {model.name} model has no vectors of words in their context; a fill model has")
    if show == "gradient" and not hasattr(model, "explain"):
        raise ElmanError(f"--show gradient: not for a {model.name} model; --show attention is")
    if (show == "attention" or plot) and not model.looks:
        raise ElmanError(f"--show attention, --plot: a {model.name} model does not say where it looks")
    several = len(inputs) > 1 or not inputs
    answered, progress = 0, _Progress()
    for texts in _batches(inputs or _lines()):
        if vectors:
            for words in model.vectors(texts):
                for word, vector in words:
                    print(word, *(f"{x:.6g}" for x in vector), sep="\t")
                print()
            continue
        lines = []
        shown = model.inputs.names(texts) if model.name == "classify" else texts
        for text, answers in zip(shown, model.predict(texts, **(options or {})), strict=True):
            answered += 1
            finite([a.score for a in answers], "an answer's score")
            if json:
                lines.append(json_line({"input": text, "answers": [a.record() for a in answers]}, "an answer"))
            else:
                lines += [f"{a.score:.3f}\t{a.text}" if len(answers) > 1 else a.text for a in answers]
            if show or plot:
                print(*lines, sep="\n")
                lines = []
            if show:
                _colour(*(_explained(model, text, answers[0]) if show == "gradient" else looked_at(answers[0])))
            if plot:
                from elman.plots import attention_picture

                attention_picture(_numbered(plot, answered) if several else plot, *looked_at(answers[0]))
        if lines:
            print(*lines, sep="\n")
        sys.stdout.flush()
        progress.show(answered)
    progress.end()


class _Progress:
    """How many lines are done, on standard error, where that is a terminal and the answers go somewhere else."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.on = sys.stderr.isatty() and not sys.stdout.isatty()

    def show(self, done: int) -> None:
        if self.on:
            rate = done / max(1e-9, time.monotonic() - self.began)
            print(f"\r{done:,} answered, {rate:,.0f} a second", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.on:
            print(file=sys.stderr)


def _explained(model: Any, text: str, answer: Any) -> tuple[list[str], list[str], np.ndarray]:
    """Words, the answer, and how much each word speaks for it."""
    pieces, weights = model.explain(text)
    words = by_words(pieces)
    return [w for w, _ in words], [answer.text], np.array([[float(weights[s].sum()) for _, s in words]])


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


def _colour(source: list[str], target: list[str], weights: np.ndarray) -> None:
    """A line for each written word: it, and the source with what it looked at in blue; in red what speaks against."""
    from rich.text import Text

    width = max((len(word.strip()) for word in target), default=0)
    shown = console()
    for word, row in zip(target, weights, strict=True):
        line = Text(f"{word.strip():>{width}}  ")
        most = max(1e-6, float(np.abs(row).max(initial=0.0)))
        for read, weight in zip(source, row, strict=True):
            shade = int(255 - 175 * min(1.0, abs(weight) / most))
            colour = f"rgb({shade},{shade},255)" if weight > 0 else f"rgb(255,{shade},{shade})"
            strong = abs(weight) > 0.05 * min(1.0, most)
            line.append(" " if read[:1].isspace() else "")
            line.append(read.strip(), style=f"black on {colour}" if strong else "dim")
        shown.print(line, soft_wrap=True)


def _numbered(path: str, number: int) -> str:
    name, ending = os.path.splitext(path)
    return f"{name}-{number}{ending}"
