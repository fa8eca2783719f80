"""A reader of sentences: one recurrence over the words of each, another over the sentences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman.layers.attention import AttentionKind, Memory, attention
from elman.layers.dropout import SequenceDropout
from elman.layers.encoder_decoder import AttentiveDecoder, Bridge
from elman.layers.heads import VocabularyHead
from elman.layers.hierarchical import parts
from elman.layers.pooling import MeanPooling
from elman.layers.recurrent import features_only
from elman.layers.stack import stack
from elman.networks.sequence_to_sequence import RecurrentWriter


class StoryReader(RecurrentWriter):
    """p(answer | question, sentences): the question is known to the recurrence that reads the sentences.

    ::

        w   = BiRNN(words), started anew at each sentence          s_n = LayerNorm(mean of w over sentence n)
        u   = deep BiRNN over n of [s_n; s_0; s_n * s_0]           s_0: the question
        answer by a decoder that attends to u

    So the upper recurrence takes a step a sentence, and can follow through the story what the question is about. Source
    ids are the question's, then ``separator`` and the ids of each sentence; the memory has a place for each of these
    parts. Arguments as `RecurrentTranslator`; ``num_layers``: of the recurrence over sentences.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        separator: int,
        *,
        cell: str = "lstm",
        embedding_size: int = 64,
        hidden_size: int = 128,
        num_layers: int = 2,
        kind: AttentionKind = "multihead",
        heads: int = 4,
        tie: bool = False,
        dropout: float = 0.0,
    ) -> None:
        E, H = embedding_size, hidden_size
        super().__init__(source_size, target_size, E, False)
        self.scale, self.separator = E**0.5, separator
        self.words = stack(cell, E, (H + 1) // 2, bidirectional=True)
        features_only(self.words)
        D = self.words.output_size
        self.mean = MeanPooling(D)
        self.norm = torch.nn.LayerNorm(D)  # so that the products are of the size of their factors
        self.encoder = stack(cell, 3 * D, (H + 1) // 2, num_layers, bidirectional=True, dropout=dropout)
        looking = attention(kind, H, self.encoder.output_size, H, heads)
        self.decoder = AttentiveDecoder(cell, E, H, 1, looking, E if tie else H, dropout=dropout)
        self.bridge = Bridge(self.encoder, self.decoder)
        self.dropout = SequenceDropout(dropout)
        self.head = VocabularyHead(E if tie else H, target_size, self.target if tie else None)

    def read(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Any]:
        found = parts(self.dropout(self.source(source) * self.scale), source == self.separator, lengths)
        y, _ = self.words(found.x, None, found.lengths)
        means = found.together(self.dropout(self.norm(self.mean(y, found.lengths)[0])))
        question = means[:, :1].expand_as(means)
        u, state = self.encoder(torch.cat((means, question, means * question), -1), None, found.counts)
        u = self.dropout(u)
        return self.decoder.attention.read(u, found.counts), self.bridge(state, self.decoder.initial_state(u))
