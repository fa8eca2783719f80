"""Sentences with labels: from a small grammar, or from tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from elman.reference.errors import InputError


class Example(NamedTuple):
    """A sentence and its label."""

    text: str
    label: str


def words(text: str) -> list[str]:
    """Split a sentence into lower-case words at white space. Punctuation is kept.

    Args:
        text: the sentence.

    Returns:
        Its words.

    Example:
        >>> words("Not at all  bad!")
        ['not', 'at', 'all', 'bad!']
    """
    return text.lower().split()


# --- the grammar ---

ADJECTIVES = {"positive": ("good", "happy"), "negative": ("bad", "sad")}
OPPOSITE = {"positive": "negative", "negative": "positive"}
AFFIRMATIONS = ("{0}", "very {0}", "{0} and {1}")
NEGATIONS = ("not {0}", "not very {0}", "not at all {0}", "not {0} and not {1}", "not {0} or {1}")
FRAMES = (
    "i am {}", "this is {}", "i am {} right now", "this is {} right now", "i was {} earlier", "this was {} earlier",
)  # fmt: skip


def make(rng: np.random.Generator) -> tuple[list[Example], list[Example]]:
    """Make the training and test sentences of a small grammar, labelled "positive" or "negative".

    ::

        sentence = phrase | "i am" phrase | "this is" phrase | "i am" phrase "right now"
                 | "this is" phrase "right now" | "i was" phrase "earlier" | "this was" phrase "earlier"
        phrase   = a | "very" a | a "and" a | "not" b | "not very" b | "not at all" b
                 | "not" b "and not" b | "not" b "or" b

    a is an adjective of the sentence's own label, b one of the opposite label: "not bad" is positive.
    Each phrase is tested in one random frame; the training data contain it alone and in the other frames.
    They also contain that frame with the same phrase and the other adjective: if "i am good" is a test
    sentence, "i am happy" is a training sentence.

    Args:
        rng: generator that chooses the frames.

    Returns:
        192 training sentences and 32 test sentences, all different.

    Example:
        >>> train, test = make(np.random.default_rng(0))
        >>> len(train), len(test), train[0]
        (192, 32, Example(text='good', label='positive'))
    """
    train: list[Example] = []
    test: list[Example] = []
    for label in ADJECTIVES:
        patterns = [(pattern, ADJECTIVES[label]) for pattern in AFFIRMATIONS]
        patterns += [(pattern, ADJECTIVES[OPPOSITE[label]]) for pattern in NEGATIONS]
        for pattern, (first, second) in patterns:
            frames = [FRAMES[k] for k in rng.permutation(len(FRAMES))]
            for test_frame, phrase in enumerate((pattern.format(first, second), pattern.format(second, first))):
                train.append(Example(phrase, label))
                for k, frame in enumerate(frames):
                    (test if k == test_frame else train).append(Example(frame.format(phrase), label))
    return train, test


# --- tables ---


def read(path: str) -> list[Example]:
    """Read a table of sentences: UTF-8, tab-separated, with the column names in the first line.

    The columns ``text`` and ``label`` may stand in any order, beside other columns. A cell may be enclosed
    in double quotes. It must be if it contains a tab or a line break or begins with a quote; quotes inside
    are doubled: \"\"\"yes\"\", he said\". Lines end in LF or CRLF, and blank lines are skipped. Labels are
    arbitrary strings.

    Args:
        path: the path of the file.

    Returns:
        The sentences in the order of the file, without white space at either end.

    Raises:
        InputError: if the file cannot be read or is not such a table. The message names the file and the
            line or byte.

    Example:
        >>> read("train.tsv")  # doctest: +SKIP
        [Example(text='it was not bad', label='positive'), ...]
    """
    rows = _rows(path)
    line, header = next(rows, (1, []))
    header = [name.strip() for name in header]
    if not header:
        raise InputError(f"{path}: the file is empty; its first line must name the columns, including text and label")
    for name in Example._fields:
        if header.count(name) != 1:
            fault = "two columns are called" if name in header else "there is no column"
            raise InputError(
                f"{path}, line {line}: {fault} {name!r}; the columns must include text and label, separated by "
                f"tabs, and are {', '.join(map(repr, header))}"
            )

    examples = []
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(
                f"{path}, line {line}: the row has {len(cells)} cells and the header {len(header)}; "
                "every row must have one tab-separated cell per column"
            )
        row = dict(zip(header, cells, strict=True))
        example = Example(row["text"].strip(), row["label"].strip())
        for name, value in zip(Example._fields, example, strict=True):
            if not value:
                raise InputError(f"{path}, line {line}: the {name} is empty; every row must have a text and a label")
        examples.append(example)
    if not examples:
        raise InputError(f"{path}: there is no row below the column names; there must be at least one")
    return examples


def _rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of its first line."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 at byte {error.start} (0x{error.object[error.start]:02x}); save the file as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the path of a readable table") from None
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter="\t", strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = str(error).replace("\t", "\\t")
            raise InputError(
                f"{path}, line {line}: {fault}; a cell that begins with a double quote must end with one, "
                "and quotes inside it must be doubled"
            ) from None
        if cells:
            yield line, cells
