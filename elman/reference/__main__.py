"""``python -m elman.reference``: two small networks that learn while you watch."""

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
    """argparse's, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists what there is)\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. The exit status: 0; 2 for input that cannot be used; 130 if interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to stop
    options = parser().parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    settings = {"epochs": options.epochs, "hidden": options.hidden, "rate": options.rate, "rng": rng}
    try:
        # a rate that is too high is told in words, not in NumPy's warnings on the way there
        with np.errstate(over="ignore", invalid="ignore"):
            if options.command == "hello":
                hello.learn(options.text, **settings)
            else:
                sentiment.learn(*tables(options.train, options.test, rng), **settings)
        sys.stdout.flush()  # a reader that has gone is noticed here, not on the way out
    except InputError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"{NAME}: {error}; a smaller --hidden may do", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{NAME}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: head, less
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def tables(
    train: str | None, test: str | None, rng: np.random.Generator
) -> tuple[list[sentences.Example], list[sentences.Example]]:
    """The sentences to learn from and to be tested on: of the two files, or of the grammar."""
    if train is None:
        return sentences.make(rng)
    if test is None:
        raise InputError(f"{train} stands alone: give two tables, TRAIN.tsv and TEST.tsv, or none")
    return sentences.read(train), sentences.read(test)


def parser() -> Parser:
    top = Parser(prog=NAME, description="Recurrent networks in plain NumPy, learning while you watch.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    command = commands.add_parser(
        "sentiment",
        help="learn whether a sentence is positive or negative",
        description="Trains a simple recurrent network, its gradients derived by hand, to tell the label of a "
        "sentence: of a small grammar ('this is not very bad' is positive), or of your own tables. "
        "Training ends 700 epochs after the training loss was below 0.05; the test sentences decide nothing.",
    )
    columns = "UTF-8, tab-separated, with the columns text and label named in the first line"
    command.add_argument("train", nargs="?", metavar="TRAIN.tsv", help=f"sentences to learn from: {columns}")
    command.add_argument("test", nargs="?", metavar="TEST.tsv", help="sentences to be tested on, likewise")
    add_options(command, epochs=2000, hidden=64, rate=1.5)

    command = commands.add_parser(
        "hello",
        help="learn to say h-e-l-l-o",
        description="Trains a network to say each letter of a text after having read those before it, and shows "
        "the distribution over letters at every step, before and after.",
    )
    command.add_argument("text", nargs="?", default="hello", metavar="TEXT", help="at least 2 characters (hello)")
    add_options(command, epochs=2000, hidden=None, rate=0.1)
    return top


def add_options(command: argparse.ArgumentParser, epochs: int, hidden: int | None, rate: float) -> None:
    units = str(hidden) if hidden else "3 for hello, 64 for another text"
    add = command.add_argument
    add("--epochs", type=positive, default=epochs, metavar="N", help=f"passes over the data at most ({epochs})")
    add("--hidden", type=positive, default=hidden, metavar="H", help=f"hidden units ({units})")
    add("--rate", type=step_size, default=rate, metavar="R", help=f"step size of gradient descent ({rate:g})")
    add("--seed", type=natural, default=0, metavar="S", help="of everything drawn at random (0)")


def positive(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 1000000, not {text!r}")
    return int(text)


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or above, not {text!r}")
    return int(text)


def step_size(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
