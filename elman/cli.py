"""The command line. Work is imported when it is asked for: ``elman --help`` needs no torch."""

import importlib
import importlib.util
import logging
import os
import shlex
import sys
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Parameter
from pydantic import ValidationError

from elman.errors import ElmanError, unknown_name
from elman.tasks import TASKS
from elman.version import __version__

Several = Parameter(consume_multiple=True, negative="")
Flat = Parameter(name="*", negative_iterable="", negative_none="")
#: Options that every command takes; taken out of the arguments before the rest is read.
_EVERYWHERE = """
Every command takes two more options: --import FILE.py (or MODULE) runs your own Python first, so that
the cells it registers are known; --debug shows the traceback of an error.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. The exit status: 0; 2 for input that cannot be used; 130 if interrupted."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    tokens = [token for token in tokens if token != "--debug"]
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        tokens, imported = _imports(tokens)
        return _app(tokens, imported)(tokens, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except (ElmanError, cyclopts.CycloptsError) as error:
        if debug:
            raise
        print(f"elman: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if debug:
            raise
        print("elman: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: head, less
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _one_line(error: Exception) -> str:
    from elman.training.config import explain

    cause = error.__cause__
    if isinstance(cause, ValidationError):
        key, _, what = explain(cause).partition(":")
        return f"--{key.replace('_', '-')}:{what}"
    if isinstance(error, cyclopts.UnknownOptionError):
        names = [argument.names[0] for argument in error.argument_collection if argument.parse and argument.names]
        known = [name for name in names if name.startswith("--")]
        return str(unknown_name("option", error.token.keyword or error.token.value, known))
    return " ".join(str(error).split()) or type(error).__name__


def _imports(tokens: list[str]) -> tuple[list[str], list[str]]:
    """Runs what --import names; the other tokens, and those of the imports."""
    rest: list[str] = []
    imported: list[str] = []
    iterator = iter(tokens)
    for token in iterator:
        name, equals, value = token.partition("=")
        if name != "--import":
            rest.append(token)
            continue
        value = value if equals else next(iterator, "")
        imported += ["--import", value]
        sys.path.insert(0, os.getcwd())
        try:
            if value.endswith(".py"):
                spec = importlib.util.spec_from_file_location(Path(value).stem, value)
                assert spec is not None
                assert spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
            else:
                importlib.import_module(value)
        except Exception as error:  # whatever the user's own code raises
            raise ElmanError(f"--import {value}: {type(error).__name__}: {error}") from error
    return rest, imported


def _app(tokens: list[str], imported: list[str]) -> App:
    """All commands; those whose options need torch have them only where they are asked for."""
    if tokens[:1] == ["train"] and len(tokens) > 1 and not tokens[1].startswith("-") and tokens[1] not in TASKS:
        raise unknown_name("task", tokens[1], TASKS)
    app = App(
        name="elman",
        version=__version__,
        help="Recurrent sequence models: train one on your files, let it write, measure it.",
        help_epilogue=_EVERYWHERE,
    )
    training = App(name="train", help="Train a model on your files: elman train TASK DATA.")
    for name, kind in TASKS.items():
        training.command(
            _train_command(name, imported) if tokens[:2] == ["train", name] else _named, name=name, help=kind.help
        )
    writing = _generate_command() if tokens[:1] == ["generate"] else _named
    for command in (demo, training, evaluate):
        app.command(command)
    app.command(writing, name="generate", help="Let a language model write; it is shown as it is made.")
    answering = _predict_command() if tokens[:1] == ["predict"] else _named
    app.command(answering, name="predict", help="Let any other model answer: inputs, or the lines of standard input.")
    app.command(info)
    app.command(bench)
    return app


def _named() -> None: ...


def _train_command(task: str, imported: list[str]) -> Any:
    from elman import tasks

    kind = tasks.get(task).Config

    def command(
        *data: str,
        out: str | None = None,
        valid: Annotated[list[str] | None, Several] = None,
        config: str | None = None,
        resume: Annotated[bool, Parameter(negative="")] = False,
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
        values = _toml(config, kind) if config else {}
        values |= {} if options is None else options.model_dump(exclude_unset=True)
        if out is None:
            if resume:
                raise ElmanError("--resume: give the run to go on with, by --out RUN")
            out = _free(f"runs/{task}-{Path(data[0]).name.partition('.')[0]}" if data else f"runs/{task}")
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
    from elman.start import train
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
    print(f"saved in {out}; try: elman {TASKS[task].verb} {out}, elman evaluate {out}", file=sys.stderr)
    return 0


def evaluate(
    run: str,
    *data: str,
    json: Annotated[bool, Parameter(negative="")] = False,
    int8: Annotated[bool, Parameter(negative="")] = False,
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
    device
        cpu, cuda, ...
    """
    from elman.info import number
    from elman.start import load

    model = load(run, device)
    examples = model.read(data) if data else model.held_out()
    metrics = model.evaluate(examples)
    if int8:
        model.quantize()
        rounded = model.evaluate(examples)
        metrics |= {"int8_loss": rounded["loss"], "int8_cost": rounded["loss"] - metrics["loss"]}
    if json:
        print(dumps(metrics))
    else:
        for name, value in metrics.items():
            print(f"{name.replace('_', ' '):20} {number(value)}")
    return 0


def _generate_command() -> Any:
    from elman.decoding import Sampling

    def generate(
        run: str,
        *prompts: str,
        int8: Annotated[bool, Parameter(negative="")] = False,
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
        from elman.start import load

        model = load(run, device)
        if not hasattr(model, "stream"):
            raise ElmanError(f"{run}: a {model.name} model does not generate text; try: elman predict {run}")
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


def _predict_command() -> Any:
    from elman.decoding.beam import Search

    def predict(
        run: str,
        *inputs: str,
        device: str = "cpu",
        json: Annotated[bool, Parameter(negative="")] = False,
        plot: str | None = None,
        show_attention: Annotated[bool, Parameter(negative="")] = False,
        options: Any = None,
    ) -> int:
        """Let a model answer.

        Parameters
        ----------
        run
            A run directory.
        inputs
            What to answer; without any, every line of standard input.
        device
            cpu, cuda, ...
        json
            Print one JSON object a line: the input, and its answers with their scores.
        plot
            Draw where the model looked into this picture (.png, .svg, .pdf); for several inputs NAME-1, NAME-2, ...
        show_attention
            Show where it looked, in colour, below each answer.
        """
        from elman.predict import predict as answer

        values = {} if options is None else options.model_dump(exclude_unset=True)
        answer(run, inputs, device, json=json, plot=plot, show_attention=show_attention, options=values)
        return 0

    predict.__annotations__["options"] = Annotated[Search | None, Flat]
    return predict


def info(run: str) -> int:
    """What a run directory holds: task, data, options, sizes, how far it got.

    Parameters
    ----------
    run
        A run directory.
    """
    from elman.info import info as show

    show(run)
    return 0


def bench(
    name: str,
    *,
    rounds: int = 9,
    json: Annotated[bool, Parameter(negative="")] = False,
    write: str | None = None,
) -> int:
    """Measure speed beside torch, in turns, in one run.

    Parameters
    ----------
    name
        layers, generate or train.
    rounds
        How often each pair is measured; medians are shown.
    json
        Print one JSON object, on the last line.
    write
        A Markdown page whose table of this benchmark is to be replaced.
    """
    from elman.benchmarks.report import report

    report(name, rounds, json, write)
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
    from elman.demo import demo as run_demo

    run_demo(_free("runs/demo") if out is None else out, minutes)
    return 0


def _toml(path: str, kind: Any) -> dict[str, Any]:
    """The options in a TOML file, checked."""
    import tomllib

    from elman.data.text import read_text
    from elman.training.config import parse

    try:
        values = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ElmanError(f"{path}: not TOML: {error}") from None
    return parse(kind, values, path).model_dump(exclude_unset=True)


def _free(path: str) -> str:
    """The path, or the first of path-2, path-3, ... where there is nothing yet."""
    name, number = path, 1
    while Path(name).exists():
        number += 1
        name = f"{path}-{number}"
    return name


if __name__ == "__main__":
    sys.exit(main())
