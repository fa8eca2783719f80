"""The options of ``elman train caption``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from elman.config import Options
from elman.data.tokenizer import TokenKind
from elman.tasks.vision.options import VisionConfig
from elman.tasks.writing.options import TABLES


class CaptionData(Options):
    """Where the captions are."""

    heading = "Data"

    caption: Annotated[str, TABLES] = Field("caption", description="Column with the caption, in tables.")
    normalize: bool = Field(
        True, description="Convert captions to lower case and remove punctuation, as the metrics of captions do."
    )
    tokens: TokenKind = Field("word", description="Tokens that the model writes.")


class CaptionConfig(CaptionData, VisionConfig):
    """The options of ``elman train caption``."""

    heading = "Training"
