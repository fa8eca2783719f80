"""The options of ``elman train transcribe``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from elman.config import Needs, Options
from elman.data.tokenizer import TokenKind
from elman.layers.attention import AttentionKind
from elman.media.sound import SoundOptions
from elman.tasks.spoken.options import SpokenData
from elman.training.config import TrainConfig

_STREAMING = Needs("a streaming model", lambda c: c["streaming"])
_ATTENTION = Needs("model attention", lambda c: c["model"] == "attention")
_WRITES = Needs("model transducer or attention", lambda c: c["model"] != "ctc")
_HEADS = Needs("attention multihead or rotary", lambda c: c["attention"] in ("multihead", "rotary"))
_FORWARD = Needs("model ctc or transducer", lambda c: c["model"] != "attention")
_AUGMENTED = Needs("augment", lambda c: c["augment"])
_NO_CHARACTERS = Needs("tokens word or bpe", lambda c: c["tokens"] != "char")


class TranscribeData(SpokenData):
    """Where the recordings and their texts are."""

    heading = "Data"

    group: Literal["text", "speaker", "none"] | None = Field(
        None, description="What held-out recordings do not share with the training recordings. Default: text; none if "
        "few sentences are repeated by many recordings, such as commands.",
    )  # fmt: skip
    normalize: bool = Field(
        True, description="Convert texts to lower case and remove punctuation except apostrophes, as the error rates "
        "of speech recognition do.",
    )  # fmt: skip
    tokens: TokenKind = Field("char", description="Tokens that the model writes.")
    vocab_size: Annotated[int, _NO_CHARACTERS] = Field(
        1000, ge=2, description="Maximum size of the vocabulary of word and bpe tokens."
    )


class TranscribeModel(Options):
    """The network."""

    heading = "Model"

    model: Literal["ctc", "transducer", "attention"] = Field(
        "ctc", description="How the text follows from the encoder: connectionist temporal classification, a recurrent "
        "neural network transducer, or a decoder with attention.",
    )  # fmt: skip
    cell: str = Field("lstm", description="Cell of the recurrent layers.")
    hidden_size: int = Field(256, ge=1, description="Units of a layer, in each direction.")
    num_layers: int = Field(3, ge=1, le=1000, description="Number of recurrent layers.")
    stride: int = Field(3, ge=1, le=100, description="Frames of 10 ms that the recurrence reads at a step.")
    streaming: Annotated[bool, _FORWARD] = Field(
        False, description="Read forward only, so that speech is recognised while it is spoken (elman listen)."
    )
    look_ahead: Annotated[float, _STREAMING] = Field(
        0.24, ge=0, le=10, description="Seconds that a streaming model waits before it decides."
    )
    attention: Annotated[AttentionKind, _ATTENTION] = Field("location", description="Attention of the decoder.")
    heads: Annotated[int, _HEADS] = Field(4, ge=1, description="Heads of multihead and rotary attention.")
    embedding_size: Annotated[int, _WRITES] = Field(
        128, ge=1, description="Size of the embedding of a token that has been written."
    )
    decoder_size: Annotated[int, _WRITES] = Field(
        256, ge=1, description="Units of the layer over the tokens that have been written."
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout between layers and of the encoder's output.")


class TranscribeConfig(TranscribeData, SoundOptions, TranscribeModel, TrainConfig):
    """The options of ``elman train transcribe``."""

    heading = "Training"

    decibels: float = Field(
        50.0, gt=0, description="Noise floor: frames are mixed with noise this many decibels below the loudest, as "
        "rooms and microphones differ there."
    )  # fmt: skip
    deltas: bool = Field(False, description="Append the differences of neighbouring frames.")
    bands: int = Field(40, ge=1, description="Bands of the mel scale.")
    batch_size: int = Field(60, ge=1, description="Seconds of sound per step and process, including padding.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate, reached after the warm-up.")
    average: float = Field(
        0.99, ge=0, lt=1, description="Decay of the exponential moving average of the weights; 0 disables it."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Early stopping: stop after this many validations without improvement; 'none' disables it.",
    )
    silence: float = Field(
        0.02, ge=0, lt=1, description="Fraction of the training recordings that are replaced by silence without text, "
        "made of their quietest frames.",
    )  # fmt: skip
    augment: bool = Field(
        True,
        description="Change speed, voice, level and noise of recordings at random in training, and mask parts.",
    )
    variation: Annotated[float, _AUGMENTED] = Field(
        1.0, ge=0, le=4, description="Factor of the ranges in which augment changes voices; about 1.5 for speakers "
        "unlike those of the training data.",
    )  # fmt: skip

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.streaming and "mean" in self.model_fields_set and self.mean != "running":
            raise ValueError("mean: a streaming model does not know the mean of the whole sound; leave mean out")
        return self
