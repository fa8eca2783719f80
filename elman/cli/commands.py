"""What each command of the command line does; see `elman.cli.app`."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from elman.cli.arguments import Flag, Flat, Several
from elman.errors import ElmanError

#: The headings of options, in this order; others come before the last one.
_HEADINGS = ("Data", "Text", "Series", "Sound", "Pictures", "Model", "Training")


def train_command(task: str, imported: list[str]) -> Any:
    """Return ``elman train TASK`` with the options of the task."""
    from elman import tasks
    from elman.config import parse
    from elman.data.toml import read_toml

    kind = tasks.get(task).Config
    headings = dict.fromkeys([*_HEADINGS[:-1], *(kind.owner(name).heading for name in kind.model_fields)])
    groups = {heading: Group.create_ordered(heading) for heading in [*headings] if heading != _HEADINGS[-1]}
    groups[_HEADINGS[-1]] = Group.create_ordered(_HEADINGS[-1])
    for name, field in kind.model_fields.items():
        if not any(isinstance(entry, Parameter) for entry in field.metadata):
            described = "Default:" in (field.description or "")  # then the value would be a second default
            shown = False if described else None
            field.metadata.append(Parameter(group=groups[kind.owner(name).heading], show_default=shown))

    def command(
        *data: str,
        out: str | None = None,
        valid: Annotated[list[str] | None, Several] = None,
        config: str | None = None,
        resume: Flag = False,
        options: Any = None,
    ) -> int:
        """Train a model.

        Parameters
        ----------
        data
            Training files. A path can be any fsspec URL, and compressed; - is standard input.
        out
            Run directory to write. Default: a new one in runs/, named after the data.
        valid
            Validation files, instead of a held-out part of DATA.
        config
            TOML file with options. Options on the command line take precedence.
        resume
            Resume the run in OUT from its last checkpoint.
        """
        values = {} if config is None else parse(kind, read_toml(config), config).model_dump(exclude_unset=True)
        if valid == []:
            raise ElmanError("--valid: give the files to validate on")
        values |= {} if options is None else options.model_dump(exclude_unset=True)
        if out is None:
            if resume:
                raise ElmanError("--resume: give the run to resume with --out RUN")
            named = bool(data) and not Path(data[0]).is_relative_to("/dev")  # a pipe's name says nothing
            name = os.path.basename(os.path.abspath(data[0])).partition(".")[0] if named else ""
            out = _free(f"runs/{task}-{name}" if name else f"runs/{task}")
        return _train(task, data, out, valid or [], resume, values, imported)

    command.__annotations__["options"] = Annotated[kind | None, Flat]
    return command


def _train(
    task: str,
    data: tuple[str, ...],
    out: str,
    valid: list[str],
    resume: bool,
    values: dict[str, Any],
    imported: list[str],
) -> int:
    from elman.api import train
    from elman.cli.display import Display
    from elman.tasks.abilities import Generates, Predicts
    from elman.training.distributed import is_first
    from elman.training.events import Ended, Listener

    ends: list[Ended] = []
    shown: list[Listener] = [Display()] if is_first() else []
    heard = [*shown, lambda event: ends.append(event) if isinstance(event, Ended) else None]
    model = train(task, data, out=out, valid=valid, resume=resume, progress=False, listeners=heard, **values)
    if not ends:  # not rank 0
        return 0
    if ends[0].reason == "interrupted":
        again = shlex.join(["elman", "train", task, "--out", out, "--resume", *imported])
        print(f"saved; resume with: {again}", file=sys.stderr)
        return 130
    use = "generate" if isinstance(model, Generates) else "predict"
    given: list[str] = []
    if isinstance(model, Predicts) and model.reads_pictures:
        given = ["photo.jpg", *(["what is it?"] if model.takes_questions else [])]
    elif isinstance(model, Predicts) and model.reads == "sound":
        given = ["sound.wav"]
    commands = [shlex.join(["elman", *words, *imported]) for words in ((use, out, *given), ("evaluate", out))]
    print(f"saved in {out}; try: {', '.join(commands)}", file=sys.stderr)
    return 0


def info(run: str) -> int:
    """Describe a run directory: task, data, options, parameters, and the state of the training.

    Parameters
    ----------
    run
        Run directory.
    """
    from elman.cli.info import info as show

    show(run)
    return 0


def inspect(run: str, input: str, *, out: str = "inside.png", layer: str | None = None) -> int:
    """Draw the gates and states of a model's recurrent layers over time, and the norm of dLoss/dh of each step.

    Parameters
    ----------
    run
        Run directory.
    input
        Text, or path of a picture, a sound or a table of numbers, as for elman predict; a question about a picture
        follows it after a tab.
    out
        File to draw to (.png, .svg, .pdf).
    layer
        Draw this layer only.
    """
    from elman.cli.inspect import inspect as look

    look(run, input, out, layer)
    return 0


def bench(
    name: str,
    *,
    rounds: int = 9,
    json: Flag = False,
    busy: Flag = False,
    write: str | None = None,
) -> int:
    """Compare the speed with torch, alternating both in one run.

    Parameters
    ----------
    name
        Benchmark: layers, short, generate or train.
    rounds
        Number of measurements of each pair; medians are printed.
    json
        Print the results as one JSON object.
    busy
        Measure while another process keeps one core busy.
    write
        Markdown page whose table of this benchmark is replaced.
    """
    from elman.benchmarks.report import report

    report(name, rounds, json, busy, write)
    return 0


def demo(*, minutes: float = 1.0, out: str | None = None) -> int:
    """Train a small language model on built-in text for a minute, and print what it writes.

    Parameters
    ----------
    minutes
        Duration of training, in minutes.
    out
        Run directory to write. Default: a new one in runs/.
    """
    from elman.cli.demo import demo as run_demo

    run_demo(_free("runs/demo") if out is None else out, minutes)
    return 0


def _free(path: str) -> str:
    """The path, or the first of path-2, path-3, ... where there is nothing yet."""
    name, number = path, 1
    while os.path.lexists(name):
        number += 1
        name = f"{path}-{number}"
    return name
