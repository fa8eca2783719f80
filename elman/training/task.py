"""The task: a recipe from a user's files to a model and the examples that it is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, final

import torch

from elman.config import check_applicable
from elman.data.source import absolute
from elman.training.distributed import pick_device
from elman.training.model import Model
from elman.training.recipe import Recipe
from elman.training.run import LAST, Run, Sources


class Prepared(NamedTuple):
    """A model with fresh weights, and the examples to train and to validate on."""

    model: Model
    train: Any
    held: Any


class Task(Recipe):
    """A recipe: files -> data -> split -> what is learnt from the data -> examples -> model.

    A subclass says what is particular to its data (`Recipe`) and names its `Model`. This class does the rest, in one
    order for all tasks: it checks the options, seeds, records the sources and their fingerprint, and resumes.
    """

    #: What training makes.
    model_class: ClassVar[type[Model]]

    @final
    def model(self, learnt: Any, sources: Sources) -> Model:
        """Build the model, with fresh weights."""
        return self.model_class(self, learnt, sources)

    @final
    def prepare(self, data: Sequence[str], valid: Sequence[str], run: Run | None = None, out: bool = False) -> Prepared:
        """Read the user's files and build the model with fresh weights.

        Args:
            data, valid (Sequence[str]): files to train and to validate on.
            run (Run, optional): a run to resume; what was learnt from the data is taken from there.
            out (bool): whether the training is written to a run directory.

        Raises:
            ElmanError: a file or an option cannot be used.
        """
        given = frozenset() if run is not None else frozenset(self.config.model_fields_set)
        check_applicable(self.config, given, {"out": out, "valid": bool(valid)})
        train, held = self.parts(data, valid)
        check_applicable(self.config, given, {"out": out, "valid": bool(valid), **self.facts(train)})
        places = [absolute(path) for path in data], [absolute(path) for path in valid]
        return self.prepared(train, held, places, run)

    @final
    def prepared(
        self, train: Any, held: Any, places: tuple[list[str], list[str]] = ([], []), run: Run | None = None
    ) -> Prepared:
        """The same from data that are already read and split; ``places``: the names of their sources."""
        learnt = self.learn(train, held) if run is None else self.restore(run)
        if learnt.medium is not None:
            learnt.medium.device = pick_device(self.config.device)
        examples = self.encode(learnt, train, training=True)
        if run is None:
            self.config = self.resolve(learnt, train, examples)
        counts = self.count(learnt, train, examples)
        sources = Sources(
            data=places[0], valid=places[1], examples=counts.examples, units=counts.units,
            fingerprint=self.fingerprint(train, held),
        )  # fmt: skip
        sources.data, sources.valid = places  # data in memory, too, which pydantic would have made plain names
        torch.manual_seed(self.config.seed)
        model = self.model(learnt, sources)
        resumed = run is not None and (run.path / LAST).exists()
        if resumed and run is not None:
            before = run.config().sources
            sources.vectors, sources.init = before.vectors, before.init
        model.begin(examples, resumed)
        return Prepared(model, examples, self.encode(learnt, held))
