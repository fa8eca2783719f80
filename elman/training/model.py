"""The model: what training makes and loading gives back."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from elman.config import check_applicable
from elman.errors import ElmanError
from elman.layers import quantize
from elman.layers.naming import Named
from elman.layers.starting import unstarted
from elman.training.recipe import Learnt, Recipe
from elman.training.run import CONFIG, FORMAT, LAST, MODEL, Run, RunConfig, Sources
from elman.training.selection import Criterion
from elman.version import __version__

Network = TypeVar("Network", bound=nn.Module)

#: The file of the model card, and the text by which a card of elman's own is known.
CARD, _MARK = "README.md", "Trained with elman "
#: The end of messages about parameters that are missing or unknown.
OTHER_VERSION = "; if another version of elman has trained the model, train it again"

#: The names of types in safetensors files.
_TYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL", torch.int8: "I8"}


class Batches(Protocol):
    """The training data. Batch k is a function of k alone, so that a run can resume at any step."""

    def batch(self, k: int) -> Any: ...


class Model(ABC):
    """A model: a network, what its task learnt from the training data, its options and its metrics.

    `elman.train` and `elman.load` return one. The abstract classes of `elman.tasks.abilities` say what else it can do:
    ``isinstance(model, Predicts)``.

    Attributes:
        task (Recipe): the recipe that it was made by.
        config (TrainConfig): the options of the training, each with its value.
        network (nn.Module): the trained network.
        sources (Sources): which data it was trained on.
        reader (Recipe): how data to evaluate on and inputs are read: the recipe, with the options of `read_with`.
        metrics (dict): metrics of the weights on the validation data, where training measured them.
        reads_paths (bool): whether a text that is given as an input is the path of a file.
    """

    #: What a rate of training counts: tokens, examples, ...
    unit: ClassVar[str] = "examples"
    #: How validations are ranked: the first criterion decides, the next ones break ties. Early stopping counts the
    #: validations that do not rank above the best one.
    selection: ClassVar[tuple[Criterion, ...]] = (Criterion("loss"),)

    #: What the names of weights in saved runs of earlier versions begin with, and what they begin with now.
    former_names: ClassVar[Mapping[str, str]] = {}
    #: What the names of modules begin with that models of the task have under several names, and the common name, so
    #: that one can start from the weights of the other.
    common_names: ClassVar[Mapping[str, str]] = {}

    def __init__(self, task: Recipe, learnt: Learnt, sources: Sources) -> None:
        self.task, self.learnt, self.sources = task, learnt, sources
        self.reader, self._reading = task, frozenset[str]()
        self._known_reader = task  # reads the training data as the training did
        self.metrics: dict[str, float] = {}
        self.reads_paths = False
        self.network = build(self.make_network)

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.task.name

    @property
    def config(self) -> Any:
        """The options of the training."""
        return self.task.config

    @abstractmethod
    def make_network(self) -> nn.Module:
        """Build the network with fresh weights."""

    @abstractmethod
    def begin(self, examples: Any, resumed: bool) -> None:
        """Initialise what the training data determine before the first step.

        Args:
            examples: the training examples.
            resumed (bool): whether the weights are loaded afterwards, so that only what is not part of the network is
                needed. Otherwise also pretrained embeddings and normalisation.
        """

    @abstractmethod
    def named(self) -> list[Named]:
        """Return every weight whose rows or columns stand for tokens, labels, channels, ..., with their names.

        Training that starts from another run copies such weights by these names, and all others by position.
        """

    @abstractmethod
    def batches(self, examples: Any, rank: int, world: int) -> Batches:
        """Cut training examples into batches; return this process's share of each."""

    @abstractmethod
    def loss(self, batch: Any, carry: Any) -> tuple[Tensor, Any]:
        """Return the mean loss of a batch, and what the next batch starts from (None: nothing)."""

    @abstractmethod
    def size(self, batch: Any) -> int:
        """Return the number of units in a batch."""

    @abstractmethod
    def evaluate(self, examples: Any, limit: int | None = None) -> dict[str, Any]:
        """Compute ``loss`` and the metrics of the task.

        Args:
            examples: what `read` or `held_out` gives; models of pictures and texts also take what `read` takes.
            limit (int, optional): the number of units to look at, at most. Then all values are numbers, those of
                `selection` among them; without a limit None stands for a metric over nothing.
        """

    @property
    @abstractmethod
    def validation_size(self) -> int:
        """How many units of the validation data each validation during training looks at."""

    @abstractmethod
    def summary(self) -> dict[str, str]:
        """Describe data and model in a few lines for people, by label."""

    @abstractmethod
    def example(self) -> list[str]:
        """Lines of Python that use ``model``, for the model card."""

    @abstractmethod
    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        """Return the pieces of an input, and the loss of the model's own answer to it, with its graph."""

    def read(self, data: Sequence[str]) -> Any:
        """Read files, or data in memory, as examples to evaluate on."""
        found = self.reader.read(data)
        self._check_reading(self.reader.facts(found))
        return self.reader.encode(self.learnt, found)

    def read_with(self, **options: Any) -> None:
        """Change options of reading that the training had, for data to evaluate on and for inputs.

        Args:
            options: ``images``, ``skip_broken`` and ``skip_bad``, where the task has them; None leaves one as it was.

        Raises:
            ElmanError: an option has no effect on what the model reads.
        """
        given = {key: value for key, value in options.items() if value is not None}
        kind = type(self.config)
        for key in given:
            if key not in kind.model_fields:
                raise ElmanError(f"--{key.replace('_', '-')}: has no effect on the data of a {self.name} model")
        self.reader = type(self.task)(self.config.model_copy(update=given))
        self._reading = frozenset(given)
        if self.learnt.medium is not None:
            self._check_reading({"medium": self.learnt.medium.name})

    def _check_reading(self, facts: Mapping[str, Any]) -> None:
        check_applicable(self.reader.config, self._reading, {"out": False, "valid": False, **facts})

    def held_out(self) -> Any:
        """Read the validation data of the training again, as examples to evaluate on.

        Raises:
            ElmanError: the training data have changed.
        """
        train, held = self.reader.parts(self.sources.data, self.sources.valid)
        self._check_reading(self.reader.facts(train))
        if self.reader.fingerprint(train, held) != self.sources.fingerprint:
            files = ", ".join([*self.sources.data, *self.sources.valid])
            raise ElmanError(f"{files}: changed since training, so the held-out data are not known; name a file")
        self._known_reader = self.reader
        return self.reader.encode(self.learnt, held)

    def training_data(self) -> Any:
        """Read the training data again, with the options of `read_with` if `held_out` has read them so."""
        train, _ = self._known_reader.parts(self.sources.data, self.sources.valid)
        return train

    def about(self) -> dict[str, str]:
        """The `summary`, and which pretrained embeddings and which run the training started from."""
        files = (f"{v.file} covers {v.known:,} of {v.tokens:,} tokens" for v in self.sources.vectors)
        vectors = {"vectors": "; ".join(files)} if self.sources.vectors else {}
        return self.summary() | vectors | ({"init": self.sources.init.describe()} if self.sources.init else {})

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def parameters(self) -> int:
        """Return the number of trained parameters."""
        return sum(p.numel() for p in self.network.parameters() if p.requires_grad)

    def quantize(self, dtype: torch.dtype = torch.int8) -> None:
        """Round the weights to int8 or bfloat16, for running the model; see `elman.layers.quantize`."""
        quantize(self.network, dtype)

    def save(self, directory: str | Path) -> None:
        """Write a run directory that `elman.load` reads.

        Args:
            directory: absent, empty, or one that holds a model which was saved before.

        Raises:
            ElmanError: the folder holds files that elman did not write or a run that can be resumed, or cannot be
                written.
        """
        run = Run(directory)
        with run.claim():
            if (run.path / LAST).exists():
                raise ElmanError(f"{run.path}: holds a run that can be resumed; save the model somewhere else")
            self.write_setup(run)
            self.write_model(run)

    def write_setup(self, run: Run) -> None:
        """Write all of the run directory but the weights and the model card, config.json last."""
        for name, text in self.learnt.files().items():
            run.write(name, text)
        self.write_config(run)

    def write_config(self, run: Run) -> None:
        """Write config.json."""
        options = self.config.model_dump()
        config = RunConfig(elman=__version__, format=FORMAT, task=self.name, config=options, sources=self.sources)
        run.write(CONFIG, config.model_dump_json(indent=2) + "\n")

    def write_model(self, run: Run) -> None:
        """Write the weights, and the model card."""
        run.write_tensors(MODEL, self.network.state_dict(), {})
        if run.may_write(CARD, _MARK):
            run.write(CARD, self.card())

    def renamed(self, name: str) -> str:
        """Return the name that a weight of a saved run has today; earlier versions called some otherwise."""
        for old, new in self.former_names.items():
            if name.startswith(old):
                return new + name.removeprefix(old)
        return name

    def check_model(self, run: Run) -> None:
        """Check that the weights in a run directory have the names, types and shapes of this network.

        The network may be on the meta device, so that the sizes are known to be right before memory is taken.

        Raises:
            ElmanError: they do not.
        """
        expected = {
            key: (_TYPES.get(value.dtype, ""), tuple(value.shape)) for key, value in self.network.state_dict().items()
        }
        found = {self.renamed(key): form for key, form in run.read_forms(MODEL).items()}
        place = f"{run.path / MODEL}: does not fit {run.path / CONFIG}"
        if wrong := [key for key in expected if key not in found]:
            raise ElmanError(f"{place}: {wrong[0]} is missing{OTHER_VERSION}")
        if wrong := [key for key in found if key not in expected]:
            raise ElmanError(f"{place}: {wrong[0]} is not a weight of this model{OTHER_VERSION}")
        for key, (kind, shape) in expected.items():
            if found[key] != (kind, shape):
                raise ElmanError(f"{place}: {key} is {found[key][0]} {found[key][1]}, expected {kind} {shape}")

    def load_model(self, run: Run) -> None:
        """Load the weights from a run directory.

        Raises:
            ElmanError: they are not those of this network, or not finite.
        """
        self.check_model(run)
        weights, _ = run.read_tensors(MODEL)
        check_finite(weights, str(run.path / MODEL))
        self.network.load_state_dict({self.renamed(key): value for key, value in weights.items()})

    def card(self) -> str:
        """Return the model card: what the model is, its data, its metrics, and how to use it."""
        lines = [f"# {self.name} model", "", f"{_MARK}{__version__}.", ""]
        lines += [f"- {label}: {value}" for label, value in self.about().items()]
        if self.metrics:
            lines += ["", "| validation metric | value |", "|---|---|"]
            lines += [f"| {name} | {value:.4f} |" for name, value in self.metrics.items()]
        lines += ["", "```python", "import elman", 'model = elman.load("this folder")', *self.example(), "```", ""]
        return "\n".join(lines)


class Carries(ABC):
    """A model whose batches are consecutive: each starts from what the one before has left."""

    @abstractmethod
    def first_carry(self, batch: Any) -> Any:
        """Return what the first batch starts from, in the form and size that this batch needs."""


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """ElmanError that names the first tensor with values that are NaN or infinite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not (finite := torch.isfinite(tensor)).all():
            wrong = tensor.numel() - int(finite.sum())
            raise ElmanError(f"{source}: {wrong:,} of the {tensor.numel():,} values of {name} are NaN or infinite")


def build(make: Callable[[], Network]) -> Network:
    """Return the network that ``make`` makes, if its sizes are consistent and there is memory for it.

    Raises:
        ElmanError: the model cannot be built.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), unstarted():
            plan = make()  # without memory: what it takes is known before it is taken
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
    """Set the network to evaluation mode inside the block, and restore its mode after it."""
    was = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was)
