"""The options of ``elman train vqa``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from elman.config import Needs, Options
from elman.decoding.beam import Search
from elman.tasks.vision.options import VisionConfig
from elman.tasks.writing.options import TABLES

_KINDS = Needs("a table with a column of that name", lambda c: c["kinds"])


class QuestionData(Options):
    """Where the questions are."""

    heading = "Data"

    question: Annotated[str, TABLES] = Field("question", description="Column with the question, in tables.")
    answer: Annotated[str, TABLES] = Field("answer", description="Column with the answer, in tables.")
    kind: Annotated[str, TABLES, _KINDS] = Field(
        "kind", description="Column with the kind of question, if there is one."
    )


class VqaConfig(QuestionData, VisionConfig):
    """The options of ``elman train vqa``."""

    heading = "Training"

    per_picture: int = Field(
        16, ge=1, description="Maximum number of texts about one picture in a batch, for which it is encoded once."
    )


class AnswerSearch(Search):
    """Options of beam search for short answers, which are ranked by their probability."""

    length_penalty: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Exponent of the length normalisation ((5 + length) / 6); 0 ranks answers by their probability.",
    )
