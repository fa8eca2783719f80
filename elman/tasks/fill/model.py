"""The word that is missing: each word of a sentence from all the others."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from elman.config import Options, parse
from elman.data import Tokenizer, absolute, fingerprint
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.data.source import sources
from elman.data.split import evenly_spaced, hold_out
from elman.data.tables import read_plain_text
from elman.errors import ElmanError
from elman.metrics.texts import share
from elman.networks.sequence_to_sequence import drop_words
from elman.networks.tagger import Filler
from elman.tasks.answers import by_words, inputs_of
from elman.tasks.pretrained import begin_with_vectors, sized
from elman.tasks.text_to_text.model import encode_all, pad, spaced
from elman.training.config import TrainConfig
from elman.training.run import Run, Sources
from elman.training.task import Task, build, evaluation

_TOKENIZER = "tokenizer.json"

#: A blank: three underscores, or more.
BLANK = re.compile(r"_{3,}")
#: Longer lines are cut into parts of so many words.
_LONGEST = 256
#: Padded words that are read at a time in an evaluation.
_STEPS = 1 << 12


class FillConfig(TrainConfig):
    """The options of ``elman train fill``."""

    batch_size: int = Field(2048, ge=1, description="Words a step, padding too, in each process.")
    learning_rate: float = Field(3e-3, gt=0, description="The highest rate, reached after the warm-up.")
    average: float = Field(
        0.995, ge=0, lt=1, description="Validate and keep an average of the weights over steps; 0: none."
    )
    vocab_size: int = Field(20_000, ge=1, description="Different words, at most.")
    vectors: str | None = Field(
        None, description="Vectors of words to begin with: a GloVe, word2vec (text, .bin) or fastText (.vec) file."
    )
    embedding_size: int = Field(256, ge=1, description="Size of a word's vector.")
    cell: str = Field("lstm", description="Of the recurrent layers.")
    hidden_size: int = Field(512, ge=1, description="Units of a layer, in each direction.")
    num_layers: int = Field(1, ge=1, le=1000, description="Layers in each direction.")
    dropout: float = Field(0.4, ge=0, lt=1, description="Of what goes into, between and out of the layers.")
    word_dropout: float = Field(0.05, ge=0, lt=1, description="Probability that a word that is read is hidden.")
    valid_fraction: float = Field(
        0.1, gt=0, lt=1, description="Lines held out where no --valid is given, 2,000 at most."
    )


class Guesses(Options):
    """How many words are told. Option of ``elman predict`` = keyword of ``model.predict``."""

    top: int = Field(5, ge=1, description="Words for each blank, the most probable first.")


class Guess(NamedTuple):
    """A word for a blank; blank: which one of the text, from 1."""

    text: str
    probability: float
    blank: int

    @property
    def score(self) -> float:
        """The probability."""
        return self.probability

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict()


class Batch(NamedTuple):
    """ids (B, T): END, words, END; targets (B, T), negative where nothing is to be said; lengths (B,)."""

    ids: Tensor
    targets: Tensor
    lengths: Tensor


class Fill(Task):
    """p(word | all others): ``model.predict(["I am ___ hungry."])[0][0].text``."""

    name = "fill"
    Config = FillConfig
    Options = Guesses
    unit = "words"
    reads_text = True

    config: FillConfig
    network: Filler

    def __init__(self, config: FillConfig, tokenizer: Tokenizer, sources: Sources) -> None:
        self.config, self.tokenizer, self.sources = config, tokenizer, sources
        c = config
        self.network = build(lambda: Filler(
            tokenizer.vocab_size, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
            num_layers=c.num_layers, dropout=c.dropout,
        ))  # fmt: skip

    @classmethod
    def prepare(
        cls, config: TrainConfig, data: Sequence[str], valid: Sequence[str], run: Run | None = None
    ) -> tuple[Self, list[np.ndarray], list[np.ndarray]]:
        assert isinstance(config, FillConfig)
        config = sized(config, config.vectors)
        train, held = _split(config, data, valid)
        tokenizer = _tokenizer(run) if run else Tokenizer.train("word", spaced("word", train), config.vocab_size)
        torch.manual_seed(config.seed)
        lines = encode_all(tokenizer, spaced("word", train))
        units = sum(map(len, lines))
        if config.minutes is None and config.steps is None:
            config = config.model_copy(update={"minutes": min(20.0, max(1.0, units / 50_000))})
        sources = Sources(
            data=[absolute(path) for path in data], valid=[absolute(path) for path in valid], examples=len(train),
            units=units, fingerprint=fingerprint([*train, "", *held]),
        )  # fmt: skip
        task = cls(config, tokenizer, sources)
        begin_with_vectors(task, run, (config.vectors, task.network.words, tokenizer))
        return task, _parts(lines), _parts(encode_all(tokenizer, spaced("word", held)))

    @classmethod
    def restore(cls, config: TrainConfig, run: Run, sources: Sources) -> Self:
        assert isinstance(config, FillConfig)
        return cls(config, _tokenizer(run), sources)

    def files(self) -> dict[str, str]:
        return {_TOKENIZER: self.tokenizer.to_json()}

    def batches(self, data: list[np.ndarray], rank: int, world: int) -> BucketBatches:
        lengths = [len(row) + 2 for row in data]
        buckets = Buckets(lengths, self.config.batch_size, self.config.seed, rank, world)
        return BucketBatches(buckets, lambda rows, k: collate([data[row] for row in rows]))

    def size(self, batch: Batch) -> int:
        return int(batch.lengths.sum()) - 2 * len(batch.lengths)

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """The mean of -log p(word | all others), in nats."""
        ids, targets, lengths = (t.to(self.device) for t in batch)
        if self.config.word_dropout:
            ids = drop_words(ids, self.config.word_dropout, Tokenizer.unknown_id)
        y, _ = self.network(ids, lengths)
        return self.network.head.loss(y, targets), None

    @property
    def validation_size(self) -> int:
        return 1 << 15

    def evaluate(self, data: list[np.ndarray], limit: int | None = None) -> dict[str, Any]:
        """loss: mean nats a word, of those that the vocabulary has; pseudo_perplexity: exp(loss); both None where it
        has none. accuracy: of all words; unknown_words: how many the vocabulary lacks, which are errors.

        Salazar et al. 2020, https://arxiv.org/abs/1910.14659; here all words of a line at once, as none sees itself.
        """
        lengths = np.array([len(row) + 2 for row in data])
        chosen = evenly_spaced(lengths, limit)
        nats, right, words = 0.0, 0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(chosen[np.argsort(lengths[chosen], kind="stable")], lengths, _STEPS):
                ids, targets, n = (t.to(self.device) for t in collate([data[k] for k in rows]))
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
        """The words for each blank (three underscores) of each text, the most probable first.

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
                logits[:, self._silent] = -torch.inf
                p = torch.zeros_like(logits).index_add_(1, self._forms.to(logits.device), logits.softmax(-1))
                best = p.topk(min(top, int(self._forms.unique().numel())))
            answers.append([
                Guess(self.tokenizer.decode([i]).strip(), p, number)
                for number, (one, sure) in enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True), 1)
                for i, p in zip(one, sure, strict=True)
            ])  # fmt: skip
        return answers

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        """The texts in a file, where the argument names one and is no text; of a table its column ``text``."""
        return read_column_inputs(argument, column or "text") if is_file_argument(argument) else None

    @functools.cached_property
    def _forms(self) -> Tensor:
        """For each token the first that reads the same but for the space before it, (V,)."""
        first: dict[str, int] = {}
        words = (self.tokenizer.decode([i]).strip() for i in range(self.tokenizer.vocab_size))
        return torch.tensor([first.setdefault(word, i) for i, word in enumerate(words)])

    @functools.cached_property
    def _silent(self) -> list[int]:
        """Tokens that are no word: the end, the unknown one, white space."""
        spaces = (i for i in range(self.tokenizer.vocab_size) if not self.tokenizer.decode([i]).strip())
        return sorted({Tokenizer.end_id, Tokenizer.unknown_id, *spaces})

    def _read(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """What the network gives for one line."""
        batch = collate([ids])
        return self.network(batch.ids.to(self.device), batch.lengths.to(self.device))

    def _with_blanks(self, text: str) -> tuple[np.ndarray, list[int]]:
        """ids, unknown at the blanks, and where these are."""
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
        """For each text its words, each with its vector in this context, (2 H,)."""
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

    def read(self, data: Sequence[str]) -> list[np.ndarray]:
        return _parts(encode_all(self.tokenizer, spaced("word", _lines(data))))

    def held_out(self) -> list[np.ndarray]:
        train, held = _split(self.config, self.sources.data, self.sources.valid)
        self.unchanged(fingerprint([*train, "", *held]))
        return _parts(encode_all(self.tokenizer, spaced("word", held)))

    def summary(self) -> dict[str, str]:
        c, files = self.config, ", ".join(os.path.basename(path) for path in self.sources.data)
        return {
            "data": f"{files}: {self.sources.units:,} words to train on, {self.tokenizer.vocab_size:,} different",
            "model": f"{c.cell}, {c.num_layers} x {c.hidden_size} units in each direction, "
            f"{self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["I am ___ hungry."])[0][0].text)']


def collate(lines: Sequence[np.ndarray]) -> Batch:
    """A batch of lines, with an END on either side; unknown words are not to be guessed."""
    end = [Tokenizer.end_id]
    ids, lengths = pad([np.concatenate((end, line, end)) for line in lines], 0)
    targets, _ = pad(
        [np.concatenate(([-100], np.where(line == Tokenizer.unknown_id, -100, line), [-100])) for line in lines], -100
    )
    return Batch(ids, targets, lengths)


def _parts(lines: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Lines of words, long ones cut."""
    return [line[k : k + _LONGEST] for line in lines for k in range(0, len(line), _LONGEST)]


def _lines(data: Any) -> list[str]:
    return [line.strip() for path in sources(data) for line in read_plain_text(path).split("\n") if line.strip()]


def _split(config: FillConfig, data: Sequence[str], valid: Sequence[str]) -> tuple[list[str], list[str]]:
    """The lines to train on and those held out."""
    lines = _lines(data)
    if valid:
        return lines, _lines(valid)
    learnt, held = hold_out(len(lines), config.valid_fraction)
    if not held:
        raise ElmanError(f"{', '.join(data)}: {len(lines)} line; each line is a sentence: too few to hold some out")
    return [lines[k] for k in learnt], [lines[k] for k in held]


def _tokenizer(run: Run) -> Tokenizer:
    return Tokenizer.from_json(run.read(_TOKENIZER), str(run.path / _TOKENIZER))
