"""The options of ``elman train tag``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from elman.config import Needs, Options
from elman.tasks.tagging.options import TaggingConfig

_TABLES = Needs("data in tables", lambda c: c["tables"])
_COLUMNS = Needs("files with a word on each line", lambda c: not c["tables"])


class TagData(Options):
    """Where words and tags are."""

    heading = "Data"

    tag: Annotated[str | None, _COLUMNS] = Field(
        None, description="Column with the tags: in CoNLL-U its name (upos), elsewhere its number. Default: the last."
    )
    words: Annotated[str, _TABLES] = Field(
        "words", description="Column with the words in tables: a list, or words separated by spaces."
    )
    tags: Annotated[str, _TABLES] = Field("tags", description="Column with the tags, in tables.")
    vocab_size: int = Field(50_000, ge=1, description="Maximum number of different words.")
    skip_bad: bool = Field(
        False, description="Skip rows of tables, and sentences, that cannot be read, and report how many."
    )
    valid_fraction: float = Field(
        0.1, gt=0, lt=1, description="Fraction that is held out without --valid, at most 2,000 sentences."
    )


class TagModel(Options):
    """What the network of this task has beside those of others."""

    heading = "Model"

    crf: bool = Field(False, description="Use a conditional random field over the tags instead of a softmax per word.")


class TagConfig(TagData, TagModel, TaggingConfig):
    """The options of ``elman train tag``."""
