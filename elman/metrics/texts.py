"""Metrics of texts compared with reference texts: BLEU, chrF, exact match and error rates."""

from __future__ import annotations

import functools
import logging
from collections.abc import Hashable, Sequence

_log = logging.getLogger("elman")


def share(part: float, whole: float) -> float | None:
    """Return part / whole, or None if ``whole`` is 0."""
    return float(part / whole) if whole else None


def translation_scores(answers: Sequence[str], references: Sequence[str]) -> dict[str, float | str]:
    """Compute corpus BLEU and chrF with sacreBLEU and its default options, on texts that are not tokenized.

    Post 2018, https://arxiv.org/abs/1804.08771; BLEU: Papineni et al. 2002, https://aclanthology.org/P02-1040; chrF:
    Popović 2015, https://aclanthology.org/W15-3049

    Parameters
    ----------
    answers : sequence of str
        The output for each input.
    references : sequence of str
        The reference for each input.

    Returns
    -------
    dict
        ``bleu`` and ``chrf``, between 0 and 100, and ``signature``, sacreBLEU's description of its options. Empty if
        sacreBLEU is not installed, which is logged once.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        warn_of_missing_sacrebleu()
        return {}
    bleu, chrf = BLEU(), CHRF()
    scores = {
        "bleu": bleu.corpus_score(list(answers), [list(references)]).score,
        "chrf": chrf.corpus_score(list(answers), [list(references)]).score,
    }
    return {**scores, "signature": str(bleu.get_signature())}


@functools.cache
def warn_of_missing_sacrebleu() -> None:
    """Log a warning, once."""
    _log.warning("BLEU and chrF are not computed, since sacrebleu is missing: pip install 'elman[translate]'")


def error_scores(
    answers: Sequence[str], references: Sequence[str], sources: Sequence[str], units: str
) -> dict[str, float | None]:
    """Compute the exact match and the error rate of words or characters.

    error rate = (insertions + deletions + substitutions) / length of the references, summed over all sources

    A source with several references counts once, with the reference that is nearest to its answer.

    Parameters
    ----------
    answers : sequence of str
        The output for each source.
    references : sequence of str
        The reference for each source.
    sources : sequence of str
        The inputs; equal ones are the same source.
    units : str
        ``"word"``, or ``"character"`` for texts without spaces.

    Returns
    -------
    dict
        ``exact``, the fraction of answers without any error, between 0 and 1; and ``word_error_rate`` or
        ``character_error_rate``, at least 0, and greater than 1 if there are more errors than units. None without
        sources, or without units in the references.

    Examples
    --------
    >>> error_scores(["the cat sat"], ["the cat sat down"], ["1"], "word")
    {'exact': 0.0, 'word_error_rate': 0.25}
    """
    nearest: dict[str, tuple[float, int, int]] = {}
    for source, answer, reference in zip(sources, answers, references, strict=True):
        predicted, wanted = split(answer, units), split(reference, units)
        errors = edit_distance(predicted, wanted)
        score = errors / max(1, len(wanted)), errors, len(wanted)
        nearest[source] = min(nearest.get(source, score), score)
    total_errors = sum(errors for _, errors, _ in nearest.values())
    total_length = sum(length for _, _, length in nearest.values())
    exact = sum(errors == 0 for _, errors, _ in nearest.values())
    return {"exact": share(exact, len(nearest)), f"{units}_error_rate": share(total_errors, total_length)}


def split(text: str, units: str) -> list[str]:
    """Split a text into words, or into characters for any other ``units`` than ``"word"``."""
    return text.split() if units == "word" else list(text)


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Compute the Levenshtein distance: the minimum number of insertions, deletions and substitutions from a to b.

    Wagner & Fischer 1974, https://doi.org/10.1145/321796.321811

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
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
        previous = row
    return previous[-1]
