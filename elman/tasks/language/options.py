"""The options of ``elman train language``."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from elman import cells
from elman.config import Needs, Options, several
from elman.data.tokenizer import TokenKind
from elman.errors import ElmanError
from elman.layers import Connection
from elman.layers.transformer import Positions
from elman.media.pretrained import size_of_vectors
from elman.training.config import TrainConfig

#: Dropout, by how often the text is read at most.
_DROPOUTS = ((2, 0.0), (10, 0.1), (30, 0.3), (math.inf, 0.5))

_RECURRENT = Needs("model recurrent", lambda c: c["model"] == "recurrent")
_TRANSFORMER = Needs("model transformer", lambda c: c["model"] == "transformer")
_VOCABULARY = Needs("tokens word or bpe; char takes every character of the text", lambda c: c["tokens"] != "char")
_WORDS = Needs("tokens word or bpe; embeddings are for words", lambda c: c["tokens"] != "char")


class LanguageData(Options):
    """How text is read and held out."""

    heading = "Data"

    tokens: TokenKind = Field("char", description="Tokens that the model reads and writes.")
    vocab_size: Annotated[int | None, _VOCABULARY] = Field(
        None, ge=2, description="Size of the vocabulary. Default: word 20000, bpe 4096."
    )
    window: int = Field(64, ge=1, description="Steps of truncated backpropagation through time.")
    valid_fraction: float = Field(
        0.1, gt=0, lt=1, description="Fraction of each file, at its end, that is held out without --valid."
    )


class LanguageModelOptions(Options):
    """The network."""

    heading = "Model"

    model: Literal["recurrent", "transformer"] = Field("recurrent", description="Layers over time.")
    cell: Annotated[list[str], _RECURRENT] = Field(
        ["lstm"], min_length=1, max_length=1000, description="Cell of all layers, or of each: lstm,gru."
    )
    hidden_size: list[int] | None = Field(
        None, min_length=1, max_length=1000, description="Units of all layers, or of each; of the transformer's "
        "feed-forward layers. Default: by the data and the duration of training.",
    )  # fmt: skip
    num_layers: int | None = Field(
        None, ge=1, le=1000, description="Number of layers. Default: 1, or as many as are listed; transformer 4."
    )
    proj_size: Annotated[int, _RECURRENT] = Field(0, ge=0, description="Size of the output of a projected_lstm.")
    open_bias: Annotated[float, _RECURRENT] = Field(
        0.0, description="Initial bias of the forget gate; 1 keeps memory longer at first."
    )
    embedding_size: int = Field(
        64, ge=1, description="Size of an embedding; the transformer has this size throughout (default 128). Default "
        "with vectors: theirs.",
    )  # fmt: skip
    heads: Annotated[int, _TRANSFORMER] = Field(4, ge=1, description="Attention heads of the transformer.")
    positions: Annotated[Positions, _TRANSFORMER] = Field(
        "sinusoidal", description="Position embeddings of the transformer."
    )
    vectors: Annotated[str | None, _WORDS] = Field(
        None, description="File with pretrained embeddings: GloVe, word2vec (text or .bin) or fastText (.vec)."
    )
    tie: bool = Field(False, description="Use the embedding as output weights too.")
    connection: Annotated[Connection, _RECURRENT] = Field("plain", description="Connections between layers.")
    blocks: Annotated[bool, _RECURRENT] = Field(
        False, description="Put each recurrent layer into a residual block with norm, short convolution, gate and "
        "feed-forward network.",
    )  # fmt: skip
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Dropout of embeddings, between layers and of the output. Default: by the data "
        "and the duration of training.",
    )  # fmt: skip
    variational: Annotated[bool, _RECURRENT] = Field(
        False, description="Use one dropout mask for all time steps instead of one per step."
    )
    weight_drop: Annotated[float, _RECURRENT] = Field(
        0.0, ge=0, lt=1, description="Dropout of the recurrent weight matrices."
    )
    recurrent_dropout: Annotated[float, _RECURRENT] = Field(
        0.0, ge=0, lt=1, description="Dropout of h in the recurrence, with one mask for all time steps."
    )
    zoneout: Annotated[float, _RECURRENT] = Field(
        0.0, ge=0, lt=1, description="Probability that a unit keeps its previous value."
    )

    several = field_validator("cell", "hidden_size", mode="before")(several)


class LanguageConfig(LanguageData, LanguageModelOptions, TrainConfig):
    """The options of ``elman train language``."""

    heading = "Training"

    learning_rate: float = Field(
        1e-2, gt=0, description="Peak learning rate, reached after the warm-up (default 0.003 for the transformer and "
        "for blocks).",
    )  # fmt: skip
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay of matrices; biases do not decay.")


def with_defaults(config: LanguageConfig, tokens: int) -> LanguageConfig:
    """Return the config with a value for every option that was left to the data; docs/log.md says why these.

    Duration: a minute for each 100,000 tokens, from 1 to 10. Units: more where there is time to train them. Dropout:
    more, the more often the text is read, estimated with 100,000 tokens a second for 320 units.

    Args:
        config (LanguageConfig): the options.
        tokens (int): the number of tokens to train on.

    Raises:
        ElmanError: an option has no effect with these values.
    """
    minutes, steps = config.minutes, config.steps
    if minutes is None and steps is None:
        minutes = min(10.0, max(1.0, tokens / 100_000))
    chosen: dict[str, object] = {"minutes": minutes}
    if config.model == "transformer":
        sizes = {"embedding_size": 128, "hidden_size": [512], "num_layers": 4, "dropout": 0.1, "learning_rate": 3e-3}
        chosen |= {k: v for k, v in sizes.items() if k not in config.model_fields_set or getattr(config, k) is None}
    else:
        hidden = config.hidden_size or [320 if steps is not None or (minutes or 0) < 3 else 512]
        layers = config.num_layers or max(len(config.cell), len(hidden))
        if steps is not None:
            read = steps * config.batch_size * config.window
        else:
            work = sum(hidden) / len(hidden) * layers / 320
            read = int((minutes or 0) * 60 * 100_000 / work**2)
        dropout = next(rate for times, rate in _DROPOUTS if read <= times * tokens)
        dropout = dropout if config.dropout is None else config.dropout
        _check_effects(config, layers, dropout)
        chosen |= {"hidden_size": hidden, "num_layers": layers, "dropout": dropout}
        if config.blocks and "learning_rate" not in config.model_fields_set:
            chosen["learning_rate"] = 3e-3
    chosen |= size_of_vectors(config, config.vectors)
    return config.model_copy(update=chosen)


def _check_effects(config: LanguageConfig, layers: int, dropout: float) -> None:
    """ElmanError where an option has no effect on a network of this depth, dropout and these cells."""
    if config.connection != "plain" and layers == 1:
        raise ElmanError(f"connection: {config.connection} joins layers, and there is one; give --num-layers 2 or more")
    if config.connection != "plain" and config.blocks:
        raise ElmanError(f"connection: blocks have connections of their own; leave out {config.connection}")
    if config.variational and not dropout:
        raise ElmanError("variational: has no effect without dropout, which is 0 here; give --dropout")
    if "open_bias" in config.model_fields_set and not any(cells.get(name).open_gates for name in config.cell):
        raise ElmanError(f"open_bias: has no effect, as {', '.join(config.cell)} has no forget gate")
