"""What a task is: all that the trainer, evaluate, generate and the run directory know of it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from elman.errors import ElmanError
from elman.layers import quantize
from elman.training.config import TrainConfig
from elman.training.run import CONFIG, FORMAT, LAST, MODEL, Run, RunConfig, Sources
from elman.training.selection import Criterion
from elman.version import __version__

Network = TypeVar("Network", bound=nn.Module)

#: The model card's file, and what says that one is elman's.
CARD, _MARK = "README.md", "Trained with elman "


#: The names of types in safetensors files.
_TYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL", torch.int8: "I8"}


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """ElmanError that names the first tensor with numbers that are NaN or infinite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not (whole := torch.isfinite(tensor)).all():
            wrong = tensor.numel() - int(whole.sum())
            raise ElmanError(f"{source}: {wrong:,} of the {tensor.numel():,} numbers of {name} are NaN or infinite")


def _weights(network: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return network.state_dict().items()


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
    #: Whether data can be a folder, with a folder for each class.
    takes_folders: ClassVar[bool] = False
    #: What ``rate`` counts: tokens, examples, ...
    unit: ClassVar[str] = "examples"

    #: How validations are ranked: the first criterion decides, the next ones break ties. Early stopping counts the
    #: validations that do not rank above the best one.
    selection: ClassVar[tuple[Criterion, ...]] = (Criterion("loss"),)

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

    def first_carry(self, batch: Any) -> Any:
        """What goes on from batch to batch, in its form before the first one, for the size of this one."""
        return ()

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
    def evaluate(self, data: Any, limit: int | None = None) -> dict[str, Any]:
        """``loss`` and the task's metrics, over at most ``limit`` units.

        With a limit all are numbers, those of `selection` among them; without one None stands for what is over nothing.
        """

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

    def check_model(self, run: Run) -> None:
        """ElmanError where the weights in a run directory are not of this network's names, types and shapes.

        The network may be without memory (``torch.device("meta")``): so that sizes are known to be true before
        anything of that size is made.
        """
        expected = {key: (_TYPES.get(value.dtype, ""), tuple(value.shape)) for key, value in _weights(self.network)}
        found, place = run.read_forms(MODEL), f"{run.path / MODEL}: does not fit {run.path / CONFIG}"
        if wrong := [key for key in expected if key not in found]:
            raise ElmanError(f"{place}: {wrong[0]} is missing")
        if wrong := [key for key in found if key not in expected]:
            raise ElmanError(f"{place}: {wrong[0]} is no weight of this model")
        for key, (kind, shape) in expected.items():
            if found[key] != (kind, shape):
                raise ElmanError(f"{place}: {key} is {found[key][0]} {found[key][1]}, it would be {kind} {shape}")

    def load_model(self, run: Run) -> None:
        """The weights, from a run directory; ElmanError where they are not those of this network, or not finite."""
        self.check_model(run)
        weights, _ = run.read_tensors(MODEL)
        check_finite(weights, str(run.path / MODEL))
        self.network.load_state_dict(weights)

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


def build(make: Callable[[], Network]) -> Network:
    """The network that ``make`` makes, if its sizes go together and there is memory for it.

    Raises:
        ElmanError: the model cannot be built.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            plan = make()  # of no size: what it would take is known before it is taken
        size = sum(value.numel() * value.element_size() for value in plan.state_dict().values())
        if torch.get_default_device().type == "meta":
            return plan
        if size > (memory := _memory()):
            raise ElmanError(
                f"the model cannot be built: its weights alone take {size / 2**30:,.0f} GiB, "
                f"this machine has {memory / 2**30:,.0f}; choose smaller sizes"
            )
        return make()
    except ElmanError:
        raise
    except (ValueError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ElmanError(f"the model cannot be built: {reason}") from None


def _memory() -> int:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not known here
        return 1 << 62


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode inside the block, as it was after it."""
    was = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was)
