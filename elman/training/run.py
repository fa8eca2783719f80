"""The run directory: the files of a training, each written atomically."""

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

#: The format of config.json. Older formats are read, newer ones are refused.
FORMAT = 2

#: The largest count in a run.
MAX_COUNT = 2**53

CONFIG, MODEL, LAST, METRICS = "config.json", "model.safetensors", "last.safetensors", "metrics.jsonl"


Record = TypeVar("Record")


def _check_different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("should have no name twice")
    return names


#: Labels or tags in a file of a run: one or more, all different.
Names = Annotated[list[str], Field(min_length=1), AfterValidator(_check_different)]


class NewerFormat(ElmanError):
    """The run was written by a newer version of elman."""


class InitialWeights(BaseModel):
    """The run whose weights a training started from.

    Attributes:
        run (str): the run directory.
        task (str): its task.
        taken (int): how many weights were copied, of `weights` in all.
        afresh (list[str]): the modules and weights that start afresh.
        options (list[str]): options of the model that differ from those of the run.
    """

    run: str
    task: str
    taken: int = Field(ge=0, le=MAX_COUNT)
    weights: int = Field(ge=0, le=MAX_COUNT)
    afresh: list[str] = []
    options: list[str] = []

    def describe(self) -> str:
        """Describe it in one line."""
        parts = [f"{self.run} ({self.task}): {self.taken:,} of {self.weights:,} weights"]
        parts += [f"afresh: {', '.join(self.afresh)}"] if self.afresh else []
        parts += [f"other options: {', '.join(self.options)}"] if self.options else []
        return "; ".join(parts)


class Sources(BaseModel):
    """The data of a training: files, the number of examples and of units such as tokens to train on, a hash of all
    that was read, and the pretrained embeddings and the run that it started from."""

    data: list[str]
    valid: list[str]
    examples: int = Field(ge=0, le=MAX_COUNT)
    units: int = Field(ge=0, le=MAX_COUNT)
    fingerprint: str
    vectors: list[KnownVectors] = []
    init: InitialWeights | None = None


class RunConfig(BaseModel):
    """config.json."""

    elman: str
    format: int
    task: str
    config: dict[str, Any]
    sources: Sources


def is_run(path: str) -> bool:
    """Return whether a text is the path of a run directory."""
    return bool(path.strip()) and os.path.isfile(os.path.join(os.path.expanduser(path), CONFIG))


class _Step(BaseModel):
    """The key of every line of metrics.jsonl."""

    step: int = Field(ge=0, le=MAX_COUNT)


class Run:
    """A run directory: a folder with these files.

    ================== ====================================================================
    config.json        task, options, data: what is needed to build the model
    model.safetensors  the weights of the best validation
    tokenizer.json     and other files of the task
    last.safetensors   weights, optimizer, carried state, random numbers: to resume from
    metrics.jsonl      one JSON object per line, by step
    README.md          the model card
    .elman-lock        the process that trains, while it does
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
        """Return whether the folder has a config.json, written by elman or not."""
        return os.path.exists(self.path / CONFIG)

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Lock the folder for this process inside the block; create it if it does not exist.

        The folder may be absent or empty, or contain a run. A nested block of the same `Run` has no effect.

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
        """Release the lock that `claim` took."""
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
        """ElmanError if the path is not a folder that elman may write to."""
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
        """Create the folder; return the folders that were created, the innermost first."""
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
        """Write a file atomically: to a temporary file, flushed to the disk, then renamed."""
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
        """Append a line to a file."""
        try:
            with open(self.path / name, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise ElmanError(f"{self.path / name}: cannot be written: {error.strerror}") from None

    def may_write(self, name: str, mark: str) -> bool:
        """Return whether a file is absent or contains ``mark``, the text of files that elman has written."""
        try:
            return mark.encode() in (self.path / name).read_bytes()
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def read(self, name: str) -> str:
        """Return the content of a text file of the run."""
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
        """Return config.json, after checking its form and version."""
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
        """Return the content of a JSON file of the run, checked against a schema.

        Raises:
            ElmanError: it is missing, not JSON, or not what the schema says.
        """
        value = parse_json(self.read(name), str(self.path / name))
        try:
            return schema.validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            raise ElmanError(f"{self.path / name}: {explain(error)}") from None

    def write_tensors(self, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Write a safetensors file; ``about`` becomes its metadata."""
        flat = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
        self.write(name, safetensors.torch.save(flat, metadata={"elman": json.dumps(about)}))

    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the tensors and metadata that `write_tensors` wrote. Nothing is unpickled."""
        with self._tensors(name) as file:
            about = parse_json((file.metadata() or {}).get("elman", "{}"), str(self.path / name), infinity=True)
            return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118

    def read_forms(self, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return type ("F32") and shape of each tensor in a safetensors file, from its header alone."""
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
        """Return the lines of metrics.jsonl, each with its step; an incomplete last line is left out.

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
                raise ElmanError(f"{path}, line {number}: {explain(error)}; fix or remove the line") from None
        return found

    def keep_metrics_until(self, step: int) -> None:
        """Remove the lines of metrics.jsonl after ``step``."""
        found = self.metrics()
        if found:
            self.write(METRICS, "".join(line + "\n" for at, line in found if at <= step))
