"""The options that every training has. No torch here: the command line reads it."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from elman.config import Needs, Options


class TrainConfig(Options):
    """The options that every task shares. A name is a key of a config, an option of the command, and a keyword of
    ``elman.train``."""

    heading = "Training"

    steps: int | None = Field(None, ge=0, description="Stop after this many optimizer steps.")
    minutes: float | None = Field(
        None,
        gt=0,
        description="Stop after this many minutes. Default, where steps is not given either: by the size of the data.",
    )
    init: str | None = Field(
        None, description="Run directory to fine-tune: training starts from its weights, where they fit the new model."
    )
    seed: int = Field(
        0, ge=0, lt=2**62, description="Seed of the initial weights, of dropout and of the order of the data."
    )
    batch_size: int = Field(32, ge=1, description="Sequences per step and process.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or SGD with Nesterov momentum.")
    learning_rate: float = Field(5e-3, gt=0, description="Peak learning rate, reached after the warm-up.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay of matrices; biases do not decay.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD, or first beta of AdamW.")
    beta2: Annotated[float, Needs("the optimizer adamw", lambda c: c["optimizer"] == "adamw")] = Field(
        0.99, ge=0, lt=1, description="Second beta of AdamW."
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="Fraction of the run during which the learning rate rises from 0."
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Decay of the learning rate to 0 after the warm-up; constant keeps it."
    )
    clip_norm: float | None = Field(
        1.0, gt=0, description="Clip the norm of the gradient to this value; 'none' disables clipping."
    )
    clip_value: float | None = Field(
        None, gt=0, description="Clip each component of the gradient to plus or minus this value."
    )
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of the moving average of the weights that is validated and saved; 0 disables it.",
    )
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="bf16 is mixed precision; auto uses it where the processor supports it natively."
    )
    device: str = Field("auto", description="cpu, cuda, cuda:1, ...; auto uses cuda if available.")
    validate_every: int | None = Field(
        None, ge=1, description="Steps between validations. Default: ten validations per run."
    )
    patience: int | None = Field(
        5, ge=1, description="Early stopping: stop after this many validations without improvement; 'none' disables it."
    )
    tensorboard: Annotated[bool, Needs("a run directory, given as out", lambda c: c["out"])] = Field(
        False, description="Write TensorBoard files into the run (extra: tensorboard)."
    )

    @field_validator("init", mode="before")
    @classmethod
    def path(cls, value: Any) -> Any:
        """Take a `Path`, too."""
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @field_validator("*", mode="before")
    @classmethod
    def none(cls, value: Any) -> Any:
        """The word none, for formats that have no empty value."""
        return None if value == "none" else value
