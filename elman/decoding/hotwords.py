"""Hotwords: a bonus for phrases that are likely to be said."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from elman.data.text import read_text
from elman.data.tokenizer import Tokenizer
from elman.decoding.fusion import Spelling
from elman.errors import ElmanError


def read_hotwords(path: str) -> list[str]:
    """Read a file with a phrase on each line; empty lines are skipped.

    Args:
        path (str): The file.

    Raises:
        ElmanError: The file cannot be read, is empty, or has a line without letters and digits.
    """
    lines = [line.strip() for line in read_text(path).split("\n")]
    for number, line in enumerate(lines, 1):
        if line and not _letters(line).strip():
            raise ElmanError(f"{path}, line {number}: {line!r} has no letter or digit; give a word or a phrase")
    return [line for line in lines if line]


class HotwordState(NamedTuple):
    """Where a hypothesis is in the phrases.

    Args:
        node (int): The longest beginning of a phrase that the text ends with.
        counted (int): Which of its characters belong to phrases that are complete, as bits; the lowest is the last
            character.
        waiting (tuple[int, ...]): Tokens that do not end with a whole character.
    """

    node: int
    counted: int
    waiting: tuple[int, ...]


class Hotwords:
    """A bonus for each letter of given phrases.

    Each letter that continues a phrase adds its bonus at once, so that the search keeps the hypothesis. When the
    phrase breaks off, its bonus is taken back. In the end, each letter counts once if it belongs to a whole phrase.
    Phrases begin and end at the borders of words, if the tokens have spaces. Case and punctuation do not count: all
    characters but letters and digits are the borders of words.

    The phrases are an automaton: Aho & Corasick 1975, https://doi.org/10.1145/360825.360855

    Args:
        phrases (Sequence[str]): The phrases.
        weight (float): The bonus of a letter, in nats.
        tokenizer (Tokenizer): The tokenizer of the network that reads the input.

    Raises:
        ElmanError: There is no phrase.
    """

    def __init__(self, phrases: Sequence[str], weight: float, tokenizer: Tokenizer) -> None:
        self.weight, self._spelling = weight, Spelling(tokenizer)
        pieces = [tokenizer.decode([i]) for i in range(2, tokenizer.vocab_size)]
        border = " " if any(character.isspace() for piece in pieces for character in piece) else ""
        forms = dict.fromkeys(" ".join(_letters(phrase).split()) for phrase in phrases)
        self._paths = [""]  # of each node: the characters that lead to it
        self._nodes = {"": 0}
        ends = set()
        for form in filter(None, forms):
            path = border + (form if border else form.replace(" ", "")) + border
            ends.add(path)
            for n in range(1, len(path) + 1):
                if path[:n] not in self._nodes:
                    self._nodes[path[:n]] = len(self._paths)
                    self._paths.append(path[:n])
        if not ends:
            raise ElmanError("hotwords: give a word or a phrase")
        self._gains = [len(path) - path.count(" ") for path in self._paths]  # letters on the way to each node
        self._complete = [self._mask(path, ends) for path in self._paths]
        self._moves: dict[tuple[int, str], int] = {}
        self._begin = self._nodes[border]
        self._border = border
        self.bound = weight * max((len(_letters(piece)) for piece in pieces), default=1)

    @staticmethod
    def _mask(path: str, ends: set[str]) -> int:
        """Return the letters of the phrases that end at a node, as bits."""
        whole = next((path[k:] for k in range(len(path)) if path[k:] in ends), "")
        return sum(1 << k for k, character in enumerate(reversed(whole)) if character != " ")

    def start(self) -> HotwordState:
        """Return the state of the empty text."""
        return HotwordState(self._begin, 0, ())

    def prepare(self, states: Sequence[Any], ids: Sequence[int]) -> None:
        """Do nothing."""

    def extend(self, state: HotwordState, token: int) -> tuple[float, HotwordState]:
        """Return the bonus for a token, and the new state."""
        text, waiting = self._spelling.extend(state.waiting, token)
        letters, node, counted = 0, state.node, state.counted
        for character in _letters(text):
            gain, node, counted = self._read(node, counted, character)
            letters += gain
        return self.weight * letters, HotwordState(node, counted, waiting)

    def end(self, state: HotwordState) -> float:
        """Take back the bonus of a phrase that is not complete."""
        letters, node, counted = 0, state.node, state.counted
        if self._border:
            letters, node, counted = self._read(node, counted, self._border)
        return self.weight * (letters + counted.bit_count() - self._gains[node])

    def _read(self, node: int, counted: int, character: str) -> tuple[int, int, int]:
        """Return by how many letters the bonus grows, the next node, and its letters of complete phrases."""
        if character == " " and (not self._border or self._paths[node].endswith(" ")):
            return 0, node, counted  # one border has any number of spaces
        new = self._move(node, character)
        counted = counted << 1 | self._complete[new]
        kept = counted & ((1 << len(self._paths[new])) - 1)
        left = counted.bit_count() - kept.bit_count()
        return left + self._gains[new] - self._gains[node], new, kept

    def _move(self, node: int, character: str) -> int:
        """Return the longest beginning of a phrase that the path of a node ends with, after a character."""
        key = node, character
        if key not in self._moves:
            path = self._paths[node] + character
            self._moves[key] = next(self._nodes[path[k:]] for k in range(len(path) + 1) if path[k:] in self._nodes)
        return self._moves[key]


def _letters(text: str) -> str:
    """Return a text in lower case, with a space for each character that is not a letter, a mark or a digit."""
    return "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in text.casefold())
