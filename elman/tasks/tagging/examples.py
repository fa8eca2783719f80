"""Words and tags as numbers, and what is learnt of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self, final

import numpy as np
import torch
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
    """Sentences, or longer texts.

    Attributes:
        words: the word ids of each sentence.
        tags: the tag numbers of each sentence; -1 for a tag that the model does not know.
        texts, truth: words and tags as texts.
        pauses: the numbers of the intervals that the pauses after the words are in; 0 for an unknown pause.
    """

    words: list[np.ndarray]
    tags: list[np.ndarray]
    texts: list[list[str]]
    truth: list[list[str]]
    pauses: list[np.ndarray]

    def part(self, numbers: Sequence[int] | np.ndarray) -> Examples:
        """Return the sentences with these numbers."""
        return Examples(*([side[k] for k in numbers] for side in self))  # type: ignore[arg-type]

    def cut(self, pieces: Iterable[tuple[int, int, int]]) -> Examples:
        """Return pieces of the sentences: the number of the sentence, the first word, and the one after the last."""
        cuts = list(pieces)
        return Examples(*([side[k][start:end] for k, start, end in cuts] for side in self))  # type: ignore[arg-type]


class Batch(NamedTuple):
    """words, tags, which, pauses (B, T), lengths (B,); spelt (U, W), sizes (U,): the different words by characters."""

    words: Tensor
    lengths: Tensor
    spelt: Tensor
    sizes: Tensor
    which: Tensor
    pauses: Tensor
    tags: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network reads: all but the tags."""
        return self[:-1]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(t.to(device) for t in self))


@final
class Vocabulary(Learnt):
    """The words, the characters of words, and the tags.

    Args:
        words (Tokenizer): the vocabulary of words.
        characters (Tokenizer): the vocabulary of characters.
        tags (list[str]): the names of the tags, by number.
    """

    def __init__(self, words: Tokenizer, characters: Tokenizer, tags: list[str]) -> None:
        self.words, self.characters, self.tags = words, characters, tags

    @classmethod
    def learn(cls, sentences: Sequence[Sequence[str]], tags: list[str], vocab_size: int) -> Self:
        """Learn the most frequent words, and all characters."""
        words = Tokenizer.from_words((word for sentence in sentences for word in sentence), vocab_size)
        every = {word for sentence in sentences for word in sentence}
        return cls(words, Tokenizer.train("char", sorted(every), 0), tags)

    @classmethod
    def load(cls, run: Run) -> Self:
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
        pauses = [np.zeros(len(sentence), dtype=np.int64) for sentence in words]
        return Examples([self.words.encode_words(sentence) for sentence in words], numbers, words, tags, pauses)

    def collate(self, examples: Examples, rows: Sequence[int] | np.ndarray) -> Batch:
        """Return a batch of these sentences."""
        words, lengths = pad([examples.words[k] for k in rows])
        tags, _ = pad([examples.tags[k] for k in rows])
        texts = [examples.texts[k] for k in rows]
        numbers: dict[str, int] = {}
        which = [np.array([numbers.setdefault(word, len(numbers)) for word in text]) for text in texts]
        spelt, sizes = pad([self.characters.encode_words(list(word[:_MAX_LETTERS])) for word in numbers])
        pauses, _ = pad([examples.pauses[k] for k in rows])
        return Batch(words, lengths, spelt, sizes, pad(which)[0], pauses, tags)
