"""What each command of the command line does; see `elman.cli.app`."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from elman.errors import ElmanError

Several = Parameter(consume_multiple=True, negative="")
Flat = Parameter(name="*", negative_iterable="", negative_none="")
#: A flag that has no --no-... beside it.
Flag = Annotated[bool, Parameter(negative="")]


#: The headings of options, in this order; others come before the last one.
_HEADINGS = ("Data", "Text", "Series", "Sound", "Pictures", "Model", "Training")


def train_command(task: str, imported: list[str]) -> Any:
    """Return ``elman train TASK`` with the options of the task."""
    from elman import tasks

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
        values = {} if config is None else _toml(config, kind)
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
    commands = [shlex.join(["elman", *words, *imported]) for words in ((use, out, *given), ("evaluate", out))]
    print(f"saved in {out}; try: {', '.join(commands)}", file=sys.stderr)
    return 0


def evaluate(
    run: str,
    *data: str,
    json: Flag = False,
    int8: Flag = False,
    baseline: Flag = False,
    plot: str | None = None,
    images: str | None = None,
    skip_broken: bool | None = None,
    skip_bad: bool | None = None,
    device: str = "cpu",
) -> int:
    """Compute the metrics of a model on files, or on the held-out part of its training data.

    Parameters
    ----------
    run
        Run directory.
    data
        Files to evaluate on. Default: the held-out part of the training data.
    json
        Print the metrics as one JSON object.
    int8
        Evaluate the model with int8 weights too, and print the difference of the loss.
    baseline
        Print the metrics of baselines too, such as the most frequent label and logistic regression on TF-IDF features.
    plot
        Draw the confusion matrix of a classifier to this file (.png, .svg, .pdf).
    images
        Folder or archive to which the paths of pictures in files are relative. Default: as in training.
    skip_broken
        Leave out pictures that cannot be read, and report how many. Default: as in training.
    skip_bad
        Skip rows of files that cannot be read, and report how many. Default: as in training.
    device
        Device: cpu, cuda, cuda:1, ...
    """
    from elman.cli.evaluate import evaluate as measure

    reading = {"images": images, "skip_broken": skip_broken, "skip_bad": skip_bad}
    measure(run, data, device, json=json, int8=int8, baseline=baseline, plot=plot, reading=reading)
    return 0


def generate_command() -> Any:
    """Return ``elman generate`` with the options of sampling."""
    from elman.decoding import Sampling

    def generate(
        run: str,
        *prompts: str,
        int8: Flag = False,
        device: str = "cpu",
        options: Any = None,
    ) -> int:
        """Continue a text with a language model.

        Parameters
        ----------
        run
            Run directory.
        prompts
            Texts to continue. One is printed as it is made; several are continued in parallel.
        int8
            Round the weights to int8, which is faster on the CPU; elman evaluate --int8 prints what it costs.
        device
            Device: cpu, cuda, cuda:1, ...
        """
        from elman.api import load
        from elman.data.inputs import looks_like_file
        from elman.tasks.abilities import Generates

        for prompt in filter(looks_like_file, prompts):
            raise ElmanError(
                f'{prompt}: a prompt is a text, not a file; give its content: "$(cat {shlex.quote(prompt)})"'
            )
        model = load(run, device)
        if not isinstance(model, Generates):
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
        first = next(pieces, "")  # an unknown character is found before anything is printed
        sys.stdout.write(prompt + first)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        return 0

    generate.__annotations__["options"] = Annotated[Sampling | None, Flat]
    return generate


def predict_command(arguments: list[str]) -> Any:
    """Return ``elman predict`` with the options of the model that the arguments name."""
    from elman import tasks
    from elman.tasks.abilities import Predicts
    from elman.training.run import Run, is_run

    run = next((argument for argument in arguments if not argument.startswith("-") and is_run(argument)), None)
    kind = None
    if run is not None:
        model = tasks.get(Run(run).config().task).model_class
        kind = model.Options if issubclass(model, Predicts) else None

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
        images: str | None = None,
        skip_broken: Flag = False,
        skip_bad: Flag = False,
        options: Any = None,
    ) -> int:
        """Predict with a trained model. Further options depend on the model: elman predict RUN --help.

        Parameters
        ----------
        run
            Run directory.
        inputs
            Texts; files with a text in each row or line; or paths of pictures, sounds and tables of numbers. A folder
            or archive of pictures, a pattern such as "photos/*.jpg", or a file as for training stands for all its
            pictures; answers in it are not needed. With several, each line begins with the path and a tab. Questions
            about pictures follow them: photo.jpg "what animal is it?"; each is about the pictures named before it. - is
            standard input, with an input on each line: a text, a path, or photo.jpg, a tab and a question. Default:
            each line of standard input.
        device
            Device: cpu, cuda, cuda:1, ...
        json
            Print one JSON object per input: the input, its question, and its answers with their scores.
        plot
            Draw the attention to this file (.png, .svg, .pdf), of pictures a panel for each word; for several inputs
            to NAME-1, NAME-2, ...
        show
            Colour the words of an input by their attention weight, or by the gradient of the answer times the input.
            The attention to a picture is shown as a small picture for each word.
        show_attention
            The same as --show attention.
        vectors
            Print the contextual embedding of each word: the word, a tab, numbers.
        out
            Write the answers to this new file: a table with the columns of the input table.
        column
            Column of tables to read. Default: the one that the model was trained on.
        images
            Folder or archive to which the paths of pictures in files are relative. Default: as in training.
        skip_broken
            Do not fail because of pictures that cannot be read; report how many.
        skip_bad
            Skip rows of files that cannot be read, and report how many.
        """
        from elman.cli.predict import predict as answer

        values = {} if options is None else options.model_dump(exclude_unset=True)
        seen = "attention" if show_attention and show is None else show
        return answer(
            run, inputs, device, json=json, plot=plot, show=seen, vectors=vectors, out=out, column=column,
            images=images, skip_broken=skip_broken, skip_bad=skip_bad, options=values,
        )  # fmt: skip

    predict.__annotations__["options"] = (
        Annotated[kind | None, Flat] if kind else Annotated[None, Parameter(parse=False)]
    )
    return predict


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
