"""A model that fills in missing words."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.data.padding import pad
from elman.data.split import evenly_spaced
from elman.data.tokenizer import Tokenizer
from elman.errors import ElmanError
from elman.layers.dropout import drop_words
from elman.layers.naming import Named, named_rows
from elman.media.pretrained import fill_embedding
from elman.media.text import TOKENIZER, encode_all, spaced
from elman.metrics.texts import share
from elman.networks import tagger as networks
from elman.tasks.abilities import Embeds, Predicts
from elman.tasks.answers import Answer, by_words, log_of
from elman.tasks.fill.options import FillConfig, Guesses
from elman.tasks.inputs import inputs_of
from elman.training.model import Model, evaluation
from elman.training.recipe import Learnt, Recipe, file_names
from elman.training.run import Sources

#: A blank: three underscores, or more.
BLANK = re.compile(r"_{3,}")
#: Padded words that are read at a time in an evaluation.
_STEPS = 1 << 12


class Words(Learnt):
    """The vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def files(self) -> dict[str, str]:
        return {TOKENIZER: self.tokenizer.to_json()}


@dataclass(frozen=True)
class Guess(Answer):
    """A word for a blank.

    Attributes:
        text (str): the word.
        probability (float): its probability.
        blank (int): the number of the blank in the text, from 1.
    """

    text: str
    probability: float
    blank: int

    @property
    def score(self) -> float:  # type: ignore[override]
        """The probability."""
        return self.probability

    @property
    def log_probability(self) -> float:  # type: ignore[override]
        return log_of(self.probability)

    @property
    def output(self) -> str:
        return self.text

    @property
    def cell(self) -> str:
        return self.text

    @property
    def attention(self) -> None:
        return None

    def record(self) -> dict[str, Any]:
        return {"text": self.text, "probability": self.probability, "blank": self.blank}


class Batch(NamedTuple):
    """ids (B, T): END, words, END; targets (B, T), negative where nothing is to be predicted; lengths (B,)."""

    ids: Tensor
    targets: Tensor
    lengths: Tensor


class Filler(Model, Predicts, Embeds):
    """p(word | all others): ``model.predict(["I am ___ hungry."])[0][0].text``."""

    unit = "words"
    Options = Guesses
    reads, writes = "text with blanks", "words"

    config: FillConfig
    network: networks.Filler
    learnt: Words

    def __init__(self, task: Recipe, learnt: Words, sources: Sources) -> None:
        super().__init__(task, learnt, sources)
        self.tokenizer = learnt.tokenizer

    def make_network(self) -> networks.Filler:
        c = self.config
        return networks.Filler(
            self.learnt.tokenizer.vocab_size, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
            num_layers=c.num_layers, dropout=c.dropout,
        )  # fmt: skip

    def begin(self, examples: list[np.ndarray], resumed: bool) -> None:
        path = self.config.vectors
        if path is not None and not resumed:
            self.sources.vectors = [fill_embedding(self.network.words, self.tokenizer, path)]

    def named(self) -> list[Named]:
        return named_rows(self.tokenizer.names, self.network.words.weight, self.network.head.bias)

    def batches(self, examples: list[np.ndarray], rank: int, world: int) -> BucketBatches:
        lengths = [len(row) + 2 for row in examples]
        buckets = Buckets(lengths, self.config.batch_size, self.config.seed, rank, world)
        return BucketBatches(buckets, lambda rows, k: collate([examples[row] for row in rows]))

    def size(self, batch: Batch) -> int:
        return int(batch.lengths.sum()) - 2 * len(batch.lengths)

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """Return the mean of -log p(word | all others), in nats."""
        ids, targets, lengths = (t.to(self.device) for t in batch)
        if self.config.word_dropout:
            ids = drop_words(ids, self.config.word_dropout, Tokenizer.unknown_id)
        y, _ = self.network(ids, lengths)
        return self.network.head.loss(y, targets), None

    @property
    def validation_size(self) -> int:
        return 1 << 15

    def evaluate(self, examples: list[np.ndarray], limit: int | None = None) -> dict[str, Any]:
        """Compute loss (mean nats per known word) and pseudo_perplexity (exp(loss)); None without known words.

        Without a limit also accuracy, over all words, and unknown_words, the number of words that the vocabulary does
        not have, which count as errors.

        Source: Salazar et al. 2020, https://arxiv.org/abs/1910.14659; here all words of a line at once, as the features
        of a word do not depend on it.
        """
        lengths = np.array([len(row) + 2 for row in examples])
        chosen = evenly_spaced(lengths, limit)
        nats, right, words = 0.0, 0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(chosen[np.argsort(lengths[chosen], kind="stable")], lengths, _STEPS):
                ids, targets, n = (t.to(self.device) for t in collate([examples[k] for k in rows]))
                y, _ = self.network(ids, n)
                known = int((targets >= 0).sum())
                nats += self.network.head.loss(y, targets).item() * known
                words += known
                if limit is None:
                    for part, wanted in zip(y.split(8), targets.split(8), strict=True):
                        right += int((self.network.head(part).argmax(-1) == wanted).sum())
        if not words and limit is not None:
            raise ElmanError("none of the words to validate on is in the model's vocabulary")
        loss = share(nats, words)
        metrics = {"loss": loss, "pseudo_perplexity": None if loss is None else math.exp(min(700.0, loss))}
        if limit is not None:
            return metrics
        every = int(lengths.sum()) - 2 * len(lengths)
        return metrics | {"accuracy": share(right, every), "words": every, "unknown_words": every - words}

    def predict(self, inputs: Any, **options: Any) -> list[list[Guess]]:
        """Return the words for each blank (three underscores) of each text, the most probable first.

        Raises:
            ElmanError: a text is empty, or has no blank, or an option is wrong.
        """
        top, texts = parse(Guesses, options).top, inputs_of(inputs, True)
        rows, blanks = [], []
        for k, text in enumerate(texts, 1):
            if not BLANK.search(text):
                raise ElmanError(f"input {k} of {len(texts)}: no blank in {text!r}; write ___ where a word is missing")
            ids, places = self._with_blanks(text)
            rows.append(ids)
            blanks.append(places)
        answers: list[list[Guess]] = []
        for ids, places in zip(rows, blanks, strict=True):
            with evaluation(self.network), torch.inference_mode():
                y, _ = self._read(ids)
                logits = self.network.head(y[0, [place + 1 for place in places]]).float()
                logits[:, self._not_words] = -torch.inf
                p = torch.zeros_like(logits).index_add_(1, self._forms.to(logits.device), logits.softmax(-1))
                best = p.topk(min(top, int(self._forms.unique().numel())))
            answers.append([
                Guess(self.tokenizer.decode([i]).strip(), p, number)
                for number, (one, sure) in enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True), 1)
                for i, p in zip(one, sure, strict=True)
            ])  # fmt: skip
        return answers

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        return read_column_inputs(argument, column or "text") if is_file_argument(argument) else None

    @functools.cached_property
    def _forms(self) -> Tensor:
        """For each token the first one with the same text, apart from a space before it, (V,)."""
        first: dict[str, int] = {}
        words = (self.tokenizer.decode([i]).strip() for i in range(self.tokenizer.vocab_size))
        return torch.tensor([first.setdefault(word, i) for i, word in enumerate(words)])

    @functools.cached_property
    def _not_words(self) -> list[int]:
        """Tokens that are not words: the end, the unknown one, white space."""
        spaces = (i for i in range(self.tokenizer.vocab_size) if not self.tokenizer.decode([i]).strip())
        return sorted({Tokenizer.end_id, Tokenizer.unknown_id, *spaces})

    def _read(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """The output of the network for one line."""
        batch = collate([ids])
        return self.network(batch.ids.to(self.device), batch.lengths.to(self.device))

    def _with_blanks(self, text: str) -> tuple[np.ndarray, list[int]]:
        """The ids, unknown at the blanks, and the positions of the blanks."""
        ids: list[int] = []
        places = []
        parts = BLANK.split(text)
        for k, part in enumerate(parts):
            inner = part.rstrip() if k + 1 < len(parts) else part.rstrip("\n")
            if inner.strip():
                ids += encode_all(self.tokenizer, [inner if ids or k else f" {inner.lstrip()}"])[0].tolist()
            if k + 1 < len(parts):
                places.append(len(ids))
                ids.append(Tokenizer.unknown_id)
        return np.array(ids, dtype=np.int64), places

    def vectors(self, inputs: Any) -> Iterator[list[tuple[str, np.ndarray]]]:
        """Yield, for each text, its words, each with its embedding (2 H,) in this context."""
        for text in inputs_of(inputs, True):
            (spaced_text,) = spaced("word", [text])
            ids = encode_all(self.tokenizer, [spaced_text])[0]
            with evaluation(self.network), torch.inference_mode():
                _, y = self._read(ids)
            found = y[0, 1:-1].float().cpu().numpy()
            words = by_words(self.tokenizer.token_texts(spaced_text))
            yield [(word.strip(), found[places].mean(0)) for word, places in words if word.strip()]

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        (text,) = inputs_of(given, True)
        ids, places = self._with_blanks(text)
        y, _ = self._read(ids)
        at = places[-1] + 1 if places else len(ids)
        pieces = ["___" if k in places else self.tokenizer.decode([i]) for k, i in enumerate(ids.tolist())]
        return ["", *pieces, ""], -self.network.head(y[0, at]).float().log_softmax(-1).amax()

    def summary(self) -> dict[str, str]:
        c = self.config
        return {
            "data": f"{file_names(self.sources)}: {self.sources.units:,} words to train on, a vocabulary of "
            f"{self.tokenizer.vocab_size:,} words",
            "model": f"{c.cell}, {c.num_layers} x {c.hidden_size} units in each direction, "
            f"{self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["I am ___ hungry."])[0][0].text)']


def collate(lines: Sequence[np.ndarray]) -> Batch:
    """Return a batch of lines, with an END on either side; unknown words are not to be predicted."""
    end = [Tokenizer.end_id]
    ids, lengths = pad([np.concatenate((end, line, end)) for line in lines])
    targets, _ = pad(
        [np.concatenate(([-100], np.where(line == Tokenizer.unknown_id, -100, line), [-100])) for line in lines], -100
    )
    return Batch(ids, targets, lengths)
