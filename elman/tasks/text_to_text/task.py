"""What all tasks share that read a text and write another one: encoding, and the options left to the data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elman.data.tokenizer import TokenKind
from elman.errors import ElmanError
from elman.media.text import encode_all, spaced
from elman.tasks.text_to_text.examples import Pairs, Tokenizers
from elman.tasks.text_to_text.options import TextToTextConfig
from elman.tasks.writing.examples import Examples, within_limit
from elman.training.recipe import Counts
from elman.training.run import Run
from elman.training.task import Task


class TextToText(Task):
    """Learn p(target | source) from pairs of texts; a subclass says where the pairs come from."""

    config: TextToTextConfig

    @abstractmethod
    def pairs(self, data: Any) -> Pairs:
        """Return the data as pairs of texts."""

    @abstractmethod
    def source_ids(self, learnt: Tokenizers, texts: Sequence[str]) -> list[np.ndarray]:
        """Return what the network reads for each text."""

    @abstractmethod
    def source_pieces(self, learnt: Tokenizers, text: str) -> list[str]:
        """Return the text at each position that the decoder attends to."""

    @property
    @abstractmethod
    def writes(self) -> TokenKind:
        """The kind of tokens that the model writes."""

    @property
    @abstractmethod
    def copies(self) -> bool:
        """Whether an unknown word is replaced by the source word with the largest attention; if not, unknown words are
        never written."""

    def facts(self, data: Any) -> Mapping[str, Any]:
        return {"tables": self.pairs(data).tables}

    def restore(self, run: Run) -> Tokenizers:
        return Tokenizers.load(run)

    def count(self, learnt: Tokenizers, train: Any, examples: Examples) -> Counts:
        return Counts(len(self.pairs(train).sources), self.length(train))

    @abstractmethod
    def length(self, data: Any) -> int:
        """Return the length of all targets, in units of the task."""

    def encode(self, learnt: Tokenizers, data: Any, training: bool = False) -> Examples:
        """Encode pairs; in training, pairs longer than ``max_tokens`` are skipped or truncated.

        Raises:
            ElmanError: every pair is too long; with learnt positions, a text is longer than the model has positions.
        """
        sources, targets, places, kinds, _ = self.pairs(data)
        c = self.config
        rows, ids = self.source_ids(learnt, sources), encode_all(learnt.target, spaced(self.writes, targets))
        longest = np.array([max(len(s), len(t) + 1) for s, t in zip(rows, ids, strict=True)])
        kept = within_limit(longest, c.max_tokens, places, training=training, truncate=c.truncate, unit="pair")
        if c.truncate:
            rows, ids = ([row[: c.max_tokens - 1] for row in side] for side in (rows, ids))
        elif not training:
            for k in np.flatnonzero(longest > c.max_tokens):
                self.check_positions(int(longest[k]), places[k])
        return Examples(list(sources), rows, list(targets), ids, list(kinds) or [""] * len(rows)).part(kept)

    def check_positions(self, tokens: int, place: str) -> None:
        """ElmanError where the model has no positions for so many tokens."""
        c = self.config
        if c.model == "transformer" and c.positions == "learnt" and tokens > 2 * c.max_tokens:
            raise ElmanError(f"{place}: {tokens} tokens; with learnt positions the model has {2 * c.max_tokens}")


def with_length_ratio(config: Any, examples: Examples) -> Any:
    """Set the maximum length of an answer from the training pairs: all but one in a thousand are shorter."""
    if config.length_ratio is not None:
        return config
    pairs = zip(examples.rows, examples.target_ids, strict=True)
    ratio = float(np.quantile([(len(t) + 1) / len(s) for s, t in pairs], 0.999))
    return config.model_copy(update={"length_ratio": round(1.2 * ratio, 3)})
