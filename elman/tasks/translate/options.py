"""The options of ``elman train translate``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from elman.config import Needs, Options
from elman.data.tokenizer import TokenKind
from elman.tasks.text_to_text.options import TextToTextConfig
from elman.tasks.writing.options import TABLES

_VOCABULARY = Needs("tokens word or bpe on a side", lambda c: {c["source_tokens"], c["target_tokens"]} != {"char"})


class TranslateData(Options):
    """Where the pairs are."""

    heading = "Data"

    source: Annotated[str, TABLES] = Field("source", description="Column with the text to translate, in tables.")
    target: Annotated[str, TABLES] = Field("target", description="Column with its translation, in tables.")
    source_tokens: TokenKind = Field("bpe", description="Tokens that the model reads.")
    target_tokens: TokenKind = Field("bpe", description="Tokens that the model writes.")
    vocab_size: Annotated[int, _VOCABULARY] = Field(
        4000, ge=2, description="Maximum size of each vocabulary of word and bpe tokens."
    )
    joint: bool = Field(False, description="Use one vocabulary and one embedding for both sides.")


class TranslateConfig(TranslateData, TextToTextConfig):
    """The options of ``elman train translate``."""

    heading = "Training"

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.joint and self.source_tokens != self.target_tokens:
            raise ValueError("joint: one vocabulary needs the same kind of tokens on both sides")
        return self
