"""CIDEr-D: how well a caption agrees with the captions that several people gave the same picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

#: The greatest number of words of an n-gram.
_ORDER = 4

#: The counts of the n-grams of a caption, for each n from 1 to 4.
_Counts = list[Counter[tuple[str, ...]]]
#: The TF-IDF weights of the n-grams of a caption, for each n from 1 to 4.
_Weights = list[dict[tuple[str, ...], float]]


def cider_d(
    answers: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], sigma: float = 6.0
) -> tuple[float, list[float]]:
    """Compute CIDEr-D as coco-caption does, where it is named CIDEr.

    For an answer a and its m references r, with the vectors g_n of the TF-IDF weights of all n-grams,

    CIDEr-D(a) = 10 / (4 m) Σ_n Σ_r exp(-(|a| - |r|)² / (2 sigma²)) min(g_n(a), g_n(r)) · g_n(r) / (‖g_n(a)‖ ‖g_n(r)‖)

    for n from 1 to 4. The weight of an n-gram is its count times log(N / df), where N is the number of pictures and df
    the number of pictures with the n-gram in a reference, at least 1. As in coco-caption, the length of a caption is
    its number of bigrams.

    Vedantam et al. 2015, https://arxiv.org/abs/1411.5726

    Args:
        answers (Sequence[Sequence[str]]): The words of the caption of each picture.
        references (Sequence[Sequence[Sequence[str]]]): The words of the references of each picture, at least one.
        sigma (float): The standard deviation of the length penalty, in words. Default: 6.

    Returns:
        tuple[float, list[float]]: The mean over all pictures and the score of each, between 0 and 10. Document
        frequencies come from these references, so a score depends on the other pictures: it is 0 if there is one
        picture only. The mean of no pictures is 0.

    Raises:
        ValueError: The numbers of answers and references differ, or a picture has no reference.

    Example::

        >>> answers = ["a red circle".split(), "a star".split()]
        >>> references = [["a red circle".split(), "one circle".split()], ["the star".split()]]
        >>> mean, scores = cider_d(answers, references)
        >>> [round(score, 2) for score in scores]
        [4.25, 1.25]
    """
    if any(not each for each in references):
        raise ValueError("references: at least one is required for each picture")
    counts = [[_counts(words) for words in each] for each in references]
    frequencies = Counter(gram for each in counts for gram in {gram for caption in each for n in caption for gram in n})
    log_pictures = math.log(len(counts)) if counts else 0.0
    idf = {gram: log_pictures - math.log(frequency) for gram, frequency in frequencies.items()}
    scores = []
    for answer, each in zip(answers, counts, strict=True):
        own = _counts(answer)
        found, total = _weights(own, idf, log_pictures), 0.0
        for caption in each:
            difference = own[1].total() - caption[1].total()
            penalty = math.exp(-(difference**2) / (2 * sigma**2))
            total += penalty * _similarity(found, _weights(caption, idf, log_pictures))
        scores.append(10 * total / (_ORDER * len(each)))
    return (sum(scores) / len(scores) if scores else 0.0), scores


def _counts(words: Sequence[str]) -> _Counts:
    """Count the n-grams of a caption."""
    grams = range(1, _ORDER + 1)
    return [Counter(tuple(words[k : k + n]) for k in range(len(words) - n + 1)) for n in grams]


def _weights(counts: _Counts, idf: dict[tuple[str, ...], float], unknown: float) -> _Weights:
    """Weight counts by the inverse document frequency, which is ``unknown`` for n-grams of no reference."""
    return [{gram: count * idf.get(gram, unknown) for gram, count in n.items()} for n in counts]


def _similarity(a: _Weights, b: _Weights) -> float:
    """Sum the cosine similarities over n, with weights of ``a`` clipped to those of ``b``."""
    total = 0.0
    for found, wanted in zip(a, b, strict=True):
        norms = _norm(found) * _norm(wanted)
        if norms:
            clipped = (min(weight, wanted.get(gram, 0.0)) * wanted.get(gram, 0.0) for gram, weight in found.items())
            total += sum(clipped) / norms
    return total


def _norm(weights: dict[tuple[str, ...], float]) -> float:
    """Compute the Euclidean norm."""
    return math.sqrt(sum(weight * weight for weight in weights.values()))
