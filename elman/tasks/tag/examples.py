"""Sentences and tags as numbers, and what is learnt of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import TypeAdapter
from torch import Tensor

from elman.data.padding import pad
from elman.data.tokenizer import Tokenizer
from elman.training.recipe import Learnt
from elman.training.run import Names, Run

_WORDS, _CHARACTERS, _TAGS = "words.json", "characters.json", "tags.json"
#: Longer words are read up to this character.
_MAX_LETTERS = 40


class Examples(NamedTuple):
    """Sentences.

    Attributes:
        words: the word ids of each sentence.
        tags: the tag numbers of each sentence; -1 for a tag that the model does not know.
        texts, truth: words and tags as texts.
    """

    words: list[np.ndarray]
    tags: list[np.ndarray]
    texts: list[list[str]]
    truth: list[list[str]]


class Batch(NamedTuple):
    """words, tags, which (B, T), lengths (B,); spelt (U, W), sizes (U,): the different words by their characters."""

    words: Tensor
    lengths: Tensor
    spelt: Tensor
    sizes: Tensor
    which: Tensor
    tags: Tensor


class Vocabulary(Learnt):
    """The words, the characters of words, and the tags."""

    def __init__(self, words: Tokenizer, characters: Tokenizer, tags: list[str]) -> None:
        self.words, self.characters, self.tags = words, characters, tags

    @classmethod
    def load(cls, run: Run) -> Vocabulary:
        """Read that of a run."""
        words, characters = (Tokenizer.from_json(run.read(n), str(run.path / n)) for n in (_WORDS, _CHARACTERS))
        return cls(words, characters, run.record(_TAGS, TypeAdapter(Names)))

    def files(self) -> dict[str, str]:
        tags = json.dumps(self.tags, ensure_ascii=False, indent=1) + "\n"
        return {_WORDS: self.words.to_json(), _CHARACTERS: self.characters.to_json(), _TAGS: tags}

    def encode(self, words: list[list[str]], tags: list[list[str]]) -> Examples:
        """Return sentences and their tags as examples."""
        index = {tag: k for k, tag in enumerate(self.tags)}
        numbers = [np.array([index.get(tag, -1) for tag in sentence], dtype=np.int64) for sentence in tags]
        return Examples([self.words.encode_words(sentence) for sentence in words], numbers, words, tags)

    def collate(self, examples: Examples, rows: Sequence[int] | np.ndarray) -> Batch:
        """Return a batch of these sentences."""
        words, lengths = pad([examples.words[k] for k in rows])
        tags, _ = pad([examples.tags[k] for k in rows])
        texts = [examples.texts[k] for k in rows]
        numbers: dict[str, int] = {}
        which = [np.array([numbers.setdefault(word, len(numbers)) for word in text]) for text in texts]
        spelt, sizes = pad([self.characters.encode_words(list(word[:_MAX_LETTERS])) for word in numbers])
        return Batch(words, lengths, spelt, sizes, pad(which)[0], tags)
