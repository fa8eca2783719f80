"""Names that are found: entities of the BIO scheme, as conlleval and seqeval count them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from elman.metrics.texts import share

_BIO = re.compile(r"([BIESLUM])-(.+)|O")
#: BILOU and BMES say E, S and I in other letters.
_SAME = {"L": "E", "U": "S", "M": "I"}


def is_bio(tags: Sequence[str]) -> bool:
    """Whether tags are of such a scheme (IOB1, IOB2, BIOES, BILOU, BMES): O, and letters with a type."""
    return any(tag[:2] in ("B-", "I-", "S-", "U-") for tag in tags) and all(_BIO.fullmatch(tag) for tag in tags)


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """(type, first, last) of each entity.

    An entity begins at B or S, or at I or E behind O, behind another type, or behind E or S; it ends before the next
    begins and before O. L is E, U is S, M is I. (Ramshaw & Marcus 1995; what seqeval does when it is not strict.)
    """
    found, begin, kind, before = set(), 0, "", "O"
    for k, tag in enumerate([*tags, "O"]):
        match = _BIO.fullmatch(tag)
        mark, own = (match.group(1) or "O", match.group(2) or "") if match else ("O", "")
        mark = _SAME.get(mark, mark)
        begins = mark in "BS" or (mark in "IE" and (own != kind or before in "OES"))
        if kind and (begins or mark == "O"):
            found.add((kind, begin, k - 1))
            kind = ""
        if begins:
            begin, kind = k, own
        before = mark
    return found


def entity_scores(truth: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """entity_precision, entity_recall, entity_f1: an entity is right with type and both ends right.

    None: there is none to be found (recall), none was said (precision), or neither (F1).
    """
    counts: Counter[str] = Counter()
    for a, b in zip(truth, said, strict=True):
        true, guessed = entities(a), entities(b)
        counts.update(right=len(true & guessed), true=len(true), said=len(guessed))
    return {
        "entity_precision": share(counts["right"], counts["said"]),
        "entity_recall": share(counts["right"], counts["true"]),
        "entity_f1": share(2 * counts["right"], counts["said"] + counts["true"]),
    }
