"""Where the sentences with a label come from: the user's tables, or a small grammar."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from elman.reference.errors import InputError


class Example(NamedTuple):
    """A sentence and what it is."""

    text: str
    label: str


def words(text: str) -> list[str]:
    """The words of a sentence: lower-case, split at white space; punctuation stays where it is."""
    return text.lower().split()


# --- the grammar ---

ADJECTIVES = {"positive": ("good", "happy"), "negative": ("bad", "sad")}
OPPOSITE = {"positive": "negative", "negative": "positive"}
SAYING = ("{0}", "very {0}", "{0} and {1}")
DENYING = ("not {0}", "not very {0}", "not at all {0}", "not {0} and not {1}", "not {0} or {1}")
FRAMES = (
    "i am {}", "this is {}", "i am {} right now", "this is {} right now", "i was {} earlier", "this was {} earlier",
)  # fmt: skip


def make(rng: np.random.Generator) -> tuple[list[Example], list[Example]]:
    """Sentences to learn from, 192, and to be tested on, 32, each "positive" or "negative"; all are different.

    ::

        sentence = phrase | "i am" phrase | "this is" phrase | "i am" phrase "right now"
                 | "this is" phrase "right now" | "i was" phrase "earlier" | "this was" phrase "earlier"
        phrase   = a | "very" a | a "and" a | "not" b | "not very" b | "not at all" b
                 | "not" b "and not" b | "not" b "or" b

    a is an adjective of the sentence's own label, b one of the opposite: "not bad" is positive. Each
    phrase is tested in one frame, which ``rng`` draws, and learnt alone and in the other frames; in
    that one its twin is learnt, with the other adjective: "i am good" is tested if "i am happy" is not.
    """
    train: list[Example] = []
    test: list[Example] = []
    for label in ADJECTIVES:
        patterns = [(pattern, ADJECTIVES[label]) for pattern in SAYING]
        patterns += [(pattern, ADJECTIVES[OPPOSITE[label]]) for pattern in DENYING]
        for pattern, (one, other) in patterns:
            frames = [FRAMES[k] for k in rng.permutation(len(FRAMES))]
            for tested, phrase in enumerate((pattern.format(one, other), pattern.format(other, one))):
                train.append(Example(phrase, label))
                for k, frame in enumerate(frames):
                    (test if k == tested else train).append(Example(frame.format(phrase), label))
    return train, test


# --- tables ---


def read(path: str) -> list[Example]:
    """The rows of a table: UTF-8, columns separated by tabs, the first line names them.

    The columns `text` and `label` are found by their names, in any order, beside any others. A cell may
    stand in double quotes (and must where it holds a tab, a line break or begins with a quote, which is
    doubled: \"\"\"yes\"\", he said\"). Lines may end in LF or CRLF; blank ones are left out. Labels are any strings.

    Raises InputError naming the file, and the line or the byte, for whatever is no such table.
    """
    rows = _rows(path)
    line, header = next(rows, (1, []))
    header = [name.strip() for name in header]
    if not header:
        raise InputError(f"{path}: the file is empty; it must begin with a line of column names, with text and label")
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
                f"{path}, line {line}: the row has {len(cells)} cells where the header has {len(header)}; "
                "there must be one for each column, separated by tabs"
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
    """The rows that are not blank, each with the number of the line on which it begins."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 at byte {error.start} (0x{error.object[error.start]:02x}); save the file as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the path of a table that can be read") from None
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
                "and quotes inside of it be doubled"
            ) from None
        if cells:
            yield line, cells
