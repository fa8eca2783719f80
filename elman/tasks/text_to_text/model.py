"""What all models share that read a text and write another one."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from elman.data.buckets import BucketBatches, Buckets
from elman.data.padding import pad
from elman.data.tokenizer import Tokenizer
from elman.layers.dropout import drop_words
from elman.layers.naming import Named, named_rows
from elman.media.pretrained import fill_embedding
from elman.networks.readers import TextReader
from elman.networks.sequence_to_sequence import SequenceToSequence, recurrent_translator, transformer_translator
from elman.tasks.answers import Axis
from elman.tasks.inputs import inputs_of
from elman.tasks.text_to_text.examples import Tokenizers
from elman.tasks.text_to_text.options import TextToTextConfig
from elman.tasks.text_to_text.task import TextToText
from elman.tasks.writing.examples import Examples, batch_of
from elman.tasks.writing.model import Writer

_log = logging.getLogger("elman")


class TextToTextModel(Writer):
    """p(target | source) by a `SequenceToSequence` network."""

    former_names: ClassVar = {
        "_own_source.": "reader.embedding.", "encoder.": "reader.encoder.", "words.": "reader.words.",
        "norm.": "reader.norm.",
    }  # fmt: skip

    reads = "text"

    config: TextToTextConfig
    learnt: Tokenizers
    task: TextToText

    @property
    def source(self) -> Tokenizer:
        """The vocabulary of what is read."""
        return self.learnt.source

    @property
    def target(self) -> Tokenizer:
        return self.learnt.target

    @property
    def copies(self) -> bool:
        return self.task.copies

    @abstractmethod
    def input(self, text: str) -> str:
        """Return what the model reads for a text that it is given about."""

    def begin(self, examples: Examples, resumed: bool) -> None:
        c, reader = self.config, self.network.reader
        if resumed:
            return
        assert isinstance(reader, TextReader)
        sides = ((c.vectors, reader.source, self.source), (c.target_vectors, self.network.target, self.target))
        self.sources.vectors = [fill_embedding(table, vocabulary, path) for path, table, vocabulary in sides if path]

    def named(self) -> list[Named]:
        reader = self.network.reader
        assert isinstance(reader, TextReader)
        return [*self.named_tables(), *named_rows(self.source.names, reader.source.weight)]

    def batches(self, examples: Examples, rank: int, world: int) -> BucketBatches:
        lengths = np.array([[len(s), len(t) + 1] for s, t in zip(examples.rows, examples.target_ids, strict=True)])
        buckets = Buckets(lengths, self.config.batch_size, self.config.seed, rank, world)
        return BucketBatches(
            buckets,
            lambda rows, k: batch_of(
                self.collate([examples.rows[row] for row in rows]), [examples.target_ids[row] for row in rows]
            ),
        )

    def given(self, inputs: Any) -> list[str]:
        return [self.input(text) for text in inputs_of(inputs, True)]

    def rows(self, given: Sequence[str]) -> list[np.ndarray]:
        rows = self.task.source_ids(self.learnt, given)
        for k, row in enumerate(rows, 1):
            if len(row) > self.config.max_tokens:
                self.task.check_positions(len(row), f"input {k} of {len(rows)}")
                _log.warning(
                    "input %d: %d tokens; the model was trained on at most %d", k, len(row), self.config.max_tokens
                )
        return rows

    def lengths(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([len(row) for row in rows])

    def collate(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
        return pad(rows)

    def hide(self, read: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        ids, lengths = read
        p = self.config.word_dropout
        return drop_words(ids, p, Tokenizer.unknown_id) if p else ids, lengths

    def max_lengths(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        longest = (self.config.length_ratio or 2.0) * self.lengths(rows) + 10
        return longest.astype(np.int64).clip(max=self.config.max_tokens)

    def source_axis(self, given: str) -> Axis:
        return Axis.of_words(self.pieces(given))

    def pieces(self, given: str) -> list[str]:
        return self.task.source_pieces(self.learnt, given)


def translator(config: TextToTextConfig, source_size: int, target_size: int, shared: bool) -> SequenceToSequence:
    """Build the network that reads and writes token by token."""
    c = config
    assert c.hidden_size is not None
    assert c.num_layers is not None
    if c.model == "transformer":
        return transformer_translator(
            source_size, target_size, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
            num_layers=c.num_layers, heads=c.heads, norm=c.norm, positions=c.positions, max_positions=2 * c.max_tokens,
            tie=c.tie, shared=shared, dropout=c.dropout,
        )  # fmt: skip
    return recurrent_translator(
        source_size, target_size, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.hidden_size,
        num_layers=c.num_layers, gnmt=c.model == "gnmt", kind=c.attention, heads=c.heads,
        input_feeding=c.input_feeding, tie=c.tie, shared=shared, dropout=c.dropout,
    )  # fmt: skip
