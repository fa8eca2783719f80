"""The two verbs everything begins with: train a model, load a model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elman import tasks
from elman.config import parse
from elman.data.source import absolute, sources
from elman.errors import ElmanError
from elman.layers.starting import unstarted
from elman.training import loggers
from elman.training.config import TrainConfig
from elman.training.distributed import World, is_first, pick_device
from elman.training.events import Listener
from elman.training.run import CONFIG, LAST, MODEL, Run
from elman.training.task import Task
from elman.training.trainer import Trainer

#: What may differ when a run goes on: how long, how it is watched. Nothing else.
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
) -> Any:
    """Trains a model on your files and gives it back, with the weights that did best.

        model = elman.train("language", "shakespeare.txt", minutes=2)

    Arguments:
        task: a name in `elman.tasks.TASKS`.
        data: a path or several (``-`` is standard input), or data in memory: a DataFrame of pandas, polars or Arrow, a
            dict of columns, or a list of rows, which are dicts or tuples: (text, label), (source, target),
            (words, tags), (story, question, answer), or (series, label) with an array (T, C). Language models and
            ``fill`` take a column of texts, or an open file.
        out: the run directory to write, absent, empty or a run to resume; None: nothing is written
            (``model.save`` does it later).
        valid: data to validate on, given as ``data``, instead of a held-out part of it.
        resume: go on with the run in ``out`` from its last checkpoint; data and options are that
            run's own, but for how long it goes on.
        progress: show how it goes.
        listeners: called with every `elman.training.events.Event`.
        options: the task's options; `elman train TASK --help` lists them.

    Raises:
        ElmanError: a file, an option or the run directory cannot be used, because it holds files of others or
            another process trains it, say; or training diverged.
    """
    kind = tasks.get(task)
    config = parse(kind.Config, options)
    run = out if out is None or isinstance(out, Run) else Run(out)
    paths, valid_paths = sources(data), sources(valid)
    if valid_paths and "valid_fraction" in options:
        raise ElmanError("valid_fraction: nothing is held out where data to validate on are given; leave one out")
    if resume and run is None:
        raise ElmanError("resume: give the run directory to go on with, as out")
    if run is not None and kind.takes_folders:
        _apart(run, [*paths, *valid_paths])
    heard: list[Listener] = list(listeners)
    if progress and is_first():
        from elman.cli.display import Display

        heard.append(Display())
    with run.claim() if run is not None and is_first() else contextlib.nullcontext():
        if run is None or not run.exists():
            before = None
        elif resume:
            before = run
            config, paths, valid_paths = _again(run, config, set(options), paths, valid_paths)
        else:
            raise ElmanError(f"{run.path}: holds a run already; --resume goes on with it, another --out keeps both")
        if not paths:
            hint = f"; there is no run in {run.path} to go on with" if resume and run is not None else ""
            raise ElmanError(f"no data: give one file or more{hint}")
        world = World(_device(config.device))
        try:
            model, examples, held = kind.prepare(config, paths, valid_paths, before)
            # what is in memory is held here, so that `held_out` finds it again; config.json has its name
            model.sources.data, model.sources.valid = list(map(absolute, paths)), list(map(absolute, valid_paths))
            if before and before.config().sources.fingerprint != model.sources.fingerprint:
                raise ElmanError(f"{', '.join(paths)}: not the data that the run in {before.path} was trained on")
            world.wait()  # nobody writes before all have looked
            if run is not None and world.rank == 0:
                model.write_config(run) if before else model.write_setup(run)
                heard.append(loggers.jsonl(run))
                if config.tensorboard:
                    heard.append(loggers.tensorboard(run))
            trainer = Trainer(model, examples, held, run, world, heard)
            trainer.train(resume=run is not None and (run.path / LAST).exists())
        finally:
            world.leave()
    return model


def load(directory: str | os.PathLike[str], device: str = "cpu") -> Any:
    """The model of a run directory, with its best weights.

    Raises:
        ElmanError: the directory is not whole, not a run, or of a newer elman.
    """
    import torch

    run = Run(directory)
    with torch.device("meta"):
        restore(run).check_model(run)
    model = restore(run)
    model.load_model(run)
    model.network.to(_device(device)).eval()
    return model


def restore(run: Run) -> Task:
    """The task of a run directory, its weights still to be loaded: no time goes into drawing others."""
    saved = run.config()
    kind = tasks.get(saved.task)
    config = parse(kind.Config, saved.config, str(run.path / CONFIG))
    with unstarted():
        return kind.restore(config, run, saved.sources)


def _again(
    run: Run, asked: TrainConfig, given: set[str], paths: list[str], valid: list[str]
) -> tuple[TrainConfig, list[str], list[str]]:
    """Config and files of a run that goes on, with what may change changed."""
    saved, kind = run.config(), type(asked)
    if tasks.get(saved.task).Config is not kind:
        raise ElmanError(f"{run.path}: a run of the task {saved.task}")
    if (run.path / MODEL).exists() and not (run.path / LAST).exists():
        raise ElmanError(f"{run.path}: a saved model, without the {LAST} that training goes on from")
    before = parse(kind, saved.config, str(run.path / CONFIG)).model_dump()
    wanted = {key: value for key, value in asked.model_dump().items() if key in given}
    for key, value in wanted.items():
        if key not in _MAY_CHANGE and value != before[key]:
            raise ElmanError(
                f"{key}: the run in {run.path} has {before[key]!r}; what may change when it goes on: "
                + ", ".join(sorted(_MAY_CHANGE))
            )
    if "steps" in wanted or "minutes" in wanted:  # the one that is given now is the one that counts
        wanted = {"steps": None, "minutes": None, **wanted}
    config = parse(kind, before | wanted)
    return config, paths or saved.sources.data, valid or saved.sources.valid


def _apart(run: Run, paths: list[str]) -> None:
    """ElmanError where the run would lie in a folder of data: it would be read as a part of them."""
    place = Path(os.path.realpath(run.path))
    inside = [place, *place.parents]
    for path in paths:
        if os.path.isdir(path) and Path(os.path.realpath(path)) in inside:
            raise ElmanError(f"{run.path}: this is a folder inside that of the data, {path}; choose another one")


def _device(name: str) -> Any:
    import torch

    try:
        device = pick_device(name)
        torch.ones(1, device=device).item()  # meta takes a tensor and gives none back
    except (RuntimeError, AssertionError, ImportError, AttributeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ElmanError(f"device: {name!r} cannot be used: {reason}") from None
    return device


__all__ = ["load", "restore", "train"]
