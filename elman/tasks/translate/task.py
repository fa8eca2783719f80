"""The translation task: pairs of texts, from two aligned files or a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.data.pairs import read_pairs
from elman.data.split import hold_out_groups
from elman.data.tokenizer import Tokenizer, TokenKind
from elman.media.text import encode_all, spaced
from elman.tasks.text_to_text.examples import Pairs, Tokenizers
from elman.tasks.text_to_text.options import with_defaults
from elman.tasks.text_to_text.task import TextToText, with_length_ratio
from elman.tasks.translate.model import Translator
from elman.tasks.translate.options import TranslateConfig
from elman.tasks.writing.examples import Examples
from elman.tasks.writing.options import Sizes

_SIZES = {
    "recurrent": (Sizes(256, 1, 5e-3, 0.3), Sizes(512, 1, 3e-3, 0.4)),
    "gnmt": (Sizes(256, 8, 2e-3, 0.2), Sizes(256, 8, 2e-3, 0.2)),
    "transformer": (Sizes(512, 3, 2e-3, 0.2), Sizes(1024, 3, 1e-3, 0.3)),
}
#: A vocabulary with fewer tokens consists of letters or sounds, of which less can be memorised.
_LETTERS = 1000
_SIZES_OF_LETTERS = _SIZES | {"recurrent": (Sizes(256, 2, 5e-3, 0.2), Sizes(384, 2, 3e-3, 0.2))}


class Translate(TextToText):
    """Learn p(target | source) for translation, pronunciation, spelling, ..."""

    name = "translate"
    Config = TranslateConfig
    model_class = Translator
    usage = "elman train translate train.de train.en --valid valid.de valid.en"
    items = "pairs"

    config: TranslateConfig

    def read(self, data: Sequence[str], like: Any = None) -> Pairs:
        found = read_pairs(data, self.config.source, self.config.target, self.config.skip_bad)
        return Pairs(found.sources, found.targets, found.places, tables=found.tables)

    def split(self, data: Pairs) -> tuple[Pairs, Pairs] | None:
        """Hold out some sources with all their targets."""
        chosen = hold_out_groups(data.sources, self.config.valid_fraction)
        if chosen is None:
            return None

        def part(held: bool) -> Pairs:
            rows = [k for k, source in enumerate(data.sources) if (source in chosen) == held]
            return data._replace(
                sources=[data.sources[k] for k in rows], targets=[data.targets[k] for k in rows],
                places=[data.places[k] for k in rows],
            )  # fmt: skip

        return part(False), part(True)

    def contents(self, train: Pairs, held: Pairs) -> list[str]:
        return [*train.sources, "", *train.targets, "", *held.sources, "", *held.targets]

    def pairs(self, data: Pairs) -> Pairs:
        return data

    def length(self, data: Pairs) -> int:
        return sum(map(len, data.targets))

    def learn(self, train: Pairs, held: Pairs) -> Tokenizers:
        c = self.config
        sides = [(c.source_tokens, train.sources), (c.target_tokens, train.targets)]
        if c.joint:
            sides = [(c.source_tokens, [*train.sources, *train.targets])]
        learnt = [Tokenizer.train(kind, spaced(kind, texts), c.vocab_size) for kind, texts in sides]
        return Tokenizers(learnt[0], learnt[-1])

    def resolve(self, learnt: Tokenizers, train: Pairs, examples: Examples) -> TranslateConfig:
        sizes = _SIZES_OF_LETTERS if learnt.target.vocab_size < _LETTERS else _SIZES
        return with_length_ratio(with_defaults(self.config, self.length(train), sizes), examples)

    def source_ids(self, learnt: Tokenizers, texts: Sequence[str]) -> list[np.ndarray]:
        return encode_all(learnt.source, spaced(self.config.source_tokens, texts))

    def source_pieces(self, learnt: Tokenizers, text: str) -> list[str]:
        return learnt.source.token_texts(*spaced(self.config.source_tokens, [text]))

    @property
    def writes(self) -> TokenKind:
        return self.config.target_tokens

    @property
    def copies(self) -> bool:
        return self.config.target_tokens == "word"
