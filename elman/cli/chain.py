"""Run several models in a row, each on the answers of the one before."""

import itertools
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

from elman.chains import Chain, ChainAnswer, is_chain
from elman.chains import chain as load_chain
from elman.chains.listening import ListeningChain
from elman.chains.stages import ChainOptions
from elman.cli.answering import Answering, Reply
from elman.cli.arguments import Flag, Flat
from elman.cli.console import console
from elman.cli.inputs import Given, Inputs
from elman.cli.listen import check_source, lines_of, open_source, show_growing
from elman.cli.speak import checked_sound, write_spoken
from elman.data.inputs import check_output
from elman.data.output import json_line, numbered
from elman.errors import ElmanError
from elman.tasks.abilities import Listens
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
    stream: Flag = False,
    microphone: Flag = False,
    raw: int | None = None,
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
    stream
        Answer each line while it is being said: the input is one sound file, or standard input as for elman listen.
    microphone
        With --stream, listen to the microphone.
    raw
        With --stream, the sampling rate of standard input without a header.
    """
    runs, inputs = _divided([run, *more])
    values = {} if options is None else options.model_dump(exclude_unset=True)
    if stream:
        if values:
            raise ElmanError(f"--{next(iter(values)).replace('_', '-')}: has no effect with --stream")
        if out is not None and not out.lower().endswith((".wav", ".flac", ".ogg")):
            raise ElmanError("--out: with --stream it names sounds, such as speech.wav; redirect the output for texts")
        if column or images or skip_broken or skip_bad or len(inputs) > 1:
            raise ElmanError("--stream: takes one sound; --column, --images and --skip-... are for files")
        source = inputs[0] if inputs else None
        check_source(source, microphone, raw)
        return _stream(load_chain(runs, device=device), source, microphone, raw, show=show, json=json, out=out)
    if microphone or raw is not None:
        raise ElmanError("--microphone, --raw: need --stream")
    model = load_chain(runs, device=device)
    if images is not None or skip_broken or skip_bad:
        model.read_with(images=images, skip_broken=skip_broken or None, skip_bad=skip_bad or None)
    given = Inputs(model, inputs, column)
    given.check_reading(images, skip_bad)
    sounds = model.writes == "sound"
    out = checked_sound(out) if sounds else out
    if out is not None and not sounds:
        if json or show:
            raise ElmanError("--out: writes a file instead of what --json and --show give")
        given.one_file()
    if out is not None and not (sounds and given.several):
        check_output(out)
    answering, written, numbers = Answering(model, given, values), list[Reply](), itertools.count(1)
    for found in answering.batches():
        for number, one in zip(numbers, found, strict=False):
            name = None
            if out is not None and not sounds:
                written.append(one)
                continue
            if out is not None:
                name = write_spoken(one, numbered(out, number) if given.several else out)
            named = given.several and model.reads_pictures
            lines = _lines(one, show=show, json=json, name=name, several=given.several, named=named)
            if lines:
                print(*lines, sep="\n")
    if out is not None and not sounds:
        answering.write(out, written)
    return answering.status(skip_broken)


def _stream(
    model: Chain, source: str | None, microphone: bool, raw: int | None, *, show: bool, json: bool, out: str | None
) -> int:
    """Print the answer to each line as soon as it has been said; with ``out``, write its sound to a numbered file.

    Return the exit status: 2 if a model could not use a line, which is reported.
    """
    if (model.writes == "sound") != (out is not None):
        raise ElmanError("--out: name the sound files to write" if out is None else f"--out: {model.name} writes texts")
    number, status, shown = 0, 0, console(stderr=True)
    with ExitStack() as stack:
        first = model.stages[0].model
        channel = first.channel if isinstance(first, Listens) else None
        sound = open_source(stack, source, microphone, raw, channel)
        listening = stack.enter_context(ListeningChain(model, sound.rate))
        for line, answers, reason in lines_of(listening, sound.blocks):
            if shown.is_terminal and not json:
                show_growing(shown, "" if answers or reason else " ".join(line.segment.text.split()))
            if not answers and not reason:
                continue
            start, end = (round(second, 3) for second in line.segment[:2])
            times = f"{start:.2f} - {end:.2f} s"
            one = Reply(Given(times, times, times), answers, reason)
            if reason:
                print(f"elman: {one.message}", file=sys.stderr, flush=True)
                status = 2
                if not json:
                    continue
            number += not reason
            name = None if out is None or reason else write_spoken(one, numbered(out, number))
            found = _lines(one, show=show, json=json, name=name, several=True, named=False)
            print(*found, sep="\n", end="\n" if found else "", flush=True)
    return status


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


def _lines(one: Reply, *, show: bool, json: bool, name: str | None, several: bool, named: bool) -> list[str]:
    """What is printed for an input; ``name``: the sound file that was written for it; ``named``: after the input."""
    if json:
        return [json_line(one.record() | ({"out": name} if name else {}), "an answer")]
    if not show:
        if name is not None:
            print(f"sound in {name}", file=sys.stderr)
            return []
        return one.lines(named) if several or one.error is None else []
    shown = [str(one.given.shown)] if several else []
    for answer in one.answers:
        assert isinstance(answer, ChainAnswer)
        for task, part in zip(answer.tasks, answer.answers, strict=True):
            text = " ".join(part.text.splitlines()) or f"({part.empty_means})"
            shown.append(f"{task}\t{text}{f' ({name})' if name and part is answer.last else ''}")
    return [*shown, *([""] if several else [])]
