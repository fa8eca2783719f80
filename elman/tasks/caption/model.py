"""A captioner."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from elman.data.pictures import Picture
from elman.errors import ElmanError
from elman.metrics.captions import caption_scores, normalize
from elman.metrics.pointing import Box, Pointed
from elman.networks.sequence_to_sequence import SequenceToSequence, captioner
from elman.tasks.abilities import Compares
from elman.tasks.answers import Answer, target_words
from elman.tasks.caption.options import CaptionConfig
from elman.tasks.inputs import inputs_of, pictures_of
from elman.tasks.vision.model import VisionModel
from elman.tasks.writing.examples import Examples
from elman.tasks.writing.model import Written
from elman.training.recipe import file_names


class Captioner(VisionModel, Compares):
    """p(caption | picture): ``model.predict(["photo.jpg"])[0][0].text``."""

    shown = ("bleu", "cider")

    config: CaptionConfig

    @property
    def validation_size(self) -> int:
        return 12_000

    def make_network(self) -> SequenceToSequence:
        c: CaptionConfig = self.config
        assert c.hidden_size is not None
        assert c.num_layers is not None
        return captioner(
            *self.learnt.medium.source(), self.learnt.target.vocab_size, cell=c.cell, embedding_size=c.embedding_size,
            hidden_size=c.hidden_size, num_layers=c.num_layers, kind=c.attention, heads=c.heads,
            input_feeding=c.input_feeding, tie=c.tie, dropout=c.dropout,
        )  # fmt: skip

    @property
    def question_column(self) -> None:
        return None

    @property
    def caption_column(self) -> str:
        return self.config.caption

    def pairs(self, inputs: Any) -> list[tuple[Any, str]]:
        if (table := pictures_of(inputs, self.config.image)) is not None:
            return [(picture, "") for picture in table[0]]
        single = isinstance(inputs, (bytes, Picture)) or not isinstance(inputs, Iterable)
        given = [inputs] if single else inputs_of(inputs, False)
        for picture in given:
            if isinstance(picture, str) and "\t" in picture:
                path, _, question = picture.partition("\t")
                raise ElmanError(f"{path}: a caption model takes no question, {question!r}; a vqa model does")
        return [(picture, "") for picture in given]

    def scores(self, examples: Examples, answers: Sequence[Written]) -> dict[str, Any]:
        """Return the scores of `compare`, and those of the attention."""
        return self.compare(examples.inputs, answers, examples.targets) | self.pointing(examples, answers)

    def as_written(self, reference: str) -> str:
        return normalize(reference) if self.config.normalize else reference

    def compare(
        self, inputs: Sequence[Hashable], answers: Sequence[Answer], references: Sequence[str]
    ) -> dict[str, Any]:
        """Return the scores of `caption_scores`, each picture with all its captions."""
        captions: dict[Hashable, list[str]] = {}
        for given, reference in zip(inputs, references, strict=True):
            captions.setdefault(given, []).append(reference)
        texts = {given: answer.text for given, answer in zip(inputs, answers, strict=True)}
        return caption_scores(list(texts.values()), list(captions.values()))

    def pointed(self, boxes: Sequence[Box], answer: Written) -> Pointed:
        words, weights = target_words(answer.attention)
        return Pointed(words, weights, answer.positions.shape, list(boxes))  # type: ignore[arg-type]

    def summary(self) -> dict[str, str]:
        c = self.config
        return {
            "data": f"{file_names(self.sources)}: {self.sources.examples:,} captions, a vocabulary of "
            f"{self.target.vocab_size:,} tokens ({c.tokens})",
            "model": f"{self.learnt.medium.describe()}, {c.cell}, {c.num_layers} x {c.hidden_size} units, "
            f"{self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["photo.jpg"])[0][0].text)']
