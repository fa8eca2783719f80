"""A model that answers questions about stories."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.data.stories import read_questions, sentences
from elman.data.tokenizer import Tokenizer
from elman.metrics.texts import share
from elman.networks.sequence_to_sequence import SequenceToSequence, story_answerer
from elman.tasks.abilities import Compares
from elman.tasks.answer.options import AnswerConfig
from elman.tasks.answers import Answer
from elman.tasks.text_to_text.model import TextToTextModel, translator
from elman.tasks.writing.examples import Examples
from elman.tasks.writing.model import Written
from elman.training.recipe import file_names


class Answerer(TextToTextModel, Compares):
    """p(answer | question, story); the question is read first, so that the story is read with it in mind.

    ``model.predict([model.asked("Mary went to the garden.", "Where is Mary?")])[0][0].text``
    """

    shown = ("accuracy",)

    config: AnswerConfig

    def make_network(self) -> SequenceToSequence:
        c: AnswerConfig = self.config
        sizes = self.learnt.source.vocab_size, self.learnt.target.vocab_size
        if c.model != "recurrent":
            return translator(c, *sizes, shared=False)
        assert c.hidden_size is not None
        assert c.num_layers is not None
        return story_answerer(
            *sizes, Tokenizer.end_id, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
            num_layers=c.num_layers, kind=c.attention, heads=c.heads, input_feeding=c.input_feeding, tie=c.tie,
            dropout=c.dropout,
        )  # fmt: skip

    @staticmethod
    def asked(story: str | Sequence[str], question: str) -> str:
        """Return the input for a story (a text, or its sentences) and a question about it."""
        return asked(story, question)

    def input(self, text: str) -> str:
        """Return what is read for a story with its question after a tab, or as its last sentence."""
        story, tab, question = text.rpartition("\t")
        story_sentences = sentences(story if tab else text)
        if not tab and story_sentences:
            *story_sentences, question = story_sentences
        return asked(story_sentences, question)

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        if not is_file_argument(argument):
            return None
        if column is not None:
            return read_column_inputs(argument, column)
        return read_questions(argument, self.config.story, self.config.question)

    def scores(self, examples: Examples, answers: Sequence[Written]) -> dict[str, Any]:
        """Return accuracy, the fraction of answers that are exactly right; the same for each kind of question."""
        scores = self.compare(examples.inputs, answers, examples.targets)
        right = [a.text == t for a, t in zip(answers, examples.targets, strict=True)]
        for kind in dict.fromkeys(filter(None, examples.notes)):
            of_kind = [r for r, k in zip(right, examples.notes, strict=True) if k == kind]
            scores[f"accuracy_{kind}"] = sum(of_kind) / len(of_kind)
        return scores

    def compare(
        self, inputs: Sequence[Hashable], answers: Sequence[Answer], references: Sequence[str]
    ) -> dict[str, Any]:
        """Return accuracy, the fraction of answers that are exactly right."""
        right = [a.text == reference.strip() for a, reference in zip(answers, references, strict=True)]
        return {"accuracy": share(sum(right), len(right))}

    def summary(self) -> dict[str, str]:
        return {
            "data": f"{file_names(self.sources)}: {self.sources.examples:,} questions, a vocabulary of "
            f"{self.source.vocab_size:,} words",
            "model": f"{self.config.model}, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["Mary went to the garden.\\tWhere is Mary?"])[0][0].text)']


def asked(story: str | Sequence[str], question: str) -> str:
    """Return a story (a text, or its sentences) and a question as lines, the question first."""
    story_sentences = sentences(story) if isinstance(story, str) else story
    return "\n".join(" " + line.strip() for line in [question, *story_sentences])
