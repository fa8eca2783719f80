"""Pairs of texts as ids, and what is learnt of both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from elman.data.padding import pad
from elman.data.tokenizer import Tokenizer
from elman.training.recipe import Learnt
from elman.training.run import Run

SOURCE, TARGET = "source.json", "target.json"


class Tokenizers(Learnt):
    """The vocabularies of what is read and of what is written."""

    def __init__(self, source: Tokenizer, target: Tokenizer) -> None:
        self.source, self.target = source, target

    def files(self) -> dict[str, str]:
        return {SOURCE: self.source.to_json(), TARGET: self.target.to_json()}

    @classmethod
    def load(cls, run: Run) -> Tokenizers:
        """Read those of a run."""
        return cls(*(Tokenizer.from_json(run.read(name), str(run.path / name)) for name in (SOURCE, TARGET)))


class Pairs(NamedTuple):
    """Texts as a model reads and writes them.

    Attributes:
        sources, targets (list[str]): the texts.
        places (list[str]): the origin of each pair, for messages.
        kinds (list[str]): the kind of each pair; empty where there are none.
        tables (bool): whether the pairs come from tables.
    """

    sources: list[str]
    targets: list[str]
    places: list[str]
    kinds: list[str] = []
    tables: bool = False


class Examples(NamedTuple):
    """Texts, their ids, and their kinds."""

    sources: list[str]
    targets: list[str]
    source_ids: list[np.ndarray]
    target_ids: list[np.ndarray]
    kinds: list[str]

    def part(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples with these numbers."""
        return Examples(
            [self.sources[k] for k in rows], [self.targets[k] for k in rows], [self.source_ids[k] for k in rows],
            [self.target_ids[k] for k in rows], [self.kinds[k] for k in rows] if self.kinds else [],
        )  # fmt: skip


class PairBatch(NamedTuple):
    """source (B, S), inputs and targets (B, T); targets are negative beyond a row's length."""

    source: Tensor
    source_lengths: Tensor
    inputs: Tensor
    targets: Tensor
    lengths: Tensor


def collate(examples: Examples, rows: Sequence[int] | np.ndarray) -> PairBatch:
    """Return a batch of these examples: the targets end with END, the inputs begin with it."""
    source, source_lengths = pad([examples.source_ids[k] for k in rows])
    targets, lengths = pad([np.append(examples.target_ids[k], Tokenizer.end_id) for k in rows], -100)
    start = torch.full((len(rows), 1), Tokenizer.end_id)
    inputs = torch.cat((start, targets[:, :-1].clamp(min=0)), 1)
    return PairBatch(source, source_lengths, inputs, targets, lengths)
