"""What all models share that give each word a tag."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from elman.data.buckets import split_into_batches
from elman.data.tokenizer import Tokenizer
from elman.layers.dropout import drop_words
from elman.layers.naming import Named, named_rows
from elman.media.pretrained import fill_embedding
from elman.networks.tagger import Tagger
from elman.tasks.abilities import HasBaselines, Predicts
from elman.tasks.tagging.examples import Batch, Examples, Vocabulary
from elman.tasks.tagging.options import TaggingConfig
from elman.training.model import Model, evaluation

Tag = TypeVar("Tag", bound=Hashable)

#: Padded words that are read at a time.
STEPS = 1 << 13


class TaggingModel(Model, Predicts, HasBaselines):
    """p(tags | words) by a `Tagger` network; a subclass says what is tagged."""

    unit = "words"

    config: TaggingConfig
    network: Tagger

    @property
    @abstractmethod
    def vocabulary(self) -> Vocabulary:
        """The words, characters and tags."""

    def tagger_options(self) -> dict[str, Any]:
        """Return the sizes of the network: keywords of `Tagger`."""
        c, known = self.config, self.vocabulary
        return {
            "words": known.words.vocab_size, "characters": known.characters.vocab_size, "tags": len(known.tags),
            "cell": c.cell, "embedding_size": c.embedding_size, "hidden_size": c.hidden_size,
            "num_layers": c.num_layers, "character_size": c.character_size, "dropout": c.dropout,
        }  # fmt: skip

    def begin(self, examples: Examples, resumed: bool) -> None:
        path = self.config.vectors
        if path is not None and not resumed:
            self.sources.vectors = [fill_embedding(self.network.words, self.vocabulary.words, path)]

    def named_tables(self) -> list[Named]:
        """Name the rows of the embeddings and of what scores the tags."""
        known, network = self.vocabulary, self.network
        return [
            *named_rows(known.words.names, network.words.weight),
            *(named_rows(known.characters.names, network.characters.weight) if network.character_size else []),
            *named_rows(known.tags, network.head.weight, network.head.bias),
        ]

    def size(self, batch: Batch) -> int:
        return int(batch.lengths.sum())

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """Return the mean of -log p per word, in nats."""
        b = self.with_dropped_words(batch.to(self.device))
        scores = self.network(*b.inputs)
        with torch.autocast(self.device.type, enabled=False):
            return self.network.loss(scores, b.tags, b.lengths), None

    def with_dropped_words(self, batch: Batch) -> Batch:
        """Return a batch in which some words are unknown, for training."""
        if not self.config.word_dropout:
            return batch
        return batch._replace(words=drop_words(batch.words, self.config.word_dropout, Tokenizer.unknown_id))

    @property
    def validation_size(self) -> int:
        return 20_000

    def tagged(self, examples: Examples) -> tuple[list[np.ndarray], list[np.ndarray], float | None]:
        """For each sentence the best tags and all probabilities (T, K); the mean nats of the words whose tag is known,
        None where there are none."""
        lengths = np.array([len(row) for row in examples.words])
        tags: list[Any] = [None] * len(lengths)
        probabilities: list[Any] = [None] * len(lengths)
        nats, known = 0.0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(np.argsort(lengths, kind="stable"), lengths, STEPS, 512):
                b = self.vocabulary.collate(examples, rows).to(self.device)
                scores = self.network(*b.inputs)
                best, p = self.network.decode(scores, b.lengths)
                lost, words = self.network.nats(scores, b.tags, b.lengths)
                nats, known = nats + lost.item(), known + words
                for k, found, own, n in zip(rows, best.cpu().numpy(), p.cpu().numpy(), lengths[rows], strict=True):
                    tags[k], probabilities[k] = found[:n], own[:n]
        return tags, probabilities, nats / known if known else None

    def untagged(self, texts: list[list[str]]) -> Examples:
        """Return sentences as examples, all with the first tag."""
        return self.vocabulary.encode(texts, [self.vocabulary.tags[:1] * len(text) for text in texts])

    def uncertainty(self, words: list[str]) -> Tensor:
        """Return -log p of the best tag of the last word, with its graph."""
        b = self.vocabulary.collate(self.untagged([words]), [0]).to(self.device)
        scores = self.network(*b.inputs)
        return -scores[0, -1].log_softmax(-1).amax()

    def sizes(self) -> str:
        """Describe the network, for `summary`."""
        c = self.config
        return f"{c.cell}, {c.num_layers} x {c.hidden_size} units"


class FrequentTags(Generic[Tag]):
    """The most frequent tag of each word, a baseline.

    Args:
        words (Iterable[Iterable[str]]): the words of sentences.
        tags (Iterable[Iterable[Tag]]): the tag of each.

    Attributes:
        overall: the most frequent tag of all words, which unknown words have.
    """

    def __init__(self, words: Iterable[Iterable[str]], tags: Iterable[Iterable[Tag]]) -> None:
        of_word: dict[str, Counter[Tag]] = defaultdict(Counter)
        for sentence, own in zip(words, tags, strict=True):
            for word, tag in zip(sentence, own, strict=True):
                of_word[word][tag] += 1
        self.overall: Tag = sum(of_word.values(), Counter()).most_common(1)[0][0]
        self._of_word = {word: counts.most_common(1)[0][0] for word, counts in of_word.items()}

    def __getitem__(self, word: str) -> Tag:
        return self._of_word.get(word, self.overall)
