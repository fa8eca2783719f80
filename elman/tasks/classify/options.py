"""The options of ``elman train classify``, and what is sensible where nothing is said."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from elman.config import Options, several
from elman.data import TokenKind
from elman.data.series import Missing, SeriesFormat
from elman.errors import ElmanError
from elman.layers.pooling import PoolingKind
from elman.media.labelled import Columns, Labelled
from elman.training.config import TrainConfig

#: Of what is read of sounds, by default.
DECIBELS = 26.0


def _whole(value: Any) -> Any:
    """The number that a text is, of a list such as 1,2,4; anything else as it is."""
    return int(value) if isinstance(value, str) else value


class ClassifyConfig(TrainConfig):
    """The options of ``elman train classify``."""

    learning_rate: float = Field(2e-3, gt=0, description="The highest rate, reached after the warm-up.")
    average: float = Field(
        0.98, ge=0, lt=1, description="Validate and keep an average of the weights over steps; 0: none."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many validations that are not the best; 'none': never."
    )
    text: str = Field("text", description="The column with the text, where the data are tables.")
    label: str = Field("label", description="The column with the label.")
    label_separator: str | None = Field(
        None, min_length=1, description="What stands between several labels of one example."
    )
    file: str = Field("file", description="The column with the path of a sound or of a table of numbers.")
    group: str | None = Field(None, description="A column: rows with the same value are not divided by the split.")
    series: str | None = Field(None, description="The column that says which series a row is a step of.")
    time: str | None = Field(
        None, description="The column that orders the steps of a series: numbers, times, dates, or names such as t1."
    )
    wide: bool | None = Field(
        None, description="A row of a table is a series, its steps are columns t0, t1, ...; by default by the columns."
    )
    channels: list[str] | None = Field(
        None, min_length=1, description="Columns that are the channels of series: x,y. By default all with numbers."
    )
    decimal: Literal[".", ","] | None = Field(
        None, description="The decimal mark of numbers in tables; by default the point, where no comma could be one."
    )
    missing: Missing = Field(
        "refuse", description="Missing values of series: refuse; interpolate between steps; zero; or mask: the mean, "
        "and an input more for each channel that says which values are there."
    )  # fmt: skip
    skip_bad: bool = Field(
        False, description="Leave out rows of tables that cannot be read or have no text or label, and say how many."
    )
    tokens: TokenKind | None = Field(
        None, description="What is read of texts: by default words, or characters where texts are a word or two."
    )
    lowercase: bool | None = Field(
        None, description="Read texts in small letters: by default words and byte pairs, not characters."
    )
    vocab_size: int = Field(20_000, ge=2, description="Different tokens of word and bpe, at most.")
    vectors: str | None = Field(
        None, description="Vectors of words to begin with: a GloVe, word2vec (text, .bin) or fastText (.vec) file."
    )
    extra_words: int = Field(
        60_000, ge=0, description="Words of the vectors' file, its first, that are known beside those of the texts."
    )
    rare: int = Field(3, ge=1, description="Words that are seen less often keep the vector that the file has for them.")
    embedding_size: int = Field(128, ge=1, description="Size of a token's vector.")
    bands: int = Field(24, ge=1, description="Bands of the mel scale, for sounds.")
    decibels: float | None = Field(
        None, gt=0, description="Of sounds: what is so much softer than the loudest is drowned in even noise, as "
        f"rooms and microphones differ there; by default {DECIBELS:g}."
    )  # fmt: skip
    cell: str = Field("gru", description="Of the recurrent layers.")
    hidden_size: int = Field(128, ge=1, description="Units of a layer, in each direction.")
    num_layers: int = Field(1, ge=1, le=1000, description="Recurrent layers, one on top of the other.")
    bidirectional: bool = Field(True, description="Read from both ends.")
    pooling: PoolingKind = Field("max", description="Over time: last, max, mean, or attention, which can be shown.")
    hierarchical: bool = Field(False, description="A recurrence over the words of each sentence, one over sentences.")
    periods: list[int] | None = Field(
        None, min_length=1, max_length=1000, description="Layers that move every so many steps: 1,2,4."
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Of what goes into, between and out of the layers: by default 0.5, of sounds 0.15.",
    )
    word_dropout: float = Field(0.1, ge=0, lt=1, description="Probability that a token is hidden.")
    augment: bool = Field(True, description="Change series and sounds a little each time they are read.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all labels.")
    class_weights: Literal["equal", "balanced"] = Field("equal", description="balanced: rare labels count for more.")
    valid_fraction: float = Field(0.1, gt=0, lt=1, description="Held out where no --valid is given, 2,000 at most.")

    periods_list = field_validator("periods", mode="before")(
        lambda value: value if value is None else [_whole(one) for one in several(value)]
    )

    channels_list = field_validator("channels", mode="before")(several)

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.wide and self.time:
            raise ValueError("wide: a row is a series, its steps are in order; leave time out")
        if self.hierarchical and self.periods:
            raise ValueError("hierarchical and periods are two ways to read long inputs; give one")
        if self.periods and self.num_layers > 1:
            raise ValueError("periods: one for each layer, all forward; leave num_layers out")
        return self

    def columns(self) -> Columns:
        reading = SeriesFormat(self.decimal, self.missing != "refuse", self.wide, tuple(self.channels or ()))
        return Columns(
            self.text,
            self.label,
            self.file,
            self.group,
            self.series,
            self.time,
            self.label_separator,
            reading,
            self.skip_bad,
        )


class Top(Options):
    """What is told of each input. Option of ``elman predict`` = keyword of ``model.predict``."""

    top: int = Field(1, ge=1, description="So many labels, the most probable first.")


def sensible(config: ClassifyConfig, data: Labelled) -> ClassifyConfig:
    """The config with a value for every option that was left to the data (docs/log.md says why these)."""
    chosen: dict[str, Any] = {}
    _for_series(config, data)
    _for_media(config, data)
    size = sum(map(len, data.inputs))
    if data.medium == "text":
        if config.tokens is None:
            words = sum(len(text.split()) for text in data.inputs)
            chosen["tokens"] = "word" if words > 3 * len(data.inputs) else "char"
        tokens = chosen.get("tokens") or config.tokens
        if config.lowercase is None:
            chosen["lowercase"] = tokens != "char"
        size //= 5 if tokens == "word" else 1
    elif data.medium == "sound":
        size = size * 100 // data.rate
        chosen["decibels"] = config.decibels or DECIBELS
    if data.reading.wide:
        chosen["wide"] = True
    if config.dropout is None:
        chosen["dropout"] = 0.15 if data.medium == "sound" else 0.5
    if config.minutes is None and config.steps is None:
        chosen["minutes"] = min(10.0, max(1.0, size / 150_000))
    return config.model_copy(update=chosen)


def _for_media(config: ClassifyConfig, data: Labelled) -> None:
    """ElmanError where an option is for data of another kind."""
    options = {"sound": ("bands", "decibels"), "text": ("tokens", "lowercase", "word_dropout")}
    for medium, names in options.items():
        for name in names:
            if data.medium != medium and getattr(config, name) != ClassifyConfig.model_fields[name].default:
                raise ElmanError(f"{name}: is for {medium}s; these data are {data.medium}")
    for name in ("rare", "extra_words"):
        if config.vectors is None and getattr(config, name) != ClassifyConfig.model_fields[name].default:
            raise ElmanError(f"{name}: is for words with vectors; give --vectors")


def _for_series(config: ClassifyConfig, data: Labelled) -> None:
    """ElmanError where options say how series are read and there are none, or none in tables."""
    tables = data.medium == "series" and data.reading.left_out is not None
    options = {"channels": config.channels, "decimal": config.decimal, "time": config.time}
    for name, value in options.items():
        if value is not None and not tables:
            raise ElmanError(f"{name}: is for series in tables; {data.places[0]} is none")
    for name, given in {"series": config.series, "wide": config.wide}.items():
        if given and data.reading.wide is None:
            raise ElmanError(f"{name}: is for tables with several series; {data.places[0]} is none of such")
    if config.group and not any(data.groups):
        raise ElmanError(f"group: is for tables with a column of that name; {data.places[0]} has none")
    if config.missing != "refuse" and data.medium != "series":
        raise ElmanError(f"missing: is for series; these data are {data.medium}")
