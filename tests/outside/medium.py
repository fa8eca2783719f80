"""A medium from outside the package: paths of a pen, files with x and y on each line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel
from torch import Tensor, nn

from elman import media
from elman.data.inputs import InputFile
from elman.data.padding import pad
from elman.errors import ElmanError
from elman.layers.naming import Named, named_rows
from elman.layers.standardize import Standardize
from elman.media import Content, Source
from elman.media.columns import Columns
from elman.media.medium import Files
from elman.media.numeric import Numeric
from elman.media.pretrained import KnownVectors


class PenState(BaseModel):
    """Nothing is learnt but the source's mean and deviation."""


class Pen(Numeric):
    """Paths of a pen (T, 2)."""

    name, plural, kind = "pen", "pen paths", "pen paths"
    positions: ClassVar = "steps"
    State = PenState

    @classmethod
    def reads(cls, path: str) -> bool:
        return path.endswith(".pen")

    @classmethod
    def read_files(cls, paths: Sequence[str], places: Sequence[str], columns: Columns) -> Content:
        return Content([cls._load(path) for path in paths])

    @staticmethod
    def _load(path: str) -> np.ndarray:
        try:
            values = np.loadtxt(path, ndmin=2)
        except (OSError, ValueError) as error:
            raise ElmanError(f"{path}: not a pen path: {error}") from None
        if values.shape[1] != 2:
            raise ElmanError(f"{path}: a pen path has x and y on each line")
        return values

    @classmethod
    def join(cls, parts: Sequence[Content], places: Sequence[Sequence[str]]) -> Content:
        return Content([x for part in parts for x in part.inputs])

    @classmethod
    def check(cls, content: Content, places: Sequence[str], columns: Columns) -> None:
        """Paths are checked as they are read."""

    @classmethod
    def same_columns(cls, columns: Columns, content: Content) -> Columns:
        return columns

    @classmethod
    def facts(cls, content: Content) -> Mapping[str, Any]:
        return {}

    @classmethod
    def learn(cls, options: Any, content: Content) -> Self:
        return cls(options)

    @classmethod
    def load(cls, options: Any, state: Any, files: Files) -> Self:
        return cls(options)

    def state(self) -> PenState:
        return PenState()

    def columns(self, columns: Columns) -> Columns:
        return columns

    def encode(self, content: Content, places: Sequence[str], training: bool = False) -> list[np.ndarray]:
        return list(content.inputs)

    def read(self, given: Sequence[Any]) -> list[np.ndarray]:
        return [self._load(str(path)) for path in given]

    def in_file(self, argument: str, column: str | None, columns: Columns, whole: bool) -> InputFile | None:
        return None

    def batch(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        return pad(rows)

    def vary(self, rows: list[np.ndarray], source: nn.Module, draw: np.random.Generator) -> list[np.ndarray]:
        return [row * draw.uniform(0.9, 1.1) for row in rows]

    def source(self) -> Source:
        return Source(Standardize(2), 2)

    @property
    def feature_names(self) -> list[str]:
        return ["x", "y"]

    def named(self, source: nn.Module) -> list[Named]:
        assert isinstance(source, Standardize)
        return named_rows(self.feature_names, source.mean, source.deviation)

    def begin(self, source: nn.Module, rows: Sequence[np.ndarray]) -> list[KnownVectors]:
        assert isinstance(source, Standardize)
        source.fit(rows)
        return []

    def amount(self, content: Content) -> float:
        return sum(map(len, content.inputs))

    def describe(self) -> str:
        return self.plural


media.register(Pen)
