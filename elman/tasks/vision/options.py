"""The options of every task that writes a text about pictures."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from elman.config import Needs, Options
from elman.layers.attention import AttentionKind
from elman.media.image import ImageOptions
from elman.tasks.writing.options import TABLES, WritingConfig

_NAMED = Needs("files that name the pictures, not a folder with them", lambda c: not c["folders"])


class VisionData(Options):
    """Where the pictures are."""

    heading = "Data"

    image: Annotated[str, TABLES] = Field("image", description="Column with the path of the picture, in tables.")
    images: Annotated[str | None, _NAMED] = Field(
        None, description="Folder, or .tar or .zip archive, with the pictures. Default: the folder of the data."
    )
    skip_bad: bool = Field(False, description="Skip rows, lines and records that cannot be read, and report how many.")
    skip_broken: bool = Field(False, description="Leave out pictures that cannot be read, and report how many.")
    vocab_size: int = Field(3000, ge=2, description="Maximum size of each vocabulary of word and bpe tokens.")


class VisionConfig(VisionData, ImageOptions, WritingConfig):
    """The options of every task that writes a text about pictures."""

    heading = "Training"

    max_tokens: int = Field(64, ge=1, description="Maximum number of tokens of a text that is written.")
    embedding_size: int = Field(256, ge=1, description="Size of an embedding. Default: by the encoder.")
    hidden_size: int | None = Field(None, ge=1, description="Units of a decoder layer. Default: by the encoder.")
    num_layers: int | None = Field(None, ge=1, le=1000, description="Layers of the decoder. Default: 1.")
    dropout: float = Field(
        0.3, ge=0, lt=1, description="Dropout of embeddings, cells, between layers and of the output. Default: by the "
        "encoder.",
    )  # fmt: skip
    attention: AttentionKind = Field(
        "additive", description="Attention to the picture, of the decoder or the question."
    )
    input_feeding: bool = Field(
        False, description="Feed the attention vector into the next step; slower, as training runs step by step. "
        "Default: by the encoder.",
    )  # fmt: skip
    batch_size: int = Field(
        512, ge=1, description="Tokens per step and process, including padding. Default: by the encoder."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate. Default: by the encoder.")
    weight_decay: float = Field(
        0.01, ge=0, description="Decoupled weight decay of matrices; biases do not decay. Default: by the encoder."
    )
    max_length: int | None = Field(
        None, ge=1, description="Maximum number of tokens that are written. Default: by the training data."
    )
    augment: bool = Field(True, description="Augment pictures at random in training.")
    per_picture: int = Field(
        2, ge=1, description="Maximum number of texts about one picture in a batch, for which it is encoded once."
    )
