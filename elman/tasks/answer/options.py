"""The options of ``elman train answer``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from elman.config import Options
from elman.layers.attention import AttentionKind
from elman.tasks.text_to_text.options import TextToTextConfig
from elman.tasks.writing.options import RECURRENT, TABLES


class AnswerData(Options):
    """Where the questions are."""

    heading = "Data"

    story: Annotated[str, TABLES] = Field("story", description="Column with the story, in tables.")
    question: Annotated[str, TABLES] = Field("question", description="Column with the question, in tables.")
    answer: Annotated[str, TABLES] = Field("answer", description="Column with the answer, in tables.")
    kind: Annotated[str, TABLES] = Field("kind", description="Column with the kind of question, if there is one.")
    vocab_size: int = Field(20_000, ge=2, description="Maximum size of each vocabulary.")


class AnswerConfig(AnswerData, TextToTextConfig):
    """The options of ``elman train answer``."""

    heading = "Training"

    cell: Annotated[str, RECURRENT] = Field("gru", description="Cell of the recurrent layers.")
    attention: Annotated[AttentionKind, RECURRENT] = Field(
        "multihead", description="Attention of a recurrent decoder to the sentences."
    )
    embedding_size: int = Field(
        64, ge=1, description="Size of an embedding; the transformer has this size throughout. Default with vectors: "
        "theirs.",
    )  # fmt: skip
    tie: bool = Field(False, description="Use the target embedding as output weights too.")
