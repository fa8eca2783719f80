"""A task from outside the package: the number of a letter in a word, from lines with a word and a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from elman import tasks
from elman.config import Options
from elman.data.buckets import BucketBatches, Buckets
from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.data.padding import pad
from elman.data.split import hold_out
from elman.data.text import read_text
from elman.layers import Recurrent
from elman.layers.naming import Named
from elman.tasks.abilities import Predicts
from elman.tasks.answers import Answer
from elman.training.config import TrainConfig
from elman.training.model import Model, evaluation
from elman.training.recipe import Counts, Learnt
from elman.training.run import Run
from elman.training.selection import Criterion
from elman.training.task import Task


class CountConfig(TrainConfig):
    """The options of the task."""

    hidden_size: int = 8


class NoOptions(Options):
    """No options."""


class Lines(NamedTuple):
    words: list[str]
    numbers: list[float]


class Nothing(Learnt):
    """Nothing is learnt but the weights."""

    def files(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True)
class Number(Answer):
    text: str
    score: float

    log_probability = None

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
        return {"text": self.text}


class Network(nn.Module):
    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(256, 8), Recurrent("gru", 8, hidden_size)
        self.head = nn.Linear(hidden_size, 1)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        _, (h,) = self.layer(self.embedding(ids), None, lengths)
        return self.head(h)[:, 0]


class Counter(Model, Predicts):
    Options = NoOptions
    reads, writes = "text", "numbers"
    selection = (Criterion("mae"),)

    def make_network(self) -> Network:
        return Network(self.config.hidden_size)

    def begin(self, examples: Any, resumed: bool) -> None:
        """Nothing to initialise."""

    def named(self) -> list[Named]:
        return []  # rows are bytes in every model

    def batches(self, examples: Any, rank: int, world: int) -> BucketBatches:
        rows, numbers = examples
        buckets = Buckets([len(row) for row in rows], 1000, self.config.seed, rank, world, self.config.batch_size)
        return BucketBatches(buckets, lambda chosen, k: (*pad([rows[j] for j in chosen]), numbers[chosen]))

    def loss(self, batch: Any, carry: Any) -> tuple[Tensor, Any]:
        ids, lengths, numbers = batch
        return (self.network(ids, lengths) - numbers).square().mean() / 10, None

    def size(self, batch: Any) -> int:
        return len(batch[0])

    def evaluate(self, examples: Any, limit: int | None = None) -> dict[str, Any]:
        rows, numbers = examples
        errors = self._counted(rows) - numbers
        return {"loss": errors.square().mean().item(), "mae": errors.abs().mean().item()}

    def _counted(self, rows: Sequence[np.ndarray]) -> Tensor:
        with evaluation(self.network), torch.inference_mode():
            return self.network(*pad(rows))

    @property
    def validation_size(self) -> int:
        return 100

    def predict(self, inputs: Any, **options: Any) -> list[list[Number]]:
        rows = self.task.encode(self.learnt, Lines(list(inputs), [0.0] * len(inputs)))[0]
        return [[Number(f"{count:.0f}", 1.0)] for count in self._counted(rows).tolist()]

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        return read_column_inputs(argument, column or "word") if is_file_argument(argument) else None

    def summary(self) -> dict[str, str]:
        return {"data": f"{self.sources.examples} words"}

    def example(self) -> list[str]:
        return ['print(model.predict(["banana"]))']

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        rows = self.task.encode(self.learnt, Lines([given], [0.0]))[0]
        return list(given), self.network(*pad(rows)).sum()


class Count(Task):
    name = "outside_count"
    help = "Count a letter."
    usage = "elman train outside_count words.txt"
    items = "words"
    Config = CountConfig
    model_class = Counter

    def read(self, data: Sequence[str], like: Any = None) -> Lines:
        lines = [line.split() for path in data for line in read_text(path).splitlines()]
        return Lines([word for word, _ in lines], [float(number) for _, number in lines])

    def split(self, data: Lines) -> tuple[Lines, Lines] | None:
        parts = hold_out(len(data.words), 0.1)
        train, held = (Lines([data.words[k] for k in rows], [data.numbers[k] for k in rows]) for rows in parts)
        return (train, held) if held.words else None

    def contents(self, train: Lines, held: Lines) -> list[str]:
        return [*train.words, *held.words]

    def facts(self, data: Lines) -> Mapping[str, Any]:
        return {}

    def learn(self, train: Lines, held: Lines) -> Nothing:
        return Nothing()

    def restore(self, run: Run) -> Nothing:
        return Nothing()

    def encode(self, learnt: Nothing, data: Lines, training: bool = False) -> Any:
        return [np.frombuffer(word.encode(), dtype=np.uint8).astype(np.int64) for word in data.words], torch.tensor(
            data.numbers
        )

    def count(self, learnt: Nothing, train: Lines, examples: Any) -> Counts:
        return Counts(len(train.words), len(train.words))

    def resolve(self, learnt: Nothing, train: Lines, examples: Any) -> CountConfig:
        return self.config


tasks.register(Count)
