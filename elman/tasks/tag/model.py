"""A tag for each word: parts of speech, names, whatever a column says."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, TypeAdapter
from torch import Tensor

from elman.config import Options, parse
from elman.data import Tokenizer, absolute, fingerprint
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.inputs import InputFile, is_file_argument
from elman.data.split import evenly_spaced, hold_out
from elman.data.tagged import Tagged, read_tagged, read_words
from elman.errors import ElmanError
from elman.metrics.entities import entity_scores, is_bio
from elman.networks.sequence_to_sequence import drop_words
from elman.networks.tagger import Tagger
from elman.tasks.answers import inputs_of
from elman.tasks.pretrained import begin_with_vectors, sized
from elman.tasks.text_to_text.model import pad
from elman.training.config import TrainConfig
from elman.training.run import Names, Run, Sources
from elman.training.selection import Criterion
from elman.training.task import Task, build, evaluation

_log = logging.getLogger("elman")

_WORDS, _CHARACTERS, _TAGS = "words.json", "characters.json", "tags.json"

#: Padded words that are read at a time.
_STEPS = 1 << 13
#: How a text that is not cut into words is cut.
_CUT = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")


class TagConfig(TrainConfig):
    """The options of ``elman train tag``."""

    learning_rate: float = Field(3e-3, gt=0, description="The highest rate, reached after the warm-up.")
    average: float = Field(
        0.99, ge=0, lt=1, description="Validate and keep an average of the weights over steps; 0: none."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many validations that are not the best; 'none': never."
    )
    tag: str | None = Field(
        None, description="The column of the tags: of CoNLL-U its name (upos), elsewhere its number (the last)."
    )
    words: str = Field("words", description="Of tables: the column with the words, a list or parted by spaces.")
    tags: str = Field("tags", description="Of tables: the column with the tags.")
    vocab_size: int = Field(50_000, ge=1, description="Different words, at most.")
    vectors: str | None = Field(
        None, description="Vectors of words to begin with: a GloVe, word2vec (text, .bin) or fastText (.vec) file."
    )
    skip_bad: bool = Field(
        False, description="Leave out rows of tables, and sentences, that cannot be read, and say how many."
    )
    embedding_size: int = Field(100, ge=1, description="Size of a word's vector.")
    cell: str = Field("lstm", description="Of the recurrent layers.")
    hidden_size: int = Field(200, ge=1, description="Units of a layer over the words, in each direction.")
    num_layers: int = Field(1, ge=1, le=1000, description="Layers over the words.")
    character_size: int = Field(64, ge=0, description="Units over a word's characters, in each direction; 0: none.")
    crf: bool = Field(False, description="Tags that know their neighbours: a conditional random field, not a softmax.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Of what goes into, between and out of the layers.")
    word_dropout: float = Field(0.2, ge=0, lt=1, description="Probability that a word is known by its letters alone.")
    valid_fraction: float = Field(0.1, gt=0, lt=1, description="Held out where no --valid is given, 2,000 at most.")


class NoOptions(Options):
    """There are none."""


class Examples(NamedTuple):
    """words: ids of each sentence; tags: their numbers, -1 for one that is new; texts, truth: as they are."""

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


class TaggedText(NamedTuple):
    """Words with their tags, and how probable each is. text: word/TAG word/TAG ..."""

    words: list[str]
    tags: list[str]
    probabilities: list[float]

    @property
    def text(self) -> str:
        return " ".join(f"{word}/{tag}" for word, tag in zip(self.words, self.tags, strict=True))

    @property
    def score(self) -> float:
        """The mean probability."""
        return sum(self.probabilities) / max(1, len(self.probabilities))

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict()


class Tag(Task):
    """p(tags | words): ``model.predict(["The dog barks."])[0][0].tags``."""

    name = "tag"
    Config = TagConfig
    Options = NoOptions
    unit = "words"
    reads_text = True
    selection = (Criterion("accuracy", higher_is_better=True), Criterion("loss"))

    config: TagConfig
    network: Tagger

    def __init__(
        self, config: TagConfig, words: Tokenizer, characters: Tokenizer, tags: list[str], sources: Sources
    ) -> None:
        self.config, self.words, self.characters, self.tags, self.sources = config, words, characters, tags, sources
        c = config
        self.network = build(lambda: Tagger(
            words.vocab_size, characters.vocab_size, len(tags), cell=c.cell, embedding_size=c.embedding_size,
            hidden_size=c.hidden_size, num_layers=c.num_layers, character_size=c.character_size, crf=c.crf,
            dropout=c.dropout,
        ))  # fmt: skip

    @classmethod
    def prepare(
        cls, config: TrainConfig, data: Sequence[str], valid: Sequence[str], run: Run | None = None
    ) -> tuple[Self, Examples, Examples]:
        assert isinstance(config, TagConfig)
        config = sized(config, config.vectors)
        train, held = _split(config, data, valid)
        names = sorted({tag for tags in train.tags for tag in tags})
        count = sum(map(len, train.words))
        if config.minutes is None and config.steps is None:
            config = config.model_copy(update={"minutes": min(10.0, max(1.0, count / 40_000))})
        _sensible(names, train, held)
        words = Tokenizer.from_words((word for sentence in train.words for word in sentence), config.vocab_size)
        every = {word for sentence in train.words for word in sentence}
        characters = Tokenizer.train("char", sorted(every), 0)
        sources = Sources(
            data=[absolute(path) for path in data], valid=[absolute(path) for path in valid],
            examples=len(train.words), units=count, fingerprint=_fingerprint(train, held),
        )  # fmt: skip
        torch.manual_seed(config.seed)
        task = cls(config, words, characters, names, sources)
        begin_with_vectors(task, run, (config.vectors, task.network.words, words))
        return task, task.examples(train), task.examples(held)

    @classmethod
    def restore(cls, config: TrainConfig, run: Run, sources: Sources) -> Self:
        assert isinstance(config, TagConfig)
        words, characters = (Tokenizer.from_json(run.read(n), str(run.path / n)) for n in (_WORDS, _CHARACTERS))
        return cls(config, words, characters, run.record(_TAGS, TypeAdapter(Names)), sources)

    def files(self) -> dict[str, str]:
        tags = json.dumps(self.tags, ensure_ascii=False, indent=1) + "\n"
        return {_WORDS: self.words.to_json(), _CHARACTERS: self.characters.to_json(), _TAGS: tags}

    def examples(self, data: Tagged) -> Examples:
        """The sentences as the network reads them."""
        index = {tag: k for k, tag in enumerate(self.tags)}
        tags = [np.array([index.get(tag, -1) for tag in one], dtype=np.int64) for one in data.tags]
        return Examples([self.words.encode_words(one) for one in data.words], tags, data.words, data.tags)

    def collate(self, data: Examples, rows: Sequence[int] | np.ndarray) -> Batch:
        """A batch of these sentences."""
        words, lengths = pad([data.words[k] for k in rows], 0)
        tags, _ = pad([data.tags[k] for k in rows], 0)
        texts = [data.texts[k] for k in rows]
        places: dict[str, int] = {}
        numbers = [np.array([places.setdefault(word, len(places)) for word in text]) for text in texts]
        spelt, sizes = pad([self._spelling(word) for word in places], 0)
        return Batch(words, lengths, spelt, sizes, pad(numbers, 0)[0], tags)

    def _spelling(self, word: str) -> np.ndarray:
        return self.characters.encode_words(list(word[:40]))

    def batches(self, data: Examples, rank: int, world: int) -> BucketBatches:
        c, lengths = self.config, [len(row) for row in data.words]
        buckets = Buckets(lengths, _STEPS, c.seed, rank, world, c.batch_size)
        return BucketBatches(buckets, lambda rows, k: self.collate(data, rows))

    def size(self, batch: Batch) -> int:
        return int(batch.lengths.sum())

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """The mean of -log p a word, in nats."""
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

    def _tagged(self, data: Examples) -> tuple[list[np.ndarray], list[np.ndarray], float | None]:
        """For each sentence the best tags and all probabilities (T, K); the mean nats of a word whose tag is known,
        None where there is none."""
        lengths = np.array([len(row) for row in data.words])
        tags: list[Any] = [None] * len(lengths)
        probabilities: list[Any] = [None] * len(lengths)
        nats, known = 0.0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(np.argsort(lengths, kind="stable"), lengths, _STEPS, 512):
                b = Batch(*(t.to(self.device) for t in self.collate(data, rows)))
                scores = self.network(b.words, b.lengths, b.spelt, b.sizes, b.which)
                best, p = self.network.decode(scores, b.lengths)
                lost, words = self.network.nats(scores, b.tags, b.lengths)
                nats, known = nats + lost.item(), known + words
                for k, one, own, n in zip(rows, best.cpu().numpy(), p.cpu().numpy(), lengths[rows], strict=True):
                    tags[k], probabilities[k] = one[:n], own[:n]
        return tags, probabilities, nats / known if known else None

    def evaluate(self, data: Examples, limit: int | None = None) -> dict[str, Any]:
        """loss: mean nats a word; accuracy: the share of words whose tag is right; with BIO tags entity_f1 too.

        A tag that the model never saw counts as an error, and not in the loss, which is None where there is no other;
        unseen_tags: how many words have one.
        """
        lengths = np.array([len(row) for row in data.words])
        chosen = evenly_spaced(lengths, limit)
        some = Examples(*([side[k] for k in chosen] for side in data))  # type: ignore[arg-type]
        found, _, nats = self._tagged(some)
        words = int(lengths[chosen].sum())
        right = sum(int((a == b).sum()) for a, b in zip(found, some.tags, strict=True))
        scores: dict[str, Any] = {"loss": nats, "accuracy": right / words}
        if is_bio(self.tags):
            said = [[self.tags[k] for k in row] for row in found]
            scores |= entity_scores(some.truth, said)
        if limit is not None:
            return {name: value for name, value in scores.items() if value is not None}
        return scores | {"words": words, "unseen_tags": sum(int((row < 0).sum()) for row in some.tags)}

    def predict(self, inputs: Any, **options: Any) -> list[list[TaggedText]]:
        """The tags of each input: a text, which is cut into words and marks, or a list of words.

        Raises:
            ElmanError: an input is empty or no text.
        """
        parse(NoOptions, options)
        given = [inputs] if isinstance(inputs, str) else list(inputs)
        inputs_of([" ".join(x) if isinstance(x, list) else x for x in given], True)
        texts = [list(x) if isinstance(x, list) else _CUT.findall(x) for x in given]
        data = Examples(
            [self.words.encode_words(t) for t in texts], [np.zeros(len(t), int) for t in texts], texts, texts
        )
        found, probabilities, _ = self._tagged(data)
        answers = []
        for text, tags, p in zip(texts, found, probabilities, strict=True):
            sure = [float(p[t, k]) for t, k in enumerate(tags)]
            answers.append([TaggedText(text, [self.tags[k] for k in tags], sure)])
        return answers

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        """The sentences in a file, where the argument names one and is no text; ``column``: of a table, to read."""
        c = self.config
        return read_words(argument, column or c.words, c.tag, self.tags) if is_file_argument(argument) else None

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        words = _CUT.findall(inputs_of(given, True)[0])
        b = self.collate(Examples([self.words.encode_words(words)], [np.zeros(len(words), int)], [words], [words]), [0])
        b = Batch(*(t.to(self.device) for t in b))
        scores = self.network(b.words, b.lengths, b.spelt, b.sizes, b.which)
        return words, -scores[0, -1].log_softmax(-1).amax()

    def read(self, data: Sequence[str]) -> Examples:
        c = self.config
        return self.examples(read_tagged(data, c.tag, c.words, c.tags, c.skip_bad))

    def held_out(self) -> Examples:
        train, held = _split(self.config, self.sources.data, self.sources.valid)
        self.unchanged(_fingerprint(train, held))
        return self.examples(held)

    def baselines(self, data: Examples) -> dict[str, float]:
        """The accuracy of giving each word its most frequent tag, and of the most frequent tag alone."""
        train, _ = _split(self.config, self.sources.data, self.sources.valid)
        of_word: dict[str, Counter[str]] = defaultdict(Counter)
        for words, tags in zip(train.words, train.tags, strict=True):
            for word, tag in zip(words, tags, strict=True):
                of_word[word][tag] += 1
        every = sum(of_word.values(), Counter()).most_common(1)[0][0]
        truth = [tag for row in data.tags for tag in row.tolist()]
        said = [of_word[word].most_common(1)[0][0] if word in of_word else every for t in data.texts for word in t]
        numbers = {tag: k for k, tag in enumerate(self.tags)}
        right = sum(numbers[guess] == true for guess, true in zip(said, truth, strict=True))
        return {
            "baseline_majority": truth.count(numbers[every]) / len(truth),
            "baseline_most_frequent": right / len(truth),
        }

    def summary(self) -> dict[str, str]:
        c, files = self.config, ", ".join(os.path.basename(path) for path in self.sources.data)
        return {
            "data": f"{files}: {self.sources.units:,} words in {self.sources.examples:,} sentences, "
            f"{len(self.tags)} tags",
            "model": f"{c.cell}, {c.num_layers} x {c.hidden_size} units{', CRF' * c.crf}, "
            f"{self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["..."])[0][0].text)']


def _split(config: TagConfig, data: Sequence[str], valid: Sequence[str]) -> tuple[Tagged, Tagged]:
    """The sentences to train on and those held out."""
    c = config
    found = read_tagged(data, c.tag, c.words, c.tags, c.skip_bad)
    if valid:
        return found, read_tagged(valid, c.tag, c.words, c.tags, c.skip_bad)
    learnt, held = hold_out(len(found.words), config.valid_fraction)
    if not held:
        raise ElmanError(f"{', '.join(data)}: too few sentences to hold some out; give more, or --valid files")
    return found.part(learnt), found.part(held)


def _sensible(names: Sequence[str], train: Tagged, held: Tagged) -> None:
    """Says of tags what cannot be learnt from, or measured on.

    Raises:
        ElmanError: no held-out word has a tag that is learnt.
    """
    count = sum(map(len, train.words))
    if len(names) == 1:
        _log.warning(
            "%s: all %d words have one tag, %r: there is nothing to learn; --tag names another column",
            train.places[0], count, names[0],
        )  # fmt: skip
    elif len(names) > 50 and 3 * len(names) > count:
        _log.warning(
            "%s: %d different tags for %d words; --tag names another column", train.places[0], len(names), count
        )
    if not any(tag in set(names) for tags in held.tags for tag in tags):
        raise ElmanError(f"{held.places[0]}: no held-out word has a tag that is learnt: {', '.join(names[:20])}")


def _fingerprint(*parts: Tagged) -> str:
    texts = [t for part in parts for w, t_ in zip(part.words, part.tags, strict=True) for t in ("", *w, *t_)]
    return fingerprint([*texts, str(len(parts[0].words))])
