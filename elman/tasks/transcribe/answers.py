"""What a recogniser hears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from elman.data.timed import TimedText
from elman.decoding.subtitles import Word
from elman.tasks.answers import Answer


@dataclass(frozen=True)
class Transcript(Answer):
    """What is heard in a recording.

    Attributes:
        text (str): "" for silence.
        score (float): what ranks the transcripts, in nats: log p(text | sound), and the scores of a language model
            and of hotwords where they are used.
        log_probability (float): log p(text | sound) of the search, in nats.
        words (list[Word]): the words with their times and confidences.
        seconds (float): the duration of the recording.
    """

    empty_means: ClassVar[str] = "silence"

    text: str
    score: float
    log_probability: float
    words: list[Word]
    seconds: float

    @property
    def cell(self) -> str:
        return self.text

    @property
    def output(self) -> TimedText:
        return TimedText(self.text, [word[:3] for word in self.words])

    @property
    def attention(self) -> None:
        return None

    def record(self) -> dict[str, Any]:
        words = [word._asdict() for word in self.words]
        return {
            "text": self.text, "score": self.score, "log_probability": self.log_probability, "seconds": self.seconds,
            "words": words,
        }  # fmt: skip
