"""Load the model of a run directory."""

from __future__ import annotations

import os

import torch

from elman import tasks
from elman.config import parse
from elman.errors import ElmanError
from elman.layers.starting import unstarted
from elman.tasks.abilities import Scores
from elman.training.distributed import pick_device
from elman.training.model import Model
from elman.training.run import CONFIG, Run


def load(directory: str | os.PathLike[str], device: str = "cpu") -> Model:
    """Load the model of a run directory, with the weights of the best validation.

    Args:
        directory (str or Path): a run directory.
        device (str): cpu, cuda, cuda:1, ..., or auto. Default: "cpu".

    Raises:
        ElmanError: the directory is not whole, not a run, or was written by a newer version of elman.
    """
    run = Run(directory)
    with torch.device("meta"):
        restore(run).check_model(run)
    model = restore(run)
    model.load_model(run)
    model.network.to(usable_device(device)).eval()
    if model.learnt.medium is not None:
        model.learnt.medium.device = model.device
    return model


def restore(run: Run) -> Model:
    """Build the model of a run directory without its weights; no time is spent on drawing others."""
    saved = run.config()
    kind = tasks.get(saved.task)
    task = kind(parse(kind.Config, saved.config, str(run.path / CONFIG)))
    with unstarted():
        return task.model(task.restore(run), saved.sources)


def load_scorer(directory: str, device: str, option: str = "language_model") -> Scores:
    """Load a language model that scores what another model writes.

    Args:
        directory (str): its run directory.
        device (str): cpu, cuda, cuda:1, ..., or auto.
        option (str): the option that names the directory, for messages.

    Raises:
        ElmanError: the directory is not whole, not a run, or not that of a language model.
    """
    model = load(directory, device)
    if not isinstance(model, Scores):
        raise ElmanError(
            f"{option}: {directory} is a run of the task {model.name}; a language model is needed, as "
            "elman train language makes it"
        )
    return model


def usable_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        ElmanError: it cannot be used.
    """
    try:
        device = pick_device(name)
        torch.ones(1, device=device).item()  # meta takes a tensor and gives none back
    except (RuntimeError, AssertionError, ImportError, AttributeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ElmanError(f"device: {name!r} cannot be used: {reason}") from None
    return device
