"""Metrics of named entities in the BIO tagging scheme and its variants, counted as in conlleval and seqeval."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from elman.metrics.texts import share

_BIO = re.compile(r"([BIESLUM])-(.+)|O")
#: BILOU and BMES use other letters for E, S and I.
_SYNONYMS = {"L": "E", "U": "S", "M": "I"}


class EntityCounts(NamedTuple):
    """Numbers of entities.

    Attributes
    ----------
    correct : int
        Predicted entities whose type and both ends are correct.
    true : int
        True entities.
    predicted : int
        Predicted entities.
    """

    correct: int
    true: int
    predicted: int


def is_bio(tags: Sequence[str]) -> bool:
    """Return whether tags belong to a BIO scheme: IOB1, IOB2, BIOES, BILOU or BMES.

    Parameters
    ----------
    tags : sequence of str
        All tags of the data.

    Examples
    --------
    >>> is_bio(["B-PER", "I-PER", "O"]), is_bio(["NOUN", "VERB"])
    (True, False)
    """
    return any(tag[:2] in ("B-", "I-", "S-", "U-") for tag in tags) and all(_BIO.fullmatch(tag) for tag in tags)


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Find the entities in the tags of a sentence.

    An entity begins at B or S, and at I or E after O, after another type, or after E or S. It ends before O and before
    the next entity. L is read as E, U as S, and M as I. This is the scheme of Ramshaw & Marcus 1995,
    https://aclanthology.org/W95-0107, and what seqeval does in its default mode.

    Parameters
    ----------
    tags : sequence of str
        The tag of each word.

    Returns
    -------
    set of (str, int, int)
        The type, the first word and the last word of each entity.

    Examples
    --------
    >>> entities(["B-PER", "I-PER", "O"])
    {('PER', 0, 1)}
    """
    found, begin, kind, previous = set(), 0, "", "O"
    for k, tag in enumerate([*tags, "O"]):
        match = _BIO.fullmatch(tag)
        mark, tag_kind = (match.group(1) or "O", match.group(2) or "") if match else ("O", "")
        mark = _SYNONYMS.get(mark, mark)
        begins = mark in "BS" or (mark in "IE" and (tag_kind != kind or previous in "OES"))
        if kind and (begins or mark == "O"):
            found.add((kind, begin, k - 1))
            kind = ""
        if begins:
            begin, kind = k, tag_kind
        previous = mark
    return found


def entity_counts(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> EntityCounts:
    """Count the true, the predicted and the correct entities.

    Parameters
    ----------
    truth, predicted : sequence of sequence of str
        The tags of each sentence.

    Returns
    -------
    EntityCounts
        The counts over all sentences.
    """
    pairs = [(entities(a), entities(b)) for a, b in zip(truth, predicted, strict=True)]
    return EntityCounts(sum(len(a & b) for a, b in pairs), sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs))


def entity_precision(counts: EntityCounts) -> float | None:
    """Compute correct entities / predicted entities; between 0 and 1, None if no entity was predicted."""
    return share(counts.correct, counts.predicted)


def entity_recall(counts: EntityCounts) -> float | None:
    """Compute correct entities / true entities; between 0 and 1, None if there is no true entity."""
    return share(counts.correct, counts.true)


def entity_f1(counts: EntityCounts) -> float | None:
    """Compute 2 * correct entities / (true + predicted entities); between 0 and 1, None if there are none at all.

    This is the harmonic mean of precision and recall, micro-averaged over types: the score of CoNLL-2003
    (Tjong Kim Sang & De Meulder 2003, https://aclanthology.org/W03-0419).
    """
    return share(2 * counts.correct, counts.predicted + counts.true)


def entity_scores(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """Compute all metrics of entities.

    Parameters
    ----------
    truth, predicted : sequence of sequence of str
        The tags of each sentence.

    Returns
    -------
    dict
        ``entity_precision``, ``entity_recall`` and ``entity_f1``; see the functions of these names.

    Examples
    --------
    >>> entity_scores([["B-PER", "O", "B-LOC"]], [["B-PER", "O", "O"]])
    {'entity_precision': 1.0, 'entity_recall': 0.5, 'entity_f1': 0.6666666666666666}
    """
    counts = entity_counts(truth, predicted)
    return {
        "entity_precision": entity_precision(counts),
        "entity_recall": entity_recall(counts),
        "entity_f1": entity_f1(counts),
    }
