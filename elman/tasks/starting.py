"""Start a new model from a run: its options of the model, and its weights."""

from __future__ import annotations

from typing import TypeVar

from elman import tasks
from elman.config import parse
from elman.errors import ElmanError
from elman.tasks.loading import load
from elman.training.config import TrainConfig
from elman.training.initial import start_from
from elman.training.model import Model
from elman.training.run import CONFIG, Run

Config = TypeVar("Config", bound=TrainConfig)

#: Options beside those of the model that decide what weights stand for.
_READING = {
    "tokens", "source_tokens", "target_tokens", "joint", "normalize", "lowercase", "missing", "bands", "decibels",
    "deltas", "rate", "frames_per_step", "encoder", "image_size", "picture_size", "embedding_size",
}  # fmt: skip
#: Files of the run that are not read again.
_FILES = {"vectors", "target_vectors"}


def with_options_of_run(config: Config) -> Config:
    """Return options in which those of the model that the user has not set are those of the run ``init``.

    Options of runs of other tasks are not taken.

    Raises:
        ElmanError: ``init`` is not a run, or its options do not fit those that the user has set.
    """
    if config.init is None:
        return config
    kind, run = type(config), Run(config.init)
    try:
        saved = run.config()
        if tasks.get(saved.task).Config is not kind:
            return config
        before = parse(kind, saved.config, str(run.path / CONFIG)).model_dump()
    except ElmanError as error:
        raise ElmanError(f"init: {error}") from None
    of_model = {name for name in kind.model_fields if kind.owner(name).heading == "Model"} | _READING
    taken = (of_model - _FILES - config.model_fields_set) & kind.model_fields.keys()
    values = parse(kind, config.model_dump() | {name: before[name] for name in taken}).model_dump()
    return kind.model_construct(set(config.model_fields_set), **values)  # what is taken was not set by the user


def start(model: Model) -> None:
    """Copy the weights of the run that the option ``init`` names, if any, into a new model, and record it.

    Raises:
        ElmanError: the run cannot be loaded, or none of its weights fits.
    """
    run = model.config.init
    if run is None:
        return
    try:
        other = load(run)
    except ElmanError as error:
        raise ElmanError(f"init: {error}") from None
    model.sources.init = start_from(model, other, run)
