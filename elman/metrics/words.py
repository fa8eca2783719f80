"""Errors of texts compared with reference texts: word and character error rates, and their kinds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from elman.metrics.texts import share

Unit = Literal["words", "characters"]


class Errors(NamedTuple):
    """The errors of an answer.

    Args:
        substitutions (int): Units that are replaced by another one.
        insertions (int): Units that the reference does not have.
        deletions (int): Units of the reference that are missing.
    """

    substitutions: int
    insertions: int
    deletions: int


def split(text: str, unit: Unit) -> list[str]:
    """Split a text into units, the only normalisation of all metrics here.

    Parameters
    ----------
    text : str
        The text. White space around it does not count, and any white space within it is one space.
    unit : str
        ``"words"``: what white space separates. ``"characters"``: all characters, spaces among them.

    Examples
    --------
    >>> split(" the  cat", "words"), split(" a  b", "characters")
    (['the', 'cat'], ['a', ' ', 'b'])
    """
    words = text.split()
    return words if unit == "words" else list(" ".join(words))


def errors(answer: Sequence[Hashable], reference: Sequence[Hashable]) -> Errors:
    """Count the errors of an answer: the fewest substitutions, insertions and deletions that explain it.

    Of several explanations with as few errors, the one with the fewest substitutions counts, which is the one with
    the most correct units. It determines all three counts.

    Levenshtein 1966; Wagner & Fischer 1974, https://doi.org/10.1145/321796.321811

    Parameters
    ----------
    answer, reference : sequence
        Texts or lists of units.

    Examples
    --------
    >>> errors("the big cat".split(), "a big black cat".split())
    Errors(substitutions=1, insertions=0, deletions=1)
    """
    shorter = min(len(answer), len(reference))
    start = next((k for k in range(shorter) if answer[k] != reference[k]), shorter)
    most = shorter - start
    end = next((k for k in range(most) if answer[-1 - k] != reference[-1 - k]), most)
    numbers: dict[Hashable, int] = {}
    a, b = (
        np.array([numbers.setdefault(unit, len(numbers)) for unit in units[start : len(units) - end]], dtype=np.int64)
        for units in (answer, reference)
    )
    # The cost of an explanation: the number of errors above the 32nd bit, the number of substitutions below.
    one = 1 << 32
    steps = one * np.arange(len(b) + 1)
    costs = steps
    for i, unit in enumerate(a, 1):
        row = np.empty_like(costs)
        row[0] = one * i
        row[1:] = np.minimum(costs[1:] + one, costs[:-1] + np.where(b == unit, 0, one + 1))
        costs = np.minimum.accumulate(row - steps) + steps  # units of b that are left out
    count, substitutions = divmod(int(costs[-1]), one)
    insertions = (count - substitutions + len(a) - len(b)) // 2
    return Errors(substitutions, insertions, count - substitutions - insertions)


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Compute the Levenshtein distance: the minimum number of insertions, deletions and substitutions from a to b.

    Parameters
    ----------
    a, b : sequence
        Texts or lists of units.

    Returns
    -------
    int
        Between 0 and the greater length.

    Examples
    --------
    >>> edit_distance("kitten", "sitting")
    3
    """
    return sum(errors(a, b))


def error_counts(answers: Sequence[str], references: Sequence[str], unit: Unit = "words") -> dict[str, float | None]:
    """Count the errors of answers, and compute their error rate.

    error rate = (substitutions + insertions + deletions) / length of the references, summed over all answers

    Texts are split as by `split`, and not normalised otherwise: case and punctuation count.

    Parameters
    ----------
    answers : sequence of str
        The output for each input.
    references : sequence of str
        The reference for each input; an empty one makes every unit of its answer an insertion.
    unit : str
        ``"words"`` or ``"characters"``. Default: ``"words"``.

    Returns
    -------
    dict
        ``substitutions``, ``insertions``, ``deletions``; ``length``, the number of units in the references; ``rate``,
        at least 0, and greater than 1 if there are more errors than units. The rate is None if the references have no
        units.

    Examples
    --------
    >>> error_counts(["the cat sat"], ["the cat sat down"])
    {'substitutions': 0, 'insertions': 0, 'deletions': 1, 'length': 4, 'rate': 0.25}
    """
    wanted = [split(reference, unit) for reference in references]
    found = [errors(split(answer, unit), units) for answer, units in zip(answers, wanted, strict=True)]
    total = Errors(*(sum(one[kind] for one in found) for kind in range(3)))
    length = sum(map(len, wanted))
    return {**total._asdict(), "length": length, "rate": share(sum(total), length)}


def error_scores(
    answers: Sequence[str], references: Sequence[str], sources: Sequence[str], unit: Unit
) -> dict[str, float | None]:
    """Compute the exact match and the error rate of words or characters, for sources that may have several references.

    error rate = (substitutions + insertions + deletions) / length of the references, summed over all sources

    A source with several references counts once, with the reference that is nearest to its answer.

    Parameters
    ----------
    answers : sequence of str
        The output for each source.
    references : sequence of str
        The reference for each source.
    sources : sequence of str
        The inputs; equal ones are the same source.
    unit : str
        ``"words"``, or ``"characters"`` for texts without spaces.

    Returns
    -------
    dict
        ``exact``, the fraction of answers without any error, between 0 and 1; and ``word_error_rate`` or
        ``character_error_rate``, at least 0, and greater than 1 if there are more errors than units. None without
        sources, or without units in the references.

    Examples
    --------
    >>> error_scores(["the cat sat"], ["the cat sat down"], ["1"], "words")
    {'exact': 0.0, 'word_error_rate': 0.25}
    """
    nearest: dict[str, tuple[float, int, int]] = {}
    for source, answer, reference in zip(sources, answers, references, strict=True):
        wanted = split(reference, unit)
        count = edit_distance(split(answer, unit), wanted)
        score = count / max(1, len(wanted)), count, len(wanted)
        nearest[source] = min(nearest.get(source, score), score)
    total_errors = sum(count for _, count, _ in nearest.values())
    total_length = sum(length for _, _, length in nearest.values())
    exact = sum(count == 0 for _, count, _ in nearest.values())
    name = f"{unit.removesuffix('s')}_error_rate"
    return {"exact": share(exact, len(nearest)), name: share(total_errors, total_length)}
