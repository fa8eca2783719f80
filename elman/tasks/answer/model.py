"""Questions about short stories."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field

from elman.data import Tokenizer, TokenKind, absolute, fingerprint
from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.data.stories import Story, read_questions, read_stories, sentences
from elman.errors import ElmanError
from elman.layers.attention import AttentionKind
from elman.networks.sequence_to_sequence import Translator
from elman.networks.story import StoryReader
from elman.tasks.pretrained import sized
from elman.tasks.text_to_text.model import Examples, TextToText, encode_all
from elman.tasks.text_to_text.options import Sizes, TextToTextConfig, sensible, translator
from elman.training.config import TrainConfig
from elman.training.run import Run, Sources

#: Characters of a translation that take as long to learn as a question.
_TIME = 100

_SIZES = {
    "recurrent": (Sizes(128, 2, 2e-3, 0.1), Sizes(128, 2, 2e-3, 0.1)),
    "gnmt": (Sizes(128, 4, 2e-3, 0.1), Sizes(128, 4, 2e-3, 0.1)),
    "transformer": (Sizes(256, 3, 1e-3, 0.1), Sizes(256, 3, 1e-3, 0.1)),
}


class AnswerConfig(TextToTextConfig):
    """The options of ``elman train answer``."""

    story: str = Field("story", description="The column with the story, where the data are tables.")
    question: str = Field("question", description="The column with the question.")
    answer: str = Field("answer", description="The column with the answer.")
    kind: str = Field("kind", description="The column with the kind of question, if there is one.")
    cell: str = Field("gru", description="Of the recurrent models.")
    attention: AttentionKind = Field("multihead", description="How a recurrent decoder looks at the sentences.")
    embedding_size: int = Field(64, ge=1, description="Size of a word's vector; the transformer's size throughout.")
    vocab_size: int = Field(20_000, ge=2, description="Different words at most.")
    tie: bool = Field(False, description="Use the vectors of words as output weights too.")


class Answer(TextToText):
    """p(answer | question, story): the question is read first, so that the story is read with it in mind.

    ``model.predict([model.asked("Mary went to the garden.", "Where is Mary?")])[0][0].text``
    """

    name = "answer"
    Config = AnswerConfig
    shown = ("accuracy",)

    config: AnswerConfig

    def __init__(self, config: AnswerConfig, source: Tokenizer, target: Tokenizer, sources: Sources) -> None:
        super().__init__(config, source, target)
        self.sources = sources

    def build(self) -> Translator:
        c, sizes = self.config, (self.source.vocab_size, self.target.vocab_size)
        if c.model != "recurrent":
            return translator(c, *sizes, shared=False)
        assert c.hidden_size is not None
        assert c.num_layers is not None
        return StoryReader(
            *sizes, Tokenizer.end_id, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
            num_layers=c.num_layers, kind=c.attention, heads=c.heads, tie=c.tie, dropout=c.dropout,
        )  # fmt: skip

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The question's ids, and those of each sentence behind an END."""
        lines = [text.split("\n") for text in texts]
        encoded = iter(encode_all(self.source, [line for one in lines for line in one]))
        rows = []
        for one in lines:
            parts = [part for _ in one for part in ([Tokenizer.end_id], next(encoded))]
            rows.append(np.concatenate(parts[1:]).astype(np.int64))
        return rows

    def pieces(self, text: str) -> list[str]:
        if self.config.model == "recurrent":
            return text.split("\n")
        read = np.concatenate(self.ids([text]))
        return [self.source.decode([i]) for i in read.tolist()]

    @staticmethod
    def asked(story: str | Sequence[str], question: str) -> str:
        """A story (a text, or its sentences) and a question, a line each, the question first."""
        told = sentences(story) if isinstance(story, str) else story
        return "\n".join(" " + line.strip() for line in [question, *told])

    @classmethod
    def prepare(
        cls, config: TrainConfig, data: Sequence[str], valid: Sequence[str], run: Run | None = None
    ) -> tuple[Self, Examples, Examples]:
        assert isinstance(config, AnswerConfig)
        config = sized(config, config.vectors, config.target_vectors)
        train, held = _split(config, data, valid)
        if run is not None:
            source, target = cls.tokenizers(run)
        else:
            texts = [cls.asked(s.sentences, s.question) for s in train]
            lines = [line for text in texts for line in text.split("\n")]  # as they are encoded
            source = Tokenizer.train("word", lines, config.vocab_size)
            target = Tokenizer.train("word", [f" {s.answer}" for s in train], config.vocab_size)
        sources = Sources(
            data=[absolute(path) for path in data],
            valid=[absolute(path) for path in valid],
            examples=len(train),
            units=sum(len(s.answer.split()) + 1 for s in train),
            fingerprint=fingerprint(_texts(train, held)),
        )
        torch.manual_seed(config.seed)
        task = cls(sensible(config, _TIME * len(train), _SIZES), source, target, sources)
        task.begin_with_vectors(run)
        examples = task._examples(train, training=True)
        task.learn_ratio(examples)
        return task, examples, task._examples(held)

    @classmethod
    def restore(cls, config: TrainConfig, run: Run, sources: Sources) -> Self:
        assert isinstance(config, AnswerConfig)
        return cls(config, *cls.tokenizers(run), sources)

    def _examples(self, told: Sequence[Story], training: bool = False) -> Examples:
        texts = [self.asked(s.sentences, s.question) for s in told]
        places = [f"{s.kind}, question {s.question!r}" for s in told]
        return self.encode(texts, [s.answer for s in told], places, [s.kind for s in told], training)

    def read(self, data: Sequence[str]) -> Examples:
        return self._examples(_read(self.config, data))

    def held_out(self) -> Examples:
        train, held = _split(self.config, self.sources.data, self.sources.valid)
        self.unchanged(fingerprint(_texts(train, held)))
        return self._examples(held)

    def scores(self, examples: Examples, answers: Sequence[str]) -> dict[str, Any]:
        """accuracy: the share of answers that are right as they are; the same for each kind of question."""
        right = [a == t for a, t in zip(answers, examples.targets, strict=True)]
        scores: dict[str, Any] = {"accuracy": sum(right) / len(right)}
        for kind in dict.fromkeys(examples.kinds):
            of_kind = [r for r, k in zip(right, examples.kinds, strict=True) if k == kind]
            scores[f"accuracy_{kind}"] = sum(of_kind) / len(of_kind)
        return scores

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        if not is_file_argument(argument):
            return None
        if column is not None:
            return read_column_inputs(argument, column)
        return read_questions(argument, self.config.story, self.config.question)

    def input(self, text: str) -> str:
        """A story with its question behind a tab, or as its last sentence."""
        story, tab, question = text.rpartition("\t")
        told = sentences(story if tab else text)
        if not tab and told:
            *told, question = told
        return self.asked(told, question)

    @property
    def writes(self) -> TokenKind:
        return "word"

    @property
    def copies(self) -> bool:
        return False

    def summary(self) -> dict[str, str]:
        return {
            "data": ", ".join(os.path.basename(path) for path in self.sources.data)
            + f": {self.sources.examples:,} questions, {self.source.vocab_size:,} different words",
            "model": f"{self.config.model}, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["Mary went to the garden.\\tWhere is Mary?"])[0][0].text)']


def _read(config: AnswerConfig, data: Any) -> list[Story]:
    return read_stories(data, (config.story, config.question, config.answer), config.kind, config.skip_bad)


def _split(config: AnswerConfig, data: Sequence[str], valid: Sequence[str]) -> tuple[list[Story], list[Story]]:
    """The questions to train on and those held out: the files of ``valid``, or all that is asked of some stories."""
    told = _read(config, data)
    if valid:
        return told, _read(config, valid)
    groups = sorted({s.group for s in told})
    if len(groups) < 2:
        raise ElmanError(f"{', '.join(data)}: too few stories to hold some out; give more, or --valid files")
    count = min(2000, max(1, round(len(groups) * config.valid_fraction)))
    chosen = {groups[k] for k in np.random.default_rng(0).choice(len(groups), count, replace=False)}
    return [s for s in told if s.group not in chosen], [s for s in told if s.group in chosen]


def _texts(train: Sequence[Story], held: Sequence[Story]) -> list[str]:
    """All that is learnt from and measured on."""
    texts = [t for part in (train, held) for s in part for t in ("", *s.sentences, s.question, s.answer, s.kind)]
    return [*texts, str(len(train))]
