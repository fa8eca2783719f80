"""The options of ``elman train classify``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from elman.config import Needs, Options, several
from elman.data.series import SeriesFormat
from elman.errors import ElmanError
from elman.layers.pooling import pooling_class
from elman.media.columns import Columns
from elman.media.image import ImageOptions
from elman.media.series import SeriesOptions
from elman.media.sound import SoundOptions, channel_of
from elman.media.text import TextOptions
from elman.training.config import TrainConfig

_TABLES = Needs("data in tables", lambda c: c["tables"])
_GROUPS = Needs("a table with a column of that name", lambda c: c["groups"])
_TEXTS = Needs("texts, which have sentences", lambda c: c["medium"] == "text")
_NUMBERS = Needs("series, sounds or pictures", lambda c: c["medium"] != "text")
_FILES = Needs("pictures or sounds", lambda c: c["medium"] in ("image", "sound"))
_PICTURE_TABLES = Needs("pictures in tables", lambda c: c["medium"] == "image" and c["tables"])
_ONE_RATE = Needs("layers without periods", lambda c: c["periods"] is None)


def _integer(value: Any) -> Any:
    """Convert a text of a list such as 1,2,4 to an integer; leave anything else unchanged."""
    return int(value) if isinstance(value, str) else value


class ClassifyData(Options):
    """Where the examples and their labels are."""

    heading = "Data"

    text: Annotated[str, _TABLES] = Field("text", description="Column with the text, in tables.")
    label: Annotated[str, _TABLES] = Field("label", description="Column with the label, in tables.")
    label_separator: Annotated[str | None, _TABLES] = Field(
        None, min_length=1, description="Separator between several labels of one example, in tables."
    )
    file: Annotated[str, _TABLES] = Field(
        "file", description="Column with the path of a sound, a picture or a table of numbers, in tables."
    )
    images: Annotated[str | None, _PICTURE_TABLES] = Field(
        None, description="Folder or archive to which the paths of pictures are relative. Default: the table's folder."
    )
    skip_broken: Annotated[bool, _FILES] = Field(
        False, description="Leave out pictures and sounds that cannot be read, and report how many."
    )
    group: Annotated[str | None, _GROUPS] = Field(
        None, description="Column whose equal values stay together in the training set or in the held-out set."
    )
    skip_bad: Annotated[bool, _TABLES] = Field(
        False, description="Skip rows of tables that cannot be read or have no text or label, and report how many."
    )
    valid_fraction: float = Field(
        0.1, gt=0, lt=1, description="Fraction that is held out without --valid, at most 2,000 examples."
    )


class ClassifyModel(Options):
    """The network."""

    heading = "Model"

    cell: str = Field("gru", description="Cell of the recurrent layers.")
    hidden_size: int = Field(128, ge=1, description="Units of a layer, in each direction.")
    num_layers: Annotated[int, _ONE_RATE] = Field(1, ge=1, le=1000, description="Number of recurrent layers.")
    bidirectional: Annotated[bool, _ONE_RATE] = Field(True, description="Read the input in both directions.")
    pooling: str = Field(
        "max", description="Pooling over time: last, max, mean, or attention, whose weights can be shown."
    )
    hierarchical: Annotated[bool, _TEXTS] = Field(
        False, description="Use one recurrence over the words of a sentence and another over the sentences."
    )
    periods: list[int] | None = Field(
        None, min_length=1, max_length=1000, description="Use a forward layer for each period, which updates every so "
        "many steps: 1,2,4."
    )  # fmt: skip
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Dropout of embeddings and inputs, between layers and of the pooled vector. "
        "Default: 0.5; for sounds 0.15; for pictures 0.3."
    )  # fmt: skip

    periods_list = field_validator("periods", mode="before")(
        lambda value: value if value is None else [_integer(one) for one in several(value)]
    )

    @field_validator("pooling")
    @classmethod
    def known_pooling(cls, value: str) -> str:
        try:
            pooling_class(value)
        except ElmanError as error:
            raise ValueError(str(error)) from None
        return value


class ClassifyConfig(ClassifyData, TextOptions, SeriesOptions, SoundOptions, ImageOptions, ClassifyModel, TrainConfig):
    """The options of ``elman train classify``."""

    heading = "Training"

    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate, reached after the warm-up.")
    average: float = Field(
        0.98, ge=0, lt=1, description="Decay of the exponential moving average of the weights; 0 disables it."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Early stopping: stop after this many validations without improvement; 'none' disables it.",
    )
    augment: Annotated[bool, _NUMBERS] = Field(
        True, description="Change series, sounds and pictures at random in training."
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Fraction of the target spread over all labels.")
    class_weights: Literal["equal", "balanced"] = Field(
        "equal", description="balanced: weight labels by the inverse of their frequency."
    )

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.wide and self.time:
            raise ValueError("wide: each row is a series and its steps are in order; leave time out")
        if self.hierarchical and self.periods:
            raise ValueError("hierarchical and periods exclude each other; give one")
        return self

    def columns(self) -> Columns:
        """Return which columns of tables hold what."""
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
            self.images,
            self.skip_broken,
            channel_of(self),
        )


class Top(Options):
    """Options of ``elman predict`` and keywords of ``model.predict``."""

    top: int = Field(1, ge=1, description="Number of labels to print, the most probable first.")
