"""What a task is: all that the trainer, evaluate, generate and the run directory know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from elman.errors import ElmanError
from elman.layers import quantize
from elman.training.config import TrainConfig
from elman.training.run import CONFIG, FORMAT, LAST, MODEL, Run, RunConfig, Sources
from elman.version import __version__

#: The model card's file, and what says that one is elman's.
CARD, _MARK = "README.md", "Trained with elman "


class Batches(Protocol):
    """The training data: batch k is a function of k alone, so that a run can go on from any step."""

    def batch(self, k: int) -> Any: ...


class Task(ABC):
    """One use of a recurrent model, from raw input to an answer.

    A subclass declares its ``name``, its ``Config`` and its ``unit``, holds the ``network`` in
    ``self.network``, and says how data are read, what the loss of a batch is and how good it is.
    """

    name: ClassVar[str]
    Config: ClassVar[type[TrainConfig]]
    #: The options of ``predict``, for tasks that answer.
    Options: ClassVar[type[BaseModel] | None] = None
    #: Whether its answers say where the model looked.
    looks: ClassVar[bool] = False
    #: What ``rate`` counts: tokens, examples, ...
    unit: ClassVar[str] = "examples"

    #: The metric, the lower the better, by which a validation is the best so far: loss, or objective, what is trained
    #: on where that differs (a model that learns from smoothed labels gets worse at plain ones while it gets better).
    judged_by: ClassVar[str] = "loss"

    config: TrainConfig
    network: nn.Module
    #: How good the weights are on the held-out data, where training measured it.
    metrics: dict[str, float] = {}
    #: Where the data of the training came from, for the model card and for `evaluate` without data.
    sources: Sources

    @classmethod
    @abstractmethod
    def prepare(
        cls, config: TrainConfig, data: Sequence[str], valid: Sequence[str], run: Run | None = None
    ) -> tuple[Self, Any, Any]:
        """Reads the user's files: the task with a fresh network, the training data, the held-out data.

        Every option that was left to the data (None) has its value in the task's ``config``. ``run``:
        the run that goes on; what was learnt from the data before, its tokenizer, is taken from there.
        """

    @classmethod
    @abstractmethod
    def restore(cls, config: TrainConfig, run: Run, sources: Sources) -> Self:
        """The task of a run directory, its network with weights not yet loaded."""

    @abstractmethod
    def batches(self, data: Any, rank: int, world: int) -> Batches:
        """The training data cut into batches, this process's share of each."""

    @abstractmethod
    def loss(self, batch: Any, carry: Any) -> tuple[Tensor, Any]:
        """The mean loss of a batch, and what goes on to the next one (None: nothing does)."""

    @abstractmethod
    def size(self, batch: Any) -> int:
        """How many units a batch has."""

    @abstractmethod
    def read(self, data: Sequence[str]) -> Any:
        """The user's files as data to evaluate on."""

    @abstractmethod
    def held_out(self) -> Any:
        """The data that training held out, read again from ``sources``."""

    def unchanged(self, fingerprint: str) -> None:
        """ElmanError where the data are not those of the training, by what was read of them."""
        if fingerprint != self.sources.fingerprint:
            files = ", ".join([*self.sources.data, *self.sources.valid])
            raise ElmanError(f"{files}: not as it was in training, so what was held out is not known; name a file")

    @abstractmethod
    def evaluate(self, data: Any, limit: int | None = None) -> dict[str, float]:
        """``loss`` and the task's metrics, over at most ``limit`` units."""

    @property
    @abstractmethod
    def validation_size(self) -> int:
        """How many units of the held-out data a validation in training looks at, so that it stays quick."""

    @abstractmethod
    def files(self) -> dict[str, str]:
        """What else the run directory needs, by file name: the tokenizer, say."""

    @abstractmethod
    def summary(self) -> dict[str, str]:
        """A few lines on data and model, by label, for people."""

    def about(self) -> dict[str, str]:
        """The `summary`, and the word vectors that the model began with."""
        known = (f"{v.file} knows {v.known:,} of {v.tokens:,} tokens" for v in self.sources.vectors)
        return self.summary() | ({"vectors": "; ".join(known)} if self.sources.vectors else {})

    @abstractmethod
    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        """For `elman inspect`: the pieces of an input, and the loss of the model's own answer to it, with its graph."""

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def parameters(self) -> int:
        """The number of trained parameters."""
        return sum(p.numel() for p in self.network.parameters())

    def quantize(self) -> None:
        """Rounds the weights to int8, for running the model; see `elman.layers.quantize`."""
        quantize(self.network)

    def save(self, directory: str | Path) -> None:
        """Writes a run directory that `elman.load` reads.

        Arguments:
            directory: absent, empty, or one that holds a model which was saved before.

        Raises:
            ElmanError: the folder holds what elman did not write or a run that can go on, or cannot be written.
        """
        run = Run(directory)
        with run.claim():
            if (run.path / LAST).exists():
                raise ElmanError(f"{run.path}: holds a run that can go on; save the model somewhere else")
            self.write_setup(run)
            self.write_model(run)

    def write_setup(self, run: Run) -> None:
        """All of the run directory but the weights and the model card, config.json last."""
        for name, text in self.files().items():
            run.write(name, text)
        self.write_config(run)

    def write_config(self, run: Run) -> None:
        """config.json."""
        options = self.config.model_dump()
        config = RunConfig(elman=__version__, format=FORMAT, task=self.name, config=options, sources=self.sources)
        run.write(CONFIG, config.model_dump_json(indent=2) + "\n")

    def write_model(self, run: Run) -> None:
        """The weights, and the model card that says how good they are."""
        run.write_tensors(MODEL, self.network.state_dict(), {})
        if run.may_write(CARD, _MARK):
            run.write(CARD, self.card())

    def load_model(self, run: Run) -> None:
        """The weights, from a run directory; ElmanError where they are not those of this network."""
        weights, _ = run.read_tensors(MODEL)
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            problem = " ".join(str(error).split()).removeprefix("Error(s) in loading state_dict for ")
            raise ElmanError(f"{run.path / MODEL}: does not fit {run.path / CONFIG}: {problem}") from None

    def card(self) -> str:
        """The model card: what this is, what it learnt from, how good it is, how to use it."""
        lines = [f"# {self.name} model", "", f"{_MARK}{__version__}.", ""]
        lines += [f"- {label}: {value}" for label, value in self.about().items()]
        if self.metrics:
            lines += ["", "| held-out metric | value |", "|---|---|"]
            lines += [f"| {name} | {value:.4f} |" for name, value in self.metrics.items()]
        lines += ["", "```python", "import elman", 'model = elman.load("this folder")', *self.example(), "```", ""]
        return "\n".join(lines)

    @abstractmethod
    def example(self) -> list[str]:
        """Lines of Python that use ``model``."""


@contextmanager
def building() -> Iterator[None]:
    """Says of sizes that do not go together that the model cannot be built."""
    try:
        yield
    except ElmanError:
        raise
    except ValueError as error:
        raise ElmanError(f"the model cannot be built: {error}") from None


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode inside the block, as it was after it."""
    was = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was)
