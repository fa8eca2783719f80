"""The language modelling task: text files, or a column of texts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from elman.data.source import sources as sources_of
from elman.data.tables import read_plain_text
from elman.data.tokenizer import Tokenizer
from elman.errors import ElmanError
from elman.media.text import TOKENIZER
from elman.tasks.language.model import LanguageModel, Text, Vocabulary, joined
from elman.tasks.language.options import LanguageConfig, with_defaults
from elman.training.recipe import Counts
from elman.training.run import Run
from elman.training.task import Task

_log = logging.getLogger("elman")

_VOCABULARY = {"char": 0, "word": 20_000, "bpe": 4096}


class Texts(NamedTuple):
    """Texts, and the name of each."""

    texts: list[str]
    names: list[str]


class Language(Task):
    """Learn p(text)."""

    name = "language"
    Config = LanguageConfig
    model_class = LanguageModel
    usage = "elman train language shakespeare.txt --minutes 2"
    items = "texts"

    config: LanguageConfig

    def read(self, data: Sequence[str], like: Any = None) -> Texts:
        paths = sources_of(data)
        return Texts([read_plain_text(path) for path in paths], list(map(str, paths)))

    def split(self, data: Texts) -> tuple[Texts, Texts]:
        """Hold out the end of each text."""
        fraction = self.config.valid_fraction
        cuts = [int(len(text) * (1 - fraction)) for text in data.texts]
        for name, text, cut in zip(data.names, data.texts, cuts, strict=True):
            if not 0 < cut < len(text):
                raise ElmanError(
                    f"{name}: {len(text)} characters are too few to hold out {fraction:.0%}; give more text"
                )
        train = [text[:cut] for text, cut in zip(data.texts, cuts, strict=True)]
        held = [text[cut:] for text, cut in zip(data.texts, cuts, strict=True)]
        return Texts(train, data.names), Texts(held, data.names)

    def contents(self, train: Texts, held: Texts) -> list[str]:
        return [*train.texts, "", *held.texts]

    def facts(self, data: Texts) -> Mapping[str, Any]:
        return {}

    def learn(self, train: Texts, held: Texts) -> Vocabulary:
        c = self.config
        texts = [*train.texts, *held.texts] if c.tokens == "char" else train.texts
        return Vocabulary(Tokenizer.train(c.tokens, texts, c.vocab_size or _VOCABULARY[c.tokens]))

    def restore(self, run: Run) -> Vocabulary:
        return Vocabulary(Tokenizer.from_json(run.read(TOKENIZER), str(run.path / TOKENIZER)))

    def encode(self, learnt: Vocabulary, data: Texts, training: bool = False) -> Text:
        """Encode texts; the log reports tokens that are not in the vocabulary.

        Raises:
            ElmanError: there are fewer training tokens than one window has.
        """
        text = Text([learnt.tokenizer.encode(t) for t in data.texts], sum(map(len, data.texts)))
        if training:
            count = len(joined(text.ids))
            if count < self.config.window:
                raise ElmanError(
                    f"{', '.join(data.names)}: {count} tokens to train on, fewer than one window of "
                    f"{self.config.window}: give more text, or a --window of at most {count}"
                )
        elif unknown := sum(int((ids == Tokenizer.unknown_id).sum()) for ids in text.ids):
            total = sum(map(len, text.ids))
            _log.warning("%d of %d tokens are not in the vocabulary; they count as 'unknown'", unknown, total)
        return text

    def count(self, learnt: Vocabulary, train: Texts, examples: Text) -> Counts:
        return Counts(len(train.texts), len(joined(examples.ids)))

    def resolve(self, learnt: Vocabulary, train: Texts, examples: Text) -> LanguageConfig:
        return with_defaults(self.config, len(joined(examples.ids)))
