"""Command line of the reference: ``python -m elman.reference sentiment`` and ``hello``."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from typing import NoReturn

import numpy as np

from elman.reference import hello, sentences, sentiment
from elman.reference.errors import InputError

NAME = "python -m elman.reference"


class Parser(argparse.ArgumentParser):
    """An argument parser that prints errors as one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words of the command line. Default: those of the process.

    Returns:
        The exit status: 0 on success, 2 for invalid input, 130 if interrupted.

    Example:
        >>> main(["hello"])  # doctest: +SKIP
        0
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for terminals that cannot show a letter
    options = parser().parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    settings = {"epochs": options.epochs, "hidden": options.hidden, "rate": options.rate, "rng": rng}
    try:
        # A learning rate that is too high gives an InputError, so NumPy's overflow warnings are switched off.
        with np.errstate(over="ignore", invalid="ignore"):
            if options.command == "hello":
                hello.fit(options.text, **settings)
            else:
                sentiment.fit(*tables(options.train, options.test, rng), **settings)
        sys.stdout.flush()  # detects a closed pipe here instead of at exit
    except InputError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"{NAME}: {error}; try a smaller --hidden", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{NAME}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the process that reads the output has ended, for example head or less
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def tables(
    train: str | None, test: str | None, rng: np.random.Generator
) -> tuple[list[sentences.Example], list[sentences.Example]]:
    """Return the training and test sentences: from two files, or from the grammar if there are none.

    Args:
        train: path of the training table, or None.
        test: path of the test table, or None.
        rng: generator for the sentences of the grammar.

    Returns:
        The training sentences and the test sentences.

    Raises:
        InputError: if a table is not valid, or if only one is given.

    Example:
        >>> train, test = tables(None, None, np.random.default_rng(0))
        >>> len(train), len(test)
        (192, 32)
    """
    if train is None:
        return sentences.make(rng)
    if test is None:
        raise InputError(f"{train}: a test table is missing; give two tables, TRAIN.tsv and TEST.tsv, or none")
    return sentences.read(train), sentences.read(test)


def parser() -> Parser:
    """Build the argument parser.

    Returns:
        The parser, with one subparser per command.

    Example:
        >>> parser().parse_args(["hello", "--seed", "1"]).seed
        1
    """
    top = Parser(prog=NAME, description="Train recurrent networks in plain NumPy and print the progress.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    command = commands.add_parser(
        "sentiment",
        help="classify sentences as positive or negative",
        description="Train a simple recurrent network, with gradients derived by hand, to classify sentences from "
        "a small grammar ('this is not very bad' is positive) or from your own tables. Training ends 700 epochs "
        "after the training loss falls below 0.05. The test sentences have no influence on training.",
        epilog=f"Example: {NAME} sentiment train.tsv test.tsv --seed 1",
    )
    columns = "UTF-8, tab-separated, with the columns text and label named in the first line"
    command.add_argument("train", nargs="?", metavar="TRAIN.tsv", help=f"training sentences: {columns}")
    command.add_argument("test", nargs="?", metavar="TEST.tsv", help="test sentences, in the same format")
    add_options(command, epochs=2000, hidden=64, rate=1.5)

    command = commands.add_parser(
        "hello",
        help="learn to predict the letters of a word",
        description="Train a network to predict each letter of a text from the letters before it, and print the "
        "predicted distribution at every step, before and after training.",
        epilog=f"Example: {NAME} hello 'a man, a plan' --hidden 32",
    )
    command.add_argument(
        "text", nargs="?", default="hello", metavar="TEXT", help="at least 2 characters (default: hello)"
    )
    add_options(command, epochs=2000, hidden=None, rate=0.1)
    return top


def add_options(command: argparse.ArgumentParser, epochs: int, hidden: int | None, rate: float) -> None:
    """Add the options that both commands have.

    Args:
        command: the parser of the command.
        epochs: default of ``--epochs``.
        hidden: default of ``--hidden``; None if it depends on the text.
        rate: default of ``--rate``.

    Example:
        >>> command = Parser()
        >>> add_options(command, epochs=10, hidden=8, rate=0.1)
        >>> command.parse_args([]).hidden
        8
    """
    units = str(hidden) if hidden else "3 for hello, 64 for any other text"
    add = command.add_argument
    add("--epochs", type=positive, default=epochs, metavar="N", help=f"maximum number of epochs (default: {epochs})")
    add("--hidden", type=positive, default=hidden, metavar="H", help=f"number of hidden units (default: {units})")
    add("--rate", type=learning_rate, default=rate, metavar="R", help=f"learning rate (default: {rate:g})")
    add("--seed", type=natural, default=0, metavar="S", help="random seed (default: 0)")


def positive(text: str) -> int:
    """Parse an integer from 1 to 1,000,000.

    Args:
        text: the argument.

    Returns:
        Its value.

    Raises:
        argparse.ArgumentTypeError: if it is anything else.

    Example:
        >>> positive("64")
        64
    """
    if not (text.isdecimal() and 0 < int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"must be an integer from 1 to 1000000, not {text!r}")
    return int(text)


def natural(text: str) -> int:
    """Parse an integer of at least 0.

    Args:
        text: the argument.

    Returns:
        Its value.

    Raises:
        argparse.ArgumentTypeError: if it is anything else.

    Example:
        >>> natural("0")
        0
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be an integer of at least 0, not {text!r}")
    return int(text)


def learning_rate(text: str) -> float:
    """Parse a finite number above 0.

    Args:
        text: the argument.

    Returns:
        Its value.

    Raises:
        argparse.ArgumentTypeError: if it is anything else.

    Example:
        >>> learning_rate("0.1")
        0.1
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
