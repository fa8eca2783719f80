"""Metrics of texts compared with reference texts: BLEU and chrF."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

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
