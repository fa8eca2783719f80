"""The options of every task that reads a text and writes one."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import Field

from elman.config import Needs, Options
from elman.layers.attention import AttentionKind
from elman.layers.transformer import Positions
from elman.media.pretrained import size_of_vectors
from elman.training.config import TrainConfig

Config = TypeVar("Config", bound="TextToTextConfig")

TABLES = Needs("data in tables", lambda c: c["tables"])
RECURRENT = Needs("a recurrent model", lambda c: c["model"] != "transformer")
TRANSFORMER = Needs("model transformer", lambda c: c["model"] == "transformer")
_HEADS = Needs(
    "model transformer, or attention multihead or rotary",
    lambda c: c["model"] == "transformer" or c["attention"] in ("multihead", "rotary"),
)
_TWO_EMBEDDINGS = Needs("an embedding for each side, without joint", lambda c: not c.get("joint"))


class TextToTextData(Options):
    """How pairs are read and held out."""

    heading = "Data"

    max_tokens: int = Field(256, ge=1, description="Maximum number of tokens of a text that is read or written.")
    truncate: bool = Field(False, description="Truncate longer training texts instead of skipping them.")
    skip_bad: Annotated[bool, TABLES] = Field(
        False, description="Skip rows of tables that cannot be read, and report how many."
    )
    valid_fraction: float = Field(
        0.05, gt=0, lt=1, description="Fraction that is held out without --valid, at most 2,000 inputs."
    )


class TextToTextModel(Options):
    """The network."""

    heading = "Model"

    model: Literal["recurrent", "gnmt", "transformer"] = Field(
        "recurrent",
        description="gnmt: one bidirectional encoder layer, then residual ones; eight layers on each side by default.",
    )
    cell: Annotated[str, RECURRENT] = Field("lstm", description="Cell of the recurrent layers.")
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
    heads: Annotated[int, _HEADS] = Field(4, ge=1, description="Heads of multihead and rotary attention.")
    input_feeding: Annotated[bool, RECURRENT] = Field(
        False, description="Feed the attention vector into the next step; slower, as training runs step by step."
    )
    norm: Annotated[Literal["pre", "post"], TRANSFORMER] = Field(
        "pre", description="Layer normalisation before or after each part of a transformer block."
    )
    positions: Annotated[Positions, TRANSFORMER] = Field(
        "sinusoidal", description="Position embeddings of the transformer."
    )
    tie: bool = Field(True, description="Use the target embedding as output weights too.")
    vectors: str | None = Field(
        None, description="File with pretrained embeddings of the source: GloVe, word2vec (text or .bin) or fastText "
        "(.vec).",
    )  # fmt: skip
    target_vectors: Annotated[str | None, _TWO_EMBEDDINGS] = Field(
        None, description="File with pretrained embeddings of the target."
    )
    dropout: float = Field(
        0.3, ge=0, lt=1, description="Dropout of embeddings, between layers and of the output. Default: by the "
        "duration of training.",
    )  # fmt: skip


class TextToTextConfig(TextToTextData, TextToTextModel, TrainConfig):
    """The options of every task that reads a text and writes one."""

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
    length_ratio: float | None = Field(
        None, gt=0, description="Maximum number of tokens written for each one read. Default: by the training data."
    )


class Sizes(NamedTuple):
    """The default sizes of a model."""

    hidden_size: int
    num_layers: int
    learning_rate: float
    dropout: float


def with_defaults(config: Config, characters: int, sizes: dict[str, tuple[Sizes, Sizes]]) -> Config:
    """Return the config with a value for every option that was left to the data; docs/log.md says why these.

    Args:
        config: the options.
        characters (int): the length of all targets. Training lasts a minute for each 100,000, from 2 to 30.
        sizes: of each model, the sizes for less than eight minutes and for more.
    """
    given, minutes = config.model_fields_set, config.minutes
    if minutes is None and config.steps is None:
        minutes = min(30.0, max(2.0, characters / 100_000))
    best = sizes[config.model][minutes is not None and minutes >= 8]
    left = {key: value for key, value in best._asdict().items() if key not in given or getattr(config, key) is None}
    left |= size_of_vectors(config, config.vectors, config.target_vectors)
    return config.model_copy(update={"minutes": minutes, **left})
