"""The options of every task whose model writes a text."""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeVar

from pydantic import Field

from elman.config import Needs, Options
from elman.layers.attention import AttentionKind
from elman.training.config import TrainConfig

Config = TypeVar("Config", bound="WritingConfig")

TABLES = Needs("data in tables", lambda c: c["tables"])
#: The key ``model`` exists in tasks that offer a choice.
RECURRENT = Needs("a recurrent model", lambda c: c["model"] != "transformer")
_HEADS = Needs(
    "model transformer, or attention multihead or rotary",
    lambda c: c.get("model") == "transformer" or c["attention"] in ("multihead", "rotary"),
)


class WritingData(Options):
    """How examples are read and held out."""

    heading = "Data"

    max_tokens: int = Field(256, ge=1, description="Maximum number of tokens of a text that is read or written.")
    truncate: bool = Field(False, description="Truncate longer training texts instead of skipping them.")
    skip_bad: Annotated[bool, TABLES] = Field(
        False, description="Skip rows of tables that cannot be read, and report how many."
    )
    valid_fraction: float = Field(
        0.05, gt=0, lt=1, description="Fraction that is held out without --valid, at most 2,000 inputs."
    )


class WritingModel(Options):
    """The decoder."""

    heading = "Model"

    cell: Annotated[str, RECURRENT] = Field("lstm", description="Cell of the recurrent layers.")
    embedding_size: int = Field(256, ge=1, description="Size of an embedding.")
    hidden_size: int | None = Field(
        None, ge=1, description="Units of a recurrent layer. Default: by the duration of training."
    )
    num_layers: int | None = Field(None, ge=1, le=1000, description="Recurrent layers. Default: by the data.")
    attention: Annotated[AttentionKind, RECURRENT] = Field("additive", description="Attention of a recurrent decoder.")
    heads: Annotated[int, _HEADS] = Field(4, ge=1, description="Heads of multihead and rotary attention.")
    input_feeding: Annotated[bool, RECURRENT] = Field(
        False, description="Feed the attention vector into the next step; slower, as training runs step by step."
    )
    tie: bool = Field(True, description="Use the target embedding as output weights too.")
    dropout: float = Field(
        0.3, ge=0, lt=1, description="Dropout of embeddings, between layers and of the output. Default: by the "
        "duration of training.",
    )  # fmt: skip


class WritingConfig(WritingData, WritingModel, TrainConfig):
    """The options of every task whose model writes a text."""

    heading = "Training"

    batch_size: int = Field(2048, ge=1, description="Tokens per step and process, including padding.")
    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate. Default: by the model and its size.")
    patience: int | None = Field(
        None,
        ge=1,
        description="Early stopping: stop after this many validations without improvement; 'none' disables it.",
    )
    word_dropout: float = Field(0.0, ge=0, lt=1, description="Probability that a token is replaced by 'unknown'.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Fraction of the target spread over all tokens.")
    scheduled_sampling: float = Field(
        0.0, ge=0, lt=1, description="Probability that the decoder reads its own prediction instead of the target."
    )
    average: float = Field(
        0.995, ge=0, lt=1, description="Decay of the exponential moving average of the weights; 0 disables it."
    )


class Sizes(NamedTuple):
    """The default sizes of a model."""

    hidden_size: int
    num_layers: int
    learning_rate: float
    dropout: float


def with_sizes(config: Config, sizes: Sizes, **more: object) -> Config:
    """Return the config with a value for every option that was left to the data.

    Args:
        config: the options.
        sizes (Sizes): the default sizes.
        **more: further values to set.
    """
    given = config.model_fields_set
    left = {key: value for key, value in sizes._asdict().items() if key not in given or getattr(config, key) is None}
    return config.model_copy(update={**left, **more})
