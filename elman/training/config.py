"""The options that every training has. No torch here: the command line reads it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from elman.config import Options

#: The options of tasks that describe the network; the other ones of a task describe its data.
_OF_THE_MODEL = {
    "attention", "average", "bidirectional", "cell", "character_size", "connection", "crf", "dropout", "embedding_size",
    "heads", "hidden_size", "hierarchical", "input_feeding", "model", "norm", "num_layers", "open_bias", "periods",
    "pooling", "positions", "proj_size", "recurrent_dropout", "target_vectors", "tie", "variational", "vectors",
    "weight_drop", "zoneout",
}  # fmt: skip


class TrainConfig(Options):
    """The options that every task shares. Config key = CLI option = keyword of ``elman.train``."""

    steps: int | None = Field(None, ge=0, description="Stop after so many optimiser steps.")
    minutes: float | None = Field(
        None, gt=0, description="Stop after so much time. Without steps or minutes: by the size of the data."
    )
    seed: int = Field(
        0, ge=0, lt=2**62, description="Seed of the start values, of dropout and of the order of the data."
    )
    batch_size: int = Field(32, ge=1, description="Sequences a step, in each process.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or SGD with Nesterov momentum.")
    learning_rate: float = Field(5e-3, gt=0, description="The highest rate, reached after the warm-up.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled decay of the matrices; biases have none.")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum, AdamW's first beta.")
    beta2: float = Field(0.99, ge=0, lt=1, description="AdamW's second beta.")
    warmup: float = Field(0.05, ge=0, lt=1, description="The share of the run in which the rate rises from 0.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the rate falls to 0 after the warm-up; constant: not at all."
    )
    clip_norm: float | None = Field(1.0, gt=0, description="Scale the gradient down to this norm; 'none': do not.")
    clip_value: float | None = Field(
        None, gt=0, description="Clip each component of the gradient to plus or minus this."
    )
    average: float = Field(
        0.0, ge=0, lt=1, description="Validate and keep an average of the weights over steps, with this decay; 0: none."
    )
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="bf16: mixed precision. auto: bf16 where the processor multiplies it natively."
    )
    device: str = Field("auto", description="cpu, cuda, cuda:1, ...; auto: cuda where there is one.")
    validate_every: int | None = Field(None, ge=1, description="Steps between validations; by default ten a run.")
    patience: int | None = Field(
        5, ge=1, description="Stop after so many validations without a better loss; 'none': never."
    )
    tensorboard: bool = Field(False, description="Write TensorBoard files into the run (extra: tensorboard).")

    @field_validator("*", mode="before")
    @classmethod
    def none(cls, value: Any) -> Any:
        """The word none, for formats that have no empty value."""
        return None if value == "none" else value


def group_of(option: str) -> str:
    """The heading under which the help shows an option of training."""
    if option in _OF_THE_MODEL:
        return "Model"
    return "Training" if option in TrainConfig.model_fields else "Data"
