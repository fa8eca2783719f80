"""Read pretrained word embeddings: GloVe, word2vec (text and binary) and fastText's .vec files."""

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

#: The maximum length of a word in bytes.
_MAX_WORD = 10_000


def vector_size(path: str) -> int:
    """Return the size of the embeddings in a file.

    Raises:
        ElmanError: The file cannot be read, or does not contain embeddings.
    """
    with _open(path) as (file, name):
        number, first = 0, b""
        while not first.strip() and (line := file.readline(1 << 20)):
            number, first = number + 1, line
        parts = first.split() if _is_binary(name) else _parts(first)
        if not first.strip():
            raise ElmanError(f"{printable(path)}: " + ("contains only blank lines" if number else "the file is empty"))
        has_counts = len(parts) == 2 and all(part.isdigit() for part in parts)
        size = _parse_count(parts[1]) if has_counts else len(parts) - 1
        _check(path, number, size, None)
        return size


def read_vectors(path: str, words: Callable[[str], bool] | set[str], size: int | None = None) -> dict[str, np.ndarray]:
    """Read the embeddings of some words. The file is read once, and other embeddings are not kept in memory.

    A file whose name ends in ``.bin``, before the ending of a compression, has word2vec's binary format. All other
    files are text: a word and its numbers on each line, separated by spaces or tabs, with or without a first line of
    counts. Blank lines are skipped.

    Args:
        path (str): The path of the file.
        words (set[str] | Callable[[str], bool]): The words, or a function that returns whether to read a word.
        size (int, optional): The required size of the embeddings. Default: any.

    Returns:
        dict[str, numpy.ndarray]: The embedding of each word that the file contains, (size,), float32.

    Raises:
        ElmanError: A line is wrong or contains a number that is not finite, or the embeddings have another size.

    Example::

        >>> embeddings = read_vectors("glove.6B.50d.txt.gz", {"king", "queen"})  # doctest: +SKIP
    """
    wanted = words.__contains__ if isinstance(words, set) else words
    vectors: dict[str, np.ndarray] = {}
    with _open(path) as (file, name):
        for word, vector in _rows(file, path, name, wanted, size):
            vectors.setdefault(word, vector)
    return vectors


def first_words(path: str, count: int) -> list[str]:
    """Return the first words of a file, which are the most frequent ones since such files are sorted.

    Args:
        path (str): The path of the file.
        count (int): The maximum number of words.

    Raises:
        ElmanError: See `read_vectors`.
    """
    words: list[str] = []

    def wanted(word: str) -> bool:  # the numbers of the last word only are parsed
        words.append(word)
        return len(words) >= count

    if count:
        with _open(path) as (file, name):
            next(_rows(file, path, name, wanted, None), None)
    return words


@contextmanager
def _open(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """Open a file that will be read more than once."""
    local = local_path(path)
    if local is not None and os.path.exists(local) and not os.path.isfile(local) and not os.path.isdir(local):
        raise ElmanError(f"{printable(path)}: embeddings are read more than once; give a file, not a pipe")
    with open_unpacked(path) as (file, name):
        yield file, name


def _is_binary(name: str) -> bool:
    return "bin" in name.lower().split(".")[1:]


def _rows(
    file: IO[bytes], path: str, name: str, wanted: Callable[[str], bool], size: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    return (_binary if _is_binary(name) else _text)(file, path, wanted, size)


def _parse_count(digits: bytes) -> int:
    """Parse a count; ten digits or more are cut to a billion, which exceeds any file."""
    return int(digits) if len(digits) < 10 else 10**9


def _parts(line: bytes) -> list[bytes]:
    """Split a line at spaces and tabs."""
    parts = line.removeprefix(b"\xef\xbb\xbf").replace(b"\t", b" ").rstrip(b"\n\r ").split(b" ")
    return [part for k, part in enumerate(parts) if part or not k]


def _text(
    file: IO[bytes], path: str, wanted: Callable[[str], bool], size: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    columns = 0
    for number, line in enumerate(file, 1):
        if b"\0" in line:
            raise ElmanError(f"{printable(path)}, line {number}: not text: it contains a zero byte; UTF-8 is required")
        if not line.strip():
            continue
        parts = _parts(line)
        # the counts of word2vec and fastText
        if not columns and len(parts) == 2 and all(part.isdigit() for part in parts):
            columns = _parse_count(parts[1])
            _check(path, number, columns, size)
            continue
        if not columns:
            columns = len(parts) - 1
            _check(path, number, columns, size)
        # a few words of GloVe contain spaces
        word = b" ".join(parts[: len(parts) - columns]).decode("utf-8", "replace")
        if len(parts) <= columns or not word:
            raise ElmanError(f"{printable(path)}, line {number}: {len(parts) - 1} numbers, not {columns}")
        if wanted(word):
            try:
                with np.errstate(over="ignore"):  # becomes infinite, which is an error below
                    vector = np.array(parts[len(parts) - columns :], dtype=np.float32)
            except ValueError:
                raise ElmanError(f"{printable(path)}, line {number}: expected a word and {columns} numbers") from None
            yield word, _finite(vector, f"{printable(path)}, line {number}", word)


def _binary(
    file: IO[bytes], path: str, wanted: Callable[[str], bool], size: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    header = file.readline(200).split()
    if len(header) != 2 or not all(part.isdigit() for part in header):
        raise ElmanError(
            f"{printable(path)}: not word2vec's binary format, which begins with the numbers of words and of dimensions"
        )
    count, columns = map(_parse_count, header)
    _check(path, 1, columns, size)
    for number in range(1, count + 1):
        letters = bytearray()
        while (letter := file.read(1)) not in (b" ", b"") and len(letters) < _MAX_WORD:
            if letter != b"\n":
                letters += letter
        if len(letters) == _MAX_WORD:
            raise ElmanError(f"{printable(path)}: word {number} does not end: not word2vec's binary format")
        numbers = file.read(4 * columns)
        if len(numbers) < 4 * columns:
            raise ElmanError(f"{printable(path)}: the file ends within word {number} of {count}")
        word = letters.decode("utf-8", "replace")
        if wanted(word):
            vector = np.frombuffer(numbers, dtype="<f4").copy()
            yield word, _finite(vector, f"{printable(path)}, word {number}", word)


def _finite(vector: np.ndarray, place: str, word: str) -> np.ndarray:
    if not np.isfinite(vector).all():
        number = vector[~np.isfinite(vector)][0]
        raise ElmanError(f"{place}: the embedding of {word!r} contains {number}, which is not a finite number")
    return vector


def _check(path: str, number: int, columns: int, size: int | None) -> None:
    if columns < 2:
        raise ElmanError(f"{printable(path)}, line {number}: expected a word and its numbers")
    if columns > 100_000:
        raise ElmanError(f"{printable(path)}, line {number}: not embeddings: more than 100,000 numbers each")
    if size is not None and columns != size:
        raise ElmanError(
            f"{printable(path)}: the embeddings have size {columns}, but --embedding-size is {size}: give "
            f"--embedding-size {columns}"
        )


def vectors_for(tokenizer: Tokenizer, path: str, size: int) -> dict[int, np.ndarray]:
    """Read the embeddings of a tokenizer's words.

    A word that the file lacks gets the embedding of its lower-case or capitalised form, if there is one.

    Args:
        tokenizer (Tokenizer): The tokenizer.
        path (str): The path of the file; see `read_vectors`.
        size (int): The required size of the embeddings.

    Returns:
        dict[int, numpy.ndarray]: The embedding of each token id that the file covers, (size,), float32.

    Raises:
        ElmanError: See `read_vectors`.
    """
    words = {i: tokenizer.decode([i]).strip() for i in range(len(SPECIAL), tokenizer.vocab_size)}
    forms = {i: (word, word.lower(), word.capitalize()) for i, word in words.items() if word}
    vectors = read_vectors(path, {form for variants in forms.values() for form in variants}, size)
    matches = ((i, next((form for form in variants if form in vectors), None)) for i, variants in forms.items())
    return {i: vectors[form] for i, form in matches if form is not None}
