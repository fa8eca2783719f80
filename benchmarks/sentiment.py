"""How well the reference's sentiment network learns grammars that it was not written for.

    python -m benchmarks.sentiment [NAME ...] [--seeds 20]

A grammar has adjectives that praise and that blame, ways of saying or denying one, and frames around them. A table has
50 sentences to learn and 25 to be tested on, drawn from all that the grammar has, so that some ways and words are rare.
The four adjectives alone are learnt, and whatever is tested, its phrase is learnt in another frame, and its words and
its frame in other sentences. Each seed draws a table, and the start of the network.

The training was chosen on `CHOSEN_ON`. `HELD_OUT` was written before any result was seen, and decided nothing.
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
    """Adjectives; ways, in which {a} and {b} are of the sentence's label and {c} and {d} of the other; frames."""

    praise: tuple[str, str]
    blame: tuple[str, str]
    ways: tuple[str, ...]
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
    """A sentence, and what a tested one must share with learnt ones: its phrase, its frame and its words."""

    example: Example
    parts: tuple[str, ...]


def sentences(grammar: Grammar) -> list[Sentence]:
    """All that the grammar has, each once."""
    found = []
    for way in grammar.ways:
        for label, own, other in (
            ("positive", grammar.praise, grammar.blame),
            ("negative", grammar.blame, grammar.praise),
        ):
            for k in (0, 1):
                phrase = way.format(a=own[k], b=own[1 - k], c=other[k], d=other[1 - k])
                for frame in grammar.frames:
                    text = frame.format(phrase)
                    parts = (f"phrase {phrase}", f"frame {frame}", *sorted(set(text.split())))
                    found.append(Sentence(Example(text, label), parts))
    return found


def table(name: str, seed: int, learnt: int = 50, tested: int = 25) -> tuple[list[Example], list[Example]]:
    """So many sentences to learn and to be tested on."""
    everything = sentences(GRAMMARS[name])
    shuffled = [everything[k] for k in np.random.default_rng(seed).permutation(len(everything))]
    shuffled.sort(key=lambda sentence: " " in sentence.example.text)  # single words first, and into training
    drawn = shuffled[: learnt + tested]
    left = Counter(part for sentence in drawn for part in sentence.parts)
    train: list[Example] = []
    test: list[Example] = []
    for example, parts in drawn:
        if " " in example.text and len(test) < tested and all(left[part] > 1 for part in parts):
            test.append(example)
            left.subtract(parts)
        else:
            train.append(example)
    return train, test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GRAMMARS)} (all)")
    parser.add_argument("--seeds", type=int, default=20, help="runs for each grammar (20)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(GRAMMARS):
        parser.error(f"there is no grammar {', '.join(sorted(unknown))}; there are {', '.join(GRAMMARS)}")
    print("test accuracy in %, mean and worst; how many runs had 100%; CPU seconds of a run, mean and most")
    for name in options.names or GRAMMARS:
        reached, seconds = [], []
        for seed in range(options.seeds):
            train, test = table(name, seed)
            began = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                reached.append(sentiment.fit(train, test, rng=np.random.default_rng(seed)))
            seconds.append(time.process_time() - began)
        print(
            f"{name:8} {'held out' if name in HELD_OUT else 'chosen on'}  {np.mean(reached):6.2f} {min(reached):5.1f}"
            f"  {reached.count(100.0)}/{len(reached)}  {np.mean(seconds):4.1f} {max(seconds):4.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
