"""A model that answers questions about pictures."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

from elman.errors import ElmanError
from elman.metrics.captions import normalize
from elman.metrics.pointing import Box, Pointed
from elman.metrics.texts import share
from elman.networks.sequence_to_sequence import SequenceToSequence, visual_answerer
from elman.tasks.abilities import Compares, HasBaselines
from elman.tasks.answers import Answer
from elman.tasks.inputs import pictures_of
from elman.tasks.vision.examples import Asked
from elman.tasks.vision.model import VisionModel
from elman.tasks.vqa.options import AnswerSearch, VqaConfig
from elman.tasks.writing.examples import Examples
from elman.tasks.writing.model import Written
from elman.training.recipe import file_names


class VisualAnswerer(VisionModel, Compares, HasBaselines):
    """p(answer | picture, question): ``model.predict([("photo.jpg", "what animal is it?")])[0][0].text``."""

    Options = AnswerSearch
    shown = ("accuracy",)
    scored = 300
    takes_questions = True
    reads = "pictures with questions"
    probabilities = True

    config: VqaConfig

    @property
    def validation_size(self) -> int:
        return 1500

    def make_network(self) -> SequenceToSequence:
        c: VqaConfig = self.config
        assert self.learnt.source is not None
        assert c.hidden_size is not None
        assert c.num_layers is not None
        return visual_answerer(
            *self.learnt.medium.source(), self.learnt.source.vocab_size, self.learnt.target.vocab_size, cell=c.cell,
            embedding_size=c.embedding_size, hidden_size=c.hidden_size, num_layers=c.num_layers, kind=c.attention,
            heads=c.heads, input_feeding=c.input_feeding, tie=c.tie, dropout=c.dropout,
        )  # fmt: skip

    @property
    def question_column(self) -> str:
        return self.config.question

    @property
    def caption_column(self) -> str:
        return ""

    def pairs(self, inputs: Any) -> list[tuple[Any, str]]:
        if (table := pictures_of(inputs, self.config.image, self.config.question)) is not None:
            return [_pair(one, k) for k, one in enumerate(zip(*table, strict=True), 1)]
        single = isinstance(inputs, str) or (
            isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[1], str)
        )
        return [_pair(one, k) for k, one in enumerate([inputs] if single else list(inputs), 1)]

    def scores(self, examples: Examples, answers: Sequence[Written]) -> dict[str, Any]:
        """Return accuracy, the fraction of answers that are right, in all and for each kind of question.

        Answers are compared in lower case without punctuation. Over the questions with the answers of several people,
        also vqa_accuracy, the mean of min(1, people who gave the answer / 3) over all sets of people but one; with
        fewer than four people, of the share of the people. Articles and number words are not unified, as the official
        evaluation does. Antol et al. 2015, https://arxiv.org/abs/1505.00468
        """
        said = [normalize(answer.text) for answer in answers]
        right = [float(text == normalize(target)) for text, target in zip(said, examples.targets, strict=True)]
        scores: dict[str, Any] = {"accuracy": share(sum(right), len(right))}
        if any(note.answers for note in examples.notes):
            pairs = zip(said, examples.notes, strict=True)
            agreed = [_agreement(text, note.answers) for text, note in pairs if note.answers]
            scores["vqa_accuracy"] = share(sum(agreed), len(agreed))
        for kind in sorted({note.kind for note in examples.notes} - {""}):
            of_kind = [r for r, note in zip(right, examples.notes, strict=True) if note.kind == kind]
            scores[f"accuracy_{kind}"] = share(sum(of_kind), len(of_kind))
        return scores | self.pointing(examples, answers)

    def compare(
        self, inputs: Sequence[Hashable], answers: Sequence[Answer], references: Sequence[str]
    ) -> dict[str, Any]:
        """Return accuracy, the fraction of answers that are right, in lower case without punctuation."""
        right = [normalize(a.text) == normalize(one) for a, one in zip(answers, references, strict=True)]
        return {"accuracy": share(sum(right), len(right))}

    def baselines(self, examples: Examples) -> dict[str, float]:
        """Return the accuracy of the most frequent answer, and of the most frequent answer to the question alone.

        For a question that the training data do not have, those that begin with the same words count, as many words
        as possible.
        """
        train = self.training_data()
        of_words: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for item in train.items:
            words = normalize(item.asked.question).split()
            for n in range(len(words) + 1):
                of_words[(*words[:n],)][normalize(item.text)] += 1
            of_words[(*words, "")][normalize(item.text)] += 1  # the whole question

        def likely(question: str) -> str:
            words = normalize(question).split()
            known = [(*words, ""), *((*words[:n],) for n in range(len(words), -1, -1))]
            return of_words[next(key for key in known if key in of_words)].most_common(1)[0][0]

        targets = [normalize(target) for target in examples.targets]
        alone = [likely(given.question) for given in examples.inputs if isinstance(given, Asked)]
        frequent = likely("")
        return {
            "baseline_majority": sum(target == frequent for target in targets) / len(targets),
            "baseline_question": sum(a == t for a, t in zip(alone, targets, strict=True)) / len(targets),
        }

    def pointed(self, boxes: Sequence[Box], answer: Written) -> Pointed:
        return Pointed([], answer.weights.float().numpy(), answer.positions.shape, list(boxes))  # type: ignore[arg-type]

    def summary(self) -> dict[str, str]:
        c = self.config
        assert self.learnt.source is not None
        return {
            "data": f"{file_names(self.sources)}: {self.sources.examples:,} questions, vocabularies of "
            f"{self.learnt.source.vocab_size:,} and {self.target.vocab_size:,} words",
            "model": f"{self.learnt.medium.describe()}, {c.cell}, {c.num_layers} x {c.hidden_size} units, "
            f"{self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict([("photo.jpg", "what animal is it?")])[0][0].text)']


def _pair(given: Any, number: int) -> tuple[Any, str]:
    """A picture and a question, from a tuple or from a text with a tab."""
    picture, question = given, ""
    if isinstance(given, str):
        picture, _, question = given.partition("\t")
    elif isinstance(given, tuple) and len(given) == 2:
        picture, question = given
    else:
        raise ElmanError(f'input {number}: a pair (picture, question) or "photo.jpg<TAB>question" is required')
    if not isinstance(question, str) or not question.strip():
        name = os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else f"input {number}"
        raise ElmanError(f'{name}: no question; give "{name}<TAB>what is it?", or in Python ({name!r}, "what is it?")')
    return picture, question.strip()


def _agreement(answer: str, people: Sequence[str]) -> float:
    """The accuracy of an answer by VQA's definition."""
    said = [normalize(one) == answer for one in people]
    if len(people) < 4:
        return sum(said) / len(said)
    return sum(min(1.0, (sum(said) - one) / 3) for one in said) / len(said)
