"""The options of every task that reads a text and writes one, and what is sensible where nothing is said."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeVar

from pydantic import Field

from elman.layers.attention import AttentionKind
from elman.layers.transformer import Positions
from elman.networks.sequence_to_sequence import RecurrentTranslator, TransformerTranslator, Translator
from elman.training.config import TrainConfig

Config = TypeVar("Config", bound="TextToTextConfig")


class TextToTextConfig(TrainConfig):
    """The options of every task that reads a text and writes one."""

    batch_size: int = Field(2048, ge=1, description="Tokens a step, padding too, in each process.")
    learning_rate: float = Field(3e-3, gt=0, description="The highest rate; by default by the model and its size.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many validations that are not the best; 'none': never, the rate falls."
    )
    model: Literal["recurrent", "gnmt", "transformer"] = Field(
        "recurrent",
        description="gnmt: one bidirectional layer, then residual ones, eight on each side if not told else.",
    )
    cell: str = Field("lstm", description="Of the recurrent models.")
    embedding_size: int = Field(256, ge=1, description="Size of a token's vector; the transformer's size throughout.")
    hidden_size: int | None = Field(
        None, ge=1, description="Units of a recurrent layer, or of the transformer's dense layers. By default by time."
    )
    num_layers: int | None = Field(
        None, ge=1, le=1000, description="On each side. By default by the model: gnmt 8, transformer 3."
    )
    attention: AttentionKind = Field("rotary", description="How a recurrent decoder looks at the source.")
    heads: int = Field(4, ge=1, description="Of multihead and rotary attention.")
    input_feeding: bool = Field(False, description="Feed what was seen into the next step; slower, step by step.")
    norm: Literal["pre", "post"] = Field("pre", description="The transformer's layer norm: before or after.")
    positions: Positions = Field("sinusoidal", description="The transformer's places: computed, or learnt.")
    tie: bool = Field(True, description="Use the target's token vectors as output weights too.")
    vectors: str | None = Field(
        None, description="Source vectors to begin with: a GloVe, word2vec (text, .bin) or fastText (.vec) file."
    )
    target_vectors: str | None = Field(None, description="The same for the target.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Of vectors, layers and the output. By default by time.")
    word_dropout: float = Field(0.0, ge=0, lt=1, description="Probability that a token that is read is hidden.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all tokens.")
    scheduled_sampling: float = Field(
        0.0, ge=0, lt=1, description="Probability that the model's own guess is read instead of the right token."
    )
    average: float = Field(
        0.995,
        ge=0,
        lt=1,
        description="Validate and keep an average of the weights over steps, with this decay; 0: none.",
    )
    length_ratio: float | None = Field(
        None, gt=0, description="Tokens written for each one read, at most. By default as in the training data."
    )
    max_tokens: int = Field(256, ge=1, description="The longest text that is read or written.")
    truncate: bool = Field(False, description="Cut longer training texts there, instead of leaving them out.")
    skip_bad: bool = Field(False, description="Leave out rows of tables that cannot be read, and say how many.")
    valid_fraction: float = Field(0.05, gt=0, lt=1, description="Held out where no --valid is given, 2,000 at most.")


class Sizes(NamedTuple):
    """What is sensible for a model where nothing else is said."""

    hidden_size: int
    num_layers: int
    learning_rate: float
    dropout: float


def sensible(config: Config, characters: int, sizes: dict[str, tuple[Sizes, Sizes]]) -> Config:
    """The config with a value for every option that was left to data and time (docs/log.md says why these).

    Time: a minute for each 100,000 characters that are to be written, from 2 to 30. ``sizes``: by model, for less than
    eight minutes and for more.
    """
    given, minutes = config.model_fields_set, config.minutes
    if minutes is None and config.steps is None:
        minutes = min(30.0, max(2.0, characters / 100_000))
    best = sizes[config.model][minutes is not None and minutes >= 8]
    left = {key: value for key, value in best._asdict().items() if key not in given or getattr(config, key) is None}
    return config.model_copy(update={"minutes": minutes, **left})


def translator(config: TextToTextConfig, source_size: int, target_size: int, shared: bool) -> Translator:
    """The network that reads and writes token by token."""
    c = config
    assert c.hidden_size is not None
    assert c.num_layers is not None
    if c.model == "transformer":
        return TransformerTranslator(
            source_size, target_size, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
            num_layers=c.num_layers, heads=c.heads, norm=c.norm, positions=c.positions, most=2 * c.max_tokens,
            tie=c.tie, shared=shared, dropout=c.dropout,
        )  # fmt: skip
    return RecurrentTranslator(
        source_size, target_size, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
        num_layers=c.num_layers, gnmt=c.model == "gnmt", kind=c.attention, heads=c.heads,
        input_feeding=c.input_feeding, tie=c.tie, shared=shared, dropout=c.dropout,
    )  # fmt: skip
