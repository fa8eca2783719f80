"""Word and character error rates, with jiwer as the oracle."""

from __future__ import annotations

import itertools
import random

import jiwer
import pytest

from elman.metrics.words import Errors, edit_distance, error_counts, error_scores, errors


def brute_force(a: str, b: str) -> tuple[int, int]:
    """The fewest errors, and the fewest substitutions among explanations with as few, by recursion."""
    if not a or not b:
        return len(a) + len(b), 0
    kept, (n, s) = brute_force(a[1:], b[1:]), brute_force(a[1:], b[1:])
    options = [kept if a[0] == b[0] else (n + 1, s + 1)]
    for x, y in ((a[1:], b), (a, b[1:])):
        n, s = brute_force(x, y)
        options.append((n + 1, s))
    return min(options)


def test_counts_are_those_of_the_documented_explanation() -> None:
    texts = ["".join(text) for n in range(4) for text in itertools.product("ab", repeat=n)] + ["abcab", "cabba"]
    for a, b in itertools.product(texts, texts):
        found = errors(a, b)
        assert (sum(found), found.substitutions) == brute_force(a, b), (a, b)
        assert found.insertions - found.deletions == len(a) - len(b)
    assert errors("abc", "bcd") == Errors(0, 1, 1)


def texts(seed: int, count: int = 40) -> tuple[list[str], list[str]]:
    """Answers, and references that differ from them by some words and letters."""
    rng = random.Random(seed)
    words = ["a", "the", "cat", "cats", "sat", "down", "on", "mat", "é", "don't"]
    references = [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(count)]
    answers = [
        " ".join(w for w in r.split() for w in rng.choices([w, "", rng.choice(words)], [8, 1, 1])) for r in references
    ]
    return [" ".join(answer.split()) for answer in answers], references


@pytest.mark.parametrize("seed", [0, 1])
def test_rates_equal_those_of_jiwer(seed: int) -> None:
    answers, references = texts(seed)
    for unit, oracle in (("words", jiwer.process_words), ("characters", jiwer.process_characters)):
        found, wanted = error_counts(answers, references, unit), oracle(references, answers)
        rate = wanted.wer if unit == "words" else wanted.cer
        assert found["rate"] == pytest.approx(rate)
        total = found["substitutions"] + found["insertions"] + found["deletions"]
        assert total == wanted.substitutions + wanted.insertions + wanted.deletions
        assert found["insertions"] - found["deletions"] == wanted.insertions - wanted.deletions
        assert found["length"] - found["deletions"] - found["substitutions"] >= wanted.hits  # the most correct units


def test_white_space_does_not_count() -> None:
    for unit in ("words", "characters"):
        assert error_counts([" the\tcat\n"], ["the  cat "], unit)["rate"] == 0
    assert error_counts(["The cat."], ["the cat"])["substitutions"] == 2


def test_empty_texts() -> None:
    assert error_counts(["", "a b"], ["", ""])["rate"] is None
    assert error_counts(["a b", "c"], ["", "c"]) == {
        "substitutions": 0, "insertions": 2, "deletions": 0, "length": 1, "rate": 2.0,
    }  # fmt: skip
    assert error_counts([""], ["a b"])["rate"] == 1.0
    assert error_counts([], []) == {"substitutions": 0, "insertions": 0, "deletions": 0, "length": 0, "rate": None}
    with pytest.raises(ValueError, match="zip"):
        error_counts(["a"], [])


def test_long_texts() -> None:
    reference = [str(i % 977) for i in range(2000)]
    answer = ["x", *reference[:900], *reference[901:], "y", "z"]
    assert errors(answer, reference) == Errors(0, 3, 1)


def test_distances_and_nearest_references() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3
    scores = error_scores(["a b c", "x", "x"], ["a c", "y", "x"], ["1", "2", "2"], "words")
    assert scores == {"exact": 0.5, "word_error_rate": 1 / 3}
