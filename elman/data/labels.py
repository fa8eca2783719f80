"""Labels as people spell them: one name for what is one."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

_log = logging.getLogger("elman")

#: What cannot be seen at the ends of a label.
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
_WHOLE = re.compile(r"([+-]?\d+)\.0+")

#: Where so many rows or more have labels of which more than half are different, something is wrong.
_MANY = 20


def label_key(label: str) -> str:
    """What two spellings of one label have in common: "1" and "1.0", " pos" and "pos", "True" and "true"."""
    plain = normalize_label(label)
    if whole := _WHOLE.fullmatch(plain):
        return whole[1]
    return plain.lower() if plain.lower() in ("true", "false") else plain


def normalize_label(label: str) -> str:
    """A label without white space around it, each inside as one space, in Unicode's composed form."""
    return " ".join(unicodedata.normalize("NFC", label).strip(_INVISIBLE).split()).strip(_INVISIBLE)


def merge_spellings(labels: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The labels of examples, each in one spelling, the shortest that occurs; the log says which were merged."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for several in labels:
        for label in several:
            spellings[label_key(label)].add(normalize_label(label))
    names = {key: min(found, key=lambda one: (len(one), one)) for key, found in spellings.items()}
    for key, found in spellings.items():
        if len(found) > 1:
            _log.warning("labels %s are taken as one, %r", " and ".join(map(repr, sorted(found))), names[key])
    return [
        tuple(dict.fromkeys(names[label_key(label)] for label in several if normalize_label(label)))
        for several in labels
    ]


def split_labels(cells: Sequence[str], separator: str | None) -> list[tuple[str, ...]]:
    """The labels in the cells of a column: one each, or several with a separator between them."""
    if separator is None:
        return [(cell,) if normalize_label(cell) else () for cell in cells]
    return [tuple(part for part in cell.split(separator) if normalize_label(part)) for cell in cells]


def check_labels(labels: Sequence[tuple[str, ...]], place: str) -> None:
    """Warns where most labels are of one example only, as numbers and texts are: they are no classes."""
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for several in labels:
        counts[several] += 1
    different = len(counts)
    if len(labels) >= _MANY and different > len(labels) / 2:
        numbers = sum(_is_number(one) for several in counts for one in several[:1])
        hint = (
            "did you mean regression? classify takes each number as a class of its own"
            if numbers > different / 2
            else "is --label the right column? a class has many examples (numbers: did you mean regression?)"
        )
        _log.warning("%s: %d of %d labels are different; %s", place, different, len(labels), hint)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


__all__ = ["check_labels", "merge_spellings", "label_key", "normalize_label", "split_labels"]
