"""The question answering task: questions about short stories, from bAbI's text format or a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from elman.data.source import sources as sources_of
from elman.data.split import hold_out_groups
from elman.data.stories import Story, is_story_table, read_stories
from elman.data.tokenizer import Tokenizer, TokenKind
from elman.media.text import encode_all
from elman.tasks.answer.model import Answerer, asked
from elman.tasks.answer.options import AnswerConfig
from elman.tasks.text_to_text.examples import Pairs, Tokenizers
from elman.tasks.text_to_text.options import with_defaults
from elman.tasks.text_to_text.task import TextToText, with_length_ratio
from elman.tasks.writing.examples import Examples
from elman.tasks.writing.options import Sizes

#: Characters of a translation that take as long to learn as a question.
_CHARACTERS = 100

_SIZES = {
    "recurrent": (Sizes(128, 2, 2e-3, 0.1), Sizes(128, 2, 2e-3, 0.1)),
    "gnmt": (Sizes(128, 4, 2e-3, 0.1), Sizes(128, 4, 2e-3, 0.1)),
    "transformer": (Sizes(256, 3, 1e-3, 0.1), Sizes(256, 3, 1e-3, 0.1)),
}


class Stories(NamedTuple):
    """Questions about stories; whether they come from tables."""

    questions: list[Story]
    tables: bool = False


class Answer(TextToText):
    """Learn p(answer | question, story)."""

    name = "answer"
    Config = AnswerConfig
    model_class = Answerer
    usage = "elman train answer qa1_train.txt --minutes 2"
    items = "stories"

    config: AnswerConfig

    def read(self, data: Sequence[str], like: Any = None) -> Stories:
        c = self.config
        questions = read_stories(data, (c.story, c.question, c.answer), c.kind, c.skip_bad)
        return Stories(questions, any(map(is_story_table, sources_of(data))))

    def split(self, data: Stories) -> tuple[Stories, Stories] | None:
        """Hold out all questions about some stories."""
        chosen = hold_out_groups([s.group for s in data.questions], self.config.valid_fraction)
        if chosen is None:
            return None
        parts = ([s for s in data.questions if (s.group in chosen) == held] for held in (False, True))
        train, held = (Stories(part, data.tables) for part in parts)
        return train, held

    def contents(self, train: Stories, held: Stories) -> list[str]:
        questions = [s for part in (train, held) for s in part.questions]
        texts = [t for s in questions for t in ("", *s.sentences, s.question, s.answer, s.kind)]
        return [*texts, str(len(train.questions))]

    def pairs(self, data: Stories) -> Pairs:
        questions = data.questions
        return Pairs(
            [asked(s.sentences, s.question) for s in questions], [s.answer for s in questions],
            [f"{s.kind}, question {s.question!r}" for s in questions], [s.kind for s in questions], data.tables,
        )  # fmt: skip

    def length(self, data: Stories) -> int:
        return sum(len(s.answer.split()) + 1 for s in data.questions)

    def learn(self, train: Stories, held: Stories) -> Tokenizers:
        size, texts = self.config.vocab_size, self.pairs(train)
        lines = [line for text in texts.sources for line in text.split("\n")]  # as they are encoded
        source = Tokenizer.train("word", lines, size)
        return Tokenizers(source, Tokenizer.train("word", [f" {answer}" for answer in texts.targets], size))

    def resolve(self, learnt: Tokenizers, train: Stories, examples: Examples) -> AnswerConfig:
        config = with_defaults(self.config, _CHARACTERS * len(train.questions), _SIZES)
        return with_length_ratio(config, examples)

    def source_ids(self, learnt: Tokenizers, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of the question, then those of each sentence after an END."""
        lines = [text.split("\n") for text in texts]
        encoded = iter(encode_all(learnt.source, [line for text in lines for line in text]))
        rows = []
        for text in lines:
            parts = [part for _ in text for part in ([Tokenizer.end_id], next(encoded))]
            rows.append(np.concatenate(parts[1:]).astype(np.int64))
        return rows

    def source_pieces(self, learnt: Tokenizers, text: str) -> list[str]:
        if self.config.model == "recurrent":
            return text.split("\n")
        ids = np.concatenate(self.source_ids(learnt, [text]))
        return [learnt.source.decode([i]) for i in ids.tolist()]

    @property
    def writes(self) -> TokenKind:
        return "word"

    @property
    def copies(self) -> bool:
        return False
