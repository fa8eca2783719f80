"""Punctuated text as words, the capitals of each and the mark after it; and back."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Unit = Literal["word", "char"]
Case = Literal["lower", "Capitalised", "UPPER", "Mixed"]

#: How the letters of a word can be written.
CASES: tuple[Case, ...] = ("lower", "Capitalised", "UPPER", "Mixed")
#: Marks after words that a model can learn; "..." is also written "…".
MARKS = (".", ",", "?", "!", ":", ";", "...", *"\u3002\u3001\uff0c\uff1f\uff01\uff1a\uff1b\u0964\u061f\u060c\u061b")
#: Marks that end a sentence.
ENDS = frozenset(".?!\u3002\uff1f\uff01\u0964\u061f")

_QUESTIONS, _EXCLAMATIONS = "?\uff1f\u061f", "!\uff01"
_WIDE = "\u3002\u3001\uff0c\uff1f\uff01\uff1a\uff1b"
_APOSTROPHES = "'\u2019"
_DASHES = "\u2012\u2013\u2014\u2015"
_MARK_CHARACTERS = "".join(sorted({*"".join(MARKS), "\u2026"}))
#: Characters that are dropped at the edges of a word.
_DROPPED = (
    '"`\u00b4\u2018\u201a\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a()[]{}<>\uff08\uff09\u300a\u300b\u3008\u3009'
    "\u300c\u300d\u300e\u300f\u3010\u3011\u00bf\u00a1*_~|-" + _DASHES
)
_EDGE = frozenset(_MARK_CHARACTERS + _DROPPED + _APOSTROPHES)
#: Characters of writing systems without spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
#: What parts a run of characters without white space: dashes, ellipses, and full-width marks.
_PARTING = rf"--+|\.\.+|\u2026+|[{_DASHES}{_WIDE}\u0964\u061f\u060c\u061b]+"
_PIECES = {
    "word": re.compile(rf"(\s+)|({_PARTING})|((?:(?!{_PARTING})\S)+)"),
    "char": re.compile(rf"(\s+)|({_PARTING})|([{_UNSPACED}]|(?:(?!{_PARTING})[^\s{_UNSPACED}])+)"),
}
_SMILEY = re.compile(r"[:;=][-'o]?[()\[\]/\\|*DPpOo3]+|<3+|\^_+\^")


class Punctuated(NamedTuple):
    """A text as words with marks.

    Attributes:
        words (list[str]): the words as they are written, without marks.
        marks (list[str]): the mark after each word, one of `MARKS`, or "".
        spaces (list[str]): the white space before each word.
        spellings (Counter[tuple[str, str]]): how often each mark is written in which way, white space before it
            included.
        dropped (Counter[str]): other punctuation, which is in neither.
    """

    words: list[str]
    marks: list[str]
    spaces: list[str]
    spellings: Counter[tuple[str, str]]
    dropped: Counter[str]


def read_punctuated(text: str, unit: Unit = "word") -> Punctuated:
    """Part a text into words and marks.

    A word is what stands between white space, without punctuation at its edges; apostrophes, hyphens and marks inside a
    word belong to it. Of several marks in a row one is kept: a question mark, else an exclamation mark, else an
    ellipsis, else the last. Quotation marks, brackets and dashes are dropped.

    Args:
        text (str): the text; it is composed to Unicode NFC.
        unit (str): "char" makes each character of a writing system without spaces a word. Default: "word".

    Example::

        >>> text = read_punctuated('"Well," he said, "it\\'s 3:30."')
        >>> text.words, text.marks
        (['Well', 'he', 'said', "it's", '3:30'], [',', '', ',', '', '.'])
    """
    found = Punctuated([], [], [], Counter(), Counter())
    gap, parted = [""], False
    for match in _PIECES[unit].finditer(unicodedata.normalize("NFC", text)):
        space, parting, chunk = match.groups()
        if space is not None:
            gap.append(space)
            continue
        core = "" if parting is not None else _core(chunk)
        start = match.group().find(core) if core else len(match.group())
        before, after = match.group()[:start], match.group()[start + len(core) :]
        _add_mark(found, before, gap[-1])
        if core:
            white = max(gap, key=lambda one: (one.count("\n"), len(one) > 0))
            found.words.append(core)
            found.marks.append("")
            found.spaces.append(white or " " * parted)
            gap, parted = [""], False
            _add_mark(found, after, "")
        else:
            parted |= not set(match.group()) <= set(_WIDE)
    return found


def case_of(word: str) -> Case:
    """Return how the letters of a word are written; "lower" for a word without letters.

    >>> [case_of(word) for word in ("the", "I", "Paris", "USA", "iPhone", "42")]
    ['lower', 'Capitalised', 'Capitalised', 'UPPER', 'Mixed', 'lower']
    """
    lower = word.lower()
    return next((case for case in CASES[:-1] if with_case(lower, case, {}) == word), "Mixed")


def with_case(word: str, case: Case, forms: Mapping[str, str]) -> str:
    """Write a word in lower case with the letters of ``case``; ``forms`` has the words of mixed case."""
    if case == "UPPER":
        return word.upper()
    if case == "Mixed":
        return forms.get(word, word)
    if case == "Capitalised":
        k = next((k for k, letter in enumerate(word) if letter.upper() != letter), len(word))
        return word[:k] + word[k : k + 1].upper() + word[k + 1 :]
    return word


def unspaced_share(words: Sequence[str]) -> float:
    """Return the fraction of the characters that belong to writing systems without spaces between words."""
    text = "".join(words)
    return len(_UNSPACED_CHARACTER.findall(text)) / max(1, len(text))


def mark_of(run: str) -> str:
    """Return the one mark that a run of punctuation stands for; "" for none.

    >>> [mark_of(run) for run in ('."', "?!", "....", '",', ")")]
    ['.', '?', '...', ',', '']
    """
    marks = [c for c in run if c in _MARK_CHARACTERS]
    for kind in (_QUESTIONS, _EXCLAMATIONS):
        for mark in marks:
            if mark in kind:
                return mark
    if "\u2026" in marks or ".." in run:
        return "..."
    return marks[-1] if marks else ""


def _core(chunk: str) -> str:
    """Return a word without punctuation at its edges."""
    if _SMILEY.fullmatch(chunk):
        return chunk
    start, end = 0, len(chunk)
    while start < end and chunk[start] in _EDGE:
        start += 1
    while end > start and chunk[end - 1] in _EDGE:
        end -= 1
    if start == end:
        return ""
    if chunk[start].isdigit() and chunk[start - 1 : start] in ("-", "."):
        start -= 1  # a sign, or a decimal point
    left, right = chunk[start - 1 : start] or "-", chunk[end : end + 1] or "-"
    if (left in _APOSTROPHES) != (right in _APOSTROPHES):  # a letter left out, and no quotation marks
        start, end = start - (left in _APOSTROPHES), end + (right in _APOSTROPHES)
    return chunk[start:end]


def _add_mark(found: Punctuated, run: str, space: str) -> None:
    """Give the last word the mark of a run of punctuation, if it has none; count what is dropped."""
    if not run:
        return
    mark = mark_of(run)
    found.dropped.update(c for c in run if c not in _MARK_CHARACTERS)
    if mark and found.words and not found.marks[-1]:
        found.marks[-1] = mark
        written = "\u2026" if mark == "..." and "\u2026" in run else mark
        found.spellings[mark, (" " if space == " " else space.strip("\n\r\t ")) + written] += 1
