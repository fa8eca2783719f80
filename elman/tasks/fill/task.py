"""The fill-in task: each word of a sentence from all the others, from text with a sentence on each line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elman.data.source import sources as sources_of
from elman.data.split import hold_out
from elman.data.tables import read_plain_text
from elman.data.tokenizer import Tokenizer
from elman.media.pretrained import size_of_vectors
from elman.media.text import TOKENIZER, encode_all, spaced
from elman.tasks.fill.model import Filler, Words
from elman.tasks.fill.options import FillConfig
from elman.training.recipe import Counts
from elman.training.run import Run
from elman.training.task import Task

#: Longer lines are cut into parts of this many words.
_MAX_WORDS = 256


class Fill(Task):
    """Learn p(word | all other words)."""

    name = "fill"
    Config = FillConfig
    model_class = Filler
    usage = "elman train fill sentences.txt --minutes 5"
    items = "lines, each of which is a sentence,"

    config: FillConfig

    def read(self, data: Sequence[str], like: Any = None) -> list[str]:
        lines = [line for path in sources_of(data) for line in read_plain_text(path).split("\n")]
        return [line.strip() for line in lines if line.strip()]

    def split(self, data: list[str]) -> tuple[list[str], list[str]] | None:
        train, held = hold_out(len(data), self.config.valid_fraction)
        return ([data[k] for k in train], [data[k] for k in held]) if held else None

    def contents(self, train: list[str], held: list[str]) -> list[str]:
        return [*train, "", *held]

    def facts(self, data: list[str]) -> Mapping[str, Any]:
        return {}

    def learn(self, train: list[str], held: list[str]) -> Words:
        return Words(Tokenizer.train("word", spaced("word", train), self.config.vocab_size))

    def restore(self, run: Run) -> Words:
        return Words(Tokenizer.from_json(run.read(TOKENIZER), str(run.path / TOKENIZER)))

    def encode(self, learnt: Words, data: list[str], training: bool = False) -> list[np.ndarray]:
        lines = encode_all(learnt.tokenizer, spaced("word", data))
        return [line[k : k + _MAX_WORDS] for line in lines for k in range(0, len(line), _MAX_WORDS)]

    def count(self, learnt: Words, train: list[str], examples: list[np.ndarray]) -> Counts:
        return Counts(len(train), sum(map(len, examples)))

    def resolve(self, learnt: Words, train: list[str], examples: list[np.ndarray]) -> FillConfig:
        c = self.config
        chosen: dict[str, Any] = size_of_vectors(c, c.vectors)
        if c.minutes is None and c.steps is None:
            chosen["minutes"] = min(20.0, max(1.0, sum(map(len, examples)) / 50_000))
        return c.model_copy(update=chosen)
