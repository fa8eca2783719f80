"""The options of every task that learns from recordings with their texts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from elman.config import Needs, Options

_TABLES = Needs("data in tables", lambda c: c["tables"])


class SpokenData(Options):
    """Where the recordings and their texts are."""

    heading = "Data"

    audio: Annotated[str, _TABLES] = Field("audio", description="Column with the path of the recording, in tables.")
    text: Annotated[str, _TABLES] = Field("text", description="Column with what is said, in tables.")
    speaker: Annotated[str | None, _TABLES] = Field(
        None, description="Column with the name of the speaker, in tables. Default: speaker, where there is one."
    )
    start: Annotated[str, _TABLES] = Field(
        "start", description="Column with the second at which an utterance starts in its recording, in tables."
    )
    end: Annotated[str, _TABLES] = Field("end", description="Column with the second at which it ends, in tables.")
    max_seconds: float = Field(30.0, gt=0, description="Longer training recordings are left out, with a count.")
    skip_bad: bool = Field(False, description="Skip rows, lines and files that have no text, and report how many.")
    skip_broken: bool = Field(False, description="Leave out recordings that cannot be read, and report how many.")
    valid_fraction: float = Field(
        0.05, gt=0, lt=1, description="Fraction that is held out without --valid, at most 2,000 recordings."
    )
