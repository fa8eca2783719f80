"""Predict for many inputs, in their order and with bounded memory."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from shlex import quote
from typing import Any, NamedTuple

import numpy as np

from elman.api import load
from elman.cli.console import console
from elman.cli.inputs import Given, Inputs
from elman.data.inputs import check_output, write_output
from elman.data.output import check_finite, check_writable, json_line
from elman.data.pictures import BrokenPicture
from elman.errors import ElmanError
from elman.tasks.abilities import Attends, Embeds, Explains, Predicts
from elman.tasks.answers import Answer, Attention, by_words, cells_of


class _Answered(NamedTuple):
    """The answers to an input, the best first; or the reason why there are none."""

    given: Given
    answers: Sequence[Answer]
    reason: str
    error: ElmanError | None = None

    @property
    def message(self) -> str:
        """The reason with the location of the input, which is named once."""
        place, shown, reason = self.given.place or "", str(self.given.shown), " ".join(self.reason.split())
        if place == shown or not place:
            return reason if reason.startswith(f"{shown}: ") else f"{shown}: {reason}"
        return f"{place}: {reason}"

    def record(self) -> str:
        """Return a line of JSON."""
        answers = [answer.record() for answer in self.answers] or None
        reason = {"reason": self.reason} if self.reason else {}
        question = {"question": self.given.question} if self.given.question else {}
        return json_line({"input": self.given.shown} | question | {"answers": answers} | reason, "an answer")

    def lines(self, named: bool) -> list[str]:
        """Return a line of text for each answer, an empty one if there are none; ``named``: after the input."""
        columns = [str(self.given.shown)] + ([] if self.given.question is None else [self.given.question])
        start = "".join(f"{column}\t" for column in columns) if named and not self.given.empty else ""
        return [f"{start}{line}" for line in self._lines()]

    def _lines(self) -> list[str]:
        texts = [" ".join(a.text.splitlines()) or f"({a.empty_means})" for a in self.answers]
        if len(texts) > 1:
            return [f"{a.score:.3f}\t{text}" for a, text in zip(self.answers, texts, strict=True)]
        return texts or [""]


def predict(
    run: str,
    inputs: Sequence[str],
    device: str = "cpu",
    *,
    json: bool = False,
    plot: str | None = None,
    show: str | None = None,
    vectors: bool = False,
    out: str | None = None,
    column: str | None = None,
    images: str | None = None,
    skip_broken: bool = False,
    skip_bad: bool = False,
    options: dict[str, Any] | None = None,
) -> int:
    """Print the answers to the inputs, or to the lines of standard input if there are none (or "-").

    An input that is the name of a file stands for its rows. Each line or row gets one line, in order; an empty input
    gets an empty answer. If an input of several cannot be used, the others are answered. For a model that reads files,
    each file that cannot be used has a line on standard error.

    Args:
        run: the run directory.
        inputs: texts, files, or "-".
        device: cpu, cuda, ...
        json: print a line of JSON for each input.
        plot: the file to draw the attention to.
        show: "attention" or "gradient", to colour the words of the inputs.
        vectors: print contextual embeddings instead of answers.
        out: write the answers to this file, with the table that was read; nothing is printed.
        column: the column of tables to read. Default: the one that the model was trained on.
        images: the folder or archive to which the paths in files are relative. Default: as in training.
        skip_broken: whether pictures that cannot be read are no failure.
        skip_bad: whether rows that cannot be read are skipped.
        options: the options of ``model.predict``.

    Returns:
        int: the exit status: 0, or 2 where a file could not be used.

    Raises:
        ElmanError: an option or an input cannot be used.
    """
    if plot:
        check_writable(plot, "--plot", inputs)
    model = load(run, device)
    if not isinstance(model, Predicts):
        raise ElmanError(f"{run}: a {model.name} model generates text: elman generate {quote(run)}")
    if vectors and not isinstance(model, Embeds):
        raise ElmanError(f"--vectors: a {model.name} model has no contextual embeddings")
    if show == "gradient" and not isinstance(model, Explains):
        hint = "; --show attention is possible" if isinstance(model, Attends) else ""
        raise ElmanError(f"--show gradient: not for a {model.name} model{hint}")
    if (show == "attention" or plot) and not isinstance(model, Attends):
        raise ElmanError(f"--show attention, --plot: a {model.name} model has no attention")
    if out is not None and (json or plot or show or vectors):
        raise ElmanError("--out: writes a file instead of what --json, --plot, --show and --vectors give")
    if images is not None or skip_broken or skip_bad:
        model.read_with(images=images, skip_broken=skip_broken or None, skip_bad=skip_bad or None)
    given = Inputs(model, inputs, column)
    given.check_reading(images, skip_bad)
    if out is not None:
        given.one_file()
        check_output(out)
    written: list[_Answered] = []
    failed: list[_Answered] = []
    answered, progress = 0, _Progress()
    for batch in given.batches():
        if vectors and isinstance(model, Embeds):
            _print_vectors(model, batch)
            continue
        lines: list[str] = []
        for one in _answers(model, batch, options or {}):
            answered += 1
            check_finite([a.score for a in one.answers], "an answer's score")
            failed += [one] if not (one.answers or one.given.empty) else []
            if out is not None:
                written.append(one)
                continue
            if json:
                lines.append(one.record())
            elif given.several or one.error is None:
                lines += one.lines(given.several and model.reads_pictures)
            if (show or plot) and one.answers:
                print(*lines, sep="\n")
                lines = []
                _draw(model, one, show, _numbered(plot, answered) if plot and given.several else plot)
        if lines:
            print(*lines, sep="\n")
        sys.stdout.flush()
        progress.show(answered)
    progress.end()
    if out is not None and (len(failed) < answered or not answered):
        asked = given.one_file() or given.as_file([one.given for one in written])
        write_output(
            out, asked.with_predictions(out, [cells_of(one.answers) if one.answers else None for one in written])
        )
        count = f"{answered - len(failed):,} of {answered:,}" if failed else f"{answered:,}"
        print(f"answers to {count} inputs in {out}", file=sys.stderr)
    unusable = [one for one in failed if one.error is not None] if model.reads_paths else []
    failed = [one for one in failed if one.error is None or not model.reads_paths]
    broken = [one for one in unusable if skip_broken and isinstance(one.error, BrokenPicture)]
    if broken:
        unusable = [one for one in unusable if not isinstance(one.error, BrokenPicture)]
        count = f"{len(broken):,} of {answered:,} inputs"
        print(
            f"elman: left out {count}, whose pictures cannot be read; the first, {broken[0].message}", file=sys.stderr
        )
    for one in unusable:
        print(f"elman: {one.message}", file=sys.stderr)
    if failed:
        more = f"; {len(failed):,} of {answered:,} inputs have no answer" if len(failed) > 1 else ""
        raise ElmanError(f"{failed[0].message}{more}")
    return 2 if unusable else 0


def _answers(model: Predicts, batch: Sequence[Given], options: dict[str, Any]) -> list[_Answered]:
    """Return the answers to all inputs; if one of several lines cannot be used, the others are answered."""
    full = [one for one in batch if not one.empty]
    try:
        pairs = zip(full, _predicted(model, full, options), strict=True)
        answered = iter([_Answered(one, answers, _reason(answers)) for one, answers in pairs])
    except ElmanError:
        if not model.reads_paths and any(one.place is None for one in full):
            raise
        answered = iter(_apart(model, full, options))
    return [_Answered(one, [], "the input is empty") if one.empty else next(answered) for one in batch]


def _predicted(model: Predicts, given: Sequence[Given], options: dict[str, Any]) -> Sequence[Sequence[Answer]]:
    return model.predict([one.input for one in given], **options) if given else []


def _apart(model: Predicts, given: Sequence[Given], options: dict[str, Any]) -> list[_Answered]:
    """Return the answers to all inputs, some of which cannot be used: halves are tried until these are found."""
    try:
        found = _predicted(model, given, options)
    except ElmanError as error:
        if len(given) == 1:
            return [_Answered(given[0], [], re.sub(r"^input 1 of 1:?\s*", "", str(error)), error)]
        half = len(given) // 2
        return [*_apart(model, given[:half], options), *_apart(model, given[half:], options)]
    return [_Answered(one, answers, _reason(answers)) for one, answers in zip(given, found, strict=True)]


def _reason(answers: Sequence[Answer]) -> str:
    """Return what an empty text means; nothing for any other text."""
    return "" if answers[0].text else answers[0].empty_means


def _print_vectors(model: Embeds, batch: Sequence[Given]) -> None:
    for one in batch:
        for words in model.vectors([one.input]) if not one.empty else ():
            for word, vector in words:
                print(word, *(f"{x:.6g}" for x in vector), sep="\t")
        print()


def _draw(model: Predicts, one: _Answered, show: str | None, plot: str | None) -> None:
    """Show the attention or the gradient in colour, and the attention as a picture."""
    best = one.answers[0]
    if show == "gradient":
        assert isinstance(model, Explains)
        pieces, weights = model.explain(one.given.input)
        words = by_words(pieces)
        _colour([word for word, _ in words], [best.text], np.array([[float(weights[s].sum()) for _, s in words]]))
    attention = best.attention
    if attention is None:
        return
    if attention.source.kind == "grid":
        _draw_grid(one.given, best, attention, show, plot)
        return
    if show == "attention":
        _colour(*attention.by_words())
    if plot:
        from elman.cli.plots import attention_picture

        attention_picture(plot, *attention.by_words())


def _draw_grid(given: Given, best: Answer, attention: Attention, show: str | None, plot: str | None) -> None:
    """Show the attention over a picture in the terminal, and draw it to a file."""
    from elman.cli.blocks import show_panels
    from elman.cli.pictures import grid_picture, panels
    from elman.data.pictures import open_picture

    picture, name = attention.source.picture, str(given.shown)
    if picture is None:
        picture = given.input.partition("\t")[0] if isinstance(given.input, str) else given.input
    picture = open_picture(picture)
    if show == "attention":
        show_panels(console(), picture, panels(attention), os.path.basename(name))
    if plot:
        grid_picture(plot, picture, best, attention, os.path.basename(name), given.question or "")


class _Progress:
    """The number of answers on standard error, if that is a terminal and the answers go elsewhere."""

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


def _colour(source: list[str], target: list[str], weights: np.ndarray) -> None:
    """Print a line for each target word: it, and the source, with positive weights in blue and negative ones in red."""
    from rich.text import Text

    width = max((len(word.strip()) for word in target), default=0)
    shown = console()
    for word, row in zip(target, weights, strict=True):
        line = Text(f"{word.strip():>{width}}  ")
        largest = max(1e-6, float(np.abs(row).max(initial=0.0)))
        for read, weight in zip(source, row, strict=True):
            shade = int(255 - 175 * min(1.0, abs(weight) / largest))
            colour = f"rgb({shade},{shade},255)" if weight > 0 else f"rgb(255,{shade},{shade})"
            strong = abs(weight) > 0.05 * min(1.0, largest)
            line.append(" " if read[:1].isspace() else "")
            line.append(read.strip(), style=f"black on {colour}" if strong else "dim")
        shown.print(line, soft_wrap=True)


def _numbered(path: str, number: int) -> str:
    name, ending = os.path.splitext(path)
    return f"{name}-{number}{ending}"
