"""Networks that read ids and write ids, recurrent and Transformer, with one face."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from elman.layers.attention import AttentionKind, Memory, attention
from elman.layers.dropout import SequenceDropout
from elman.layers.encoder_decoder import AttentiveDecoder, Bridge, deep_encoder
from elman.layers.heads import VocabularyHead
from elman.layers.transformer import Positions, Transformer


class Translator(nn.Module, ABC):
    """p(target | source), token by token.

    ::

        memory, state = network.read(source, lengths)                    # ids (B, S), (B,)
        y, weights = network.write(inputs, memory, state, lengths)       # ids (B, T) to features (B, T, C), (B, T, S)
        loss = network.head.loss(y, targets)
        logits, weights, state = network.step(ids, memory, state)        # ids (B,) to (B, V), (B, S)

    ``memory`` and ``state`` are nested tuples of tensors (B, ...), so that beam search can reorder them.
    """

    target: nn.Embedding
    head: VocabularyHead

    def __init__(self, source_size: int, target_size: int, embedding_size: int, shared: bool) -> None:
        super().__init__()
        self.target = _embedding(target_size, embedding_size)
        self._own_source = None if shared else _embedding(source_size, embedding_size)

    @property
    def source(self) -> nn.Embedding:
        """The vectors of what is read."""
        return self.target if self._own_source is None else self._own_source  # type: ignore[return-value]

    @abstractmethod
    def read(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Any]: ...

    @abstractmethod
    def write(self, inputs: Tensor, memory: Memory, state: Any, lengths: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def step(self, ids: Tensor, memory: Memory, state: Any) -> tuple[Tensor, Tensor, Any]: ...


class RecurrentWriter(Translator):
    """A translator whose `AttentiveDecoder` writes; what reads is another's."""

    decoder: AttentiveDecoder
    dropout: SequenceDropout
    #: Of the vectors on their way in: they are small, as the output may use them too.
    scale: float

    def write(self, inputs: Tensor, memory: Memory, state: Any, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, weights, _ = self.decoder(self.dropout(self.target(inputs) * self.scale), memory, state, lengths)
        return self.dropout(y), weights

    def step(self, ids: Tensor, memory: Memory, state: Any) -> tuple[Tensor, Tensor, Any]:
        y, weights, state = self.decoder.step(self.target(ids) * self.scale, memory, state)
        return self.head(y), weights, state


class RecurrentTranslator(RecurrentWriter):
    """A bidirectional encoder, attention, and a recurrent decoder.

    Arguments:
        source_size, target_size: of the vocabularies.
        cell, embedding_size, hidden_size, num_layers: of both sides.
        gnmt: the encoder's first layer alone bidirectional, residual connections from the third layer on.
        kind, heads: the attention.
        input_feeding: see `AttentiveDecoder`.
        tie: the output uses the target's vectors; shared: so do source and target.
        dropout: of embeddings, between layers, and of what the output sees.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        *,
        cell: str = "lstm",
        embedding_size: int = 256,
        hidden_size: int = 512,
        num_layers: int = 2,
        gnmt: bool = False,
        kind: AttentionKind = "rotary",
        heads: int = 4,
        input_feeding: bool = False,
        tie: bool = True,
        shared: bool = False,
        dropout: float = 0.0,
    ) -> None:
        E, H = embedding_size, hidden_size
        super().__init__(source_size, target_size, E, shared)
        self.scale = math.sqrt(E)
        self.encoder = deep_encoder(cell, E, H, num_layers, gnmt=gnmt, dropout=dropout)
        looking = attention(kind, H, self.encoder.output_size, H, heads)
        self.decoder = AttentiveDecoder(
            cell, E, H, num_layers, looking, E if tie else H, input_feeding=input_feeding, dropout=dropout
        )
        self.bridge = Bridge(self.encoder, self.decoder)
        self.dropout = SequenceDropout(dropout)
        self.head = VocabularyHead(E if tie else H, target_size, self.target if tie else None)

    def read(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Any]:
        y, state = self.encoder(self.dropout(self.source(source) * self.scale), None, lengths)
        y = self.dropout(y)
        return self.decoder.attention.read(y, lengths), self.bridge(state, self.decoder.initial_state(y))


class TransformerTranslator(Translator):
    """Encoder and decoder of Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; arguments as `RecurrentTranslator`.

    ``hidden_size``: of the dense layers inside a block; vectors are of ``embedding_size`` throughout.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        *,
        embedding_size: int = 256,
        hidden_size: int = 1024,
        num_layers: int = 3,
        heads: int = 4,
        norm: Literal["pre", "post"] = "pre",
        positions: Positions = "sinusoidal",
        most: int = 1024,
        tie: bool = True,
        shared: bool = False,
        dropout: float = 0.0,
    ) -> None:
        E = embedding_size
        super().__init__(source_size, target_size, E, shared)

        def blocks(memory_size: int | None) -> Transformer:
            return Transformer(
                E, num_layers, heads, hidden_size, causal=memory_size is not None, memory_size=memory_size, norm=norm,
                positions=positions, max_positions=most, dropout=dropout,
            )  # fmt: skip

        self.encoder, self.decoder = blocks(None), blocks(E)
        self.dropout = SequenceDropout(dropout)
        self.head = VocabularyHead(E, target_size, self.target if tie else None)

    def read(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Any]:
        y, _, _ = self.encoder(self.source(source), lengths)
        memory = self.decoder.read(y, lengths)
        return memory, self.decoder.initial_state(y)

    def write(self, inputs: Tensor, memory: Memory, state: Any, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, weights, _ = self.decoder(self.target(inputs), lengths, memory)
        assert weights is not None
        return self.dropout(y), weights

    def step(self, ids: Tensor, memory: Memory, state: Any) -> tuple[Tensor, Tensor, Any]:
        y, weights, state = self.decoder.step(self.target(ids), memory, state)
        assert weights is not None
        return self.head(y), weights, state


def _embedding(vocab_size: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(vocab_size, size)
    nn.init.normal_(embedding.weight, std=size**-0.5)
    return embedding


def drop_words(ids: Tensor, p: float, unknown_id: int) -> Tensor:
    """ids with each one unknown with probability p; negative ones and the first two, which mean something, stay."""
    drop = (torch.rand(ids.shape, device=ids.device) < p) & (ids > 1)
    return torch.where(drop, unknown_id, ids)
