"""The options of ``elman train language``, and what is sensible where nothing is said."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from elman.config import several
from elman.data import TokenKind
from elman.layers import Connection
from elman.layers.transformer import Positions
from elman.training.config import TrainConfig

#: Up to so many times through the text, this dropout.
_DROPOUTS = ((2, 0.0), (10, 0.1), (30, 0.3), (math.inf, 0.5))


class LanguageConfig(TrainConfig):
    """The options of ``elman train language``."""

    learning_rate: float = Field(1e-2, gt=0, description="The highest rate, reached after the warm-up.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled decay of the matrices; biases have none.")
    tokens: TokenKind = Field("char", description="What the model reads and writes.")
    vocab_size: int | None = Field(None, ge=2, description="For word (20000) and bpe (4096): how many tokens.")
    model: Literal["recurrent", "transformer"] = Field("recurrent", description="What goes along the text.")
    cell: list[str] = Field(
        ["lstm"], min_length=1, max_length=1000, description="One for all layers, or one a layer: lstm,gru."
    )
    hidden_size: list[int] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Units: one for all layers, or one a layer; of the transformer's "
        "dense layers. By default by data and time.",
    )
    num_layers: int | None = Field(
        None, ge=1, le=1000, description="By default one, or as many as are listed; transformer 4."
    )
    proj_size: int = Field(0, ge=0, description="Size of the output of a projected_lstm.")
    open_bias: float = Field(0.0, description="Where the forget gate's bias starts; 1 keeps memory longer at first.")
    embedding_size: int = Field(64, ge=1, description="Size of a token's vector; of the transformer throughout (128).")
    heads: int = Field(4, ge=1, description="Of the transformer's attention.")
    positions: Positions = Field("sinusoidal", description="The transformer's places: computed, or learnt.")
    vectors: str | None = Field(
        None, description="Vectors of words to begin with: a GloVe, word2vec (text, .bin) or fastText (.vec) file."
    )
    tie: bool = Field(False, description="Use the token vectors as output weights too.")
    connection: Connection = Field("plain", description="How layers are joined.")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Of what goes into, between and out of the layers. By default by data and time."
    )
    variational: bool = Field(False, description="One dropout mask through time instead of one a step.")
    weight_drop: float = Field(0.0, ge=0, lt=1, description="Dropout of the recurrent matrices.")
    recurrent_dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout of h in the recurrence, one mask through time."
    )
    zoneout: float = Field(0.0, ge=0, lt=1, description="Probability that a unit keeps its old value.")
    window: int = Field(64, ge=1, description="Steps of truncated backpropagation through time.")
    valid_fraction: float = Field(
        0.1, gt=0, lt=1, description="The tail of each file that is held out where no --valid is given."
    )

    several = field_validator("cell", "hidden_size", mode="before")(several)

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.tokens == "char" and self.vocab_size is not None:
            raise ValueError("vocab_size is for word and bpe tokens; char takes every character of the text")
        if self.tokens == "char" and self.vectors is not None:
            raise ValueError("vectors are for words: give tokens word")
        return self


def sensible(config: LanguageConfig, tokens: int) -> LanguageConfig:
    """The config with a value for every option that was left to data and time (docs/log.md says why these).

    Time: a minute for each 100,000 tokens, from 1 to 10. Size: more units where there is time to train
    them. Dropout: more, the more often the text is read, by a guess of 100,000 tokens a second for 320 units.
    """
    minutes, steps = config.minutes, config.steps
    if minutes is None and steps is None:
        minutes = min(10.0, max(1.0, tokens / 100_000))
    if config.model == "transformer":
        chosen = {"embedding_size": 128, "hidden_size": [512], "num_layers": 4, "dropout": 0.1, "learning_rate": 3e-3}
        left = {k: v for k, v in chosen.items() if k not in config.model_fields_set or getattr(config, k) is None}
        return config.model_copy(update={"minutes": minutes, **left})
    hidden = config.hidden_size or [320 if steps is not None or (minutes or 0) < 3 else 512]
    layers = config.num_layers or max(len(config.cell), len(hidden))
    if steps is not None:
        read = steps * config.batch_size * config.window
    else:
        work = sum(hidden) / len(hidden) * layers / 320
        read = int((minutes or 0) * 60 * 100_000 / work**2)
    dropout = next(rate for most, rate in _DROPOUTS if read <= most * tokens)
    return config.model_copy(
        update={
            "minutes": minutes,
            "hidden_size": hidden,
            "num_layers": layers,
            "dropout": dropout if config.dropout is None else config.dropout,
        }
    )
