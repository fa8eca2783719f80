"""The tagging task: a tag for each word, from CoNLL-U, column files or tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from elman.data.split import hold_out
from elman.data.tagged import Tagged, read_tagged
from elman.errors import ElmanError
from elman.media.pretrained import size_of_vectors
from elman.tasks.tag.model import Tagger
from elman.tasks.tag.options import TagConfig
from elman.tasks.tagging.examples import Examples, Vocabulary
from elman.training.recipe import Counts
from elman.training.run import Run
from elman.training.task import Task

_log = logging.getLogger("elman")


class Tag(Task):
    """Learn p(tags | words)."""

    name = "tag"
    Config = TagConfig
    model_class = Tagger
    usage = "elman train tag train.conllu --tag upos --valid dev.conllu"
    items = "sentences"

    config: TagConfig

    def read(self, data: Sequence[str], like: Any = None) -> Tagged:
        c = self.config
        return read_tagged(data, c.tag, c.words, c.tags, c.skip_bad)

    def split(self, data: Tagged) -> tuple[Tagged, Tagged] | None:
        train, held = hold_out(len(data.words), self.config.valid_fraction)
        return (data.part(train), data.part(held)) if held else None

    def contents(self, train: Tagged, held: Tagged) -> list[str]:
        pairs = [pair for part in (train, held) for pair in zip(part.words, part.tags, strict=True)]
        return [t for words, tags in pairs for t in ("", *words, *tags)] + [str(len(train.words))]

    def facts(self, data: Tagged) -> Mapping[str, Any]:
        return {"tables": data.tables}

    def learn(self, train: Tagged, held: Tagged) -> Vocabulary:
        tags = sorted({tag for sentence in train.tags for tag in sentence})
        _check_tags(tags, train, held)
        return Vocabulary.learn(train.words, tags, self.config.vocab_size)

    def restore(self, run: Run) -> Vocabulary:
        return Vocabulary.load(run)

    def encode(self, learnt: Vocabulary, data: Tagged, training: bool = False) -> Examples:
        return learnt.encode(data.words, data.tags)

    def count(self, learnt: Vocabulary, train: Tagged, examples: Examples) -> Counts:
        return Counts(len(train.words), sum(map(len, train.words)))

    def resolve(self, learnt: Vocabulary, train: Tagged, examples: Examples) -> TagConfig:
        c = self.config
        chosen: dict[str, Any] = size_of_vectors(c, c.vectors)
        if c.minutes is None and c.steps is None:
            chosen["minutes"] = min(10.0, max(1.0, sum(map(len, train.words)) / 40_000))
        return c.model_copy(update=chosen)


def _check_tags(names: Sequence[str], train: Tagged, held: Tagged) -> None:
    """Warn of tags that nothing can be learnt from.

    Raises:
        ElmanError: no held-out word has a tag that is learnt.
    """
    count = sum(map(len, train.words))
    if len(names) == 1:
        _log.warning(
            "%s: all %d words have one tag, %r: there is nothing to learn; --tag names another column",
            train.places[0], count, names[0],
        )  # fmt: skip
    elif len(names) > 50 and 3 * len(names) > count:
        _log.warning(
            "%s: %d different tags for %d words; --tag names another column", train.places[0], len(names), count
        )
    if not any(tag in set(names) for tags in held.tags for tag in tags):
        raise ElmanError(f"{held.places[0]}: no held-out word has a tag that is learnt: {', '.join(names[:20])}")
