"""Metrics of captions compared with several references: BLEU, chrF, CIDEr-D and exact match."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from elman.metrics.cider import cider_d
from elman.metrics.texts import share, warn_of_missing_sacrebleu

#: A letter of a script that puts no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Chinese and Japanese.
_UNSPACED = "\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED += "\U00020000-\U000323af"
_WORD = re.compile(f"[{_UNSPACED}]|[^{_UNSPACED}\\s]+")
_APOSTROPHES = str.maketrans("\u2018\u2019\u02bc\u2010\u2011", "'''--")


def normalize(text: str) -> str:
    """Convert a text to lower case without punctuation.

    Apostrophes and hyphens inside of words stay, and so do points and commas between digits, and symbols such as
    ``+``. Unicode is normalized (NFKC), spaces are reduced to one, and invisible characters are removed. A text of
    punctuation alone stays.

    Args:
        text (str): A caption or an answer, in any language.

    Returns:
        str: The normalized text.

    Example::

        >>> normalize("A man, in a T-shirt:  he doesn't smile.")
        "a man in a t-shirt he doesn't smile"
    """
    plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
    plain = "".join(c for c in plain if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace())
    kept = [c if _stays(plain, k) else " " for k, c in enumerate(plain)]
    return " ".join("".join(kept).split()) or " ".join(plain.split())


def _stays(text: str, k: int) -> bool:
    """Return whether the character at index ``k`` is part of a word."""
    c = text[k]
    if unicodedata.category(c)[0] != "P" and c != "`":
        return True
    before, after = text[k - 1 : k], text[k + 1 : k + 2]
    if c in ".,":
        return before.isdigit() and after.isdigit()
    return c in "'-" and _is_letter(before) and _is_letter(after)


def _is_letter(c: str) -> bool:
    """Return whether a character is a letter, a mark on a letter, or a digit."""
    return bool(c) and unicodedata.category(c)[0] in "LMN"


def split_words(text: str) -> list[str]:
    """Split a normalized text into words, and into characters where a script puts no spaces between words.

    Args:
        text (str): The output of `normalize`.

    Returns:
        list[str]: The words.

    Example::

        >>> split_words("a red circle"), split_words("赤い円")
        (['a', 'red', 'circle'], ['赤', 'い', '円'])
    """
    return _WORD.findall(text)


def caption_scores(answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float | int | str | None]:
    """Compute the metrics of captions, on texts in lower case without punctuation.

    BLEU: Papineni et al. 2002, https://aclanthology.org/P02-1040; chrF: Popović 2015,
    https://aclanthology.org/W15-3049; both by sacreBLEU: Post 2018, https://arxiv.org/abs/1804.08771; CIDEr-D:
    `elman.metrics.cider.cider_d`. BLEU and CIDEr-D of the same words are those of coco-caption (Chen et al. 2015,
    https://arxiv.org/abs/1504.00325), whose tokenizer also separates contractions such as ``don't``.

    Args:
        answers (Sequence[str]): The caption of each picture.
        references (Sequence[Sequence[str]]): The references of each picture, at least one; their number may differ.

    Returns:
        dict: ``bleu`` (BLEU-4, 0 if no answer has four words), ``bleu_1`` and ``chrf``, between 0 and 100, and
        ``signature``, sacreBLEU's description of the options of BLEU; without sacreBLEU, which is logged once, these
        four are missing. ``cider`` (CIDEr-D), between 0 and 10, and 0 for a single picture; ``exact``, the fraction of
        answers that are equal to a reference, between 0 and 1; ``distinct``, the number of different answers; and
        ``words``, the mean number of words of an answer. Values are None without pictures.

    Raises:
        ValueError: The numbers of answers and references differ, or a picture has no reference.

    Example::

        >>> scores = caption_scores(["A red circle."], [["a red circle", "a circle"]])
        >>> scores["bleu"], scores["exact"], scores["words"]
        (0.0, 1.0, 3.0)
    """
    if any(not each for each in references):
        raise ValueError("references: at least one is required for each picture")
    found = [normalize(answer) for answer in answers]
    wanted = [[normalize(reference) for reference in each] for each in references]
    words = [split_words(text) for text in found]
    wanted_words = [[split_words(text) for text in each] for each in wanted]
    cider, _ = cider_d(words, wanted_words)
    exact = sum(text in each for text, each in zip(found, wanted, strict=True))
    return {
        **_sacrebleu_scores(found, wanted, words, wanted_words),
        "cider": cider if found else None,
        "exact": share(exact, len(found)),
        "distinct": len(set(found)),
        "words": share(sum(map(len, words)), len(found)),
    }


def _sacrebleu_scores(
    answers: Sequence[str],
    references: Sequence[Sequence[str]],
    words: Sequence[Sequence[str]],
    reference_words: Sequence[Sequence[Sequence[str]]],
) -> dict[str, float | int | str | None]:
    """Compute BLEU of words and chrF of texts; return nothing without sacreBLEU."""
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        warn_of_missing_sacrebleu()
        return {}
    bleu, bleu_1 = BLEU(tokenize="none"), BLEU(tokenize="none", max_ngram_order=1)
    if not answers:
        return {"bleu": None, "bleu_1": None, "chrf": None, "signature": None}
    tokens = [" ".join(each) for each in words]
    streams = _streams([[" ".join(reference) for reference in each] for each in reference_words])
    scores = {
        "bleu": bleu.corpus_score(tokens, streams).score,
        "bleu_1": bleu_1.corpus_score(tokens, streams).score,
        "chrf": CHRF().corpus_score(list(answers), _streams(references)).score,
    }
    return {**scores, "signature": str(bleu.get_signature())}


def _streams(references: Sequence[Sequence[str]]) -> list[Any]:
    """Transpose references to sacreBLEU's form, one list for each k-th reference, with None where there is none."""
    most = max(map(len, references))
    return [[each[k] if k < len(each) else None for each in references] for k in range(most)]
