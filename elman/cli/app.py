"""The command line. Imports happen when they are needed: ``elman --help`` does not import torch."""

import importlib
import importlib.util
import logging
import os
import sys
from pathlib import Path

import cyclopts
from cyclopts import App
from pydantic import ValidationError

from elman.cli import commands, model_commands
from elman.cli.console import open_streams
from elman.errors import ElmanError, unknown_name
from elman.tasks import TASKS, get
from elman.version import __version__

#: The options of every command; they are taken out of the arguments before the rest is read.
_EVERYWHERE = """

Every command takes two more options: --import FILE.py (or MODULE) runs Python code first, so that the cells, tasks and
media that it registers are known; --debug prints the traceback of an error.
"""
_EXAMPLE = "Example: {}"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit status: 0; 2 for input that cannot be used; 130 if interrupted."""
    open_streams()
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    tokens = [token for token in tokens if token != "--debug"]
    if tokens[:1] == ["listen"] or (tokens[:1] == ["chain"] and "--stream" in tokens):
        tokens = [token for token in tokens if token != "-"]  # which listens to standard input by itself
    if tokens and tokens[0] in ("train", "evaluate", "predict", "chain"):  # a hyphen alone would be taken for an option
        before = ["", *tokens]
        tokens = [
            "/dev/stdin" if token == "-" and (last == "--valid" or not last.startswith("--")) else token
            for last, token in zip(before, tokens, strict=False)
        ]
    # oneDNN keeps 1,024 bf16 products by default, each of its own shape: gigabytes where lengths vary
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        tokens, imported = _imports(tokens)
        app = _app(tokens, imported)
        status = app(tokens, exit_on_error=False, print_error=False, result_action="return_value") or 0
        print(end="", flush=True)  # a closed pipe is noticed here, not at exit
        return status
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
    except BrokenPipeError:  # the reader of the output has exited: head, less
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _one_line(error: Exception) -> str:
    from elman.config import explain

    cause = error.__cause__
    if isinstance(cause, ValidationError):
        key, _, what = explain(cause).partition(":")
        if key == "options":  # several that do not go together
            return what.partition(", not {")[0].strip()
        return f"--{key.replace('_', '-')}:{what}"
    if isinstance(error, cyclopts.UnknownOptionError):
        names = [argument.names[0] for argument in error.argument_collection if argument.parse and argument.names]
        known = [name for name in names if name.startswith("--")]
        given = error.token.keyword or error.token.value or ""
        return str(unknown_name("option", given.partition("=")[0], known))
    return " ".join(str(error).split()) or type(error).__name__


def _imports(tokens: list[str]) -> tuple[list[str], list[str]]:
    """Run what --import names; return the other tokens, and those of the imports."""
    rest: list[str] = []
    imported: list[str] = []
    iterator = iter(tokens)
    for token in iterator:
        name, equals, value = token.partition("=")
        if name != "--import":
            rest.append(token)
            continue
        value = value if equals else next(iterator, "")
        if not value or value.startswith("-"):
            raise ElmanError("--import: give a file of Python, or the name of a module")
        imported += ["--import", value]
        sys.path.insert(0, os.getcwd())
        try:
            if value.endswith(".py"):
                path = os.path.expanduser(value)
                if not os.path.isfile(path):
                    raise ElmanError(f"--import {value}: no such file")
                spec = importlib.util.spec_from_file_location(f"imported_{Path(path).stem}", path)
                assert spec is not None
                assert spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                sys.modules[spec.name] = module  # where dataclasses look for it
                spec.loader.exec_module(module)
            else:
                importlib.import_module(value)
        except ElmanError:
            raise
        except (Exception, SystemExit) as error:  # whatever the user's own code raises
            raise ElmanError(f"--import {value}: {type(error).__name__}: {error}") from error
    return rest, imported


def _app(tokens: list[str], imported: list[str]) -> App:
    """Return all commands; only the one that is called has options that need torch to be imported."""
    if tokens[:1] == ["train"] and len(tokens) > 1 and not tokens[1].startswith("-") and tokens[1] not in TASKS:
        raise unknown_name("task", tokens[1], TASKS)
    app = App(
        name="elman",
        version=__version__,
        help="Train, run and evaluate recurrent sequence models on your own files.",
        help_epilogue=_EXAMPLE.format("elman train language shakespeare.txt --minutes 2 --out runs/shakespeare")
        + _EVERYWHERE,
    )
    example = _EXAMPLE.format("elman train language shakespeare.txt --minutes 2")
    training = App(name="train", help="Train a model on your files.", help_epilogue=example)
    for name, task in TASKS.items():
        chosen = tokens[:2] == ["train", name]
        training.command(
            commands.train_command(name, imported) if chosen else _named,
            name=name,
            help=task.help,
            usage=f"elman train {name} DATA ... [OPTIONS]",
            help_epilogue=_EXAMPLE.format(get(name).usage) if chosen else "",
        )
    app.command(training)
    generate = model_commands.generate_command() if tokens[:1] == ["generate"] else _named
    predict = model_commands.predict_command(tokens[1:]) if tokens[:1] == ["predict"] else _named
    evaluate = model_commands.evaluate_command(tokens[1:]) if tokens[:1] == ["evaluate"] else _named
    chain = importlib.import_module("elman.cli.chain").chain if tokens[:1] == ["chain"] else _named
    for name, command, about, usage in (
        ("demo", commands.demo, None, "elman demo --minutes 2"),
        (
            "evaluate", evaluate, "Compute the metrics of a model on files, or on its held-out data.",
            "elman evaluate runs/shakespeare other.txt --json",
        ),
        (
            "generate", generate, "Continue a text with a language model.",
            'elman generate runs/shakespeare "ROMEO:" --max-new-tokens 200',
        ),
        ("predict", predict, "Predict with a trained model.", 'elman predict runs/reviews "What a film!" --json'),
        (
            "chain", chain, "Run several models in a row: each reads what the one before has written.",
            "elman chain runs/captions runs/en-de photo.jpg --show",
        ),
        (
            "listen", model_commands.listen_command(tokens[1:]) if tokens[:1] == ["listen"] else _named,
            "Recognise speech while it is spoken.", "elman listen runs/speech --microphone",
        ),
        ("info", commands.info, None, "elman info runs/shakespeare"),
        ("inspect", commands.inspect, None, 'elman inspect runs/reviews "What a film!" --out inside.png'),
        ("bench", commands.bench, None, "elman bench layers --rounds 5"),
    ):  # fmt: skip
        more = {} if about is None else {"help": about}
        app.command(command, name=name, help_epilogue=_EXAMPLE.format(usage), **more)
    return app


def _named() -> None: ...


if __name__ == "__main__":
    sys.exit(main())
