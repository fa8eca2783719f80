"""Pairs of texts, and what is learnt of both sides."""

from __future__ import annotations

from typing import NamedTuple

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
