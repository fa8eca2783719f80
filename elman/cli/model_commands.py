"""The commands that use a model, whose options depend on it."""

import shlex
import sys
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from elman.cli.arguments import Flag, Flat
from elman.errors import ElmanError


def evaluate_command(arguments: list[str]) -> Any:
    """Return ``elman evaluate`` with the options of the search of the model that the arguments name."""
    from elman.tasks.abilities import Answers

    kind = _options_of(arguments, Answers)

    def evaluate(
        run: str,
        *data: str,
        json: Flag = False,
        int8: Flag = False,
        bf16: Flag = False,
        baseline: Flag = False,
        plot: str | None = None,
        answers: str | None = None,
        images: str | None = None,
        skip_broken: bool | None = None,
        skip_bad: bool | None = None,
        device: str = "cpu",
        options: Any = None,
    ) -> int:
        """Compute the metrics of a model on files, or on the held-out part of its training data.

        For a model that searches for its answers, the options of the search follow: elman evaluate RUN --help.

        Parameters
        ----------
        run
            Run directory; or a TOML file that names a chain, see elman chain: its stages are measured on tables.
        data
            Files to evaluate on. Default: the held-out part of the training data.
        json
            Print the metrics as one JSON object.
        int8
            Evaluate the model with int8 weights too, and print the difference of the loss.
        bf16
            The same with bfloat16 weights.
        baseline
            Print the metrics of baselines too, such as the most frequent label, and logistic regression on TF-IDF
            features.
        plot
            Draw the confusion matrix of a classifier to this file (.png, .svg, .pdf).
        answers
            Write a table with the columns input, target and predicted to this new file, for models that write texts.
        images
            Folder or archive to which the paths of pictures in files are relative. Default: as in training.
        skip_broken
            Leave out pictures and sounds that cannot be read, and report how many. Default: as in training.
        skip_bad
            Skip rows of files that cannot be read, and report how many. Default: as in training.
        device
            Device: cpu, cuda, cuda:1, ...
        """
        from elman.cli.evaluate import evaluate as measure

        reading = {"images": images, "skip_broken": skip_broken, "skip_bad": skip_bad}
        search = {} if options is None else options.model_dump(exclude_unset=True)
        measure(
            run, data, device, json=json, int8=int8, bf16=bf16, baseline=baseline, plot=plot, answers=answers,
            reading=reading, search=search,
        )  # fmt: skip
        return 0

    evaluate.__annotations__["options"] = _flat(kind)
    return evaluate


def generate_command() -> Any:
    """Return ``elman generate`` with the options of sampling."""
    from elman.decoding import Sampling

    def generate(
        run: str,
        *prompts: str,
        int8: Flag = False,
        bf16: Flag = False,
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
        bf16
            Round the weights to bfloat16, which is faster on the CPU; elman evaluate --bf16 prints what it costs.
        device
            Device: cpu, cuda, cuda:1, ...
        """
        from elman.api import load
        from elman.cli.evaluate import rounding
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
        if (to := rounding(int8, bf16)) is not None:
            model.quantize(to)
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
    from elman.tasks.abilities import Predicts

    kind = _options_of(arguments, Predicts)

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
            Do not fail because of pictures and sounds that cannot be read; report how many.
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

    predict.__annotations__["options"] = _flat(kind)
    return predict


def listen_command(arguments: list[str]) -> Any:
    """Return ``elman listen`` with the options of the model that the arguments name."""
    from elman.tasks.abilities import Listens

    kind = _options_of(arguments, Listens, lambda kind: kind.ListenOptions)

    def listen(
        run: str,
        file: str | None = None,
        *,
        microphone: Flag = False,
        raw: int | None = None,
        channel: int | None = None,
        json: Flag = False,
        out: str | None = None,
        device: str = "cpu",
        options: Any = None,
    ) -> int:
        """Recognise speech while it is spoken, in constant memory, with a model trained with --streaming.

        Each line is printed when it has ended; on a terminal, the line that is being said is shown as it grows.

        Parameters
        ----------
        run
            Run directory.
        file
            Sound file. - or nothing is standard input: a WAV file through a pipe, which need not tell its length.
        microphone
            Listen to the microphone; needs the sounddevice package.
        raw
            Sampling rate of standard input without a header: 16-bit little-endian samples of one channel.
        channel
            Channel to read, from 1. Default: as in training.
        json
            Print one JSON object per line that is heard, with its words and times.
        out
            Write the lines to this new file: .txt, .srt, .vtt or .json.
        device
            Device: cpu, cuda, cuda:1, ...
        """
        from elman.cli.listen import listen as hear

        values = {} if options is None else options.model_dump(exclude_unset=True)
        hear(
            run, file, device, microphone=microphone, raw=raw, channel=channel, json=json, out=out, options=values
        )  # fmt: skip
        return 0

    listen.__annotations__["options"] = _flat(kind)
    return listen


def _options_of(arguments: list[str], ability: Any, of: Any = lambda kind: kind.Options) -> Any:
    """Return the options of the answers of the model whose run the arguments name; None if it lacks the ability."""
    from elman import tasks
    from elman.training.run import Run, is_run

    run = next((argument for argument in arguments if not argument.startswith("-") and is_run(argument)), None)
    if run is None:
        return None
    model = tasks.get(Run(run).config().task).model_class
    return of(model) if issubclass(model, ability) else None


def _flat(kind: Any) -> Any:
    """Return the annotation of a parameter that stands for the options of a class; None: there are none."""
    return Annotated[kind | None, Flat] if kind else Annotated[None, Parameter(parse=False)]
