"""Word vectors that others have trained: GloVe, word2vec (text and binary), fastText's .vec."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from elman.data.archive import open_unpacked
from elman.data.source import local_path, printable
from elman.data.tokenizer import SPECIAL, Tokenizer
from elman.errors import ElmanError

#: So many bytes are a word at most.
_LONGEST = 10_000


def vector_size(path: str) -> int:
    """How many numbers the vectors of a file have."""
    with _opened(path) as (file, name):
        number, first = 0, b""
        while not first.strip() and (line := file.readline(1 << 20)):
            number, first = number + 1, line
        parts = first.split() if _is_binary(name) else _parts(first)
        if not first.strip():
            raise ElmanError(f"{printable(path)}: " + ("holds only blank lines" if number else "the file is empty"))
        counts = len(parts) == 2 and all(part.isdigit() for part in parts)
        size = _number(parts[1]) if counts else len(parts) - 1
        _check(path, number, size, None)
        return size


def read_vectors(path: str, words: Callable[[str], bool] | set[str], size: int | None = None) -> dict[str, np.ndarray]:
    """The vectors (float32) of those words that the file has; the file is read once, and only they are kept.

    A file whose name ends in .bin (before .gz and the like) is word2vec's binary form; all others are text, one word
    and its numbers a line, parted by spaces or tabs, with or without a first line of counts; blank lines do not count.
    ``size``: what the vectors must have.

    Raises:
        ElmanError: a line is broken or has a number that is not finite, or the vectors are of another size; the line is
            named.
    """
    wanted = words.__contains__ if isinstance(words, set) else words
    found: dict[str, np.ndarray] = {}
    with _opened(path) as (file, name):
        for word, vector in _rows(file, path, name, wanted, size):
            found.setdefault(word, vector)
    return found


def first_words(path: str, count: int) -> list[str]:
    """The first words of the file, the most frequent ones as these files are sorted; errors as `read_vectors`."""
    words: list[str] = []

    def wanted(word: str) -> bool:  # of the last one alone the numbers are read
        words.append(word)
        return len(words) >= count

    if count:
        with _opened(path) as (file, name):
            next(_rows(file, path, name, wanted, None), None)
    return words


@contextmanager
def _opened(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """The file, which is read more than once and from its beginning each time."""
    there = local_path(path)
    if there is not None and os.path.exists(there) and not os.path.isfile(there) and not os.path.isdir(there):
        raise ElmanError(f"{printable(path)}: vectors are read more than once; give a file, not a pipe")
    with open_unpacked(path) as (file, name):
        yield file, name


def _is_binary(name: str) -> bool:
    return "bin" in name.lower().split(".")[1:]


def _rows(
    file: IO[bytes], path: str, name: str, wanted: Callable[[str], bool], size: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    return (_binary if _is_binary(name) else _text)(file, path, wanted, size)


def _number(digits: bytes) -> int:
    """A count, of which no more than nine digits are read: more than any file has."""
    return int(digits) if len(digits) < 10 else 10**9


def _parts(line: bytes) -> list[bytes]:
    """What spaces or tabs part in a line."""
    parts = line.removeprefix(b"\xef\xbb\xbf").replace(b"\t", b" ").rstrip(b"\n\r ").split(b" ")
    return [part for k, part in enumerate(parts) if part or not k]


def _text(
    file: IO[bytes], path: str, wanted: Callable[[str], bool], size: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    columns = 0
    for number, line in enumerate(file, 1):
        if b"\0" in line:
            raise ElmanError(f"{printable(path)}, line {number}: not text: it has a zero byte; UTF-8 is needed")
        if not line.strip():
            continue
        parts = _parts(line)
        # word2vec's and fastText's counts
        if not columns and len(parts) == 2 and all(part.isdigit() for part in parts):
            columns = _number(parts[1])
            _check(path, number, columns, size)
            continue
        if not columns:
            columns = len(parts) - 1
            _check(path, number, columns, size)
        # a few words of GloVe have spaces in them
        word = b" ".join(parts[: len(parts) - columns]).decode("utf-8", "replace")
        if len(parts) <= columns or not word:
            raise ElmanError(f"{printable(path)}, line {number}: {len(parts) - 1} numbers, not {columns}")
        if wanted(word):
            try:
                with np.errstate(over="ignore"):  # infinite, and then refused
                    vector = np.array(parts[len(parts) - columns :], dtype=np.float32)
            except ValueError:
                raise ElmanError(f"{printable(path)}, line {number}: not a word and {columns} numbers") from None
            yield word, _finite(vector, f"{printable(path)}, line {number}", word)


def _binary(
    file: IO[bytes], path: str, wanted: Callable[[str], bool], size: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    header = file.readline(200).split()
    if len(header) != 2 or not all(part.isdigit() for part in header):
        raise ElmanError(
            f"{printable(path)}: not word2vec's binary form: it begins with the counts of words and of numbers"
        )
    count, columns = map(_number, header)
    _check(path, 1, columns, size)
    for number in range(1, count + 1):
        letters = bytearray()
        while (letter := file.read(1)) not in (b" ", b"") and len(letters) < _LONGEST:
            if letter != b"\n":
                letters += letter
        if len(letters) == _LONGEST:
            raise ElmanError(f"{printable(path)}: word {number} has no end: not word2vec's binary form")
        numbers = file.read(4 * columns)
        if len(numbers) < 4 * columns:
            raise ElmanError(f"{printable(path)}: ends within word {number} of {count}")
        word = letters.decode("utf-8", "replace")
        if wanted(word):
            vector = np.frombuffer(numbers, dtype="<f4").copy()
            yield word, _finite(vector, f"{printable(path)}, word {number}", word)


def _finite(vector: np.ndarray, place: str, word: str) -> np.ndarray:
    if not np.isfinite(vector).all():
        raise ElmanError(f"{place}: the vector of {word!r} holds {vector[~np.isfinite(vector)][0]}, which is no number")
    return vector


def _check(path: str, number: int, columns: int, size: int | None) -> None:
    if columns < 2:
        raise ElmanError(f"{printable(path)}, line {number}: not a word and its numbers")
    if columns > 100_000:
        raise ElmanError(f"{printable(path)}, line {number}: not vectors of words: more than 100,000 numbers each")
    if size is not None and columns != size:
        raise ElmanError(
            f"{printable(path)}: vectors of {columns} numbers; --embedding-size is {size}: give "
            f"--embedding-size {columns}"
        )


def vectors_for(tokenizer: Tokenizer, path: str, size: int) -> dict[int, np.ndarray]:
    """The vectors of a tokenizer's words, by id; one that the file lacks may be there in small letters or as a name."""
    words = {i: tokenizer.decode([i]).strip() for i in range(len(SPECIAL), tokenizer.vocab_size)}
    forms = {i: (word, word.lower(), word.capitalize()) for i, word in words.items() if word}
    found = read_vectors(path, {form for three in forms.values() for form in three}, size)
    known = ((i, next((form for form in three if form in found), None)) for i, three in forms.items())
    return {i: found[form] for i, form in known if form is not None}
