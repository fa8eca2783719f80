"""Accuracy of the reference's sentiment network on several grammars.

    python -m benchmarks.sentiment [NAME ...] [--seeds 20]

A grammar has positive and negative adjectives, patterns that affirm or negate them, and frames around these phrases.
A table has 50 training sentences and 25 test sentences, a random sample of the grammar, so some patterns and words
are rare. The training sentences contain the four adjectives alone. For every test sentence they contain its phrase in
another frame, and its frame and its words in other sentences. Each seed gives one table and one initialisation of the
network.

The training method was chosen on the grammars in `CHOSEN_ON`. Those in `HELD_OUT` were written before any result was
known and had no influence on it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections import Counter
from typing import NamedTuple

import numpy as np

from elman.reference import sentiment
from elman.reference.sentences import Example


class Grammar(NamedTuple):
    """A grammar of sentences.

    Attributes:
        positive: the two positive adjectives.
        negative: the two negative adjectives.
        patterns: phrases. {a} and {b} are adjectives of the sentence's label, {c} and {d} of the other label.
        frames: texts around a phrase, {}.
    """

    positive: tuple[str, str]
    negative: tuple[str, str]
    patterns: tuple[str, ...]
    frames: tuple[str, ...]


CHOSEN_ON = {
    "mood": Grammar(
        ("glad", "calm"), ("angry", "tired"),
        ("{a}", "very {a}", "{a} and {b}", "not {c}", "not at all {c}", "not {c} and not {d}", "not {c} or {d}"),
        ("{}", "i am {}", "this is {}", "i am {} right now", "this was {} earlier"),
    ),
    "news": Grammar(
        ("great", "fine"), ("awful", "poor"),
        (
            "{a}", "very {a}", "{a} and {b}", "not {c}", "not at all {c}", "not at all {c} or {d}",
            "not {c} and not {d}", "{d} not {c}",
        ),
        ("{}", "i am {}", "this is {}", "i am {} right now", "this was {} earlier"),
    ),
    "kitchen": Grammar(
        ("tasty", "fresh"), ("stale", "bitter"),
        ("{a}", "so {a}", "{a} and {b}", "never {c}", "never so {c}", "never ever {c}", "never {c} or {d}"),
        ("{}", "the soup is {}", "the bread is {}", "the soup was {} last week", "the bread is {} today"),
    ),
    "people": Grammar(
        ("warm", "kind"), ("cold", "rude"),
        ("{a}", "quite {a}", "not {c}", "not in the least {c}", "not {c} at all"),
        ("{}", "she is {}", "he was {}", "she is {} right now", "he was {} earlier"),
    ),
    "pupils": Grammar(
        ("bright", "quick"), ("dull", "slow"),
        ("{a}", "really {a}", "{a} or {b}", "neither {c} nor {d}", "not {c}", "not really {c}", "not {c} at all"),
        ("{}", "it is {}", "they are {}", "it was {} earlier", "they are {} right now"),
    ),
    "roads": Grammar(
        ("safe", "clean"), ("risky", "dirty"),
        (
            "{a}", "very {a}", "{a} and {b}", "not {c}", "not at all {c}", "not at all very {c}",
            "not at all {c} or {d}",
        ),
        ("{}", "we are {}", "that is {}", "we are {} right now", "that was {} earlier"),
    ),
    "letters": Grammar(
        ("honest", "true"), ("fake", "false"),
        (
            "{a}", "very {a}", "{a} and {b}", "not {c}", "not at all {c}", "not at all {c} or {d}",
            "not {c} and not {d}", "{a} not {c}", "{a} and not {c}",
        ),
        (
            "{}", "i am {}", "this is {}", "i am {} right now", "this is {} right now", "i was {} earlier",
            "this was {} earlier",
        ),
    ),
}  # fmt: skip
HELD_OUT = {
    "plays": Grammar(
        ("funny", "moving"), ("boring", "flat"),
        (
            "{a}", "truly {a}", "{a} and {b}", "not {c}", "not truly {c}", "not at all {c}", "not {c} or {d}",
            "{a} not {c}",
        ),
        ("{}", "the play is {}", "the songs are {}", "the play is {} right now", "the songs were {} earlier"),
    ),
    "health": Grammar(
        ("fit", "rested"), ("ill", "weak"),
        (
            "{a}", "very {a}", "{a} and {b}", "not {c}", "not at all {c}", "not at all {c} or {d}",
            "not {c} and not {d}", "{a} and not {c}",
        ),
        ("{}", "i am {}", "they are {}", "i was {} earlier", "they are {} right now", "i am {} right now"),
    ),
    "trade": Grammar(
        ("cheap", "solid"), ("costly", "flimsy"),
        (
            "{a}", "rather {a}", "{a} and {b}", "not {c}", "by no means {c}", "by no means {c} or {d}",
            "not in any way {c}",
        ),
        ("{}", "it looks {}", "these look {}", "it looked {} before", "these look {} at the moment"),
    ),
}  # fmt: skip
GRAMMARS = CHOSEN_ON | HELD_OUT


class Sentence(NamedTuple):
    """A sentence and its phrase, frame and words, which the training data contain if it is a test sentence."""

    example: Example
    parts: tuple[str, ...]


def sentences(grammar: Grammar) -> list[Sentence]:
    """Return all sentences of a grammar."""
    result = []
    for pattern in grammar.patterns:
        for label, same, opposite in (
            ("positive", grammar.positive, grammar.negative),
            ("negative", grammar.negative, grammar.positive),
        ):
            for k in (0, 1):
                phrase = pattern.format(a=same[k], b=same[1 - k], c=opposite[k], d=opposite[1 - k])
                for frame in grammar.frames:
                    text = frame.format(phrase)
                    parts = (f"phrase {phrase}", f"frame {frame}", *sorted(set(text.split())))
                    result.append(Sentence(Example(text, label), parts))
    return result


def table(name: str, seed: int, train_size: int = 50, test_size: int = 25) -> tuple[list[Example], list[Example]]:
    """Draw a table from a grammar.

    Args:
        name: a key of `GRAMMARS`.
        seed: random seed.
        train_size: number of training sentences. Default: 50.
        test_size: number of test sentences. Default: 25.

    Returns:
        The training and the test sentences.
    """
    population = sentences(GRAMMARS[name])
    shuffled = [population[k] for k in np.random.default_rng(seed).permutation(len(population))]
    shuffled.sort(key=lambda sentence: " " in sentence.example.text)  # single words first; they are for training
    sample = shuffled[: train_size + test_size]
    remaining = Counter(part for sentence in sample for part in sentence.parts)
    train: list[Example] = []
    test: list[Example] = []
    for example, parts in sample:
        if " " in example.text and len(test) < test_size and all(remaining[part] > 1 for part in parts):
            test.append(example)
            remaining.subtract(parts)
        else:
            train.append(example)
    return train, test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"grammars: {', '.join(GRAMMARS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=20, help="number of runs per grammar (default: 20)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(GRAMMARS):
        parser.error(f"unknown grammar {', '.join(sorted(unknown))}; the grammars are {', '.join(GRAMMARS)}")
    print("test accuracy in %, mean and minimum; runs with 100%; CPU seconds per run, mean and maximum")
    for name in options.names or GRAMMARS:
        accuracies, seconds = [], []
        for seed in range(options.seeds):
            train, test = table(name, seed)
            start = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                accuracies.append(sentiment.fit(train, test, rng=np.random.default_rng(seed)))
            seconds.append(time.process_time() - start)
        print(
            f"{name:8} {'held out' if name in HELD_OUT else 'chosen on'}  {np.mean(accuracies):6.2f}"
            f" {min(accuracies):5.1f}  {accuracies.count(100.0)}/{len(accuracies)}"
            f"  {np.mean(seconds):4.1f} {max(seconds):4.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
