"""The run directory: what is kept of a training, every write of it whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import safetensors
import safetensors.torch
from pydantic import BaseModel
from torch import Tensor

from elman.errors import ElmanError
from elman.training.config import explain
from elman.training.lock import LOCK, Lock, is_lock
from elman.version import __version__

#: Of config.json; a later elman may raise it. What is older is still read.
FORMAT = 1

CONFIG, MODEL, LAST, METRICS = "config.json", "model.safetensors", "last.safetensors", "metrics.jsonl"


class NewerFormat(ElmanError):
    """A run of a newer elman."""


class KnownVectors(BaseModel):
    """How many of a vocabulary's tokens a file of word vectors knew."""

    file: str
    known: int
    tokens: int


class Sources(BaseModel):
    """The data of a training: files, how many texts or other examples and units (tokens) to train on,
    a hash of all that was read, and the word vectors that it began with."""

    data: list[str]
    valid: list[str]
    examples: int
    units: int
    fingerprint: str
    vectors: list[KnownVectors] = []


class RunConfig(BaseModel):
    """config.json."""

    elman: str
    format: int
    task: str
    config: dict[str, Any]
    sources: Sources


class Run:
    """A folder with

    ================== ====================================================================
    config.json        task, options, data: all it takes to build the model again
    model.safetensors  the weights with the best validation loss
    tokenizer.json     and what else the task needs
    last.safetensors   weights, optimiser, carried state, random numbers: to go on from
    metrics.jsonl      one object a line, by step
    README.md          the model card
    .elman-lock        while a training writes: its process
    ================== ====================================================================

    Raises:
        ElmanError: the path is no name of a folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name = os.fspath(path)
        if not name.strip() or "\0" in name:
            raise ElmanError(f"{name!r} is not the name of a folder; a run directory is needed")
        self.path = Path(os.path.expanduser(name))
        self._lock: Lock | None = None

    def exists(self) -> bool:
        """Whether there is a config.json in the folder, elman's or not."""
        return os.path.exists(self.path / CONFIG)

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """The folder is this process's own to write to, inside the block; it is made where there is none.

        It may be absent or empty, or hold a run. Inside a block of the same `Run` this does nothing.

        Raises:
            ElmanError: the folder holds what elman did not write, cannot be written, or is in use by another process.
        """
        if self._lock is not None:
            yield
            return
        self._check_owner()
        made = self._make()
        self._lock = Lock(self.path)
        try:
            self._lock.take(__version__)
            self._check_owner()  # what another process did until now
            yield
        finally:
            self.release()
            for folder in made:  # as it was, where nothing has been written
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def release(self) -> None:
        """Ends what `claim` began."""
        if self._lock is not None:
            begun = self._names() - {LOCK}
            self._lock.release(remove=not begun or self.exists())  # else it is the sign that the folder is elman's
            self._lock = None

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self.path))
        except OSError:
            return set()

    def _check_owner(self) -> None:
        """ElmanError if the path is no folder that elman may write to."""
        path = self.path
        if not os.path.isdir(path):
            if os.path.lexists(path):
                kind = "a link to nothing" if os.path.islink(path) else "a file"
                raise ElmanError(f"{path}: this is {kind}; a run directory is a folder: choose another name")
            return
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            raise ElmanError(f"{path}: cannot be read: {error.strerror}; choose another folder") from None
        if not names or is_lock(path / LOCK):
            return
        if CONFIG in names:
            try:
                self.config()
            except NewerFormat:
                return
            except ElmanError as error:
                raise ElmanError(f"{error}; only a folder that elman made, or an empty one, is written to") from None
            return
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise ElmanError(
            f"{path}: this folder holds files that elman did not write ({shown}); "
            f"choose another one, such as {path / 'run'}"
        )

    def _make(self) -> list[Path]:
        """Makes the folder; those that were made, the innermost first."""
        missing, there = [], self.path
        while not os.path.exists(there):
            missing.append(there)
            there = there.parent
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path):
                pass
        except OSError as error:
            for folder in missing:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise ElmanError(f"{self.path}: cannot be written: {error.strerror}; choose another folder") from None
        return missing

    def write(self, name: str, data: str | bytes) -> None:
        """The file, whole or not at all: written beside, flushed to the disk, put in its place."""
        target = self.path / name
        partial = target.with_name(f".{name}.partial")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise ElmanError(f"{target}: cannot be written: {error.strerror}; what was saved before is whole") from None

    def append(self, name: str, line: str) -> None:
        """One line at the end of a file."""
        try:
            with open(self.path / name, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise ElmanError(f"{self.path / name}: cannot be written: {error.strerror}") from None

    def may_write(self, name: str, mark: str) -> bool:
        """Whether there is no such file, or one that has the mark of elman's own: another one is its author's."""
        try:
            return mark.encode() in (self.path / name).read_bytes()
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def read(self, name: str) -> str:
        """A text file of the run."""
        if not self.path.is_dir():
            kind = "this is a file" if self.path.exists() else "no such folder"
            raise ElmanError(f"{self.path}: {kind}; a run directory, as elman train writes it, is needed")
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ElmanError(f"{self.path}: not a whole run directory: {name} is missing") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ElmanError(f"{self.path / name}: cannot be read: {error}") from None

    def config(self) -> RunConfig:
        """config.json, checked for its form and its version."""
        try:
            config = json.loads(self.read(CONFIG))
        except json.JSONDecodeError as error:
            raise ElmanError(f"{self.path / CONFIG}: not JSON at line {error.lineno}: {error.msg}") from None
        try:
            if isinstance(config, dict) and isinstance(config.get("format"), int) and config["format"] > FORMAT:
                raise NewerFormat(
                    f"{self.path / CONFIG}: written in format {config['format']} by elman {config.get('elman', '?')}; "
                    f"this one reads up to {FORMAT}: pip install -U elman"
                )
            return RunConfig.model_validate(config, strict=True)
        except pydantic.ValidationError as error:
            raise ElmanError(f"{self.path / CONFIG}: not a run's config: {explain(error)}") from None

    def write_tensors(self, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """A safetensors file; ``about`` becomes its metadata."""
        flat = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
        self.write(name, safetensors.torch.save(flat, metadata={"elman": json.dumps(about)}))

    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `write_tensors` wrote. Nothing is ever unpickled."""
        path = self.path / name
        if not path.exists():
            raise ElmanError(f"{self.path}: not a whole run directory: {name} is missing")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {}).get("elman", "{}"))
                return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise ElmanError(f"{path}: not a whole safetensors file ({error}); nothing was loaded") from None

    def keep_metrics_until(self, step: int) -> None:
        """Drops the lines of metrics.jsonl after ``step``: they will be made again."""
        path = self.path / METRICS
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # a line cut short when the run was killed
        self.write(METRICS, "".join(kept))
