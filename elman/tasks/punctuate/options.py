"""The options of ``elman train punctuate``."""

from __future__ import annotations

from pydantic import Field

from elman.config import Options
from elman.data.punctuated import Unit
from elman.tasks.tagging.options import TaggingConfig


class PunctuateData(Options):
    """How text is read and held out."""

    heading = "Data"

    tokens: Unit = Field(
        "word", description="What a mark can follow: a word, or with char each character of a writing system without "
        "spaces between words.",
    )  # fmt: skip
    vocab_size: int = Field(50_000, ge=1, description="Maximum number of different words.")
    window: int = Field(64, ge=2, description="Words of a training window; later, four times as many are read at once.")
    valid_fraction: float = Field(
        0.1, gt=0, lt=1, description="Fraction of the text, in whole blocks, that is held out without --valid."
    )


class PunctuateConfig(PunctuateData, TaggingConfig):
    """The options of ``elman train punctuate``."""

    heading = "Training"

    batch_size: int = Field(8, ge=1, description="Windows per step and process.")
    learning_rate: float = Field(8e-3, gt=0, description="Peak learning rate, reached after the warm-up.")
    dropout: float = Field(0.4, ge=0, lt=1, description="Dropout of embeddings, between layers and of the output.")
    sentence_weight: float = Field(
        1.0, ge=0, description="Weight of a second loss in training: every word tells the mark that ends its sentence."
    )


class Marking(Options):
    """Options of ``elman predict`` and keywords of ``model.predict``."""

    threshold: float = Field(
        0.4, gt=0, lt=1, description="Set a mark where the probability of any mark is at least this; less sets more."
    )
