"""Word vectors that others have trained: GloVe, word2vec (text and binary), fastText's .vec."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import fsspec
import numpy as np

from elman.data.tokenizer import SPECIAL, Tokenizer
from elman.errors import ElmanError


def vector_size(path: str) -> int:
    """How many numbers the vectors of a file have."""
    try:
        with _opened(path) as file:
            first = file.readline(1 << 20).split()
            counts = len(first) == 2 and all(part.isdigit() for part in first)
            size = int(first[1]) if counts else len(first) - 1
            _check(path, 1, size, None)
            return size
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None


def read_vectors(path: str, words: Callable[[str], bool] | set[str], size: int | None = None) -> dict[str, np.ndarray]:
    """The vectors (float32) of those words that the file has; the file is read once, and only they are kept.

    A file whose name ends in .bin (before .gz and the like) is word2vec's binary form; all others are text, one word
    and its numbers a line, with or without a first line of counts. ``size``: what the vectors must have.

    Raises:
        ElmanError: a line is broken, or the vectors are of another size; the line is named.
    """
    wanted = words.__contains__ if isinstance(words, set) else words
    found: dict[str, np.ndarray] = {}
    try:
        with _opened(path) as file:
            for word, vector in _rows(file, path, wanted, size):
                found.setdefault(word, vector)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None
    return found


def first_words(path: str, count: int) -> list[str]:
    """The first words of the file, the most frequent ones as these files are sorted; errors as `read_vectors`."""
    words: list[str] = []

    def wanted(word: str) -> bool:  # of the last one alone the numbers are read
        words.append(word)
        return len(words) >= count

    if count:
        try:
            with _opened(path) as file:
                next(_rows(file, path, wanted, None), None)
        except _UNREADABLE as error:
            raise _unreadable(path, error) from None
    return words


#: What reading such a file can raise.
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


def _opened(path: str) -> Any:
    return fsspec.open(path, "rb", compression="infer")


def _unreadable(path: str, error: Exception) -> ElmanError:
    if isinstance(error, ElmanError):
        return error
    return ElmanError(
        f"{path}: no such file" if isinstance(error, FileNotFoundError) else f"{path}: cannot be read: {error}"
    )


def _rows(
    file: IO[bytes], path: str, wanted: Callable[[str], bool], size: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    binary = any(part == "bin" for part in path.lower().split(".")[1:])
    return (_binary if binary else _text)(file, path, wanted, size)


def _text(
    file: IO[bytes], path: str, wanted: Callable[[str], bool], size: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    columns = 0
    for number, line in enumerate(file, 1):
        parts = line.rstrip(b"\n\r ").split(b" ")
        if (
            number == 1 and len(parts) == 2 and all(part.isdigit() for part in parts)
        ):  # word2vec's and fastText's counts
            columns = int(parts[1])
            _check(path, number, columns, size)
            continue
        if not columns:
            columns = len(parts) - 1
            _check(path, number, columns, size)
        # a few words of GloVe have spaces in them
        word = b" ".join(parts[: len(parts) - columns]).decode("utf-8", "replace")
        if len(parts) <= columns or not word:
            raise ElmanError(f"{path}, line {number}: {len(parts) - 1} numbers, not {columns}")
        if wanted(word):
            try:
                yield word, np.array(parts[len(parts) - columns :], dtype=np.float32)
            except ValueError:
                raise ElmanError(f"{path}, line {number}: not a word and {columns} numbers") from None


def _binary(
    file: IO[bytes], path: str, wanted: Callable[[str], bool], size: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    header = file.readline(200).split()
    if len(header) != 2 or not all(part.isdigit() for part in header):
        raise ElmanError(f"{path}: not word2vec's binary form: it begins with the counts of words and of numbers")
    count, columns = map(int, header)
    _check(path, 1, columns, size)
    for number in range(1, count + 1):
        letters = bytearray()
        while (letter := file.read(1)) not in (b" ", b""):
            if letter != b"\n":
                letters += letter
        numbers = file.read(4 * columns)
        if len(numbers) < 4 * columns:
            raise ElmanError(f"{path}: ends within word {number} of {count}")
        word = letters.decode("utf-8", "replace")
        if wanted(word):
            yield word, np.frombuffer(numbers, dtype="<f4").copy()


def _check(path: str, number: int, columns: int, size: int | None) -> None:
    if columns < 2:
        raise ElmanError(f"{path}, line {number}: not a word and its numbers")
    if size is not None and columns != size:
        raise ElmanError(
            f"{path}: vectors of {columns} numbers; --embedding-size is {size}: give --embedding-size {columns}"
        )


def vectors_for(tokenizer: Tokenizer, path: str, size: int) -> dict[int, np.ndarray]:
    """The vectors of a tokenizer's words, by id; one that the file lacks may be there in small letters or as a name."""
    words = {i: tokenizer.decode([i]).strip() for i in range(len(SPECIAL), tokenizer.vocab_size)}
    forms = {i: (word, word.lower(), word.capitalize()) for i, word in words.items() if word}
    found = read_vectors(path, {form for three in forms.values() for form in three}, size)
    known = ((i, next((form for form in three if form in found), None)) for i, three in forms.items())
    return {i: found[form] for i, form in known if form is not None}
