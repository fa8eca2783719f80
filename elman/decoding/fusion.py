"""Fusion: what adds to the score of a text during a search, beside the network that reads the input."""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tokenizers
import torch
from torch import Tensor

from elman.data.tokenizer import Tokenizer
from elman.layers.state import flatten, join_rows, map_state

_log = logging.getLogger("elman")

#: Words that white space ends, each with the white space before it.
_WHOLE_WORDS = re.compile(r"\s*\S+(?=\s)")


class Fusion(Protocol):
    """What adds to the score of a text, token by token, with its weight inside.

    A state belongs to one hypothesis. It is not changed by its extension, so that a hypothesis can be extended by
    several tokens.
    """

    #: The most that one token can add.
    bound: float

    def start(self) -> Any:
        """Return the state of the empty text."""
        ...

    def prepare(self, states: Sequence[Any], ids: Sequence[int]) -> None:
        """Compute what `extend` needs for all of these states at once.

        This only saves time. The results of `extend` are the same without it, up to rounding.

        Args:
            states (Sequence): The states that will be extended.
            ids (Sequence[int]): The tokens that they may be extended by.
        """
        ...

    def extend(self, state: Any, token: int) -> tuple[float, Any]:
        """Return what a token adds to the score, in nats, and the new state."""
        ...

    def end(self, state: Any) -> float:
        """Return what the end of the text adds to the score, in nats."""
        ...


class Sum:
    """The sum of several fusions.

    Args:
        parts (Sequence[Fusion]): The fusions.
    """

    def __init__(self, parts: Sequence[Fusion]) -> None:
        self.parts = tuple(parts)
        self.bound = sum(part.bound for part in self.parts)

    def start(self) -> tuple[Any, ...]:
        """Return the states of the empty text."""
        return tuple(part.start() for part in self.parts)

    def prepare(self, states: Sequence[tuple[Any, ...]], ids: Sequence[int]) -> None:
        """Compute what `extend` needs for all of these states at once."""
        for part, own in zip(self.parts, zip(*states, strict=True), strict=True):
            part.prepare(own, ids)

    def extend(self, state: tuple[Any, ...], token: int) -> tuple[float, tuple[Any, ...]]:
        """Return what a token adds to the score, in nats, and the new states."""
        results = [part.extend(own, token) for part, own in zip(self.parts, state, strict=True)]
        return sum(gain for gain, _ in results), tuple(new for _, new in results)

    def end(self, state: tuple[Any, ...]) -> float:
        """Return what the end of the text adds to the score, in nats."""
        return sum(part.end(own) for part, own in zip(self.parts, state, strict=True))


class Spelling:
    """The text of tokens, as they come.

    A byte pair may end within a character. Its bytes wait for the tokens that complete the character.

    Args:
        tokenizer (Tokenizer): The tokenizer of the tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: dict[tuple[int, ...], str] = {}

    def extend(self, waiting: tuple[int, ...], token: int) -> tuple[str, tuple[int, ...]]:
        """Return the text that a token completes, and the tokens that wait for more.

        Args:
            waiting (tuple[int, ...]): The tokens that wait; empty at first.
            token (int): The next token.
        """
        ids = (*waiting, token)
        text = self._known.get(ids)
        if text is None:
            text = self.tokenizer.decode(ids)
            # No character has more than four bytes: what is still incomplete after them never will be complete.
            self._known[ids] = text = "" if text.endswith("\ufffd") and len(ids) < 4 else text
        return (text, ()) if text else ("", ids)


class WordBonus:
    """A bonus for each word, which makes up for the cost of words in a language model.

    Args:
        tokenizer (Tokenizer): The tokenizer of the network that reads the input.
        bonus (float): What each word adds to the score, in nats.
    """

    def __init__(self, tokenizer: Tokenizer, bonus: float) -> None:
        self.bonus, self._spelling = bonus, Spelling(tokenizer)
        longest = max((len(tokenizer.decode([i])) for i in range(2, tokenizer.vocab_size)), default=1)
        self.bound = max(0.0, bonus) * (longest + 1) / 2  # a token of n characters has so many words at most

    def start(self) -> tuple[bool, tuple[int, ...]]:
        """Return the state of the empty text."""
        return False, ()

    def prepare(self, states: Sequence[Any], ids: Sequence[int]) -> None:
        """Do nothing."""

    def extend(self, state: tuple[bool, tuple[int, ...]], token: int) -> tuple[float, tuple[bool, tuple[int, ...]]]:
        """Return the bonus for the words that begin in a token, and the new state."""
        inside, waiting = state
        text, waiting = self._spelling.extend(waiting, token)
        words = 0
        for character in text:
            words += not inside and not character.isspace()
            inside = not character.isspace()
        return words * self.bonus, (inside, waiting)

    def end(self, state: Any) -> float:
        """Return 0."""
        return 0.0


class Scorer(Protocol):
    """A language model that is read token by token.

    Attributes:
        tokenizer (Tokenizer): Its tokens.
        border (int, optional): The token between two texts; none if the model has never seen a text end.
    """

    tokenizer: Tokenizer

    @property
    def border(self) -> int | None: ...

    def log_probs(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Return the log probabilities (B, T, V) of the next token after each of ids (B, T), and the state."""
        ...


class _Point:
    """A place in a text, as the language model sees it: what it has read, and its expectations once they are needed.

    Args:
        before (_Point, optional): The place before ``ids``.
        ids (list[int]): The tokens since.
    """

    __slots__ = ("before", "gain", "ids", "log_probs", "next", "row", "state")

    def __init__(self, before: _Point | None, ids: list[int]) -> None:
        self.before, self.ids = before, ids
        self.gain = 0.0  # the log probability of the tokens after the first one
        self.log_probs: np.ndarray | None = None  # of the next token, (V,)
        self.state: Any = None  # of a batch, of which this is a row
        self.row = 0
        self.next: dict[str, tuple[float, _Point]] = {}  # words, with their log probability


class TextState(NamedTuple):
    """Where a hypothesis is in its text.

    Args:
        point (_Point): What the language model has read.
        word (str): The text since, a part of a word.
        waiting (tuple[int, ...]): Tokens that do not end with a whole character.
    """

    point: _Point
    word: str
    waiting: tuple[int, ...]


class LanguageModelFusion:
    """The log probability of a text in a language model, times a weight.

    If the tokens of both are characters, each character is scored as it comes. Otherwise a word is scored when it
    ends, as the tokens of the language model. Texts begin and end at a line, if the language model has seen lines.

    A character that the language model does not know costs the logarithm of the number of characters, and leaves its
    state as it is. An unknown word costs this for each of its characters, besides the unknown token of the language
    model. The log names the unknown characters, once.

    Args:
        scorer (Scorer): The language model.
        weight (float): The weight.
        tokenizer (Tokenizer): The tokenizer of the network that reads the input.
    """

    bound = 0.0

    def __init__(self, scorer: Scorer, weight: float, tokenizer: Tokenizer) -> None:
        self.scorer, self.weight, self._spelling = scorer, weight, Spelling(tokenizer)
        pieces = [tokenizer.decode([i]) for i in range(2, tokenizer.vocab_size)]
        characters = sorted({c for piece in pieces for c in piece} - {"\ufffd"})
        self._unknown = -math.log(max(2, len(characters)))
        self._by_character = _has_characters(tokenizer) and _has_characters(scorer.tokenizer)
        self._ids = {c: int(scorer.tokenizer.encode(c)[0]) for c in characters} if self._by_character else {}
        self._ends_words = {i for i, piece in enumerate(pieces, 2) if any(map(str.isspace, piece))}
        if missing := _unknown_characters(scorer.tokenizer, characters):
            _warn(f"the language model does not know {', '.join(map(repr, missing))}; texts with them are less likely")

    def start(self) -> TextState:
        """Return the state of the empty text."""
        border = self.scorer.border
        ids = [Tokenizer.end_id] if border in (None, Tokenizer.end_id) else [Tokenizer.end_id, border]
        return TextState(_Point(None, ids), "", ())

    def prepare(self, states: Sequence[TextState], ids: Sequence[int]) -> None:
        """Run the language model for all of these states at once."""
        points = [state.point for state in states]
        if self._by_character:
            self._read(points)
            return
        ends = [i for i in ids if i in self._ends_words]
        if not ends:
            return
        self._read(points)
        new = []
        for state in states:
            for text in {self._spelling.extend(state.waiting, i)[0] for i in ends}:
                words = _WHOLE_WORDS.findall(state.word + text)
                if words and words[0] not in state.point.next:
                    new.append(self._follow(state.point, words[0]))
        self._read([point for point in new if len(point.ids) > 1])

    def extend(self, state: TextState, token: int) -> tuple[float, TextState]:
        """Return the weighted log probability of a token, or of the words that it ends, and the new state."""
        text, waiting = self._spelling.extend(state.waiting, token)
        if self._by_character:
            gain, point = 0.0, state.point
            for character in text:
                i = self._ids[character]
                if i == Tokenizer.unknown_id:
                    gain += self._unknown
                    continue
                gain += float(self._expected(point)[i])
                point = _Point(point, [i])
            return self.weight * gain, TextState(point, "", waiting)
        word = state.word + text
        gain, point = 0.0, state.point
        for whole in _WHOLE_WORDS.findall(word):
            increment, point = self._score(point, whole)
            gain += increment
            word = word[len(whole) :]
        return self.weight * gain, TextState(point, word, waiting)

    def end(self, state: TextState) -> float:
        """Return the weighted log probability of the last word and of the end of the text."""
        gain, point = 0.0, state.point
        if state.word.strip():
            gain, point = self._score(point, state.word)
        border = self.scorer.border
        return self.weight * (gain if border is None else gain + float(self._expected(point)[border]))

    def _score(self, point: _Point, word: str) -> tuple[float, _Point]:
        """Return the log probability of a word after a point, and the point after it."""
        if word not in point.next:
            self._follow(point, word)
        gain, new = point.next[word]
        if len(new.ids) > 1:
            self._expected(new)
        return gain + float(self._expected(point)[new.ids[0]]) + new.gain, new

    def _follow(self, point: _Point, word: str) -> _Point:
        """Add the point after a word."""
        first = point.ids[-1] in (Tokenizer.end_id, self.scorer.border)
        text = word.strip() if first else f" {word.strip()}"
        ids = self.scorer.tokenizer.encode(text).tolist()
        gain = 0.0
        if Tokenizer.unknown_id in ids:
            gain = self._unknown * sum(len(piece.strip()) for piece in self.scorer.tokenizer.unknown_pieces(text))
        new = _Point(point, ids)
        point.next[word] = gain, new
        return new

    def _expected(self, point: _Point) -> np.ndarray:
        """Return the log probabilities of the next token after a point."""
        if point.log_probs is None:
            self._read([point])
        assert point.log_probs is not None
        return point.log_probs

    def _read(self, points: Sequence[_Point]) -> None:
        """Run the language model up to these points, in as few calls as possible."""
        new = list({id(point): point for point in points if point.log_probs is None}.values())
        if before := [point.before for point in new if point.before and point.before.log_probs is None]:
            self._read(before)
        groups: dict[Any, list[_Point]] = {}
        for point in new:
            past = point.before
            shapes = tuple((key, tuple(t.shape[1:])) for key, t in flatten(past.state).items()) if past else None
            groups.setdefault(shapes, []).append(point)
        for group in groups.values():
            self._run(group)

    def _run(self, points: list[_Point]) -> None:
        """Run the language model once, for points whose states have the same shapes."""
        lengths = torch.tensor([len(point.ids) for point in points])
        ids = torch.zeros(len(points), int(lengths.max()), dtype=torch.long)
        for row, point in zip(ids, points, strict=True):
            row[: len(point.ids)] = torch.tensor(point.ids)
        pasts = [point.before for point in points if point.before]
        state = join_rows([_row(past.state, past.row) for past in pasts]) if pasts else None
        same = bool((lengths == ids.shape[1]).all())
        result, state = self.scorer.log_probs(ids, state, None if same else lengths)
        log_probs = result.float().cpu().numpy()
        for row, point in enumerate(points):
            steps = [float(log_probs[row, k, i]) for k, i in enumerate(point.ids[1:])]
            point.log_probs = log_probs[row, len(point.ids) - 1].copy()
            point.gain, point.state, point.row, point.before = sum(steps), state, row, None


def _row(state: Any, row: int) -> Any:
    """Return one row of a state."""
    return map_state(state, lambda tensor: tensor[row : row + 1])


def _has_characters(tokenizer: Tokenizer) -> bool:
    """Return whether the tokens are characters."""
    names = (name for name, i in tokenizer.inner.get_vocab().items() if i > Tokenizer.unknown_id)
    return isinstance(tokenizer.inner.model, tokenizers.models.WordLevel) and all(len(name) == 1 for name in names)


def _unknown_characters(tokenizer: Tokenizer, characters: Sequence[str]) -> list[str]:
    """Return the characters that are in no token."""
    if isinstance(tokenizer.inner.model, tokenizers.models.BPE):  # has all bytes
        return []
    known = set().union(*(name for name, i in tokenizer.inner.get_vocab().items() if i > Tokenizer.unknown_id))
    return [character for character in characters if character not in known]


@functools.cache
def _warn(message: str) -> None:
    """Log a warning, once."""
    _log.warning(message)
