"""The options of every task that reads a text and writes one."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field

from elman.config import Needs, Options
from elman.layers.attention import AttentionKind
from elman.layers.transformer import Positions
from elman.media.pretrained import size_of_vectors
from elman.tasks.writing.options import RECURRENT, Sizes, WritingConfig, with_sizes

Config = TypeVar("Config", bound="TextToTextConfig")

TRANSFORMER = Needs("model transformer", lambda c: c["model"] == "transformer")
_TWO_EMBEDDINGS = Needs("an embedding for each side, without joint", lambda c: not c.get("joint"))


class TextToTextModel(Options):
    """The network."""

    heading = "Model"

    model: Literal["recurrent", "gnmt", "transformer"] = Field(
        "recurrent",
        description="gnmt: one bidirectional encoder layer, then residual ones; eight layers on each side by default.",
    )
    norm: Annotated[Literal["pre", "post"], TRANSFORMER] = Field(
        "pre", description="Layer normalisation before or after each part of a transformer block."
    )
    positions: Annotated[Positions, TRANSFORMER] = Field(
        "sinusoidal", description="Position embeddings of the transformer."
    )
    vectors: str | None = Field(
        None, description="File with pretrained embeddings of the source: GloVe, word2vec (text or .bin) or fastText "
        "(.vec).",
    )  # fmt: skip
    target_vectors: Annotated[str | None, _TWO_EMBEDDINGS] = Field(
        None, description="File with pretrained embeddings of the target."
    )


class TextToTextConfig(TextToTextModel, WritingConfig):
    """The options of every task that reads a text and writes one."""

    heading = "Training"

    embedding_size: int = Field(
        256, ge=1, description="Size of an embedding; the transformer has this size throughout. Default with vectors: "
        "theirs.",
    )  # fmt: skip
    hidden_size: int | None = Field(
        None, ge=1, description="Units of a recurrent layer, or of the transformer's feed-forward layers. Default: by "
        "the duration of training.",
    )  # fmt: skip
    num_layers: int | None = Field(
        None, ge=1, le=1000, description="Layers on each side. Default: by the model; gnmt 8, transformer 3."
    )
    attention: Annotated[AttentionKind, RECURRENT] = Field("rotary", description="Attention of a recurrent decoder.")
    length_ratio: float | None = Field(
        None, gt=0, description="Maximum number of tokens written for each one read. Default: by the training data."
    )


def with_defaults(config: Config, characters: int, sizes: dict[str, tuple[Sizes, Sizes]]) -> Config:
    """Return the config with a value for every option that was left to the data; docs/log.md says why these.

    Args:
        config: the options.
        characters (int): the length of all targets. Training lasts a minute for each 100,000, from 2 to 30.
        sizes: of each model, the sizes for less than eight minutes and for more.
    """
    minutes = config.minutes
    if minutes is None and config.steps is None:
        minutes = min(30.0, max(2.0, characters / 100_000))
    best = sizes[config.model][minutes is not None and minutes >= 8]
    vectors = size_of_vectors(config, config.vectors, config.target_vectors)
    return with_sizes(config, best, minutes=minutes, **vectors)
