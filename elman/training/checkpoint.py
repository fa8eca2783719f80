"""last.safetensors: where a run is, checked before any of it is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BaseModel, Field
from torch import Tensor

from elman.config import explain
from elman.errors import ElmanError
from elman.training.model import check_finite
from elman.training.run import LAST, MOST, Run


def _metric(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and -1e308 <= value <= 1e308):
        raise ValueError("should be a finite number")
    return value


class Progress(BaseModel):
    """Where a run is; with the tensors of the checkpoint, all it takes to go on."""

    step: int = Field(default=0, ge=0, le=MOST)
    seconds: float = Field(default=0.0, ge=0, le=MOST)
    first_loss: float = math.inf
    best: dict[str, Annotated[Any, AfterValidator(_metric)]] = {}
    stale: int = Field(default=0, ge=0, le=MOST)


class About(BaseModel):
    """The metadata of a checkpoint. tensors: how many it has, where that is known."""

    progress: Progress
    world: int = Field(default=1, ge=1, le=MOST)
    tensors: int | None = None


class Checkpoint:
    """What a run's last.safetensors says.

    Raises:
        ElmanError: the file is missing, not whole, or not a checkpoint of elman's.
    """

    def __init__(self, run: Run) -> None:
        self.source = str(run.path / LAST)
        self._tensors, about = run.read_tensors(LAST)
        try:
            self.about = About.model_validate(about, strict=True)
        except pydantic.ValidationError as error:
            raise self.wrong(explain(error)) from None
        if self.about.tensors not in (None, len(self._tensors)):
            raise self.wrong(f"it has {len(self._tensors)} tensors of {self.about.tensors}")
        check_finite(self._tensors, self.source)

    def rename(self, name: Callable[[str], str]) -> None:
        """Give the network's weights and their averages the names that they have today."""
        for kind in ("network.", "average."):
            for key in [key for key in self._tensors if key.startswith(kind)]:
                self._tensors[kind + name(key.removeprefix(kind))] = self._tensors.pop(key)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name begins so, without that beginning."""
        return {k.removeprefix(prefix): v for k, v in self._tensors.items() if k.startswith(prefix)}

    def like(self, prefix: str, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same, where they have the names, types and shapes of the expected ones."""
        found = self.part(prefix)
        if missing := [key for key in expected if key not in found]:
            raise self.wrong(f"{prefix}{missing[0]} is missing")
        if strange := [key for key in found if key not in expected]:
            raise self.wrong(f"{prefix}{strange[0]} is none of its tensors")
        for key, one in expected.items():
            if found[key].shape != one.shape or found[key].dtype != one.dtype:
                raise self.wrong(f"{prefix}{key} is {_form(found[key])}, it would be {_form(one)}")
        return found

    def random(self, name: str, rank: int, now: Tensor) -> Tensor:
        """The state of a random number generator of this process; ``now``: one of the right form."""
        found = self._tensors.get(f"random.{name}")
        if found is None or found.shape != (self.about.world, *now.shape) or found.dtype != now.dtype:
            raise self.wrong(f"random.{name} is no state of random numbers")
        return found[rank]

    def wrong(self, problem: str) -> ElmanError:
        """The error that says what is wrong with the checkpoint."""
        return ElmanError(f"{self.source}: not a checkpoint of this run: {' '.join(problem.split())}")


def write(run: Run, progress: dict[str, Any], world: int, tensors: dict[str, Tensor]) -> None:
    """Writes the checkpoint."""
    run.write_tensors(LAST, tensors, {"progress": progress, "world": world, "tensors": len(tensors)})


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
