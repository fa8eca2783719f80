"""Speak the inputs of a model whose answers are sounds, each to a file."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.cli.answering import Answering, Reply
from elman.cli.inputs import Inputs
from elman.data.inputs import check_output, write_output
from elman.data.output import json_line, numbered
from elman.data.sounds import Wave, sound_bytes
from elman.errors import ElmanError
from elman.tasks.abilities import Speaks
from elman.tasks.answers import Sounding


def speak(
    model: Speaks,
    inputs: Sequence[str],
    *,
    out: str | None,
    json: bool,
    plot: str | None,
    column: str | None,
    options: dict[str, Any],
) -> int:
    """Speak every input to ``out``; of several inputs, the first to NAME-1, the second to NAME-2, ...

    Args:
        model: the model.
        inputs: texts, files of texts, or "-".
        out: the file of the sound.
        json: print a line of JSON for each input.
        plot: the file to draw the alignment to.
        column: the column of tables to read.
        options: the options of ``model.predict``.

    Returns:
        int: the exit status.

    Raises:
        ElmanError: an option is wrong, or a text cannot be spoken.
    """
    out = checked_sound(out)
    given = Inputs(model, inputs, column)
    if not given.several:
        check_output(out)
    answering, numbers = Answering(model, given, options), itertools.count(1)
    for found in answering.batches():
        for number, one in zip(numbers, found, strict=False):
            name = write_spoken(one, numbered(out, number) if given.several else out)
            if json:
                print(json_line(one.record() | ({"out": name} if name else {}), "an answer"))
            if name is None:
                continue
            answer = one.answers[0]
            assert isinstance(answer, Sounding)
            if not json:
                print(f"{answer.seconds:.2f} s in {name}", file=sys.stderr)
            if plot and answer.attention is not None:
                from elman.cli.plots import alignment_picture

                picture = numbered(plot, number) if given.several else plot
                attention = answer.attention
                alignment_picture(picture, attention.source.pieces, attention.weights.numpy(), answer.seconds)
    return answering.status(False)


def checked_sound(out: str | None) -> str:
    """Return the name of a sound file to write.

    Raises:
        ElmanError: there is none, or no sound can be written in the format of its ending.
    """
    if out is None:
        raise ElmanError("--out: name the sound file to write, such as --out speech.wav")
    sound_bytes(out, np.zeros(1), 16_000)  # the format is known before anything is computed
    return out


def write_spoken(one: Reply, name: str) -> str | None:
    """Write the sound of an answer; return the name of the file, None where there is no sound."""
    wave = one.answers[0].output if one.answers else ""
    if not isinstance(wave, Wave):
        return None
    check_output(name)
    write_output(name, sound_bytes(name, wave.samples, wave.rate))
    return name
