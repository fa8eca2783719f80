"""The run directory: what is kept of a training, every write of it whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import safetensors
import safetensors.torch
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter
from torch import Tensor

from elman.config import explain
from elman.data.source import printable
from elman.data.strict import parse_json
from elman.errors import ElmanError
from elman.media.pretrained import KnownVectors
from elman.training.lock import LOCK, Lock, is_lock
from elman.version import __version__

#: Of config.json; a later elman may raise it. What is older is still read.
FORMAT = 2

#: No count in a run is greater.
MOST = 2**53

CONFIG, MODEL, LAST, METRICS = "config.json", "model.safetensors", "last.safetensors", "metrics.jsonl"


Record = TypeVar("Record")


def _different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("should have no name twice")
    return names


#: Labels or tags in a file of a run: one or more, no two alike.
Names = Annotated[list[str], Field(min_length=1), AfterValidator(_different)]


class NewerFormat(ElmanError):
    """A run of a newer elman."""


class Sources(BaseModel):
    """The data of a training: files, the number of examples and of units such as tokens to train on, a hash of all
    that was read, and the pretrained embeddings that it started from."""

    data: list[str]
    valid: list[str]
    examples: int = Field(ge=0, le=MOST)
    units: int = Field(ge=0, le=MOST)
    fingerprint: str
    vectors: list[KnownVectors] = []


class RunConfig(BaseModel):
    """config.json."""

    elman: str
    format: int
    task: str
    config: dict[str, Any]
    sources: Sources


def is_run(path: str) -> bool:
    """Whether there is a run directory of this name; any text can be asked about."""
    return bool(path.strip()) and os.path.isfile(os.path.join(os.path.expanduser(path), CONFIG))


class _Step(BaseModel):
    """What every line of metrics.jsonl has."""

    step: int = Field(ge=0, le=MOST)


class Run:
    """A folder with

    ================== ====================================================================
    config.json        task, options, data: all it takes to build the model again
    model.safetensors  the weights of the best validation
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
        try:
            name = os.fsdecode(path)
        except TypeError:
            raise ElmanError(f"{path!r} is not the name of a folder; a run directory is needed") from None
        if not name.strip() or "\0" in name:
            raise ElmanError(f"{name!r} is not the name of a folder; a run directory is needed")
        if name != printable(name):  # weights can neither be read nor be written there
            raise ElmanError(f"{printable(name)}: the name of a run directory must be UTF-8")
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
        if not os.path.isdir(self.path):
            kind = "this is a file" if os.path.exists(self.path) else "no such folder"
            raise ElmanError(f"{self.path}: {kind}; a run directory, as elman train writes it, is needed")
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ElmanError(f"{self.path}: not a whole run directory: {name} is missing") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ElmanError(f"{self.path / name}: cannot be read: {error}") from None

    def config(self) -> RunConfig:
        """config.json, checked for its form and its version."""
        config = parse_json(self.read(CONFIG), str(self.path / CONFIG))
        try:
            if isinstance(config, dict) and isinstance(config.get("format"), int) and config["format"] > FORMAT:
                raise NewerFormat(
                    f"{self.path / CONFIG}: written in format {config['format']} by elman {config.get('elman', '?')}; "
                    f"this one reads up to {FORMAT}: pip install -U elman"
                )
            return RunConfig.model_validate(config, strict=True)
        except pydantic.ValidationError as error:
            raise ElmanError(f"{self.path / CONFIG}: not a run's config: {explain(error)}") from None

    def record(self, name: str, schema: TypeAdapter[Record]) -> Record:
        """A JSON file of the run.

        Raises:
            ElmanError: it is missing, not JSON, or not what the schema says.
        """
        value = parse_json(self.read(name), str(self.path / name))
        try:
            return schema.validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            raise ElmanError(f"{self.path / name}: {explain(error)}") from None

    def write_tensors(self, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """A safetensors file; ``about`` becomes its metadata."""
        flat = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
        self.write(name, safetensors.torch.save(flat, metadata={"elman": json.dumps(about)}))

    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `write_tensors` wrote. Nothing is ever unpickled."""
        with self._tensors(name) as file:
            about = parse_json((file.metadata() or {}).get("elman", "{}"), str(self.path / name), infinity=True)
            return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118

    def read_forms(self, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The type ("F32") and the shape of each tensor in a safetensors file, of which no more than that is read."""
        with self._tensors(name) as file:
            parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            return {key: (part.get_dtype(), tuple(part.get_shape())) for key, part in parts.items()}

    @contextlib.contextmanager
    def _tensors(self, name: str) -> Iterator[Any]:
        path = self.path / name
        if not os.path.isfile(path):
            raise ElmanError(f"{self.path}: not a whole run directory: {name} is missing")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                yield file
        except ElmanError:
            raise
        except (safetensors.SafetensorError, OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            raise ElmanError(f"{path}: not a whole safetensors file ({error}); nothing was loaded") from None

    def metrics(self) -> list[tuple[int, str]]:
        """The lines of metrics.jsonl, each with its step; one that a kill has cut short at the end is left out.

        Raises:
            ElmanError: another line is not one that elman wrote.
        """
        path = self.path / METRICS
        if not os.path.exists(path):
            return []
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise ElmanError(f"{path}: cannot be read: {error.strerror}") from None
        found = []
        for number, line in enumerate(lines, 1):
            try:
                value = parse_json(line, f"{path}, line {number}")
                found.append((_Step.model_validate(value, strict=True).step, line.decode()))
            except ElmanError:
                if number < len(lines):
                    raise
            except pydantic.ValidationError as error:
                raise ElmanError(f"{path}, line {number}: {explain(error)}; mend or remove it") from None
        return found

    def keep_metrics_until(self, step: int) -> None:
        """Drops the lines of metrics.jsonl after ``step``: they will be made again."""
        found = self.metrics()
        if found:
            self.write(METRICS, "".join(line + "\n" for at, line in found if at <= step))
