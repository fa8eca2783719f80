"""A tagger: a tag for each word of a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from elman.config import parse
from elman.data.buckets import BucketBatches, Buckets
from elman.data.inputs import InputFile, is_file_argument
from elman.data.split import evenly_spaced
from elman.data.tagged import read_words
from elman.data.words import token_pattern
from elman.layers.naming import Named, named_rows
from elman.metrics.entities import entity_scores, is_bio
from elman.networks import tagger as networks
from elman.tasks.answers import Answer
from elman.tasks.inputs import inputs_of
from elman.tasks.tag.options import TagConfig
from elman.tasks.tagging.examples import Examples, Vocabulary
from elman.tasks.tagging.model import STEPS, FrequentTags, TaggingModel
from elman.tasks.tagging.options import NoOptions
from elman.training.recipe import Recipe, file_names
from elman.training.run import Sources
from elman.training.selection import Criterion


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


class Tagger(TaggingModel):
    """p(tags | words): ``model.predict(["The dog barks."])[0][0].tags``."""

    Options = NoOptions
    reads, writes = "text", "words with tags"
    selection = (Criterion("accuracy", higher_is_better=True), Criterion("loss"))

    config: TagConfig
    learnt: Vocabulary

    def __init__(self, task: Recipe, learnt: Vocabulary, sources: Sources) -> None:
        super().__init__(task, learnt, sources)
        self.words, self.characters, self.tags = learnt.words, learnt.characters, learnt.tags

    @property
    def vocabulary(self) -> Vocabulary:
        return self.learnt

    def make_network(self) -> networks.Tagger:
        return networks.Tagger(crf=self.config.crf, **self.tagger_options())

    def named(self) -> list[Named]:
        crf, tags = self.network.crf, self.tags
        if crf is None:
            return self.named_tables()
        return [*self.named_tables(), Named(crf.transitions, (tags, tags)), *named_rows(tags, crf.start, crf.end)]

    def batches(self, examples: Examples, rank: int, world: int) -> BucketBatches:
        c, lengths = self.config, [len(row) for row in examples.words]
        buckets = Buckets(lengths, STEPS, c.seed, rank, world, c.batch_size)
        return BucketBatches(buckets, lambda rows, k: self.learnt.collate(examples, rows))

    def evaluate(self, examples: Examples, limit: int | None = None) -> dict[str, Any]:
        """Compute loss (mean nats per word) and accuracy, the fraction of words with the right tag; for BIO tags also
        entity_f1.

        A tag that the model has never seen counts as an error, but not in the loss, which is None where all are such;
        unseen_tags is the number of words that have one.
        """
        lengths = np.array([len(row) for row in examples.words])
        chosen = evenly_spaced(lengths, limit)
        some = examples.part(chosen)
        found, _, nats = self.tagged(some)
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
        texts = [list(x) if isinstance(x, list) else token_pattern().findall(x) for x in given]
        found, probabilities, _ = self.tagged(self.untagged(texts))
        answers = []
        for text, tags, p in zip(texts, found, probabilities, strict=True):
            of_tags = [float(p[t, k]) for t, k in enumerate(tags)]
            answers.append([TaggedText(text, [self.tags[k] for k in tags], of_tags)])
        return answers

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        c = self.config
        return read_words(argument, column or c.words, c.tag, self.tags) if is_file_argument(argument) else None

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        words = token_pattern().findall(inputs_of(given, True)[0])
        return words, self.uncertainty(words)

    def baselines(self, examples: Examples) -> dict[str, float]:
        """Return the accuracy of the most frequent tag of each word, and of the most frequent tag overall."""
        train = self.training_data()
        frequent = FrequentTags(train.words, train.tags)
        numbers = {tag: k for k, tag in enumerate(self.tags)}
        truth = [tag for row in examples.tags for tag in row.tolist()]
        words = [word for text in examples.texts for word in text]
        right = sum(numbers[frequent[word]] == true for word, true in zip(words, truth, strict=True))
        return {
            "baseline_majority": truth.count(numbers[frequent.overall]) / len(truth),
            "baseline_most_frequent": right / len(truth),
        }

    def summary(self) -> dict[str, str]:
        return {
            "data": f"{file_names(self.sources)}: {self.sources.units:,} words in {self.sources.examples:,} sentences, "
            f"{len(self.tags)} tags",
            "model": f"{self.sizes()}{', CRF' * self.config.crf}, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["..."])[0][0].text)']
