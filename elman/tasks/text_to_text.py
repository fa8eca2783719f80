"""What all tasks share that read a text and write another one."""

from __future__ import annotations

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from elman.data import Tokenizer, TokenKind
from elman.data.buckets import Buckets, cut
from elman.data.tokenizer import SPECIAL
from elman.data.vectors import vectors_for
from elman.decoding.beam import Search, beam_search
from elman.errors import ElmanError
from elman.layers.attention import AttentionKind
from elman.layers.transformer import Positions
from elman.layers.translator import RecurrentTranslator, TransformerTranslator, Translator, drop_words
from elman.training.config import TrainConfig, parse
from elman.training.run import Run
from elman.training.task import Task, evaluation

_log = logging.getLogger("elman")

Config = TypeVar("Config", bound="TextToTextConfig")

SOURCE, TARGET = "source.json", "target.json"

#: Padded source tokens that are read at a time when answers are looked for.
_DECODED = 2048


class TextToTextConfig(TrainConfig):
    """The options of every task that reads a text and writes one."""

    batch_size: int = Field(2048, ge=1, description="Tokens a step, padding too, in each process.")
    learning_rate: float = Field(3e-3, gt=0, description="The highest rate; by default by the model and its size.")
    model: Literal["recurrent", "gnmt", "transformer"] = Field(
        "recurrent",
        description="gnmt: one bidirectional layer, then residual ones, eight on each side if not told else.",
    )
    cell: str = Field("lstm", description="Of the recurrent models.")
    embedding_size: int = Field(256, ge=1, description="Size of a token's vector; the transformer's size throughout.")
    hidden_size: int | None = Field(
        None, ge=1, description="Units of a recurrent layer, or of the transformer's dense layers. By default by time."
    )
    num_layers: int | None = Field(
        None, ge=1, description="On each side. By default by the model: gnmt 8, transformer 3."
    )
    attention: AttentionKind = Field("multihead", description="How a recurrent decoder looks at the source.")
    heads: int = Field(4, ge=1, description="Of multi-head attention.")
    input_feeding: bool = Field(False, description="Feed what was seen into the next step; slower, step by step.")
    norm: Literal["pre", "post"] = Field("pre", description="The transformer's layer norm: before or after.")
    positions: Positions = Field("sinusoidal", description="The transformer's places: computed, or learnt.")
    tie: bool = Field(True, description="Use the target's token vectors as output weights too.")
    vectors: str | None = Field(
        None, description="Source vectors to begin with: a GloVe, word2vec (text, .bin) or fastText (.vec) file."
    )
    target_vectors: str | None = Field(None, description="The same for the target.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Of vectors, layers and the output. By default by time.")
    word_dropout: float = Field(0.0, ge=0, lt=1, description="Probability that a token that is read is hidden.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all tokens.")
    scheduled_sampling: float = Field(
        0.0, ge=0, lt=1, description="Probability that the model's own guess is read instead of the right token."
    )
    average: float = Field(
        0.995,
        ge=0,
        lt=1,
        description="Validate and keep an average of the weights over steps, with this decay; 0: none.",
    )
    max_tokens: int = Field(256, ge=1, description="The longest text that is read or written.")
    truncate: bool = Field(False, description="Cut longer training texts there, instead of leaving them out.")
    valid_fraction: float = Field(0.05, gt=0, lt=1, description="Held out where no --valid is given, 2,000 at most.")


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


class Answer(NamedTuple):
    """What the model says.

    score: of the search; log_probability: of the text. source, tokens: the pieces that were read, and those that were
    written; weights (tokens, source): where the model looked for each.
    """

    text: str
    score: float
    log_probability: float
    source: list[str]
    tokens: list[str]
    weights: Tensor


class _Batches:
    def __init__(self, examples: Examples, buckets: Buckets) -> None:
        self.examples, self.buckets = examples, buckets

    def batch(self, k: int) -> PairBatch:
        return collate(self.examples, self.buckets.rows(k))


class TextToText(Task):
    """p(target | source) by a `Translator`; a subclass says where the pairs come from."""

    unit = "tokens"

    config: TextToTextConfig
    network: Translator

    def __init__(self, config: TextToTextConfig, source: Tokenizer, target: Tokenizer) -> None:
        self.config, self.source, self.target = config, source, target
        self.coverage: list[str] = []
        try:
            self.network = self.build()
        except ElmanError:
            raise
        except ValueError as error:  # sizes that do not go together
            raise ElmanError(f"the model cannot be built: {error}") from None

    def use_vectors(self) -> None:
        """Begins with the word vectors that the config names, brought to the spread of the network's own."""
        c, E = self.config, self.config.embedding_size
        sides = ((c.vectors, self.network.source, self.source), (c.target_vectors, self.network.target, self.target))
        for path, embedding, tokenizer in sides:
            if path is None:
                continue
            found = vectors_for(tokenizer, path, E)
            words = tokenizer.vocab_size - len(SPECIAL)
            self.coverage.append(f"{os.path.basename(path)} knows {len(found):,} of {words:,} tokens")
            if not found:
                raise ElmanError(f"{path}: knows none of the {words:,} tokens; are they words of the same language?")
            matrix = torch.from_numpy(np.stack(list(found.values())))
            with torch.no_grad():
                embedding.weight[list(found)] = matrix * (E**-0.5 / matrix.std())

    @abstractmethod
    def build(self) -> Translator:
        """The network, not yet trained."""

    @abstractmethod
    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The text of each place of the network's memory: what can be looked at."""

    @abstractmethod
    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """What the network reads for these texts."""

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
        most, kept = self.config.max_tokens, list(range(len(sources)))
        long = [k for k in kept if max(len(ids[0][k]), len(ids[1][k]) + 1) > most]
        if long and training:
            what = "cut" if self.config.truncate else "left out (--truncate cuts it, --max-tokens takes more)"
            first = long[0]
            longest = max(len(ids[0][first]), len(ids[1][first]))
            _log.warning(
                "%s: %d tokens, more than %d: %s; so are %d of %d pairs", places[first], longest, most, what, len(long),
                len(sources),
            )  # fmt: skip
            if self.config.truncate:
                ids = [[one[: most - 1] for one in side] for side in ids]
            else:
                out = set(long)
                kept = [k for k in kept if k not in out]
                if not kept:
                    raise ElmanError(f"{places[0]}: every pair is longer than --max-tokens {most}")
        return Examples(
            [sources[k] for k in kept], [targets[k] for k in kept], [ids[0][k] for k in kept],
            [ids[1][k] for k in kept], [kinds[k] for k in kept] if kinds else [],
        )  # fmt: skip

    def batches(self, data: Examples, rank: int, world: int) -> _Batches:
        lengths = np.array([[len(s), len(t) + 1] for s, t in zip(data.source_ids, data.target_ids, strict=True)])
        return _Batches(data, Buckets(lengths, self.config.batch_size, self.config.seed, rank, world))

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
        """loss: mean nats a token; perplexity: exp(loss). Without a limit also `scores` of what beam search finds."""
        lengths = np.array([len(ids) + 1 for ids in data.target_ids])
        count = len(lengths) if limit is None else max(1, int(np.searchsorted(lengths.cumsum(), limit)))
        longest = np.maximum(lengths, [len(ids) for ids in data.source_ids])[:count]
        nats, tokens = 0.0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in cut(np.argsort(longest, kind="stable"), longest, _DECODED):
                batch = PairBatch(*(t.to(self.device) for t in collate(data, rows)))
                memory, state = self.network.read(batch.source, batch.source_lengths)
                y, _ = self.network.write(batch.inputs, memory, state, batch.lengths)
                n = self.size(batch)
                nats, tokens = nats + self.network.head.loss(y, batch.targets).item() * n, tokens + n
        loss = nats / tokens
        metrics: dict[str, Any] = {"loss": loss, "perplexity": float(np.exp(min(loss, 700.0))), "tokens": tokens}
        if limit is None:
            began = time.perf_counter()
            answers = self._search(data.source_ids, parse(Search, {}))
            seconds = time.perf_counter() - began
            written = sum(len(found[0].ids) + 1 for found in answers)
            texts = [self.target.decode(found[0].ids).strip() for found in answers]
            metrics |= self.scores(data, texts) | {"tokens_per_second": written / seconds}
        return metrics

    def predict(self, texts: Sequence[str], **options: Any) -> list[list[Answer]]:
        """The answers to each text, the best first; ``options`` are those of `elman.decoding.Search`.

        Raises:
            ElmanError: a text is empty, or an option is wrong.
        """
        search = parse(Search, options)
        for k, text in enumerate(texts, 1):
            if not text.strip():
                raise ElmanError(f"input {k} of {len(texts)} is empty")
        ids = self.ids([self.input(text) for text in texts])
        answers = []
        for text, read, found in zip(texts, ids, self._search(ids, search), strict=True):
            if len(read) > self.config.max_tokens:
                _log.warning(
                    "%r...: %d tokens; the model learnt from %d at most", text[:30], len(read), self.config.max_tokens
                )
            source = self.pieces(read)
            answers.append([self._answer(source, h) for h in found])
        return answers

    def _answer(self, source: list[str], found: Any) -> Answer:
        weights = found.weights[: len(found.ids), : len(source)]
        ids, unknown = found.ids, Tokenizer.unknown_id
        tokens = [
            source[int(weights[k].argmax())] if i == unknown else self.target.decode([i]) for k, i in enumerate(ids)
        ]
        text = "".join(tokens) if unknown in ids else self.target.decode(ids)
        return Answer(text.strip(), found.score, found.log_probability, source, tokens, weights)

    def _search(self, sources: Sequence[np.ndarray], search: Search) -> list[Any]:
        """What beam search finds for each source, in batches of like length."""
        lengths = np.array([len(ids) for ids in sources])
        results: list[Any] = [None] * len(sources)
        never = [] if self.writes == "word" else [Tokenizer.unknown_id]
        with evaluation(self.network), torch.inference_mode():
            for rows in cut(np.argsort(lengths, kind="stable"), lengths, _DECODED):
                ids, real = pad([sources[k] for k in rows], 0)
                memory, state = self.network.read(ids.to(self.device), real.to(self.device))
                most = (2 * real + 10).clamp(max=self.config.max_tokens) if search.max_length is None else (
                    torch.full_like(real, search.max_length)
                )  # fmt: skip
                found = beam_search(
                    self.network, memory, state, most.to(self.device), search, Tokenizer.end_id, Tokenizer.end_id, never
                )
                for row, one in zip(rows, found, strict=True):
                    results[row] = one
        return results

    @property
    @abstractmethod
    def writes(self) -> TokenKind:
        """The kind of tokens that the model writes. Of words it may write unknown ones: what it looked at is copied."""


class Sizes(NamedTuple):
    """What is sensible for a model where nothing else is said."""

    hidden_size: int
    num_layers: int
    learning_rate: float
    dropout: float


def sensible(config: Config, characters: int, sizes: dict[str, tuple[Sizes, Sizes]]) -> Config:
    """The config with a value for every option that was left to data and time (docs/log.md says why these).

    Time: a minute for each 100,000 characters that are to be written, from 2 to 30. ``sizes``: by model, for less than
    eight minutes and for more.
    """
    given, minutes = config.model_fields_set, config.minutes
    if minutes is None and config.steps is None:
        minutes = min(30.0, max(2.0, characters / 100_000))
    best = sizes[config.model][minutes is not None and minutes >= 8]
    left = {key: value for key, value in best._asdict().items() if key not in given or getattr(config, key) is None}
    return config.model_copy(update={"minutes": minutes, **left})


def translator(config: TextToTextConfig, source_size: int, target_size: int, shared: bool) -> Translator:
    """The network that reads and writes token by token."""
    c = config
    assert c.hidden_size is not None
    assert c.num_layers is not None
    if c.model == "transformer":
        return TransformerTranslator(
            source_size, target_size, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
            num_layers=c.num_layers, heads=c.heads, norm=c.norm, positions=c.positions, most=2 * c.max_tokens,
            tie=c.tie, shared=shared, dropout=c.dropout,
        )  # fmt: skip
    return RecurrentTranslator(
        source_size, target_size, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
        num_layers=c.num_layers, gnmt=c.model == "gnmt", kind=c.attention, heads=c.heads,
        input_feeding=c.input_feeding, tie=c.tie, shared=shared, dropout=c.dropout,
    )  # fmt: skip


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
