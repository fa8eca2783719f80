"""A translator."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.metrics.texts import translation_scores
from elman.metrics.words import Unit, error_scores
from elman.networks.sequence_to_sequence import SequenceToSequence
from elman.tasks.abilities import Compares
from elman.tasks.answers import Answer
from elman.tasks.text_to_text.model import TextToTextModel, translator
from elman.tasks.translate.options import TranslateConfig
from elman.tasks.writing.examples import Examples
from elman.tasks.writing.model import Written
from elman.training.recipe import file_names


class Translator(TextToTextModel, Compares):
    """p(target | source): ``model.predict(["Ein Satz."])[0][0].text``."""

    shown = ("bleu", "word_error_rate", "character_error_rate")

    config: TranslateConfig

    def make_network(self) -> SequenceToSequence:
        sizes = self.learnt.source.vocab_size, self.learnt.target.vocab_size
        return translator(self.config, *sizes, self.config.joint)

    def input(self, text: str) -> str:
        return text.strip()

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        return read_column_inputs(argument, column or self.config.source) if is_file_argument(argument) else None

    def scores(self, examples: Examples, answers: Sequence[Written]) -> dict[str, Any]:
        return self.compare(examples.inputs, answers, examples.targets)

    def compare(
        self, inputs: Sequence[Hashable], answers: Sequence[Answer], references: Sequence[str]
    ) -> dict[str, Any]:
        """Return bleu, chrf and the signature of sacreBLEU; exact, and the error rate of words or of characters."""
        unit: Unit = "words" if any(" " in text for text in references) else "characters"
        texts = [a.text for a in answers]
        errors = error_scores(texts, references, [str(one) for one in inputs], unit)
        return translation_scores(texts, references) | errors

    def summary(self) -> dict[str, str]:
        c = self.config
        sizes = f"{self.source.vocab_size:,} and {self.target.vocab_size:,}"
        return {
            "data": f"{file_names(self.sources)}: {self.sources.examples:,} pairs, vocabularies of {sizes} tokens "
            f"({c.source_tokens}, {c.target_tokens})",
            "model": f"{c.model}, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["..."])[0][0].text)']
