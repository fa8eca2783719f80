"""A tagger: a tag for each word of a sentence."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.inputs import InputFile, is_file_argument
from elman.data.split import evenly_spaced
from elman.data.tagged import read_words
from elman.data.tokenizer import Tokenizer
from elman.layers.dropout import drop_words
from elman.media.pretrained import fill_embedding
from elman.metrics.entities import entity_scores, is_bio
from elman.networks import tagger as networks
from elman.tasks.abilities import HasBaselines, Predicts
from elman.tasks.answers import Answer
from elman.tasks.inputs import inputs_of
from elman.tasks.tag.examples import Batch, Examples, Vocabulary
from elman.tasks.tag.options import NoOptions, TagConfig
from elman.training.model import Model, evaluation
from elman.training.recipe import Recipe, file_names
from elman.training.run import Sources
from elman.training.selection import Criterion

#: Padded words that are read at a time.
_STEPS = 1 << 13
#: Words and punctuation marks of a text.
_TOKEN = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class TaggedText(Answer):
    """Words with their tags.

    Attributes:
        words, tags (list[str]): one tag for each word.
        probabilities (list[float]): the probability of each tag.
    """

    words: list[str]
    tags: list[str]
    probabilities: list[float]

    log_probability = None

    @property
    def text(self) -> str:  # type: ignore[override]
        """word/TAG word/TAG ..."""
        return " ".join(f"{word}/{tag}" for word, tag in zip(self.words, self.tags, strict=True))

    @property
    def score(self) -> float:  # type: ignore[override]
        """The mean probability."""
        return sum(self.probabilities) / max(1, len(self.probabilities))

    @property
    def output(self) -> list[tuple[str, str]]:
        return list(zip(self.words, self.tags, strict=True))

    @property
    def cell(self) -> list[str]:
        return self.tags

    @property
    def attention(self) -> None:
        return None

    def record(self) -> dict[str, Any]:
        return {"words": self.words, "tags": self.tags, "probabilities": self.probabilities}


class Tagger(Model, Predicts, HasBaselines):
    """p(tags | words): ``model.predict(["The dog barks."])[0][0].tags``."""

    unit = "words"
    Options = NoOptions
    reads, writes = "text", "words with tags"
    selection = (Criterion("accuracy", higher_is_better=True), Criterion("loss"))

    config: TagConfig
    network: networks.Tagger
    learnt: Vocabulary

    def __init__(self, task: Recipe, learnt: Vocabulary, sources: Sources) -> None:
        super().__init__(task, learnt, sources)
        self.words, self.characters, self.tags = learnt.words, learnt.characters, learnt.tags

    def make_network(self) -> networks.Tagger:
        c, known = self.config, self.learnt
        return networks.Tagger(
            known.words.vocab_size, known.characters.vocab_size, len(known.tags), cell=c.cell,
            embedding_size=c.embedding_size, hidden_size=c.hidden_size, num_layers=c.num_layers,
            character_size=c.character_size, crf=c.crf, dropout=c.dropout,
        )  # fmt: skip

    def begin(self, examples: Examples, resumed: bool) -> None:
        path = self.config.vectors
        if path is not None and not resumed:
            self.sources.vectors = [fill_embedding(self.network.words, self.words, path)]

    def batches(self, examples: Examples, rank: int, world: int) -> BucketBatches:
        c, lengths = self.config, [len(row) for row in examples.words]
        buckets = Buckets(lengths, _STEPS, c.seed, rank, world, c.batch_size)
        return BucketBatches(buckets, lambda rows, k: self.learnt.collate(examples, rows))

    def size(self, batch: Batch) -> int:
        return int(batch.lengths.sum())

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """Return the mean of -log p per word, in nats."""
        b = Batch(*(t.to(self.device) for t in batch))
        words = b.words
        if self.config.word_dropout:
            words = drop_words(words, self.config.word_dropout, Tokenizer.unknown_id)
        scores = self.network(words, b.lengths, b.spelt, b.sizes, b.which)
        with torch.autocast(self.device.type, enabled=False):
            return self.network.loss(scores, b.tags, b.lengths), None

    @property
    def validation_size(self) -> int:
        return 20_000

    def _tagged(self, examples: Examples) -> tuple[list[np.ndarray], list[np.ndarray], float | None]:
        """For each sentence the best tags and all probabilities (T, K); the mean nats of the words whose tag is known,
        None where there are none."""
        lengths = np.array([len(row) for row in examples.words])
        tags: list[Any] = [None] * len(lengths)
        probabilities: list[Any] = [None] * len(lengths)
        nats, known = 0.0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(np.argsort(lengths, kind="stable"), lengths, _STEPS, 512):
                b = Batch(*(t.to(self.device) for t in self.learnt.collate(examples, rows)))
                scores = self.network(b.words, b.lengths, b.spelt, b.sizes, b.which)
                best, p = self.network.decode(scores, b.lengths)
                lost, words = self.network.nats(scores, b.tags, b.lengths)
                nats, known = nats + lost.item(), known + words
                for k, found, own, n in zip(rows, best.cpu().numpy(), p.cpu().numpy(), lengths[rows], strict=True):
                    tags[k], probabilities[k] = found[:n], own[:n]
        return tags, probabilities, nats / known if known else None

    def evaluate(self, examples: Examples, limit: int | None = None) -> dict[str, Any]:
        """Compute loss (mean nats per word) and accuracy, the fraction of words with the right tag; for BIO tags also
        entity_f1.

        A tag that the model has never seen counts as an error, but not in the loss, which is None where all are such;
        unseen_tags is the number of words that have one.
        """
        lengths = np.array([len(row) for row in examples.words])
        chosen = evenly_spaced(lengths, limit)
        some = Examples(*([side[k] for k in chosen] for side in examples))  # type: ignore[arg-type]
        found, _, nats = self._tagged(some)
        words = int(lengths[chosen].sum())
        right = sum(int((a == b).sum()) for a, b in zip(found, some.tags, strict=True))
        scores: dict[str, Any] = {"loss": nats, "accuracy": right / words}
        if is_bio(self.tags):
            predicted = [[self.tags[k] for k in row] for row in found]
            scores |= entity_scores(some.truth, predicted)
        if limit is not None:
            return {name: value for name, value in scores.items() if value is not None}
        return scores | {"words": words, "unseen_tags": sum(int((row < 0).sum()) for row in some.tags)}

    def predict(self, inputs: Any, **options: Any) -> list[list[TaggedText]]:
        """Return the tags of each input: a text, which is split into words and punctuation marks, or a list of words.

        Raises:
            ElmanError: an input is empty or no text.
        """
        parse(NoOptions, options)
        given = [inputs] if isinstance(inputs, str) else list(inputs)
        inputs_of([" ".join(x) if isinstance(x, list) else x for x in given], True)
        texts = [list(x) if isinstance(x, list) else _TOKEN.findall(x) for x in given]
        found, probabilities, _ = self._tagged(self._untagged(texts))
        answers = []
        for text, tags, p in zip(texts, found, probabilities, strict=True):
            of_tags = [float(p[t, k]) for t, k in enumerate(tags)]
            answers.append([TaggedText(text, [self.tags[k] for k in tags], of_tags)])
        return answers

    def _untagged(self, texts: list[list[str]]) -> Examples:
        """Sentences, all with the first tag."""
        return self.learnt.encode(texts, [self.tags[:1] * len(text) for text in texts])

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        c = self.config
        return read_words(argument, column or c.words, c.tag, self.tags) if is_file_argument(argument) else None

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        words = _TOKEN.findall(inputs_of(given, True)[0])
        b = self.learnt.collate(self._untagged([words]), [0])
        b = Batch(*(t.to(self.device) for t in b))
        scores = self.network(b.words, b.lengths, b.spelt, b.sizes, b.which)
        return words, -scores[0, -1].log_softmax(-1).amax()

    def baselines(self, examples: Examples) -> dict[str, float]:
        """Return the accuracy of the most frequent tag of each word, and of the most frequent tag overall."""
        train = self.training_data()
        of_word: dict[str, Counter[str]] = defaultdict(Counter)
        for words, tags in zip(train.words, train.tags, strict=True):
            for word, tag in zip(words, tags, strict=True):
                of_word[word][tag] += 1
        frequent = sum(of_word.values(), Counter()).most_common(1)[0][0]
        truth = [tag for row in examples.tags for tag in row.tolist()]
        words = [word for text in examples.texts for word in text]
        predicted = [of_word[word].most_common(1)[0][0] if word in of_word else frequent for word in words]
        numbers = {tag: k for k, tag in enumerate(self.tags)}
        right = sum(numbers[guess] == true for guess, true in zip(predicted, truth, strict=True))
        return {
            "baseline_majority": truth.count(numbers[frequent]) / len(truth),
            "baseline_most_frequent": right / len(truth),
        }

    def summary(self) -> dict[str, str]:
        c = self.config
        return {
            "data": f"{file_names(self.sources)}: {self.sources.units:,} words in {self.sources.examples:,} sentences, "
            f"{len(self.tags)} tags",
            "model": f"{c.cell}, {c.num_layers} x {c.hidden_size} units{', CRF' * c.crf}, "
            f"{self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["..."])[0][0].text)']
