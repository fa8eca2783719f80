"""What all models share that write a text about an input, whatever its medium."""

from __future__ import annotations

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data.buckets import split_into_batches
from elman.data.split import evenly_spaced
from elman.data.tokenizer import Tokenizer
from elman.decoding.beam import Hypothesis, Search, beam_search
from elman.errors import ElmanError
from elman.layers.dropout import drop_words
from elman.layers.naming import Named, named_rows
from elman.networks.sequence_to_sequence import SequenceToSequence
from elman.tasks.abilities import Answered, Answers, Attends
from elman.tasks.answers import Answer, Attention, Axis, best_word
from elman.tasks.writing.examples import Batch, Examples, batch_of
from elman.tasks.writing.options import WritingConfig
from elman.training.model import Model, evaluation
from elman.training.recipe import Learnt, Recipe
from elman.training.run import Sources
from elman.training.selection import Criterion

_log = logging.getLogger("elman")

#: Padded source positions that are decoded at a time.
_DECODED = 2048
#: Logits that exist at once in a search.
_LOGITS = 1 << 24


@dataclass(frozen=True)
class Written(Answer):
    """A text that a model has written.

    Attributes:
        text (str): "" where the model ends before the first word.
        score (float): the score of the search, or the probability of the text.
        log_probability (float): of the text, in nats.
        positions (Axis): the positions of the input that the decoder attends to.
        tokens (list[str]): the pieces that were written; "" where one is a part of a character, or for the end where
            nothing else was written.
        weights (Tensor): (tokens, source), the attention.
    """

    text: str
    score: float
    log_probability: float
    positions: Axis
    tokens: list[str]
    weights: Tensor

    @property
    def output(self) -> str:
        return self.text

    @property
    def cell(self) -> str:
        return self.text

    @property
    def source(self) -> list[str]:
        """The text of each position of the input; nothing for inputs without text."""
        return list(self.positions.pieces)

    @property
    def attention(self) -> Attention:
        return Attention(self.weights, self.positions, Axis.of_words(self.tokens))

    def record(self) -> dict[str, Any]:
        return {"text": self.text, "score": self.score, "log_probability": self.log_probability}


class Writer(Model, Answers, Attends):
    """p(text | input) by a `SequenceToSequence` network; a subclass says what an input is."""

    unit = "tokens"
    Options = Search
    writes = "text"
    #: The objective of the training: with label smoothing, the plain loss rises while the model improves.
    selection = (Criterion("objective"),)
    #: The scores that a validation during training shows.
    shown: ClassVar[tuple[str, ...]]
    #: The number of inputs that a validation during training answers.
    scored: ClassVar[int] = 100
    #: Whether the score of an answer is its probability, and not the score of the search.
    probabilities: ClassVar[bool] = False
    #: The minimum number of tokens of an answer: 0 where the training texts may be empty.
    min_length: ClassVar[int] = 0

    config: WritingConfig
    network: SequenceToSequence
    learnt: Learnt

    def __init__(self, task: Recipe, learnt: Learnt, sources: Sources) -> None:
        super().__init__(task, learnt, sources)
        self.search = parse(self.Options, {})

    @property
    @abstractmethod
    def target(self) -> Tokenizer:
        """The vocabulary of what is written."""

    @property
    @abstractmethod
    def copies(self) -> bool:
        """Whether an unknown word is replaced by the source word with the largest attention; if not, unknown words are
        never written."""

    @abstractmethod
    def given(self, inputs: Any) -> list[Any]:
        """Return the inputs of `predict` in the form that `rows` and `source_axis` take; ElmanError if one is wrong."""

    @abstractmethod
    def rows(self, given: Sequence[Any]) -> list[Any]:
        """Return what the network reads of each input."""

    @abstractmethod
    def lengths(self, rows: Sequence[Any]) -> np.ndarray:
        """Return the number of source positions of each row, (N,)."""

    @abstractmethod
    def collate(self, rows: Sequence[Any]) -> tuple[Tensor, ...]:
        """Return the arguments of the network's ``read`` for a batch of rows."""

    @abstractmethod
    def hide(self, read: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Hide parts of what a training batch reads at random."""

    @abstractmethod
    def max_lengths(self, rows: Sequence[Any]) -> np.ndarray:
        """Return the maximum number of tokens of the answer to each row, (N,)."""

    @abstractmethod
    def source_axis(self, given: Any) -> Axis:
        """Return the positions of an input that the decoder attends to."""

    @abstractmethod
    def pieces(self, given: Any) -> list[str]:
        """Return the text of each token of an input that a recurrence reads; none for an input without text."""

    @abstractmethod
    def scores(self, examples: Examples, answers: Sequence[Written]) -> dict[str, Any]:
        """Return the metrics of the answer to each example."""

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """Return the mean of -log p(token | input, tokens before) in nats, with label smoothing."""
        c, batch = self.config, batch.to(self.device)
        read, inputs = self.hide(batch.read), batch.inputs
        if c.word_dropout:
            inputs = drop_words(inputs, c.word_dropout, Tokenizer.unknown_id)
        memory, state = self.network.read(*read)
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

    def named_tables(self) -> list[Named]:
        """Name the rows of the embedding of what is written, and of the output layer."""
        network = self.network
        return named_rows(self.target.names, network.target.weight, network.head.weight, network.head.bias)

    def size(self, batch: Batch) -> int:
        return int((batch.targets >= 0).sum())

    @property
    def validation_size(self) -> int:
        return 1 << 15

    def evaluate(self, examples: Examples, limit: int | None = None) -> dict[str, Any]:
        """Compute loss (mean nats per token), perplexity (exp(loss)) and the `scores` of what beam search finds.

        With a limit: objective, the loss with label smoothing, and the scores named by ``shown`` for the greedy
        answers to ``scored`` inputs.
        """
        if not isinstance(examples, Examples):
            examples = self.read(examples)
        lengths = np.array([len(ids) + 1 for ids in examples.target_ids])
        chosen = evenly_spaced(lengths, limit)
        longest = np.maximum(lengths, self.lengths(examples.rows))
        nats, smoothed, tokens = 0.0, 0.0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(chosen[np.argsort(longest[chosen], kind="stable")], longest, _DECODED):
                read = self.collate([examples.rows[k] for k in rows])
                batch = batch_of(read, [examples.target_ids[k] for k in rows]).to(self.device)
                memory, state = self.network.read(*batch.read)
                y, _ = self.network.write(batch.inputs, memory, state, batch.lengths)
                n = self.size(batch)
                nats, tokens = nats + self.network.head.loss(y, batch.targets).item() * n, tokens + n
                if limit is not None:
                    smoothed += self.network.head.loss(y, batch.targets, self.config.label_smoothing).item() * n
        loss = nats / tokens
        metrics: dict[str, Any] = {"loss": loss, "perplexity": float(np.exp(min(loss, 700.0))), "tokens": tokens}
        if limit is None:
            return metrics | self._scores(examples, self.search)
        scores = self._scores(examples, parse(Search, {"beam": 1}), self.scored)
        metrics["objective"] = smoothed / tokens
        return metrics | {name: scores[name] for name in self.shown if name in scores}

    def _scores(self, examples: Examples, search: Search, limit: int | None = None) -> dict[str, Any]:
        """The scores of the answers to all different inputs, or to ``limit`` of them, and the speed of the search."""
        began = time.perf_counter()
        answers, written = self._answers(examples, search, limit)
        seconds = time.perf_counter() - began
        some = examples.part([k for k, given in enumerate(examples.inputs) if given in answers])
        scores = self.scores(some, [answers[given] for given in some.inputs])
        return scores | {"tokens_per_second": written / seconds}

    def _answers(
        self, examples: Examples, search: Search, limit: int | None = None
    ) -> tuple[dict[Hashable, Written], int]:
        """The answers to all different inputs, or to ``limit`` of them, and the number of tokens in these."""
        first = sorted({given: k for k, given in reversed([*enumerate(examples.inputs)])}.values())
        first = [first[k] for k in evenly_spaced(np.ones(len(first)), limit)]
        found = self._search([examples.rows[k] for k in first], search)
        answers = {
            examples.inputs[k]: self.answer(self.source_axis(examples.inputs[k]), hypotheses[0])
            for k, hypotheses in zip(first, found, strict=True)
        }
        return answers, sum(len(hypotheses[0].ids) + 1 for hypotheses in found)

    def answered(self, examples: Examples) -> list[Answered]:
        answers, _ = self._answers(examples, self.search)
        pairs = zip(examples.inputs, examples.targets, strict=True)
        return [Answered(str(given), target, answers[given].text) for given, target in pairs]

    def predict(self, inputs: Any, **options: Any) -> list[list[Written]]:
        """Return the answers to each input, the best first.

        An answer without words has the text ""; a warning says how many there are.

        Args:
            inputs: one input, or several.
            options: those of ``Options``.

        Raises:
            ElmanError: an input cannot be used, or an option is wrong.
        """
        search = parse(self.Options, options)
        given = self.given(inputs)
        searched = self._search(self.rows(given), search)
        empty = [k for k, found in enumerate(searched) if not found[0].ids]
        if empty:
            more = f"; {len(empty):,} of {len(given):,} inputs have none" if len(empty) > 1 else ""
            _log.warning(
                "input %d (%.80s): no answer; the model ends before the first word and may need more training%s",
                empty[0] + 1, " ".join(str(given[empty[0]]).split()), more,
            )  # fmt: skip
        axes = [self.source_axis(one) for one in given]
        return [[self.answer(axis, h) for h in found] for axis, found in zip(axes, searched, strict=True)]

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        (one,) = self.given(given)
        rows = self.rows([one])
        (found,) = self._search(rows, parse(self.Options, {}))
        batch = batch_of(self.collate(rows), [np.array(found[0].ids, dtype=np.int64)]).to(self.device)
        memory, state = self.network.read(*batch.read)
        y, _ = self.network.write(batch.inputs, memory, state, batch.lengths)
        pieces = self.pieces(one)
        if not pieces:  # an input without text: what the decoder reads
            pieces = ["(start)", *(self.answer(self.source_axis(one), found[0]).tokens if found[0].ids else ())]
        return pieces, self.network.head.loss(y, batch.targets)

    def answer(self, source: Axis, found: Hypothesis) -> Written:
        """Return the text of a hypothesis; unknown words are copied from the source."""
        ids = found.ids or [Tokenizer.end_id]  # for an empty answer, the attention of the end
        weights, write = found.weights[: len(ids), : math.prod(source.shape)], self.target.stream_decoder()
        tokens = [
            f" {best_word(source.pieces, weights[k])}" if i == Tokenizer.unknown_id else write(i)
            for k, i in enumerate(ids)
        ]
        score = math.exp(found.log_probability) if self.probabilities else found.score
        return Written("".join(tokens).strip(), score, found.log_probability, source, tokens, weights)

    def _search(self, rows: Sequence[Any], search: Search) -> list[list[Hypothesis]]:
        """What beam search finds for each row, in batches of similar length."""
        lengths, longest = self.lengths(rows), self.max_lengths(rows)
        if search.max_length is not None:
            longest = np.full_like(longest, min(search.max_length, 2 * self.config.max_tokens - 1))
        results: list[Any] = [None] * len(rows)
        suppressed = [] if self.copies else [Tokenizer.unknown_id]
        at_once = max(1, _LOGITS // (search.beam * self.target.vocab_size))
        with evaluation(self.network), torch.inference_mode():
            for chosen in split_into_batches(np.argsort(lengths, kind="stable"), lengths, _DECODED, at_once):
                memory, state = self.network.read(*(t.to(self.device) for t in self.collate([rows[k] for k in chosen])))
                found = beam_search(
                    self.network, memory, state, torch.from_numpy(longest[chosen] + 1).to(self.device), search,
                    Tokenizer.end_id, Tokenizer.end_id, suppressed, self.min_length,
                )  # fmt: skip
                for row, hypotheses in zip(chosen, found, strict=True):
                    if not hypotheses:
                        raise ElmanError("the search finds no answer: the scores of the model are NaN")
                    results[row] = hypotheses
        return results
