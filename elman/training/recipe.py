"""The recipe of a task: from a user's files to the examples that a model is trained on."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

from elman.data.text import fingerprint
from elman.errors import ElmanError
from elman.training.config import TrainConfig
from elman.training.run import Run, Sources


class Learnt(ABC):
    """What a task learns from its training data beside the weights: a vocabulary, labels, normalisation.

    Attributes:
        medium: the `elman.media.Medium` of the inputs, in tasks that have one. Its ``device`` is that of the model.
    """

    medium: Any = None

    @abstractmethod
    def files(self) -> Mapping[str, str | bytes]:
        """Return the files of the run directory that hold it, by name."""


class Counts(NamedTuple):
    """The size of the training data: examples, and units such as tokens."""

    examples: int
    units: int


class Recipe(ABC):
    """Files -> data -> split -> what is learnt from the data -> examples; no network.

    Args:
        config (TrainConfig): the options, an instance of ``Config``.
    """

    name: ClassVar[str]
    #: One line for the help of tasks that are registered by `elman.tasks.register`: what the task is for and which
    #: files it reads.
    help: ClassVar[str]
    #: A command that trains it, as the example of the help.
    usage: ClassVar[str]
    Config: ClassVar[type[TrainConfig]]
    #: What the data consist of, in the plural, for messages.
    items: ClassVar[str] = "examples"
    #: Whether data can be a folder, with a folder for each class.
    takes_folders: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def read(self, data: Sequence[str], like: Any = None) -> Any:
        """Read the user's files.

        Args:
            data (Sequence[str]): paths, URLs or `InMemory`, as `elman.data.source.sources` gives them.
            like: the training data, for validation data that must be read in the same way.

        Raises:
            ElmanError: a file cannot be read, or is not of this task's form.
        """

    @abstractmethod
    def split(self, data: Any) -> tuple[Any, Any] | None:
        """Split data into a part to train on and a held-out part; None where there are too few."""

    @abstractmethod
    def contents(self, train: Any, held: Any) -> list[str]:
        """Return all that is read of the data as texts, for the fingerprint."""

    @abstractmethod
    def facts(self, data: Any) -> Mapping[str, Any]:
        """Return what decides which options apply to these data, beside the options themselves; see `Needs`."""

    @abstractmethod
    def learn(self, train: Any, held: Any) -> Learnt:
        """Learn a vocabulary, labels or normalisation from the training data."""

    @abstractmethod
    def restore(self, run: Run) -> Learnt:
        """Read from a run directory what `learn` gave."""

    @abstractmethod
    def encode(self, learnt: Any, data: Any, training: bool = False) -> Any:
        """Turn data into examples that a model reads; in training, unusable ones may be left out."""

    @abstractmethod
    def count(self, learnt: Any, train: Any, examples: Any) -> Counts:
        """Return the size of the training data."""

    @abstractmethod
    def resolve(self, learnt: Any, train: Any, examples: Any) -> Any:
        """Return the config with a value for every option that was left to the data."""

    @final
    def parts(self, data: Sequence[str], valid: Sequence[str]) -> tuple[Any, Any]:
        """Read data to train on and data to validate on: the files of ``valid``, or a held-out part of ``data``.

        Raises:
            ElmanError: a file cannot be read, or there are too few data to hold some out.
        """
        found = self.read(data)
        if valid:
            return found, self.read(valid, like=found)
        divided = self.split(found)
        if divided is None:
            raise ElmanError(f"{', '.join(data)}: too few {self.items} to hold some out; give more, or --valid files")
        return divided

    @final
    def fingerprint(self, train: Any, held: Any) -> str:
        """Return a hash of all that was read of the data."""
        return fingerprint(self.contents(train, held))


def file_names(sources: Sources) -> str:
    """The names of the training files without their folders, for a summary."""
    return ", ".join(os.path.basename(path) for path in sources.data) or "data"
