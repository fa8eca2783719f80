"""From a text to the symbols that are spoken, and from a long text to pieces."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence

#: Characters that are written in several ways, and the plain one.
_PLAIN = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"',
    "\u00bb": '"', "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2026": "...",
    "\u00ad": "", "\u200b": "", "\ufeff": "",
})  # fmt: skip
#: The end of a sentence; of a part of one; of a word.
_ENDS = tuple(map(re.compile, (r"[.!?;:][\"')\]]*\s|[\u3002\uff01\uff1f]", r"[,)]\s|\s(?=[(-])|[\u3001\uff0c]", r"\s")))


def clean(text: str, lowercase: bool) -> str:
    """Return a text with composed characters, plain quotation marks and dashes, and single spaces.

    Example::

        >>> clean("  \u201cIt\u2019s  late\u201d \u2013 he said", lowercase=True)
        '"it\\'s late" - he said'
    """
    text = " ".join(unicodedata.normalize("NFC", text).translate(_PLAIN).split())
    return text.lower() if lowercase else text


def pieces(text: str, most: int) -> list[str]:
    """Split a text into pieces of at most ``most`` characters: at the ends of sentences, else at commas or spaces.

    Args:
        text (str): a text with single spaces; see `clean`.
        most (int): the longest piece; a longer word is a piece of its own.

    Example::

        >>> pieces("One two. Three, four five.", 12)
        ['One two.', 'Three,', 'four five.']
    """
    return _split(text, most, _ENDS)


def _split(text: str, most: int, ends: Sequence[re.Pattern[str]]) -> list[str]:
    if len(text) <= most or not ends:
        return [text]
    borders = [0, *(match.end() for match in ends[0].finditer(text)), len(text)]
    found: list[str] = []
    for part in filter(None, (text[start:end].strip() for start, end in itertools.pairwise(borders))):
        if found and len(found[-1]) + 1 + len(part) <= most:
            found[-1] += f" {part}"
        elif len(part) <= most:
            found.append(part)
        else:
            found += _split(part, most, ends[1:])
    return found
