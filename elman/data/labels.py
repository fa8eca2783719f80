"""Labels as people write them: normalised, split and merged."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

_log = logging.getLogger("elman")

#: Invisible characters at the ends of a label.
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
_WHOLE = re.compile(r"([+-]?\d+)\.0+")

#: From this number of rows on, a warning is logged if more than half of the labels are different.
_MANY = 20


def label_key(label: str) -> str:
    """Return a key that is equal for all spellings of a label: "1" and "1.0", " pos" and "pos", "True" and "true".

    Example::

        >>> label_key("1.0") == label_key(" 1")
        True
    """
    name = normalize_label(label)
    if whole := _WHOLE.fullmatch(name):
        return whole[1]
    return name.lower() if name.lower() in ("true", "false") else name


def normalize_label(label: str) -> str:
    """Strip white space and invisible characters, collapse inner white space, and compose to Unicode NFC."""
    return " ".join(unicodedata.normalize("NFC", label).strip(_INVISIBLE).split()).strip(_INVISIBLE)


def merge_spellings(labels: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Give each label a single spelling, the shortest in the data, and log which spellings were merged.

    Args:
        labels (Sequence[tuple[str, ...]]): The labels of each example.

    Returns:
        list[tuple[str, ...]]: The labels of each example without empty and repeated ones.
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for example in labels:
        for label in example:
            spellings[label_key(label)].add(normalize_label(label))
    names = {key: min(variants, key=lambda name: (len(name), name)) for key, variants in spellings.items()}
    for key, variants in spellings.items():
        if len(variants) > 1:
            _log.warning("the labels %s are merged into %r", " and ".join(map(repr, sorted(variants))), names[key])
    return [
        tuple(dict.fromkeys(names[label_key(label)] for label in example if normalize_label(label)))
        for example in labels
    ]


def split_labels(cells: Sequence[str], separator: str | None) -> list[tuple[str, ...]]:
    """Split the cells of a column into labels.

    Args:
        cells (Sequence[str]): The cells.
        separator (str, optional): The separator between the labels of a cell. ``None``: each cell is a single label.

    Returns:
        list[tuple[str, ...]]: The labels of each cell; none for an empty cell.
    """
    if separator is None:
        return [(cell,) if normalize_label(cell) else () for cell in cells]
    return [tuple(part for part in cell.split(separator) if normalize_label(part)) for cell in cells]


def check_labels(labels: Sequence[tuple[str, ...]], place: str) -> None:
    """Log a warning if most labels occur only once, as numbers and free text do.

    Args:
        labels (Sequence[tuple[str, ...]]): The labels of each example.
        place (str): The name of the data, for the message.
    """
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for example in labels:
        counts[example] += 1
    distinct = len(counts)
    if len(labels) >= _MANY and distinct > len(labels) / 2:
        numbers = sum(_is_number(label) for example in counts for label in example[:1])
        hint = (
            "did you mean regression? classify treats each number as a class of its own"
            if numbers > distinct / 2
            else "is --label the right column? A class needs many examples (numbers: did you mean regression?)"
        )
        _log.warning("%s: %d of %d labels are different; %s", place, distinct, len(labels), hint)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


__all__ = ["check_labels", "label_key", "merge_spellings", "normalize_label", "split_labels"]
