"""Predict for many inputs, in their order and with bounded memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from shlex import quote
from typing import Any

import numpy as np

from elman.api import load
from elman.cli.answering import Answering, Reply
from elman.cli.console import console
from elman.cli.inputs import Given, Inputs
from elman.cli.speak import speak
from elman.data.inputs import check_output
from elman.data.output import check_writable, numbered
from elman.errors import ElmanError
from elman.tasks.abilities import Attends, Embeds, Explains, Predicts, Speaks
from elman.tasks.answers import Answer, Attention, by_words


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
        skip_broken: whether pictures and sounds that cannot be read are no failure.
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
    if isinstance(model, Speaks):
        if show or images is not None or skip_broken or skip_bad:
            raise ElmanError("--show, --images, --skip-broken, --skip-bad: have no effect on speech; --plot draws it")
        return speak(model, inputs, out=out, json=json, plot=plot, column=column, options=options or {})
    if out is not None and (json or plot or show or vectors):
        raise ElmanError("--out: writes a file instead of what --json, --plot, --show and --vectors give")
    if images is not None or skip_broken or skip_bad:
        model.read_with(images=images, skip_broken=skip_broken or None, skip_bad=skip_bad or None)
    given = Inputs(model, inputs, column)
    given.check_reading(images, skip_bad)
    if out is not None:
        given.one_file()
        check_output(out)
    if vectors and isinstance(model, Embeds):
        for batch in given.batches():
            _print_vectors(model, batch)
            sys.stdout.flush()
        return 0
    answering, written = Answering(model, given, options or {}), list[Reply]()
    answered = 0
    for found in answering.batches():
        lines: list[str] = []
        for one in found:
            answered += 1
            if out is not None:
                written.append(one)
                continue
            if json:
                lines.append(one.line_of_json())
            elif given.several or one.error is None:
                lines += one.lines(given.several and model.reads_pictures)
            if (show or plot) and one.answers:
                print(*lines, sep="\n")
                lines = []
                _draw(model, one, show, numbered(plot, answered) if plot and given.several else plot)
        if lines:
            print(*lines, sep="\n")
    if out is not None:
        answering.write(out, written)
    return answering.status(skip_broken)


def _print_vectors(model: Embeds, batch: Sequence[Given]) -> None:
    for one in batch:
        for words in model.vectors([one.input]) if not one.empty else ():
            for word, vector in words:
                print(word, *(f"{x:.6g}" for x in vector), sep="\t")
        print()


def _draw(model: Predicts, one: Reply, show: str | None, plot: str | None) -> None:
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
