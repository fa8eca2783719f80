"""The options of ``elman train fill``."""

from __future__ import annotations

from pydantic import Field

from elman.config import Options
from elman.training.config import TrainConfig


class FillData(Options):
    """How lines are read and held out."""

    heading = "Data"

    vocab_size: int = Field(20_000, ge=1, description="Maximum number of different words.")
    valid_fraction: float = Field(
        0.1, gt=0, lt=1, description="Fraction of the lines that is held out without --valid, at most 2,000."
    )


class FillModel(Options):
    """The network."""

    heading = "Model"

    vectors: str | None = Field(
        None, description="File with pretrained embeddings: GloVe, word2vec (text or .bin) or fastText (.vec)."
    )
    embedding_size: int = Field(256, ge=1, description="Size of a word's embedding. Default with vectors: theirs.")
    cell: str = Field("lstm", description="Cell of the recurrent layers.")
    hidden_size: int = Field(512, ge=1, description="Units of a layer, in each direction.")
    num_layers: int = Field(1, ge=1, le=1000, description="Layers in each direction.")
    dropout: float = Field(0.4, ge=0, lt=1, description="Dropout of embeddings, between layers and of the output.")


class FillConfig(FillData, FillModel, TrainConfig):
    """The options of ``elman train fill``."""

    heading = "Training"

    batch_size: int = Field(2048, ge=1, description="Words per step and process, including padding.")
    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate, reached after the warm-up.")
    average: float = Field(
        0.995, ge=0, lt=1, description="Decay of the exponential moving average of the weights; 0 disables it."
    )
    word_dropout: float = Field(0.05, ge=0, lt=1, description="Probability that a word is replaced by 'unknown'.")


class Guesses(Options):
    """Options of ``elman predict`` and keywords of ``model.predict``."""

    top: int = Field(5, ge=1, description="Number of words for each blank, the most probable first.")
