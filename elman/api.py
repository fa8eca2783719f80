"""Train a model, load a model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from elman import tasks
from elman.config import parse
from elman.data.source import sources
from elman.errors import ElmanError
from elman.tasks.loading import load, restore, usable_device
from elman.tasks.starting import start, with_options_of_run
from elman.training import loggers
from elman.training.config import TrainConfig
from elman.training.distributed import World, is_first
from elman.training.events import Listener
from elman.training.model import Model
from elman.training.progress import Progress
from elman.training.run import CONFIG, LAST, MODEL, Run
from elman.training.trainer import Trainer

#: Options that may change when a run is resumed: its duration, and how it is watched.
_MAY_CHANGE = {"steps", "minutes", "patience", "validate_every", "tensorboard"}


def train(
    task: str,
    data: Any = (),
    *,
    out: str | os.PathLike[str] | Run | None = None,
    valid: Any = (),
    resume: bool = False,
    progress: bool = True,
    listeners: Sequence[Listener] = (),
    **options: Any,
) -> Model:
    """Train a model and return it, with the weights of the best validation.

    The global random number generators of torch are left as they were.

    Args:
        task (str): a name in `elman.tasks.TASKS`.
        data: a path or several (``-`` is standard input), or data in memory: a DataFrame of pandas, polars or Arrow, a
            dict of columns, or a list of rows, which are dicts or tuples: (text, label), (source, target),
            (words, tags), (story, question, answer), or (series, label) with an array (T, C). Language models and
            ``fill`` take a column of texts, or an open file.
        out (str or Path, optional): the run directory to write: absent, empty, or a run to resume. By default nothing
            is written; ``model.save`` does it later.
        valid: validation data, given as ``data``, instead of a held-out part of it.
        resume (bool): resume the run in ``out`` from its last checkpoint, with its data and options; the duration may
            change. Default: False.
        progress (bool): print progress to standard error. Default: True.
        listeners (Sequence[Listener]): called with every `elman.training.events.Event`.
        options: the options of the task; ``elman train TASK --help`` lists them.

    Returns:
        Model: the trained model. What it can do depends on the task; see `elman.tasks.abilities`.

    Raises:
        ElmanError: a file, an option or the run directory cannot be used, or training diverged.

    Example::

        >>> model = elman.train("language", "shakespeare.txt", minutes=2)
        >>> model.generate("ROMEO:")
        >>> model = elman.train("language", "mine.txt", init="runs/shakespeare", minutes=1)  # fine-tune a run
    """
    kind = tasks.get(task)
    config = parse(kind.Config, options)
    run = out if out is None or isinstance(out, Run) else Run(out)
    paths, valid_paths = sources(data), sources(valid)
    if valid_paths and "valid_fraction" in options:
        raise ElmanError("valid_fraction: nothing is held out where validation data are given; leave one out")
    if resume and run is None:
        raise ElmanError("resume: give the run directory to resume, as out")
    if run is not None and kind.takes_folders:
        _check_apart(run, [*paths, *valid_paths])
    heard: list[Listener] = list(listeners)
    if progress and is_first():
        heard.append(Progress())
    with run.claim() if run is not None and is_first() else contextlib.nullcontext():
        if run is None or not run.exists():
            before, config = None, with_options_of_run(config)
        elif resume:
            before = run
            config, paths, valid_paths = _resumed(run, config, set(options), paths, valid_paths)
        else:
            raise ElmanError(f"{run.path}: holds a run already; --resume resumes it, another --out keeps both")
        if not paths:
            hint = f"; there is no run in {run.path} to resume" if resume and run is not None else ""
            raise ElmanError(f"no data: give one file or more{hint}")
        world = World(usable_device(config.device))
        try:
            with random_state(world.device):
                model, examples, held = kind(config).prepare(paths, valid_paths, before, run is not None)
                if before and before.config().sources.fingerprint != model.sources.fingerprint:
                    raise ElmanError(f"{', '.join(paths)}: not the data that the run in {before.path} was trained on")
                resumed = run is not None and (run.path / LAST).exists()
                if not resumed:
                    start(model)
                world.wait()  # nobody writes before all have read
                if run is not None and world.rank == 0:
                    model.write_config(run) if before else model.write_setup(run)
                    heard.append(loggers.jsonl(run))
                    if config.tensorboard:
                        heard.append(loggers.tensorboard(run))
                trainer = Trainer(model, examples, held, run, world, heard)
                trainer.train(resume=resumed)
        finally:
            world.leave()
    return model


@contextlib.contextmanager
def random_state(device: torch.device) -> Iterator[None]:
    """Restore torch's global random number generators, those of the CPU and of the device, after the block."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _resumed(
    run: Run, asked: TrainConfig, given: set[str], paths: list[str], valid: list[str]
) -> tuple[TrainConfig, list[str], list[str]]:
    """The config and the files of a run that is resumed, with the options that may change."""
    saved, kind = run.config(), type(asked)
    if tasks.get(saved.task).Config is not kind:
        raise ElmanError(f"{run.path}: a run of the task {saved.task}")
    if (run.path / MODEL).exists() and not (run.path / LAST).exists():
        raise ElmanError(f"{run.path}: a saved model, without the {LAST} that training resumes from")
    before = parse(kind, saved.config, str(run.path / CONFIG)).model_dump()
    wanted = {key: value for key, value in asked.model_dump().items() if key in given}
    for key, value in wanted.items():
        if key not in _MAY_CHANGE and value != before[key]:
            raise ElmanError(
                f"{key}: the run in {run.path} has {before[key]!r}; what may change when it is resumed: "
                + ", ".join(sorted(_MAY_CHANGE))
            )
    if "steps" in wanted or "minutes" in wanted:  # the one that is given now counts
        wanted = {"steps": None, "minutes": None, **wanted}
    config = parse(kind, before | wanted)
    return config, paths or saved.sources.data, valid or saved.sources.valid


def _check_apart(run: Run, paths: list[str]) -> None:
    """ElmanError where the run is inside a folder of data, as it would be read as a part of them."""
    place = Path(os.path.realpath(run.path))
    inside = [place, *place.parents]
    for path in paths:
        if os.path.isdir(path) and Path(os.path.realpath(path)) in inside:
            raise ElmanError(f"{run.path}: this folder is inside the data, {path}; choose another one")


__all__ = ["load", "restore", "train"]
