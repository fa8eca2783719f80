"""The words of running text."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata

#: Characters inside words of some writing systems that join letters or keep them apart.
_JOINERS = "\u200c\u200d"
#: Marks beyond this character only select a variant of the one before.
_LAST = 0x1FFFF


@functools.cache
def word_pattern() -> str:
    """Return a regular expression for a word: letters, digits, their marks, and apostrophes inside.

    ``\\w`` of Python's ``re`` leaves out marks with a character of their own: vowel signs of Hindi and Thai, accents.

    Example::

        >>> re.findall(word_pattern(), "Don't go: \u0928\u092e\u0938\u094d\u0924\u0947!")
        ["Don't", 'go', '\u0928\u092e\u0938\u094d\u0924\u0947']
    """
    marks = (code for code in range(_LAST) if unicodedata.category(chr(code))[0] == "M")
    runs = itertools.groupby(enumerate(marks), lambda one: one[1] - one[0])  # of neighbours
    ranges = ["-".join((chr(run[0][1]), chr(run[-1][1]))) for _, group in runs if (run := list(group))]
    inside = f"[\\w{''.join(ranges)}{_JOINERS}]"
    return f"\\w{inside}*(?:['\u2019]{inside}+)*"


@functools.cache
def token_pattern() -> re.Pattern[str]:
    """Return a pattern for words and single punctuation marks."""
    return re.compile(f"{word_pattern()}|[^\\w\\s]")
