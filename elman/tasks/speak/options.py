"""The options of ``elman train speak``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from elman.config import Needs, Options
from elman.media.sound import SoundOptions
from elman.tasks.spoken.options import SpokenData
from elman.training.config import TrainConfig


class SpeakData(SpokenData):
    """Where recordings and their texts are."""

    heading = "Data"

    lowercase: bool = Field(True, description="Convert texts to lower case, as capitals are not heard.")
    phonemes: str | None = Field(
        None, description="Run of a model that translates words to phonemes; texts are read as its phonemes."
    )
    max_seconds: float = Field(15.0, gt=0, description="Longer training recordings are left out, with a count.")


class SpeakSound(Options):
    """How sound is represented."""

    heading = "Sound"

    channel: Annotated[str, Needs("sounds with several channels", lambda c: c["several_channels"])] = Field(
        "mix", description="Channel of the recordings to read: a number from 1, or mix for the mean of all."
    )

    @field_validator("channel", mode="before")
    @classmethod
    def channel_number(cls, value: Any) -> Any:
        return SoundOptions.channel_number(value)

    rate: int | None = Field(
        None, ge=4000, le=48_000,
        description="Sampling rate of the speech in Hz. Default: that of most recordings, at most 22,050.",
    )  # fmt: skip
    bands: int = Field(80, ge=8, le=256, description="Bands of the mel scale.")
    frames_per_step: int = Field(
        4, ge=1, le=20, description="Frames of 12.5 ms that the decoder predicts in a step; more are faster and "
        "easier to align, fewer sound better."
    )  # fmt: skip


class SpeakModel(Options):
    """The network."""

    heading = "Model"

    cell: str = Field("lstm", description="Cell of the recurrent layers.")
    embedding_size: int = Field(128, ge=1, description="Size of the embedding of a symbol, and of a speaker.")
    hidden_size: int = Field(256, ge=2, description="Units of a layer; of the encoder, half of them in each direction.")
    num_layers: int = Field(2, ge=1, le=1000, description="Layers of the encoder, and of the decoder.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout between layers.")
    feed_frames: bool = Field(
        True, description="Let the decoder read the last frame of the step before, from which it learns the timing."
    )
    feed_dropout: Annotated[float, Needs("fed frames", lambda c: c["feed_frames"])] = Field(
        0.5, ge=0, lt=1, description="Dropout of the frames that the decoder reads, in prediction too."
    )


class SpeakConfig(SpeakData, SpeakSound, SpeakModel, TrainConfig):
    """The options of ``elman train speak``."""

    heading = "Training"

    batch_size: int = Field(10, ge=1, description="Recordings per step and process.")
    learning_rate: float = Field(1.5e-3, gt=0, description="Peak learning rate, reached after the warm-up.")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "float32", description="bf16 is mixed precision, auto uses it where the processor supports it natively; the "
        "attention gains nothing from it on a CPU.",
    )  # fmt: skip
    average: float = Field(
        0.99, ge=0, lt=1, description="Decay of the exponential moving average of the weights; 0 disables it."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Early stopping: stop after this many validations without improvement; 'none' disables it.",
    )
    guide: float = Field(2.0, ge=0, description="Weight of the loss that keeps the attention near the diagonal.")


class Speech(Options):
    """The options of ``elman predict`` for a model that speaks."""

    heading = "Speech"

    speaker: str | None = Field(None, description="Name of the speaker. Default: the one with most recordings.")
    phonemes: str | None = Field(
        None, description="Run of the model that pronounces words which are not in the training texts. Default: the "
        "one of the training."
    )  # fmt: skip
