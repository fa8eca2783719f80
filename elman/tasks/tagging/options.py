"""The options of every task that tags words."""

from __future__ import annotations

from pydantic import Field

from elman.config import Options
from elman.training.config import TrainConfig


class TaggingModel(Options):
    """The network."""

    heading = "Model"

    vectors: str | None = Field(
        None, description="File with pretrained embeddings: GloVe, word2vec (text or .bin) or fastText (.vec)."
    )
    embedding_size: int = Field(100, ge=1, description="Size of a word's embedding. Default with vectors: theirs.")
    cell: str = Field("lstm", description="Cell of the recurrent layers.")
    hidden_size: int = Field(200, ge=1, description="Units of a layer over the words, in each direction.")
    num_layers: int = Field(1, ge=1, le=1000, description="Number of layers over the words.")
    character_size: int = Field(
        64, ge=0, description="Units of the layer over the characters of a word, in each direction; 0 disables it."
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout of embeddings, between layers and of the output.")


class TaggingConfig(TaggingModel, TrainConfig):
    """The options of every task that tags words."""

    heading = "Training"

    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate, reached after the warm-up.")
    average: float = Field(
        0.99, ge=0, lt=1, description="Decay of the exponential moving average of the weights; 0 disables it."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Early stopping: stop after this many validations without improvement; 'none' disables it.",
    )
    word_dropout: float = Field(
        0.2, ge=0, lt=1, description="Probability that the embedding of a word is replaced by that of 'unknown'."
    )


class NoOptions(Options):
    """No options."""
