"""A translator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.metrics.texts import error_scores, translation_scores
from elman.networks.sequence_to_sequence import SequenceToSequence
from elman.tasks.text_to_text.model import TextToTextModel, translator
from elman.tasks.translate.options import TranslateConfig
from elman.tasks.writing.examples import Examples
from elman.tasks.writing.model import Written
from elman.training.recipe import file_names


class Translator(TextToTextModel):
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
        """Return bleu, chrf and the signature of sacreBLEU; exact, and the error rate of words or of characters."""
        units = "word" if any(" " in text for text in examples.targets) else "character"
        texts, inputs = [a.text for a in answers], [str(one) for one in examples.inputs]
        errors = error_scores(texts, examples.targets, inputs, units)
        return translation_scores(texts, examples.targets) | errors

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
