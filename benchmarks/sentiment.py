"""How well the reference's sentiment network learns grammars that it was not written for.

    python -m benchmarks.sentiment [--seeds 20] [--tables 2]

A grammar has adjectives that praise and that blame, ways of saying one and of denying one, and frames around them. A
table has 50 sentences to learn and 25 to be tested on, or 58 and 20. The sentences come in pairs that differ in the
adjectives, "she is kind" and "she is warm": where one of a pair is tested, the other is learnt. So every word and
every way of saying and of denying is learnt, but the tested sentence is not.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from typing import NamedTuple

import numpy as np

from elman.reference import sentiment
from elman.reference.sentences import Example


class Grammar(NamedTuple):
    """Adjectives, how they are said and denied ({0} and {1} are the two of one kind), and frames for it."""

    praise: tuple[str, str]
    blame: tuple[str, str]
    saying: tuple[str, ...]
    denying: tuple[str, ...]
    frames: tuple[str, ...]


GRAMMARS = {
    "mood": Grammar(
        ("glad", "calm"), ("angry", "tired"), ("{0}", "very {0}", "{0} and {1}"),
        ("not {0}", "not at all {0}", "not {0} and not {1}", "not {0} or {1}"),
        ("{}", "i am {}", "this is {}", "i am {} right now", "this was {} earlier"),
    ),
    "news": Grammar(
        ("great", "fine"), ("awful", "poor"), ("{0}", "very {0}", "{0} and {1}"),
        ("not {0}", "not at all {0}", "not at all {0} or {1}", "not {0} and not {1}", "{1} not {0}"),
        ("{}", "i am {}", "this is {}", "i am {} right now", "this was {} earlier"),
    ),
    "kitchen": Grammar(
        ("tasty", "fresh"), ("stale", "bitter"), ("{0}", "so {0}", "{0} and {1}"),
        ("never {0}", "never so {0}", "never ever {0}", "never {0} or {1}"),
        ("{}", "the soup is {}", "the bread is {}", "the soup was {} last week", "the bread is {} today"),
    ),
    "people": Grammar(
        ("warm", "kind"), ("cold", "rude"), ("{0}", "quite {0}"),
        ("not {0}", "not in the least {0}", "not {0} at all"),
        ("{}", "she is {}", "he was {}", "she is {} right now", "he was {} earlier"),
    ),
    "pupils": Grammar(
        ("bright", "quick"), ("dull", "slow"), ("{0}", "really {0}", "{0} or {1}"),
        ("neither {0} nor {1}", "not {0}", "not really {0}", "not {0} at all"),
        ("{}", "it is {}", "they are {}", "it was {} earlier", "they are {} right now"),
    ),
    "roads": Grammar(
        ("safe", "clean"), ("risky", "dirty"), ("{0}", "very {0}", "{0} and {1}"),
        ("not {0}", "not at all {0}", "not at all very {0}", "not at all {0} or {1}"),
        ("{}", "we are {}", "that is {}", "we are {} right now", "that was {} earlier"),
    ),
}  # fmt: skip


def table(name: str, learnt: int, tested: int, seed: int) -> tuple[list[Example], list[Example]]:
    """So many sentences to learn and to be tested on: each phrase alone, and some of them in frames."""
    grammar, draw = GRAMMARS[name], np.random.default_rng(seed)
    ways = [(way, False, frame) for way in grammar.saying for frame in grammar.frames]
    ways += [(way, True, frame) for way in grammar.denying for frame in grammar.frames]
    ways = [ways[k] for k in draw.permutation(len(ways))]
    ways.sort(key=lambda way: way[2] != "{}")
    pairs = []
    for way, denied, frame in ways:
        for label, (one, other) in (("positive", grammar.praise), ("negative", grammar.blame)):
            if denied:
                label = {"positive": "negative", "negative": "positive"}[label]
            pair = [Example(frame.format(way.format(*words)), label) for words in ((one, other), (other, one))]
            pairs.append([pair[k] for k in draw.permutation(2)])
    train: list[Example] = []
    test: list[Example] = []
    pairs = pairs[: (learnt + tested + 1) // 2]
    for number, k in enumerate(draw.permutation(len(pairs))):
        first, second = pairs[k]
        train.append(first)
        (test if number < tested else train).append(second)
    return train[:learnt], test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="runs for each table (20)")
    parser.add_argument("--tables", type=int, default=2, help="tables of each grammar and size (2)")
    options = parser.parse_args()
    print("mean and worst test accuracy in %, mean seconds of a run on one core")
    for name in GRAMMARS:
        for learnt, tested in ((50, 25), (58, 20)):
            reached, began = [], time.process_time()
            for number in range(options.tables):
                for seed in range(options.seeds):
                    with contextlib.redirect_stdout(io.StringIO()):
                        train, test = table(name, learnt, tested, number)
                        reached.append(sentiment.learn(train, test, rng=np.random.default_rng(seed)))
            seconds = (time.process_time() - began) / len(reached)
            print(
                f"{name:8} {learnt}/{tested}  {np.mean(reached):6.2f} {min(reached):5.1f} {seconds:5.1f} s", flush=True
            )


if __name__ == "__main__":
    main()
