"""The run directory: what is kept of a training, every write of it whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pydantic
import safetensors
import safetensors.torch
from pydantic import BaseModel
from torch import Tensor

from elman.errors import ElmanError
from elman.training.config import explain

#: Of config.json; a later elman may raise it. What is older is still read.
FORMAT = 1

CONFIG, MODEL, LAST, METRICS = "config.json", "model.safetensors", "last.safetensors", "metrics.jsonl"


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
    ================== ====================================================================
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def exists(self) -> bool:
        return (self.path / CONFIG).exists()

    def check(self) -> None:
        """ElmanError if the folder cannot be written; a folder that is not there yet is not made."""
        there = self.path
        while not there.exists() and there != there.parent:
            there = there.parent
        try:
            with tempfile.NamedTemporaryFile(dir=there):
                pass
        except OSError as error:
            raise ElmanError(f"{self.path}: cannot be written: {error.strerror}; choose another folder") from None

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
                raise ElmanError(
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
