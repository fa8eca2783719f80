"""Translation, and every other text that becomes a text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field

from elman.data import Tokenizer, TokenKind, absolute, fingerprint
from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.data.pairs import Pairs, read_pairs
from elman.errors import ElmanError
from elman.metrics.texts import error_scores, translation_scores
from elman.networks.sequence_to_sequence import Translator
from elman.tasks.pretrained import sized
from elman.tasks.text_to_text.model import Examples, TextToText, encode_all, spaced
from elman.tasks.text_to_text.options import Sizes, TextToTextConfig, sensible, translator
from elman.training.config import TrainConfig
from elman.training.run import Run, Sources

_SIZES = {
    "recurrent": (Sizes(256, 1, 5e-3, 0.3), Sizes(512, 1, 3e-3, 0.4)),
    "gnmt": (Sizes(256, 8, 2e-3, 0.2), Sizes(256, 8, 2e-3, 0.2)),
    "transformer": (Sizes(512, 3, 2e-3, 0.2), Sizes(1024, 3, 1e-3, 0.3)),
}
#: Where so few different tokens are written, they are letters or sounds: less is to be learnt by heart.
_LETTERS = 1000
_SIZES_OF_LETTERS = _SIZES | {"recurrent": (Sizes(256, 2, 5e-3, 0.2), Sizes(384, 2, 3e-3, 0.2))}


class TranslateConfig(TextToTextConfig):
    """The options of ``elman train translate``."""

    source: str = Field("source", description="The column to translate, where the data are tables.")
    target: str = Field("target", description="The column with its translation.")
    source_tokens: TokenKind = Field("bpe", description="What the model reads.")
    target_tokens: TokenKind = Field("bpe", description="What the model writes.")
    vocab_size: int = Field(4000, ge=2, description="Different tokens of word and bpe, on each side.")
    joint: bool = Field(False, description="One vocabulary, and one set of vectors, for both sides.")


class Translate(TextToText):
    """p(target | source): ``model.predict(["Ein Satz."])[0][0].text``."""

    name = "translate"
    Config = TranslateConfig
    shown = ("bleu", "word_error_rate", "character_error_rate")

    config: TranslateConfig

    def __init__(self, config: TranslateConfig, source: Tokenizer, target: Tokenizer, sources: Sources) -> None:
        super().__init__(config, source, target)
        self.sources = sources

    def build(self) -> Translator:
        return translator(self.config, self.source.vocab_size, self.target.vocab_size, self.config.joint)

    def pieces(self, text: str) -> list[str]:
        return self.source.token_texts(*spaced(self.config.source_tokens, [text]))

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        return encode_all(self.source, spaced(self.config.source_tokens, texts))

    @classmethod
    def prepare(
        cls, config: TrainConfig, data: Sequence[str], valid: Sequence[str], run: Run | None = None
    ) -> tuple[Self, Examples, Examples]:
        assert isinstance(config, TranslateConfig)
        config = sized(config, config.vectors, config.target_vectors)
        if config.joint and config.source_tokens != config.target_tokens:
            raise ElmanError("joint: one vocabulary needs the same kind of tokens on both sides")
        train, held = _split(config, data, valid)
        if run is not None:
            source, target = cls.tokenizers(run)
        else:
            sides = [(config.source_tokens, train.sources), (config.target_tokens, train.targets)]
            if config.joint:
                sides = [(config.source_tokens, [*train.sources, *train.targets])]
            learnt = [Tokenizer.train(kind, spaced(kind, texts), config.vocab_size) for kind, texts in sides]
            source, target = learnt[0], learnt[-1]
        sources = Sources(
            data=[absolute(path) for path in data],
            valid=[absolute(path) for path in valid],
            examples=len(train.sources),
            units=sum(map(len, train.targets)),
            fingerprint=fingerprint(_texts(train, held)),
        )
        torch.manual_seed(config.seed)
        sizes = _SIZES_OF_LETTERS if target.vocab_size < _LETTERS else _SIZES
        task = cls(sensible(config, sources.units, sizes), source, target, sources)
        task.begin_with_vectors(run)
        examples = task.encode(*train, training=True)
        task.learn_ratio(examples)
        return task, examples, task.encode(*held)

    @classmethod
    def restore(cls, config: TrainConfig, run: Run, sources: Sources) -> Self:
        assert isinstance(config, TranslateConfig)
        return cls(config, *cls.tokenizers(run), sources)

    def read(self, data: Sequence[str]) -> Examples:
        return self.encode(*_read(self.config, data))

    def held_out(self) -> Examples:
        train, held = _split(self.config, self.sources.data, self.sources.valid)
        self.unchanged(fingerprint(_texts(train, held)))
        return self.encode(*held)

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        return read_column_inputs(argument, column or self.config.source) if is_file_argument(argument) else None

    def input(self, text: str) -> str:
        return text.strip()

    def scores(self, examples: Examples, answers: Sequence[str]) -> dict[str, Any]:
        """bleu, chrf and sacreBLEU's signature; exact and word_error_rate, or those of characters."""
        units = "word" if any(" " in text for text in examples.targets) else "character"
        wrong = error_scores(answers, examples.targets, examples.sources, units)
        return translation_scores(answers, examples.targets) | wrong

    @property
    def writes(self) -> TokenKind:
        return self.config.target_tokens

    @property
    def copies(self) -> bool:
        return self.config.target_tokens == "word"

    def summary(self) -> dict[str, str]:
        c = self.config
        sizes = f"{self.source.vocab_size:,} and {self.target.vocab_size:,}"
        return {
            "data": ", ".join(os.path.basename(path) for path in self.sources.data)
            + f": {self.sources.examples:,} pairs, {sizes} different tokens ({c.source_tokens}, {c.target_tokens})",
            "model": f"{c.model}, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["..."])[0][0].text)']


def _read(config: TranslateConfig, data: Any) -> Pairs:
    return read_pairs(data, config.source, config.target, config.skip_bad)


def _split(config: TranslateConfig, data: Sequence[str], valid: Sequence[str]) -> tuple[Pairs, Pairs]:
    """The pairs to train on and those held out: the files of ``valid``, or some sources with all their targets."""
    pairs = _read(config, data)
    if valid:
        return pairs, _read(config, valid)
    different = sorted(set(pairs.sources))
    if len(different) < 2:
        raise ElmanError(f"{', '.join(data)}: too few pairs to hold some out; give more, or --valid files")
    count = min(2000, max(1, round(len(different) * config.valid_fraction)))
    chosen = {different[k] for k in np.random.default_rng(0).choice(len(different), count, replace=False)}

    def part(held: bool) -> Pairs:
        rows = [k for k, source in enumerate(pairs.sources) if (source in chosen) == held]
        return Pairs(*([side[k] for k in rows] for side in pairs))

    return part(False), part(True)


def _texts(train: Pairs, held: Pairs) -> list[str]:
    """All that is learnt from and measured on."""
    return [*train.sources, "", *train.targets, "", *held.sources, "", *held.targets]
