"""What each command of the command line does; see `elman.cli.app`."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from elman.errors import ElmanError
from elman.tasks import TASKS

Several = Parameter(consume_multiple=True, negative="")
Flat = Parameter(name="*", negative_iterable="", negative_none="")
#: A flag that has no --no-... beside it.
Flag = Annotated[bool, Parameter(negative="")]


_GROUPS = {name: Group.create_ordered(name) for name in ("Data", "Model", "Training")}


def train_command(task: str, imported: list[str]) -> Any:
    from elman import tasks
    from elman.training.config import group_of

    kind = tasks.get(task).Config
    for name, field in kind.model_fields.items():
        if not any(isinstance(one, Parameter) for one in field.metadata):
            field.metadata.append(Parameter(group=_GROUPS[group_of(name)]))

    def command(
        *data: str,
        out: str | None = None,
        valid: Annotated[list[str] | None, Several] = None,
        config: str | None = None,
        resume: Flag = False,
        options: Any = None,
    ) -> int:
        """Train.

        Parameters
        ----------
        data
            Your files; a path can be any fsspec URL, and compressed.
        out
            The run directory to write. By default one in runs/, by the name of the data.
        valid
            Files to validate on, instead of a held-out part of DATA.
        config
            A TOML file of options; what the command line says goes before.
        resume
            Go on with the run in OUT from its last checkpoint.
        """
        values = {} if config is None else _toml(config, kind)
        if valid == []:
            raise ElmanError("--valid: give the files to validate on")
        values |= {} if options is None else options.model_dump(exclude_unset=True)
        if out is None:
            if resume:
                raise ElmanError("--resume: give the run to go on with, by --out RUN")
            named = bool(data) and not Path(data[0]).is_relative_to("/dev")  # a pipe's name says nothing
            out = _free(f"runs/{task}-{Path(data[0]).name.partition('.')[0]}" if named else f"runs/{task}")
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
    from elman.training.events import Ended

    ends: list[Ended] = []
    train(
        task, data, out=out, valid=valid, resume=resume,
        listeners=[lambda event: ends.append(event) if isinstance(event, Ended) else None], **values,
    )  # fmt: skip
    if not ends:  # not rank 0
        return 0
    if ends[0].reason == "interrupted":
        again = shlex.join(["elman", "train", task, "--out", out, "--resume", *imported])
        print(f"saved; to go on: {again}", file=sys.stderr)
        return 130
    uses = [shlex.join(["elman", verb, out, *imported]) for verb in (TASKS[task].verb, "evaluate")]
    print(f"saved in {out}; try: {', '.join(uses)}", file=sys.stderr)
    return 0


def evaluate(
    run: str,
    *data: str,
    json: Flag = False,
    int8: Flag = False,
    baseline: Flag = False,
    plot: str | None = None,
    device: str = "cpu",
) -> int:
    """Measure a model on files, or on what its training held out.

    Parameters
    ----------
    run
        A run directory.
    data
        Your files; without any, the part of the training data that was held out.
    json
        Print one JSON object, on the last line.
    int8
        Measure it with its weights rounded to int8 as well, and what that costs.
    baseline
        Measure beside it what needs no network: the most frequent label, TF-IDF with logistic regression.
    plot
        Draw which labels are taken for which into this picture (.png, .svg, .pdf).
    device
        cpu, cuda, ...
    """
    from elman.cli.evaluate import evaluate as measure

    measure(run, data, device, json=json, int8=int8, baseline=baseline, plot=plot)
    return 0


def generate_command() -> Any:
    from elman.decoding import Sampling

    def generate(
        run: str,
        *prompts: str,
        int8: Flag = False,
        device: str = "cpu",
        options: Any = None,
    ) -> int:
        """Let a language model write.

        Parameters
        ----------
        run
            A run directory.
        prompts
            Where to begin; several are written at once and shown one after the other.
        int8
            Round the weights to int8: faster on the CPU, hardly worse (elman evaluate --int8 says how much).
        device
            cpu, cuda, ...
        """
        from elman.api import load
        from elman.data.inputs import looks_like_file

        for prompt in filter(looks_like_file, prompts):
            raise ElmanError(
                f'{prompt}: a prompt is a text, not a file; give what is in it: "$(cat {shlex.quote(prompt)})"'
            )
        model = load(run, device)
        if not hasattr(model, "stream"):
            raise ElmanError(
                f"{run}: a {model.name} model does not generate text; try: elman predict {shlex.quote(run)}"
            )
        if int8:
            model.quantize()
        values = {} if options is None else options.model_dump(exclude_unset=True)
        if len(prompts) > 1:
            print("\n\n".join(model.generate(prompts, **values)))
            return 0
        prompt = prompts[0] if prompts else ""
        pieces = model.stream(prompt, **values)
        first = next(pieces, "")  # an unknown character is found before anything is shown
        sys.stdout.write(prompt + first)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        return 0

    generate.__annotations__["options"] = Annotated[Sampling | None, Flat]
    return generate


def predict_command(arguments: list[str]) -> Any:
    """``elman predict`` with the options of the run that is named in the arguments."""
    from elman import tasks
    from elman.training.run import Run, is_run

    run = next((one for one in arguments if not one.startswith("-") and is_run(one)), None)
    kind = None if run is None else tasks.get(Run(run).config().task).Options

    def predict(
        run: str,
        *inputs: str,
        device: str = "cpu",
        json: Flag = False,
        plot: str | None = None,
        show: Literal["attention", "gradient"] | None = None,
        show_attention: Flag = False,
        vectors: Flag = False,
        out: str | None = None,
        column: str | None = None,
        options: Any = None,
    ) -> int:
        """Let a model answer. What else can be said depends on the model: elman predict RUN --help.

        Parameters
        ----------
        run
            A run directory.
        inputs
            What to answer: texts, or files with a text in each row or line, or paths of sounds and tables of numbers;
            - is a file on standard input. Without any: every line of standard input.
        device
            cpu, cuda, ...
        json
            Print one JSON object a line: the input, and its answers with their scores.
        plot
            Draw where the model looked into this picture (.png, .svg, .pdf); for several inputs NAME-1, NAME-2, ...
        show
            Colour the words by where the model looked (attention), or by what speaks for its answer (gradient).
        show_attention
            The same as --show attention.
        vectors
            Print the vector of each word in its context, for models that have such: word, tab, numbers.
        out
            Write the answers to this new file instead: a table with the columns of the one that was read.
        column
            Of tables: the column to read, by default the one that the model learnt from.
        """
        from elman.cli.predict import predict as answer

        values = {} if options is None else options.model_dump(exclude_unset=True)
        seen = "attention" if show_attention and show is None else show
        answer(
            run,
            inputs,
            device,
            json=json,
            plot=plot,
            show=seen,
            vectors=vectors,
            out=out,
            column=column,
            options=values,
        )
        return 0

    predict.__annotations__["options"] = Annotated[kind | None if kind else None, Flat]
    return predict


def info(run: str) -> int:
    """What a run directory holds: task, data, options, sizes, how far it got.

    Parameters
    ----------
    run
        A run directory.
    """
    from elman.cli.info import info as show

    show(run)
    return 0


def inspect(run: str, input: str, *, out: str = "inside.png", layer: str | None = None) -> int:
    """Draw what a model's recurrent layers do with an input: gates and states over time, and |dLoss/dh| of each step.

    Parameters
    ----------
    run
        A run directory.
    input
        A text, or the path of a sound or a table of numbers, as for elman predict.
    out
        The picture to write (.png, .svg, .pdf).
    layer
        One layer alone.
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
    """Measure speed beside torch, in turns, in one run.

    Parameters
    ----------
    name
        layers, short, generate or train.
    rounds
        How often each pair is measured; medians are shown.
    json
        Print one JSON object, on the last line.
    busy
        Measure beside another process that keeps one core busy.
    write
        A Markdown page whose table of this benchmark is to be replaced.
    """
    from elman.benchmarks.report import report

    report(name, rounds, json, busy, write)
    return 0


def demo(*, minutes: float = 1.0, out: str | None = None) -> int:
    """Train a small model on built-in text, in about a minute, and see what it writes.

    Parameters
    ----------
    minutes
        How long to train.
    out
        The run directory to write; by default a new one in runs/.
    """
    from elman.cli.demo import demo as run_demo

    run_demo(_free("runs/demo") if out is None else out, minutes)
    return 0


def _toml(path: str, kind: Any) -> dict[str, Any]:
    """The options in a TOML file, checked."""
    import tomllib

    from elman.config import parse
    from elman.data.text import read_text

    try:
        values = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ElmanError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise ElmanError(f"{path}: not TOML that can be read: nested too deeply") from None
    return parse(kind, values, path).model_dump(exclude_unset=True)


def _free(path: str) -> str:
    """The path, or the first of path-2, path-3, ... where there is nothing yet."""
    name, number = path, 1
    while os.path.lexists(name):
        number += 1
        name = f"{path}-{number}"
    return name
