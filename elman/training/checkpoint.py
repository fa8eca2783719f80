"""The checkpoint of a run, last.safetensors, which is checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import pydantic
import torch
from pydantic import AfterValidator, BaseModel, Field
from torch import Tensor

from elman.config import explain
from elman.errors import ElmanError
from elman.training.model import OTHER_VERSION, check_finite
from elman.training.run import LAST, MAX_COUNT, Run


def _metric(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and -1e308 <= value <= 1e308):
        raise ValueError("should be a finite number")
    return value


class Progress(BaseModel):
    """The state of a training beside its tensors."""

    step: int = Field(default=0, ge=0, le=MAX_COUNT)
    seconds: float = Field(default=0.0, ge=0, le=MAX_COUNT)
    first_loss: float = math.inf
    best: dict[str, Annotated[Any, AfterValidator(_metric)]] = {}
    stale: int = Field(default=0, ge=0, le=MAX_COUNT)


class About(BaseModel):
    """The metadata of a checkpoint; ``tensors`` is their number, None in old checkpoints."""

    progress: Progress
    world: int = Field(default=1, ge=1, le=MAX_COUNT)
    tensors: int | None = None


class Checkpoint:
    """The content of the last.safetensors of a run.

    Raises:
        ElmanError: the file is missing, incomplete, or not a checkpoint of elman.
    """

    def __init__(self, run: Run) -> None:
        self.source = str(run.path / LAST)
        self._tensors, about = run.read_tensors(LAST)
        try:
            self.about = About.model_validate(about, strict=True)
        except pydantic.ValidationError as error:
            raise self.wrong(explain(error)) from None
        if self.about.tensors not in (None, len(self._tensors)):
            raise self.wrong(f"it has {len(self._tensors)} tensors, expected {self.about.tensors}")
        check_finite(self._tensors, self.source)

    def rename(self, name: Callable[[str], str]) -> None:
        """Rename the weights of the network and their averages."""
        for kind in ("network.", "average."):
            for key in [key for key in self._tensors if key.startswith(kind)]:
                self._tensors[kind + name(key.removeprefix(kind))] = self._tensors.pop(key)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose name has a prefix, without the prefix."""
        return {k.removeprefix(prefix): v for k, v in self._tensors.items() if k.startswith(prefix)}

    def like(self, prefix: str, expected: Mapping[str, Tensor], or_bf16: bool = False) -> dict[str, Tensor]:
        """Return the same as `part`, after checking names, types and shapes against expected tensors.

        Args:
            prefix (str): what the names begin with.
            expected (Mapping[str, Tensor]): tensors of the right form.
            or_bf16 (bool): whether bfloat16 is right as well: layers return it in training with that precision.
        """
        found = self.part(prefix)
        if missing := [key for key in expected if key not in found]:
            raise self.wrong(f"{prefix}{missing[0]} is missing{OTHER_VERSION}")
        if strange := [key for key in found if key not in expected]:
            raise self.wrong(f"{prefix}{strange[0]} is not expected{OTHER_VERSION}")
        for key, one in expected.items():
            kinds = (one.dtype, torch.bfloat16) if or_bf16 else (one.dtype,)
            if found[key].shape != one.shape or found[key].dtype not in kinds:
                raise self.wrong(f"{prefix}{key} is {_form(found[key])}, expected {_form(one)}")
        return found

    def random(self, name: str, rank: int, now: Tensor) -> Tensor:
        """Return the state of a random number generator for this process; ``now`` is a state of the right form."""
        found = self._tensors.get(f"random.{name}")
        if found is None or found.shape != (self.about.world, *now.shape) or found.dtype != now.dtype:
            raise self.wrong(f"random.{name} is not the state of a random number generator")
        return found[rank]

    def wrong(self, problem: str) -> ElmanError:
        """Return the error for a problem with the checkpoint."""
        return ElmanError(f"{self.source}: not a checkpoint of this run: {' '.join(problem.split())}")


def write(run: Run, progress: dict[str, Any], world: int, tensors: dict[str, Tensor]) -> None:
    """Write the checkpoint."""
    run.write_tensors(LAST, tensors, {"progress": progress, "world": world, "tensors": len(tensors)})


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
