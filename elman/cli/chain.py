"""Run several models in a row, each on the answers of the one before."""

import itertools
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from elman.chains import ChainAnswer, is_chain
from elman.chains import chain as load_chain
from elman.chains.stages import ChainOptions
from elman.cli.answering import Answering, Reply
from elman.cli.arguments import Flag, Flat
from elman.cli.inputs import Inputs
from elman.data.inputs import check_output, write_output
from elman.data.output import json_line, numbered
from elman.data.sounds import Wave, sound_bytes
from elman.errors import ElmanError
from elman.training.run import Run, is_run


def chain(
    run: str,
    *more: str,
    device: str = "cpu",
    show: Flag = False,
    json: Flag = False,
    out: str | None = None,
    column: str | None = None,
    images: str | None = None,
    skip_broken: Flag = False,
    skip_bad: Flag = False,
    options: Annotated[ChainOptions | None, Flat] = None,
) -> int:
    """Run several models in a row: each reads what the one before has written.

    Parameters
    ----------
    run
        Run directory of the first model, or a TOML file that names all of them with their options.
    more
        Run directories of the next models, in order; then the inputs of the first one, as for elman predict: texts,
        files, or - for standard input. Default: each line of standard input.
    device
        Device: cpu, cuda, cuda:1, ...
    show
        Print the answer of every model, a line each, and an empty line after each input.
    json
        Print one JSON object per input, with the answers of every model.
    out
        New file to write the answers to: a table with the columns of the input table; or a sound, if the last
        model speaks, for several inputs NAME-1, NAME-2, ...
    column
        Column of tables to read. Default: the one that the TOML file names, or that the first model was trained on.
    images
        Folder or archive to which the paths of pictures in files are relative. Default: as in training.
    skip_broken
        Do not fail because of pictures that cannot be read; report how many.
    skip_bad
        Skip rows of files that cannot be read, and report how many.
    """
    runs, inputs = _divided([run, *more])
    model = load_chain(runs, device=device)
    if images is not None or skip_broken or skip_bad:
        model.read_with(images=images, skip_broken=skip_broken or None, skip_bad=skip_bad or None)
    given = Inputs(model, inputs, column)
    given.check_reading(images, skip_bad)
    sounds = model.writes == "sound"
    if sounds and out is None:
        raise ElmanError("--out: name the sound file to write, such as --out speech.wav")
    if sounds and out is not None:
        sound_bytes(out, np.zeros(1), 16_000)  # the format is known before anything is computed
    if out is not None and not sounds:
        if json or show:
            raise ElmanError("--out: writes a file instead of what --json and --show give")
        given.one_file()
    if out is not None and not (sounds and given.several):
        check_output(out)
    values = {} if options is None else options.model_dump(exclude_unset=True)
    answering, written, numbers = Answering(model, given, values), list[Reply](), itertools.count(1)
    for found in answering.batches():
        for number, one in zip(numbers, found, strict=False):
            name = None
            if out is not None and not sounds:
                written.append(one)
                continue
            if out is not None:
                name = _write_sound(one, numbered(out, number) if given.several else out)
            lines = _lines(one, given, show=show, json=json, name=name)
            if lines:
                print(*lines, sep="\n")
    if out is not None and not sounds:
        answering.write(out, written)
    return answering.status(skip_broken)


def _divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The run directories or TOML files, and the inputs."""
    runs = list(itertools.takewhile(lambda one: is_run(one) or is_chain(one), arguments))
    inputs = list(arguments[len(runs) :])
    if not runs:
        Run(inputs[0]).config()  # says what is wrong with it
    for one in filter(is_run, inputs):
        raise ElmanError(f"{one}: a run directory; those of a chain come before its inputs")
    folders = {os.path.dirname(os.path.normpath(one)) for one in runs} - {""}
    if inputs and not os.path.lexists(inputs[0]) and os.path.dirname(os.path.normpath(inputs[0])) in folders:
        raise ElmanError(f"{inputs[0]}: no such run directory; give a text that looks like one on standard input")
    return runs, inputs


def _lines(one: Reply, given: Inputs, *, show: bool, json: bool, name: str | None) -> list[str]:
    """What is printed for an input; ``name``: the sound file that was written for it."""
    if json:
        return [json_line(one.record() | ({"out": name} if name else {}), "an answer")]
    if not show:
        if name is not None:
            print(f"sound in {name}", file=sys.stderr)
            return []
        return one.lines(given.several and given.model.reads_pictures) if given.several or one.error is None else []
    shown = [str(one.given.shown)] if given.several else []
    for answer in one.answers:
        assert isinstance(answer, ChainAnswer)
        for task, part in zip(answer.tasks, answer.answers, strict=True):
            text = " ".join(part.text.splitlines()) or f"({part.empty_means})"
            shown.append(f"{task}\t{text}{f' ({name})' if name and part is answer.last else ''}")
    return [*shown, *([""] if given.several else [])]


def _write_sound(one: Reply, name: str) -> str | None:
    """Write the sound of an answer; return the name of the file, None where there is no sound."""
    wave = one.answers[0].output if one.answers else ""
    if not isinstance(wave, Wave):
        return None
    check_output(name)
    write_output(name, sound_bytes(name, wave.samples, wave.rate))
    return name
