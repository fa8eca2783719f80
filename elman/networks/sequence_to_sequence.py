"""Networks that read an input of any medium and write token ids, recurrent and Transformer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from elman.layers.attention import AttentionKind, Memory, Uniform, attention
from elman.layers.dropout import SequenceDropout
from elman.layers.encoder_decoder import AttentiveDecoder, Bridge
from elman.layers.heads import VocabularyHead
from elman.layers.state import map_state
from elman.layers.transformer import Positions, Transformer
from elman.networks.readers import (
    Encoding,
    PictureReader,
    QuestionReader,
    Reader,
    RecurrentReader,
    StoryReader,
    TransformerReader,
)


class SequenceToSequence(nn.Module, ABC):
    """p(target | input), token by token.

    ::

        memory, state = network.read(*inputs)                            # the inputs of the reader
        y, weights = network.write(targets, memory, state, lengths)      # ids (B, T) to features (B, T, C), (B, T, S)
        loss = network.head.loss(y, following_targets)
        logits, weights, state = network.step(ids, memory, state)        # ids (B,) to (B, V), (B, S)

    ``memory`` and ``state`` are nested tuples of tensors (B, ...), so that beam search can reorder them.

    Args:
        reader (Reader): encodes the input.
        target (nn.Embedding): the vectors of the tokens that are written.
    """

    head: VocabularyHead

    def __init__(self, target: nn.Embedding, reader: Reader) -> None:
        super().__init__()
        self.target, self.reader = target, reader

    @abstractmethod
    def read(self, *inputs: Tensor) -> tuple[Memory, Any]:
        """Encode the inputs: the memory to attend to, and the first state of the decoder."""

    @abstractmethod
    def write(self, inputs: Tensor, memory: Memory, state: Any, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the next token after each of ``inputs`` (B, T), and the attention weights (B, T, S)."""

    @abstractmethod
    def step(self, ids: Tensor, memory: Memory, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Logits (B, V) of the token after ``ids`` (B,), the attention weights (B, S), and the next state."""


class FocusedMemory(NamedTuple):
    """A `Memory` whose S values are mixtures of P positions of the input, with the weights ``focus`` (B, S, P)."""

    values: Tensor
    keys: Any
    mask: Tensor
    focus: Tensor


class RecurrentWriter(SequenceToSequence):
    """A sequence-to-sequence network whose decoder is recurrent, with attention.

    Args:
        target, reader: see `SequenceToSequence`.
        cell (str): the cell of every decoder layer.
        hidden_size (int): units of a decoder layer.
        num_layers (int): number of decoder layers.
        kind (str, optional): the attention, a name of `elman.layers.attention.attention`. None: the reader's keys are
            read as they are, see `elman.layers.attention.Uniform`, and their mean is added to the decoder's output.
        heads (int): heads of multihead and rotary attention.
        input_feeding (bool): feed the attentional vector into the next step; see `AttentiveDecoder`.
        tie (bool): use the target embedding as output weights too.
        dropout (float): dropout of embeddings, between layers, and of the input of the head.
    """

    def __init__(
        self, target: nn.Embedding, reader: Reader, *, cell: str, hidden_size: int, num_layers: int,
        kind: AttentionKind | None, heads: int, input_feeding: bool, tie: bool, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__(target, reader)
        vocab_size, E = target.weight.shape
        size, D = E if tie else hidden_size, reader.output_size
        self.scale = math.sqrt(E)  # the vectors start small, as the head may use them too
        scores = Uniform(hidden_size, D) if kind is None else attention(kind, hidden_size, D, hidden_size, heads)
        self.decoder = AttentiveDecoder(
            cell, E, hidden_size, num_layers, scores, size, input_feeding=input_feeding, residual=kind is None,
            dropout=dropout,
        )  # fmt: skip
        self.bridge = Bridge(reader.summary_size, self.decoder)
        self.dropout = SequenceDropout(dropout)
        self.head = VocabularyHead(size, vocab_size, target if tie else None)

    def read(self, *inputs: Tensor) -> tuple[Memory, Any]:
        return self.begin(self.reader(*inputs))

    def begin(self, encoding: Encoding) -> tuple[Memory, Any]:
        """Return the memory to attend to, and the first state of the decoder, for what the reader has encoded."""
        keys, lengths, summary, rows, focus = encoding
        memory: Any = self.decoder.attention.read(keys, lengths)
        if focus is not None:
            memory = FocusedMemory(memory.values, memory.keys, memory.mask, focus)
        return _of_rows((memory, self.bridge(summary, self.decoder.initial_state(keys))), rows)

    def write(self, inputs: Tensor, memory: Memory, state: Any, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, weights, _ = self.decoder(self.dropout(self.target(inputs) * self.scale), memory, state, lengths)
        return self.dropout(y), _in_all(weights, memory)

    def step(self, ids: Tensor, memory: Memory, state: Any) -> tuple[Tensor, Tensor, Any]:
        y, weights, state = self.decoder.step(self.target(ids) * self.scale, memory, state)
        return self.head(y), _in_all(weights.unflatten(0, (len(memory.values), -1)), memory).flatten(0, 1), state


class TransformerWriter(SequenceToSequence):
    """A sequence-to-sequence network whose decoder is that of Vaswani et al. 2017, https://arxiv.org/abs/1706.03762.

    Args:
        target, reader: see `SequenceToSequence`.
        decoder (Transformer): causal blocks that attend to the reader's keys.
        tie (bool): use the target embedding as output weights too.
        dropout (float): dropout of the input of the head.
    """

    def __init__(
        self, target: nn.Embedding, reader: Reader, decoder: Transformer, *, tie: bool, dropout: float
    ) -> None:
        super().__init__(target, reader)
        self.decoder = decoder
        self.dropout = SequenceDropout(dropout)
        self.head = VocabularyHead(decoder.size, target.num_embeddings, target if tie else None)

    def read(self, *inputs: Tensor) -> tuple[Memory, Any]:
        keys, lengths, _, rows, _ = self.reader(*inputs)
        return _of_rows((self.decoder.read(keys, lengths), self.decoder.initial_state(keys)), rows)

    def write(self, inputs: Tensor, memory: Memory, state: Any, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, weights, _ = self.decoder(self.target(inputs), lengths, memory)
        assert weights is not None
        return self.dropout(y), weights

    def step(self, ids: Tensor, memory: Memory, state: Any) -> tuple[Tensor, Tensor, Any]:
        y, weights, state = self.decoder.step(self.target(ids), memory, state)
        assert weights is not None
        return self.head(y), weights, state


def recurrent_translator(
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
) -> RecurrentWriter:
    """Return a network with a bidirectional encoder of tokens, attention, and a recurrent decoder.

    Args:
        source_size, target_size (int): sizes of the two vocabularies.
        cell (str), hidden_size (int), num_layers (int): of both sides.
        embedding_size (int): size of a token's vector.
        gnmt (bool): see `RecurrentReader`.
        kind, heads, input_feeding, tie: see `RecurrentWriter`.
        shared (bool): source and target use one embedding.
        dropout (float): dropout of embeddings, between layers, and of the input of the head.
    """
    target = embedding(target_size, embedding_size)
    source = target if shared else embedding(source_size, embedding_size)
    reader = RecurrentReader(source, shared, cell, hidden_size, num_layers, gnmt=gnmt, dropout=dropout)
    return RecurrentWriter(
        target, reader, cell=cell, hidden_size=hidden_size, num_layers=num_layers, kind=kind, heads=heads,
        input_feeding=input_feeding, tie=tie, dropout=dropout,
    )  # fmt: skip


def story_answerer(
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
    input_feeding: bool = False,
    tie: bool = False,
    dropout: float = 0.0,
) -> RecurrentWriter:
    """Return a network that answers questions about stories: a `StoryReader` and a decoder of one recurrent layer.

    Args:
        separator (int): the id between two sentences.
        source_size, target_size, cell, embedding_size, hidden_size, kind, heads, input_feeding, tie, dropout: see
            `recurrent_translator`.
        num_layers (int): layers of the recurrence over sentences.
    """
    target = embedding(target_size, embedding_size)
    source = embedding(source_size, embedding_size)
    reader = StoryReader(source, False, separator, cell, hidden_size, num_layers, dropout=dropout)
    return RecurrentWriter(
        target, reader, cell=cell, hidden_size=hidden_size, num_layers=1, kind=kind, heads=heads,
        input_feeding=input_feeding, tie=tie, dropout=dropout,
    )  # fmt: skip


def captioner(
    source: nn.Module,
    size: int,
    target_size: int,
    *,
    cell: str = "lstm",
    embedding_size: int = 256,
    hidden_size: int = 384,
    num_layers: int = 1,
    kind: AttentionKind = "additive",
    heads: int = 4,
    input_feeding: bool = False,
    tie: bool = True,
    dropout: float = 0.0,
) -> RecurrentWriter:
    """Return a network that describes pictures: a `PictureReader` and a recurrent decoder.

    Args:
        source (nn.Module), size (int): turn pictures into the vectors of their grid; see `PictureReader`.
        target_size, embedding_size, hidden_size, num_layers, kind, heads, input_feeding, tie, dropout: see
            `recurrent_translator`; they are those of the decoder.
        cell (str): the cell of the decoder.
    """
    reader = PictureReader(source, size, dropout=dropout)
    return RecurrentWriter(
        embedding(target_size, embedding_size), reader, cell=cell, hidden_size=hidden_size, num_layers=num_layers,
        kind=kind, heads=heads, input_feeding=input_feeding, tie=tie, dropout=dropout,
    )  # fmt: skip


def visual_answerer(
    source: nn.Module,
    size: int,
    source_size: int,
    target_size: int,
    *,
    cell: str = "lstm",
    embedding_size: int = 256,
    hidden_size: int = 256,
    num_layers: int = 1,
    kind: AttentionKind = "additive",
    heads: int = 4,
    input_feeding: bool = False,
    tie: bool = True,
    dropout: float = 0.0,
) -> RecurrentWriter:
    """Return a network that answers questions about pictures: a `QuestionReader` and a recurrent decoder.

    Args:
        source (nn.Module), size (int): turn pictures into the vectors of their grid; see `PictureReader`.
        source_size, target_size (int): sizes of the vocabularies of questions and of answers.
        cell, embedding_size, hidden_size: of both sides; the question has one bidirectional layer.
        num_layers (int): layers of the decoder.
        kind, heads: the attention of the question to the grid; the decoder reads what it finds.
        input_feeding, tie, dropout: see `recurrent_translator`.
    """
    reader = QuestionReader(
        embedding(source_size, embedding_size), False, source, size, cell, hidden_size,
        embedding_size if tie else hidden_size, kind=kind, heads=heads, dropout=dropout,
    )  # fmt: skip
    return RecurrentWriter(
        embedding(target_size, embedding_size), reader, cell=cell, hidden_size=hidden_size, num_layers=num_layers,
        kind=None, heads=heads, input_feeding=input_feeding, tie=tie, dropout=dropout,
    )  # fmt: skip


def transformer_translator(
    source_size: int,
    target_size: int,
    *,
    embedding_size: int = 256,
    hidden_size: int = 1024,
    num_layers: int = 3,
    heads: int = 4,
    norm: Literal["pre", "post"] = "pre",
    positions: Positions = "sinusoidal",
    max_positions: int = 1024,
    tie: bool = True,
    shared: bool = False,
    dropout: float = 0.0,
) -> TransformerWriter:
    """Return the encoder and decoder of a Transformer.

    Args:
        source_size, target_size, tie, shared, dropout: see `recurrent_translator`.
        embedding_size (int): size of the vectors throughout.
        hidden_size (int): size of the dense layers inside a block.
        num_layers (int): blocks of each side.
        heads (int): attention heads.
        norm (str): "pre" or "post", the place of the layer normalisation.
        positions (str): "sinusoidal" or "learnt".
        max_positions (int): the longest sequence with learnt positions.
    """
    target = embedding(target_size, embedding_size)
    source = target if shared else embedding(source_size, embedding_size)

    def blocks(memory_size: int | None) -> Transformer:
        return Transformer(
            embedding_size, num_layers, heads, hidden_size, causal=memory_size is not None, memory_size=memory_size,
            norm=norm, positions=positions, max_positions=max_positions, dropout=dropout,
        )  # fmt: skip

    reader = TransformerReader(source, shared, blocks(None))
    return TransformerWriter(target, reader, blocks(embedding_size), tie=tie, dropout=dropout)


def _in_all(weights: Tensor, memory: Memory | FocusedMemory) -> Tensor:
    """The weights (B, T, P) of the positions of the input, from those of the keys (B, T, S)."""
    return weights @ memory.focus.to(weights.dtype) if isinstance(memory, FocusedMemory) else weights


def _of_rows(encoded: Any, rows: Tensor | None) -> Any:
    """The encodings (N, ...) that the rows of a batch read, (B, ...)."""
    return encoded if rows is None else map_state(encoded, lambda t: t[rows])


def embedding(vocab_size: int, size: int) -> nn.Embedding:
    """Return an embedding whose vectors have a length of about 1."""
    table = nn.Embedding(vocab_size, size)
    nn.init.normal_(table.weight, std=size**-0.5)
    return table
