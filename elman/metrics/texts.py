"""How good texts are, beside those that were wanted."""

from __future__ import annotations

import functools
import logging
from collections.abc import Hashable, Sequence

_log = logging.getLogger("elman")


def share(part: float, whole: float) -> float | None:
    """part / whole; None where there is nothing to have a share of."""
    return float(part / whole) if whole else None


def translation_scores(answers: Sequence[str], references: Sequence[str]) -> dict[str, float | str]:
    """bleu and chrf of a whole test set, in percent, by sacreBLEU on the texts as they are; its signature.

    Post 2018, https://arxiv.org/abs/1804.08771. Without the sacrebleu package: nothing, and the log says so.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        _missing()
        return {}
    bleu, chrf = BLEU(), CHRF()
    scores = {
        "bleu": bleu.corpus_score(list(answers), [list(references)]).score,
        "chrf": chrf.corpus_score(list(answers), [list(references)]).score,
    }
    return {**scores, "signature": str(bleu.get_signature())}


@functools.cache
def _missing() -> None:
    """Says so once."""
    _log.warning("no BLEU and chrF without sacrebleu: pip install 'elman[translate]'")


def error_scores(
    answers: Sequence[str], references: Sequence[str], sources: Sequence[str], units: str
) -> dict[str, float | None]:
    """Shares of wrong answers and of wrong units; ``units``: what the units are called.

    A source that has several references counts once, against the nearest of them.

    ``exact``: the share of answers that are right as they are. ``word_error_rate`` (and of characters, where answers
    have no spaces): insertions, deletions and substitutions over the length of the reference, over all.
    """
    nearest: dict[str, tuple[float, int, int]] = {}
    for source, answer, reference in zip(sources, answers, references, strict=True):
        ours, wanted = split(answer, units), split(reference, units)
        errors = edit_distance(ours, wanted)
        found = errors / max(1, len(wanted)), errors, len(wanted)
        nearest[source] = min(nearest.get(source, found), found)
    wrong, length = sum(e for _, e, _ in nearest.values()), sum(n for _, _, n in nearest.values())
    exact = sum(e == 0 for _, e, _ in nearest.values())
    return {"exact": share(exact, len(nearest)), f"{units}_error_rate": share(wrong, length)}


def split(text: str, units: str) -> list[str]:
    return text.split() if units == "word" else list(text)


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions that make b of a.

    Wagner & Fischer 1974, https://doi.org/10.1145/321796.321811
    """
    before = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
        before = row
    return before[-1]
