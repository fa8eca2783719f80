"""Chains from run directories, and from TOML files that name them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import Field

from elman import tasks
from elman.api import load
from elman.chains.stages import Chain, Stage
from elman.config import Options, parse
from elman.data.toml import read_toml
from elman.tasks.abilities import Predicts
from elman.training.model import Model
from elman.training.run import Run


class ChainFile(Options):
    """A TOML file that names a chain."""

    stage: list[dict[str, Any]] = Field(min_length=1)
    input: str | None = Field(None, min_length=1)


class StageKeys(Options):
    """What a TOML file says of a stage beside the options of its model."""

    run: str = Field(min_length=1)
    scale: float = Field(1.0, ge=0, le=1000)
    reference: str | None = Field(None, min_length=1)


class _Named(NamedTuple):
    """A stage whose model is not loaded yet."""

    run: str
    options: dict[str, Any] = {}
    scale: float = 1.0
    reference: str | None = None


def is_chain(path: str) -> bool:
    """Return whether an argument is the name of a file that names a chain."""
    return path.lower().endswith(".toml")


def chain(
    stages: str | os.PathLike[str] | Stage | Model | Sequence[str | os.PathLike[str] | Stage | Model],
    *,
    device: str = "cpu",
) -> Chain:
    """Load the models of a chain, in which each reads what the one before has written.

    A TOML file has a table ``[[stage]]`` for each model: ``run``, a run directory, relative to the file; ``scale`` and
    ``reference``, see `Stage`; and options of the model's predictions, such as ``beam = 5``. ``input``, before the
    tables, is the column of the inputs in tables of data.

    Args:
        stages: run directories, TOML files, models, or one of these. A run that occurs twice is loaded once.
        device (str): cpu, cuda, cuda:1, ..., or auto, for the models that are loaded. Default: "cpu".

    Returns:
        Chain: ``predict`` gives the answers at its end, with those of every stage.

    Raises:
        ElmanError: a run or a file cannot be read, or the models do not fit.

    Example::

        >>> chain = elman.chain(["runs/captions", "runs/en-de"])
        >>> chain.predict(["photo.jpg"])[0][0].text
        >>> chain = elman.chain("captions-in-german.toml")
    """
    given = [stages] if isinstance(stages, (str, os.PathLike, Stage, Model)) else list(stages)
    loaded: dict[str, Model] = {}
    whole: list[Stage | Model] = []
    column = None
    for k, one in enumerate(given):
        if isinstance(one, (Stage, Model)):
            whole.append(one)
            continue
        named = [_Named(os.fspath(one))]
        if is_chain(os.fspath(one)):
            named, own = _read(os.fspath(one))
            column = own if k == 0 else column
        for run, options, scale, reference in named:
            place = os.path.realpath(os.path.expanduser(run))
            if place not in loaded:
                loaded[place] = load(run, device)
            whole.append(Stage(loaded[place], run, options, scale, reference))  # type: ignore[arg-type]
    return Chain(whole, column)


def _read(path: str) -> tuple[list[_Named], str | None]:
    """The stages that a TOML file names, and the column of the inputs."""
    file = parse(ChainFile, read_toml(path), path)
    stages = []
    for number, entry in enumerate(file.stage, 1):
        own = {key: value for key, value in entry.items() if key in StageKeys.model_fields}
        keys = parse(StageKeys, own, f"{path}, stage {number}")
        folder = os.path.dirname(os.path.expanduser(path))
        run = os.path.join(folder, os.path.expanduser(keys.run))
        options = {key: value for key, value in entry.items() if key not in own}
        model = tasks.get(Run(run).config().task).model_class
        if issubclass(model, Predicts):
            parse(model.Options, options, f"{path}, stage {number}")
            options = model.Options.beside(options, folder)
        stages.append(_Named(run, options, keys.scale, keys.reference))
    return stages, file.input
