"""The contract of a medium: one kind of input, from files to the vectors that a network reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from elman.data.inputs import InputFile
from elman.layers.naming import Axis, Named
from elman.media.columns import Columns
from elman.media.pretrained import KnownVectors


class Content(NamedTuple):
    """Inputs of one medium.

    Attributes:
        inputs (list): texts, arrays, ...
        form: what the medium knows of how they were read, such as the channels of series or the rate of sounds.
    """

    inputs: list
    form: Any = None


class Source(NamedTuple):
    """A module that turns a batch into vectors (B, T, D), and D."""

    module: nn.Module
    size: int


class Files(Protocol):
    """A folder of text files, and of files of tensors."""

    path: Path

    def read(self, name: str) -> str: ...

    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]: ...


class Medium(ABC):
    """One kind of input: reading, encoding, batching, augmentation, the source module, and the pieces shown to people.

    Class methods read files. An instance holds what was learnt from the training inputs, such as a vocabulary.
    Register a new medium with `elman.media.register`; nothing else has to know it.

    Args:
        options: the options of the task; those of this medium have their values.

    Attributes:
        device (torch.device): where rows are computed, for a medium whose rows come from a network. Default: the CPU.
    """

    device = torch.device("cpu")

    #: The name in saved models, the plural for messages, and the kind of input, as `elman.tasks.abilities` names it.
    name: ClassVar[str]
    plural: ClassVar[str]
    kind: ClassVar[str]
    #: The form of what is learnt, in labels.json.
    State: ClassVar[type[BaseModel]]
    #: What a position of an input is, for the axis of an attention matrix.
    positions: ClassVar[Literal["words", "steps", "frames", "grid"]]
    #: The default dropout.
    dropout: ClassVar[float] = 0.5
    #: Rows and columns, where the positions of an input are the cells of a grid.
    grid: tuple[int, int] | None = None

    def __init__(self, options: Any) -> None:
        self.options = options

    @classmethod
    @abstractmethod
    def reads(cls, path: str) -> bool:
        """Return whether a file, by its name, holds an input of this medium."""

    @classmethod
    @abstractmethod
    def read_files(cls, paths: Sequence[str], places: Sequence[str], columns: Columns) -> Content:
        """Read files with one input each.

        Args:
            paths (Sequence[str]): the files.
            places (Sequence[str]): where each is named, for messages.
            columns (Columns): how files are read.

        Returns:
            Content: an input for each file; None for one that cannot be read and is left out.

        Raises:
            ElmanError: a file cannot be read.
        """

    @classmethod
    @abstractmethod
    def join(cls, parts: Sequence[Content], places: Sequence[Sequence[str]]) -> Content:
        """Bring inputs of several sources to the form of the first; ``places``: the origin of each, for messages."""

    @classmethod
    @abstractmethod
    def check(cls, content: Content, places: Sequence[str], columns: Columns) -> None:
        """Check every input.

        Raises:
            ElmanError: an input is empty or cannot be used.
        """

    @classmethod
    @abstractmethod
    def digest(cls, x: Any) -> str:
        """Return a text that differs between inputs that differ, for the fingerprint of the data."""

    @classmethod
    @abstractmethod
    def same_columns(cls, columns: Columns, content: Content) -> Columns:
        """Return how validation data are read, given the training inputs."""

    @classmethod
    @abstractmethod
    def facts(cls, content: Content) -> Mapping[str, Any]:
        """Return what decides which options apply to these inputs; see `elman.config.Needs`."""

    @classmethod
    @abstractmethod
    def learn(cls, options: Any, content: Content) -> Self:
        """Learn from the training inputs: options that were left to the data, a vocabulary, ..."""

    @classmethod
    @abstractmethod
    def load(cls, options: Any, state: Any, files: Files) -> Self:
        """Restore from a run directory what `state` and `files` gave.

        Args:
            state: an instance of ``State``.
            files (Files): the run directory.
        """

    @abstractmethod
    def state(self) -> BaseModel:
        """Return what was learnt, as an instance of ``State``."""

    @abstractmethod
    def files(self) -> dict[str, str | bytes]:
        """Return further files of the run directory, by name: texts, or the bytes of tensors."""

    @abstractmethod
    def columns(self, columns: Columns) -> Columns:
        """Return how tables are read once the training data are known."""

    @abstractmethod
    def encode(self, content: Content, places: Sequence[str], training: bool = False) -> list[Any]:
        """Turn inputs into rows that can be batched: arrays (T, ...), or what else has the length T.

        Args:
            content (Content): the inputs.
            places (Sequence[str]): the origin of each, for messages.
            training (bool): whether `vary` augments the rows. Default: False.

        Returns:
            list: A row for each input; None for one that turns out to be damaged and is left out.
        """

    @abstractmethod
    def read(self, given: Sequence[Any]) -> list[Any]:
        """Turn what a user asks about into rows; a path of a file can give several."""

    @abstractmethod
    def in_file(self, argument: str, column: str | None, columns: Columns, whole: bool) -> InputFile | None:
        """Return the inputs in a file that an argument of the command line names; None where it is an input itself.

        Args:
            column (str, optional): the column of a table to read, where the user names one.
            columns (Columns): how tables are read.
            whole (bool): whether a text file is one input.
        """

    @abstractmethod
    def batch(self, rows: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Return inputs (B, T, ...), 0 beyond each row's length, and lengths (B,)."""

    @abstractmethod
    def vary(self, rows: list[Any], source: nn.Module, draw: np.random.Generator) -> list[Any]:
        """Augment the rows of a training batch."""

    @abstractmethod
    def hide(self, inputs: Tensor) -> Tensor:
        """Hide parts of a training batch at random."""

    @abstractmethod
    def source(self) -> Source:
        """Build the module that turns a batch into vectors."""

    @property
    @abstractmethod
    def feature_names(self) -> Axis:
        """The names of the D numbers of a vector, such as channels; None where the module learns what they are."""

    @abstractmethod
    def named(self, source: nn.Module) -> list[Named]:
        """Return the weights of the source module whose rows or columns have names; see `elman.layers.naming`."""

    @abstractmethod
    def begin(self, source: nn.Module, rows: Sequence[Any]) -> list[KnownVectors]:
        """Initialise the source from the training rows; return the pretrained embeddings used, as `KnownVectors`."""

    @abstractmethod
    def boundaries(self, inputs: Tensor) -> Tensor | None:
        """Return where the parts of each input begin, bool (B, T), for hierarchical networks; None: there are none."""

    @abstractmethod
    def pieces(self, given: Any) -> list[str]:
        """Return the text of each position of an input; nothing for media without text."""

    @abstractmethod
    def amount(self, content: Content) -> float:
        """Return how much there is to learn from, in steps, for the default duration of training."""

    @abstractmethod
    def describe(self) -> str:
        """Return what an input is, for a summary: "texts (word)"."""
