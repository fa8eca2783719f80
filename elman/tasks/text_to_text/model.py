"""What all tasks share that read a text and write another one."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data import Tokenizer, TokenKind
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.inputs import InputFile
from elman.data.split import evenly_spaced
from elman.decoding.beam import Hypothesis, Search, beam_search
from elman.errors import ElmanError
from elman.networks.sequence_to_sequence import Translator, drop_words
from elman.tasks.answers import Answer, best_word, inputs_of
from elman.tasks.pretrained import begin_with_vectors
from elman.tasks.text_to_text.options import TextToTextConfig
from elman.training.run import Run
from elman.training.selection import Criterion
from elman.training.task import Task, build, evaluation

_log = logging.getLogger("elman")

SOURCE, TARGET = "source.json", "target.json"

#: Padded source tokens that are read at a time when answers are looked for.
_DECODED = 2048
#: So many answers are scored in a validation while training.
_SHOWN = 100
#: Logits that exist at once when answers are looked for.
_LOGITS = 1 << 24


class PairBatch(NamedTuple):
    """source (B, S), inputs and targets (B, T); targets are negative beyond a row's length."""

    source: Tensor
    source_lengths: Tensor
    inputs: Tensor
    targets: Tensor
    lengths: Tensor


class Examples(NamedTuple):
    """Texts, and their ids; of what kind each is, where that is known."""

    sources: list[str]
    targets: list[str]
    source_ids: list[np.ndarray]
    target_ids: list[np.ndarray]
    kinds: list[str]

    def part(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """Those examples alone."""
        return Examples(
            [self.sources[k] for k in rows], [self.targets[k] for k in rows], [self.source_ids[k] for k in rows],
            [self.target_ids[k] for k in rows], [self.kinds[k] for k in rows] if self.kinds else [],
        )  # fmt: skip


class TextToText(Task):
    """p(target | source) by a `Translator`; a subclass says where the pairs come from."""

    unit = "tokens"
    reads_text = True
    Options = Search
    looks = True
    #: What is trained on: with smoothed labels, the plain loss rises while the model improves.
    selection = (Criterion("objective"),)
    #: The scores that a validation while training shows.
    shown: tuple[str, ...]

    config: TextToTextConfig
    network: Translator

    def __init__(self, config: TextToTextConfig, source: Tokenizer, target: Tokenizer) -> None:
        self.config, self.source, self.target = config, source, target
        self.network = build(self.build)

    def begin_with_vectors(self, run: Run | None) -> None:
        """Begins with the word vectors that the config names."""
        c, network = self.config, self.network
        sides = ((c.vectors, network.source, self.source), (c.target_vectors, network.target, self.target))
        begin_with_vectors(self, run, *sides)

    @abstractmethod
    def build(self) -> Translator:
        """The network, not yet trained."""

    @abstractmethod
    def pieces(self, text: str) -> list[str]:
        """The text at each place of the network's memory, for what `input` gave: what can be looked at."""

    @abstractmethod
    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """What the network reads for these texts."""

    @abstractmethod
    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        """The inputs in a file, where the argument names one and is no text; ``column``: of a table, to read."""

    @abstractmethod
    def input(self, text: str) -> str:
        """What the model reads for a text that it is to answer."""

    @abstractmethod
    def scores(self, examples: Examples, answers: Sequence[str]) -> dict[str, Any]:
        """How good answers are, beside the examples' targets."""

    def files(self) -> dict[str, str]:
        return {SOURCE: self.source.to_json(), TARGET: self.target.to_json()}

    @staticmethod
    def tokenizers(run: Run) -> tuple[Tokenizer, Tokenizer]:
        """Those of a run: the source's and the target's."""
        source, target = (Tokenizer.from_json(run.read(name), str(run.path / name)) for name in (SOURCE, TARGET))
        return source, target

    def encode(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        places: Sequence[str],
        kinds: Sequence[str] = (),
        training: bool = False,
    ) -> Examples:
        """The texts with their ids; in training those longer than ``max_tokens`` are left out, or cut.

        ``places``: where each one stands, for messages.
        """
        ids = [self.ids(sources), encode_all(self.target, spaced(self.writes, targets))]
        kept, long = list(range(len(sources))), []
        for k in kept:
            longest = max(len(ids[0][k]), len(ids[1][k]) + 1)
            if longest > self.config.max_tokens:
                long.append((k, longest))
        if long:
            first, longest = long[0]
            _log.warning(
                "%s: %d tokens, more than %d: %s; so are %d of %d pairs", places[first], longest,
                self.config.max_tokens, self._too_long(training), len(long), len(sources),
            )  # fmt: skip
        if long and self.config.truncate:
            ids = [[one[: self.config.max_tokens - 1] for one in side] for side in ids]
        elif training:
            out = {k for k, _ in long}
            kept = [k for k in kept if k not in out]
            if not kept:
                raise ElmanError(f"{places[0]}: every pair is longer than --max-tokens {self.config.max_tokens}")
        for k, longest in long if not (training or self.config.truncate) else ():
            self._check(longest, places[k])
        return Examples(list(sources), list(targets), ids[0], ids[1], list(kinds)).part(kept)

    def _too_long(self, training: bool) -> str:
        if self.config.truncate:
            return "cut"
        return "left out (--truncate cuts it, --max-tokens takes more)" if training else "the model has seen none such"

    def _check(self, tokens: int, place: str) -> None:
        """ElmanError where the model has no place for so many tokens."""
        c = self.config
        if c.model == "transformer" and c.positions == "learnt" and tokens > 2 * c.max_tokens:
            raise ElmanError(f"{place}: {tokens} tokens; with learnt positions the model has {2 * c.max_tokens} places")

    def learn_ratio(self, examples: Examples) -> None:
        """How long answers may become, from the pairs that are learnt from: all but one in a thousand are shorter."""
        if self.config.length_ratio is None:
            pairs = zip(examples.source_ids, examples.target_ids, strict=True)
            ratio = float(np.quantile([(len(t) + 1) / len(s) for s, t in pairs], 0.999))
            self.config = self.config.model_copy(update={"length_ratio": round(1.2 * ratio, 3)})

    def batches(self, data: Examples, rank: int, world: int) -> BucketBatches:
        lengths = np.array([[len(s), len(t) + 1] for s, t in zip(data.source_ids, data.target_ids, strict=True)])
        buckets = Buckets(lengths, self.config.batch_size, self.config.seed, rank, world)
        return BucketBatches(buckets, lambda rows, k: collate(data, rows))

    def loss(self, batch: PairBatch, carry: Any) -> tuple[Tensor, Any]:
        """The mean of -log p(token | source, tokens before) in nats, with label smoothing."""
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
        """The inputs, some of them replaced by what the model would have written there.

        The guesses are those after the right tokens: Mihaylova & Martins 2019, https://arxiv.org/abs/1906.07651
        """
        y, _ = self.network.write(inputs, memory, state, lengths)
        guesses = torch.cat([self.network.head(part).argmax(-1) for part in y[:, :-1].split(16, 1)], 1)
        own = torch.rand(guesses.shape, device=guesses.device) < self.config.scheduled_sampling
        return torch.cat((inputs[:, :1], torch.where(own, guesses, inputs[:, 1:])), 1)

    def size(self, batch: PairBatch) -> int:
        return int((batch.targets >= 0).sum())

    @property
    def validation_size(self) -> int:
        return 1 << 15

    def evaluate(self, data: Examples, limit: int | None = None) -> dict[str, Any]:
        """loss: mean nats a token; perplexity: exp(loss); `scores` of what beam search finds.

        With a limit: objective, the loss with label smoothing, and the scores of ``shown`` for what a hundred texts
        get from the most probable token each time.
        """
        lengths = np.array([len(ids) + 1 for ids in data.target_ids])
        chosen = evenly_spaced(lengths, limit)
        longest = np.maximum(lengths, [len(ids) for ids in data.source_ids])
        nats, smoothed, tokens = 0.0, 0.0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(chosen[np.argsort(longest[chosen], kind="stable")], longest, _DECODED):
                batch = PairBatch(*(t.to(self.device) for t in collate(data, rows)))
                memory, state = self.network.read(batch.source, batch.source_lengths)
                y, _ = self.network.write(batch.inputs, memory, state, batch.lengths)
                n = self.size(batch)
                nats, tokens = nats + self.network.head.loss(y, batch.targets).item() * n, tokens + n
                if limit is not None:
                    smoothed += self.network.head.loss(y, batch.targets, self.config.label_smoothing).item() * n
        loss = nats / tokens
        metrics: dict[str, Any] = {"loss": loss, "perplexity": float(np.exp(min(loss, 700.0))), "tokens": tokens}
        some = data if limit is None else data.part(evenly_spaced(np.ones(len(lengths)), _SHOWN))
        began = time.perf_counter()
        answers = self._search(some.source_ids, parse(Search, {} if limit is None else {"beam": 1}))
        seconds = time.perf_counter() - began
        pairs = zip(some.sources, answers, strict=True)
        scores = self.scores(some, [self._answer(self.pieces(source), found[0]).text for source, found in pairs])
        if limit is not None:
            metrics["objective"] = smoothed / tokens
            return metrics | {name: scores[name] for name in self.shown if name in scores}
        written = sum(len(found[0].ids) + 1 for found in answers)
        return metrics | scores | {"tokens_per_second": written / seconds}

    def predict(self, texts: str | Sequence[str], **options: Any) -> list[list[Answer]]:
        """The answers to each text (a str is one), the best first; ``options``: those of `elman.decoding.Search`.

        An answer without words has the text ""; a warning is logged for it.

        Raises:
            ElmanError: a text is empty or no text, or an option is wrong.
        """
        search = parse(Search, options)
        texts = inputs_of(texts, True)
        inputs = [self.input(text) for text in texts]
        ids = self.ids(inputs)
        for k, read in enumerate(ids, 1):
            if len(read) > self.config.max_tokens:
                self._check(len(read), f"input {k} of {len(texts)}")
                _log.warning(
                    "input %d: %d tokens; the model learnt from %d at most", k, len(read), self.config.max_tokens
                )
        searched = self._search(ids, search)
        for k, found in enumerate(searched, 1):
            if not found[0].ids:
                _log.warning("input %d: no answer; the model ends before the first word, it may need more training", k)
        answered = zip(inputs, searched, strict=True)
        return [[self._answer(self.pieces(text), h) for h in found] for text, found in answered]

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        (text,) = (self.input(one) for one in inputs_of(given, True))
        (ids,) = self.ids([text])
        (found,) = self._search([ids], parse(Search, {}))
        answered = Examples([text], [""], [ids], [np.array(found[0].ids, dtype=np.int64)], [])
        batch = PairBatch(*(t.to(self.device) for t in collate(answered, [0])))
        memory, state = self.network.read(batch.source, batch.source_lengths)
        y, _ = self.network.write(batch.inputs, memory, state, batch.lengths)
        return self.pieces(text), self.network.head.loss(y, batch.targets)

    def _answer(self, source: list[str], found: Hypothesis) -> Answer:
        """The text of a hypothesis; unknown words are those that were looked at."""
        ids = found.ids or [Tokenizer.end_id]  # the end alone: where the model looked when it gave no answer
        weights, write = found.weights[: len(ids), : len(source)], self.target.stream_decoder()
        tokens = [
            f" {best_word(source, weights[k])}" if i == Tokenizer.unknown_id else write(i) for k, i in enumerate(ids)
        ]
        return Answer("".join(tokens).strip(), found.score, found.log_probability, source, tokens, weights)

    def _search(self, sources: Sequence[np.ndarray], search: Search) -> list[Any]:
        """What beam search finds for each source, in batches of like length."""
        lengths = np.array([len(ids) for ids in sources])
        results: list[Any] = [None] * len(sources)
        never = [] if self.copies else [Tokenizer.unknown_id]
        at_once = max(1, _LOGITS // (search.beam * self.target.vocab_size))
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(np.argsort(lengths, kind="stable"), lengths, _DECODED, at_once):
                ids, real = pad([sources[k] for k in rows], 0)
                memory, state = self.network.read(ids.to(self.device), real.to(self.device))
                most = ((self.config.length_ratio or 2.0) * real + 10).long().clamp(max=self.config.max_tokens)
                if search.max_length is not None:
                    most = torch.full_like(real, search.max_length).clamp(max=2 * self.config.max_tokens - 1)
                found = beam_search(
                    self.network,
                    memory,
                    state,
                    (most + 1).to(self.device),
                    search,
                    Tokenizer.end_id,
                    Tokenizer.end_id,
                    never,
                )
                for row, one in zip(rows, found, strict=True):
                    if not one:
                        raise ElmanError("the search finds no answer: the scores of the model are not numbers")
                    results[row] = one
        return results

    @property
    @abstractmethod
    def writes(self) -> TokenKind:
        """The kind of tokens that the model writes."""

    @property
    @abstractmethod
    def copies(self) -> bool:
        """Whether an unknown word is written as the one that was looked at; if not, unknown words are not written."""


def spaced(kind: TokenKind, texts: Sequence[str]) -> list[str]:
    """The texts as they are encoded: with a space before the first word, which is then the same as in their midst."""
    return list(texts) if kind == "char" else [f" {text}" for text in texts]


def encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """The ids of each text."""
    encodings = tokenizer.inner.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]


def pad(rows: Sequence[np.ndarray], fill: int) -> tuple[Tensor, Tensor]:
    """ids (B, T), ``fill`` beyond each row's end, and lengths (B,)."""
    lengths = np.array([len(row) for row in rows])
    ids = np.full((len(rows), lengths.max()), fill, dtype=np.int64)
    for row, one in zip(ids, rows, strict=True):
        row[: len(one)] = one
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def collate(examples: Examples, rows: Sequence[int] | np.ndarray) -> PairBatch:
    """A batch of these examples: the targets end with END, the inputs begin with it."""
    source, source_lengths = pad([examples.source_ids[k] for k in rows], 0)
    targets, lengths = pad([np.append(examples.target_ids[k], Tokenizer.end_id) for k in rows], -100)
    start = torch.full((len(rows), 1), Tokenizer.end_id)
    inputs = torch.cat((start, targets[:, :-1].clamp(min=0)), 1)
    return PairBatch(source, source_lengths, inputs, targets, lengths)
