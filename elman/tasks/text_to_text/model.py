"""What all models share that read a text and write another one."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.padding import pad
from elman.data.split import evenly_spaced
from elman.data.tokenizer import Tokenizer
from elman.decoding.beam import Hypothesis, Search, beam_search
from elman.errors import ElmanError
from elman.layers.dropout import drop_words
from elman.media.pretrained import fill_embedding
from elman.networks.readers import TextReader
from elman.networks.sequence_to_sequence import SequenceToSequence, recurrent_translator, transformer_translator
from elman.tasks.abilities import Attends
from elman.tasks.answers import Answer, Attention, Axis, best_word
from elman.tasks.inputs import inputs_of
from elman.tasks.text_to_text.examples import Examples, PairBatch, Tokenizers, collate
from elman.tasks.text_to_text.options import TextToTextConfig
from elman.tasks.text_to_text.task import TextToText
from elman.training.model import Model, evaluation
from elman.training.run import Sources
from elman.training.selection import Criterion

_log = logging.getLogger("elman")

#: Padded source tokens that are decoded at a time.
_DECODED = 2048
#: The number of answers that a validation during training scores.
_SCORED = 100
#: Logits that exist at once in a search.
_LOGITS = 1 << 24


@dataclass(frozen=True)
class Written(Answer):
    """A text that a model has written.

    Attributes:
        text (str): "" where the model ends before the first word.
        score (float): the score of the search.
        log_probability (float): of the text, in nats.
        source (list[str]): the pieces of the input that the decoder attends to.
        tokens (list[str]): the pieces that were written; "" where one is a part of a character, or for the end where
            nothing else was written.
        weights (Tensor): (tokens, source), the attention.
    """

    text: str
    score: float
    log_probability: float
    source: list[str]
    tokens: list[str]
    weights: Tensor

    @property
    def cell(self) -> str:
        return self.text

    @property
    def attention(self) -> Attention:
        return Attention(self.weights, Axis.of_words(self.source), Axis.of_words(self.tokens))

    def record(self) -> dict[str, Any]:
        return {"text": self.text, "score": self.score, "log_probability": self.log_probability}


class TextToTextModel(Model, Attends):
    """p(target | source) by a `SequenceToSequence` network."""

    unit = "tokens"
    Options = Search
    #: The objective of the training: with label smoothing, the plain loss rises while the model improves.
    selection = (Criterion("objective"),)
    former_names: ClassVar = {
        "_own_source.": "reader.embedding.", "encoder.": "reader.encoder.", "words.": "reader.words.",
        "norm.": "reader.norm.",
    }  # fmt: skip

    config: TextToTextConfig
    network: SequenceToSequence
    learnt: Tokenizers
    task: TextToText

    def __init__(self, task: TextToText, learnt: Tokenizers, sources: Sources) -> None:
        super().__init__(task, learnt, sources)
        self.source, self.target = learnt.source, learnt.target

    @abstractmethod
    def input(self, text: str) -> str:
        """Return what the model reads for a text that it is asked about."""

    @abstractmethod
    def scores(self, examples: Examples, answers: Sequence[str]) -> dict[str, Any]:
        """Return the metrics of answers, compared with the targets of the examples."""

    def begin(self, examples: Examples, resumed: bool) -> None:
        c, reader = self.config, self.network.reader
        if resumed:
            return
        assert isinstance(reader, TextReader)
        sides = ((c.vectors, reader.source, self.source), (c.target_vectors, self.network.target, self.target))
        self.sources.vectors = [fill_embedding(table, vocabulary, path) for path, table, vocabulary in sides if path]

    def batches(self, examples: Examples, rank: int, world: int) -> BucketBatches:
        lengths = np.array([
            [len(s), len(t) + 1] for s, t in zip(examples.source_ids, examples.target_ids, strict=True)
        ])  # fmt: skip
        buckets = Buckets(lengths, self.config.batch_size, self.config.seed, rank, world)
        return BucketBatches(buckets, lambda rows, k: collate(examples, rows))

    def loss(self, batch: PairBatch, carry: Any) -> tuple[Tensor, Any]:
        """Return the mean of -log p(token | source, tokens before) in nats, with label smoothing."""
        c, batch = self.config, PairBatch(*(t.to(self.device) for t in batch))
        source, inputs = batch.source, batch.inputs
        if c.word_dropout:
            source = drop_words(source, c.word_dropout, Tokenizer.unknown_id)
            inputs = drop_words(inputs, c.word_dropout, Tokenizer.unknown_id)
        memory, state = self.network.read(source, batch.source_lengths)
        if c.scheduled_sampling:
            inputs = self._mixed(inputs, memory, state, batch.lengths)
        y, _ = self.network.write(inputs, memory, state, batch.lengths)
        return self.network.head.loss(y, batch.targets, c.label_smoothing), None

    @torch.no_grad()
    def _mixed(self, inputs: Tensor, memory: Any, state: Any, lengths: Tensor) -> Tensor:
        """The inputs, some of them replaced by the model's prediction.

        The predictions follow the right tokens: Mihaylova & Martins 2019, https://arxiv.org/abs/1906.07651
        """
        y, _ = self.network.write(inputs, memory, state, lengths)
        predicted = torch.cat([self.network.head(part).argmax(-1) for part in y[:, :-1].split(16, 1)], 1)
        own = torch.rand(predicted.shape, device=predicted.device) < self.config.scheduled_sampling
        return torch.cat((inputs[:, :1], torch.where(own, predicted, inputs[:, 1:])), 1)

    def size(self, batch: PairBatch) -> int:
        return int((batch.targets >= 0).sum())

    @property
    def validation_size(self) -> int:
        return 1 << 15

    def evaluate(self, examples: Examples, limit: int | None = None) -> dict[str, Any]:
        """Compute loss (mean nats per token), perplexity (exp(loss)) and the `scores` of what beam search finds.

        With a limit: objective, the loss with label smoothing, and the scores named by the task's ``shown`` for the
        greedy answers to a hundred inputs.
        """
        lengths = np.array([len(ids) + 1 for ids in examples.target_ids])
        chosen = evenly_spaced(lengths, limit)
        longest = np.maximum(lengths, [len(ids) for ids in examples.source_ids])
        nats, smoothed, tokens = 0.0, 0.0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(chosen[np.argsort(longest[chosen], kind="stable")], longest, _DECODED):
                batch = PairBatch(*(t.to(self.device) for t in collate(examples, rows)))
                memory, state = self.network.read(batch.source, batch.source_lengths)
                y, _ = self.network.write(batch.inputs, memory, state, batch.lengths)
                n = self.size(batch)
                nats, tokens = nats + self.network.head.loss(y, batch.targets).item() * n, tokens + n
                if limit is not None:
                    smoothed += self.network.head.loss(y, batch.targets, self.config.label_smoothing).item() * n
        loss = nats / tokens
        metrics: dict[str, Any] = {"loss": loss, "perplexity": float(np.exp(min(loss, 700.0))), "tokens": tokens}
        some = examples if limit is None else examples.part(evenly_spaced(np.ones(len(lengths)), _SCORED))
        began = time.perf_counter()
        answers = self._search(some.source_ids, parse(Search, {} if limit is None else {"beam": 1}))
        seconds = time.perf_counter() - began
        pairs = zip(some.sources, answers, strict=True)
        scores = self.scores(some, [self._answer(self._pieces(source), found[0]).text for source, found in pairs])
        if limit is not None:
            metrics["objective"] = smoothed / tokens
            return metrics | {name: scores[name] for name in self.task.shown if name in scores}
        written = sum(len(found[0].ids) + 1 for found in answers)
        return metrics | scores | {"tokens_per_second": written / seconds}

    def predict(self, inputs: Any, **options: Any) -> list[list[Written]]:
        """Return the answers to each text (a str is one), the best first.

        An answer without words has the text ""; a warning is logged for it.

        Args:
            inputs: texts.
            options: those of `elman.decoding.Search`.

        Raises:
            ElmanError: a text is empty or no text, or an option is wrong.
        """
        search = parse(Search, options)
        given = inputs_of(inputs, True)
        texts = [self.input(text) for text in given]
        ids = self.task.source_ids(self.learnt, texts)
        for k, row in enumerate(ids, 1):
            if len(row) > self.config.max_tokens:
                self.task.check_positions(len(row), f"input {k} of {len(texts)}")
                _log.warning(
                    "input %d: %d tokens; the model was trained on at most %d", k, len(row), self.config.max_tokens
                )
        searched = self._search(ids, search)
        for k, found in enumerate(searched, 1):
            if not found[0].ids:
                _log.warning("input %d: no answer; the model ends before the first word, it may need more training", k)
        answered = zip(texts, searched, strict=True)
        return [[self._answer(self._pieces(text), h) for h in found] for text, found in answered]

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        (text,) = (self.input(x) for x in inputs_of(given, True))
        (ids,) = self.task.source_ids(self.learnt, [text])
        (found,) = self._search([ids], parse(Search, {}))
        answered = Examples([text], [""], [ids], [np.array(found[0].ids, dtype=np.int64)], [])
        batch = PairBatch(*(t.to(self.device) for t in collate(answered, [0])))
        memory, state = self.network.read(batch.source, batch.source_lengths)
        y, _ = self.network.write(batch.inputs, memory, state, batch.lengths)
        return self._pieces(text), self.network.head.loss(y, batch.targets)

    def _pieces(self, text: str) -> list[str]:
        return self.task.source_pieces(self.learnt, text)

    def _answer(self, source: list[str], found: Hypothesis) -> Written:
        """The text of a hypothesis; unknown words are copied from the source."""
        ids = found.ids or [Tokenizer.end_id]  # for an empty answer, the attention of the end
        weights, write = found.weights[: len(ids), : len(source)], self.target.stream_decoder()
        tokens = [
            f" {best_word(source, weights[k])}" if i == Tokenizer.unknown_id else write(i) for k, i in enumerate(ids)
        ]
        return Written("".join(tokens).strip(), found.score, found.log_probability, source, tokens, weights)

    def _search(self, sources: Sequence[np.ndarray], search: Search) -> list[list[Hypothesis]]:
        """What beam search finds for each source, in batches of similar length."""
        lengths = np.array([len(ids) for ids in sources])
        results: list[Any] = [None] * len(sources)
        suppressed = [] if self.task.copies else [Tokenizer.unknown_id]
        at_once = max(1, _LOGITS // (search.beam * self.target.vocab_size))
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(np.argsort(lengths, kind="stable"), lengths, _DECODED, at_once):
                ids, real = pad([sources[k] for k in rows])
                memory, state = self.network.read(ids.to(self.device), real.to(self.device))
                longest = ((self.config.length_ratio or 2.0) * real + 10).long().clamp(max=self.config.max_tokens)
                if search.max_length is not None:
                    longest = torch.full_like(real, search.max_length).clamp(max=2 * self.config.max_tokens - 1)
                found = beam_search(
                    self.network,
                    memory,
                    state,
                    (longest + 1).to(self.device),
                    search,
                    Tokenizer.end_id,
                    Tokenizer.end_id,
                    suppressed,
                )
                for row, hypotheses in zip(rows, found, strict=True):
                    if not hypotheses:
                        raise ElmanError("the search finds no answer: the scores of the model are NaN")
                    results[row] = hypotheses
        return results


def translator(config: TextToTextConfig, source_size: int, target_size: int, shared: bool) -> SequenceToSequence:
    """Build the network that reads and writes token by token."""
    c = config
    assert c.hidden_size is not None
    assert c.num_layers is not None
    if c.model == "transformer":
        return transformer_translator(
            source_size, target_size, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
            num_layers=c.num_layers, heads=c.heads, norm=c.norm, positions=c.positions, max_positions=2 * c.max_tokens,
            tie=c.tie, shared=shared, dropout=c.dropout,
        )  # fmt: skip
    return recurrent_translator(
        source_size, target_size, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
        num_layers=c.num_layers, gnmt=c.model == "gnmt", kind=c.attention, heads=c.heads,
        input_feeding=c.input_feeding, tie=c.tie, shared=shared, dropout=c.dropout,
    )  # fmt: skip
