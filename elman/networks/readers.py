"""Readers: from a batch of inputs of any medium to what a decoder attends to."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.layers.attention import AttentionKind, attention
from elman.layers.dropout import SequenceDropout
from elman.layers.encoder_decoder import deep_encoder
from elman.layers.hierarchical import parts
from elman.layers.lengths import real_steps
from elman.layers.pooling import MeanPooling
from elman.layers.recurrent import RecurrentLayer, features_only
from elman.layers.stack import stack
from elman.layers.state import flatten, map_state
from elman.layers.transformer import Transformer


class Encoding(NamedTuple):
    """What a reader makes of a batch.

    Attributes:
        keys (Tensor): (N, S, E), the vectors that a decoder attends to; 0 beyond a row's length.
        lengths (Tensor): (N,), the number of keys of each row.
        summary (Tensor): (N, C), one vector for the whole input, from which the state of a decoder starts.
        rows (Tensor, optional): (B,), which of the N encodings each row of the batch reads, where several rows read the
            same input. None: N = B, and each reads its own.
        focus (Tensor, optional): (N, S, P), how much of each of P positions of the input is in a key, where the reader
            itself attends to them. None: key s is position s.
    """

    keys: Tensor
    lengths: Tensor
    summary: Tensor
    rows: Tensor | None = None
    focus: Tensor | None = None


class Reader(nn.Module, ABC):
    """Encode a batch of inputs: ``encoding = reader(*inputs)``.

    A decoder with attention takes the encoding of any reader, so translation, question answering, captions and speech
    recognition differ in their reader only. A reader names the tensors that it takes.

    Attributes:
        output_size (int): E, the size of a key.
        summary_size (int): C, the size of the summary.
    """

    output_size: int
    summary_size: int

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Encoding: ...


class TextReader(Reader, ABC):
    """A reader of token ids (B, T) and lengths (B,).

    Args:
        embedding (nn.Embedding): the vectors of the tokens.
        shared (bool): whether the embedding belongs to another module of the network, which saves it.
    """

    def __init__(self, embedding: nn.Embedding, shared: bool = False) -> None:
        super().__init__()
        self.embedding = None if shared else embedding
        self._shared = (embedding,)  # in a tuple, so that it is not registered a second time

    @property
    def source(self) -> nn.Embedding:
        """The embedding of the tokens that are read."""
        return self._shared[0]


class RecurrentReader(TextReader):
    """Read tokens with a deep recurrent encoder, from both ends; see `elman.layers.encoder_decoder.deep_encoder`.

    Args:
        embedding, shared: see `TextReader`.
        cell (str): the cell of every layer.
        hidden_size (int): units of a layer, half of them for each direction.
        num_layers (int): number of layers.
        gnmt (bool): only the first layer is bidirectional, with residual connections from the third layer on.
        dropout (float): dropout of embeddings, between layers, and of the keys.
    """

    def __init__(
        self, embedding: nn.Embedding, shared: bool, cell: str, hidden_size: int, num_layers: int, *,
        gnmt: bool = False, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(embedding, shared)
        E = embedding.embedding_dim
        self.scale = math.sqrt(E)
        self.encoder = deep_encoder(cell, E, hidden_size, num_layers, gnmt=gnmt, dropout=dropout)
        self.dropout = SequenceDropout(dropout)
        self.output_size, self.summary_size = self.encoder.output_size, _summary_size(self.encoder)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Encoding:
        y, state = self.encoder(self.dropout(self.source(inputs) * self.scale), None, lengths)
        return Encoding(self.dropout(y), lengths, _summary(state))


class StoryReader(TextReader):
    """Read a question and a story sentence by sentence; the question is known to the recurrence over the sentences.

    ::

        w   = BiRNN(words), started anew at each sentence          s_n = LayerNorm(mean of w over sentence n)
        u   = deep BiRNN over n of [s_n; s_0; s_n * s_0]           s_0: the question

    The upper recurrence takes one step a sentence, so it can follow what the question is about through the story.
    Inputs are the ids of the question, then ``separator`` and the ids of each sentence; there is one key for the
    question and one for each sentence.

    Args:
        embedding, shared: see `TextReader`.
        separator (int): the id between two sentences.
        cell (str): the cell of every layer.
        hidden_size (int): units of a layer, half of them for each direction.
        num_layers (int): layers of the recurrence over the sentences.
        dropout (float): dropout of embeddings, sentence vectors, between layers, and of the keys.
    """

    def __init__(
        self, embedding: nn.Embedding, shared: bool, separator: int, cell: str, hidden_size: int, num_layers: int, *,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(embedding, shared)
        E, half = embedding.embedding_dim, (hidden_size + 1) // 2
        self.scale, self.separator = E**0.5, separator
        self.words = stack(cell, E, half, bidirectional=True)
        features_only(self.words)
        D = self.words.output_size
        self.mean = MeanPooling(D)
        self.norm = nn.LayerNorm(D)  # so that the products have the size of their factors
        self.encoder = stack(cell, 3 * D, half, num_layers, bidirectional=True, dropout=dropout)
        self.dropout = SequenceDropout(dropout)
        self.output_size, self.summary_size = self.encoder.output_size, _summary_size(self.encoder)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Encoding:
        sentences = parts(self.dropout(self.source(inputs) * self.scale), inputs == self.separator, lengths)
        y, _ = self.words(sentences.x, None, sentences.lengths)
        means = sentences.together(self.dropout(self.norm(self.mean(y, sentences.lengths)[0])))
        question = means[:, :1].expand_as(means)
        u, state = self.encoder(torch.cat((means, question, means * question), -1), None, sentences.counts)
        return Encoding(self.dropout(u), sentences.counts, _summary(state))


class TransformerReader(TextReader):
    """Read tokens with the encoder of a Transformer (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    Args:
        embedding, shared: see `TextReader`; its size is the size of the Transformer throughout.
        encoder (Transformer): the blocks.

    The summary is the mean of the keys.
    """

    def __init__(self, embedding: nn.Embedding, shared: bool, encoder: Transformer) -> None:
        super().__init__(embedding, shared)
        self.encoder = encoder
        self.output_size = self.summary_size = encoder.size

    def forward(self, inputs: Tensor, lengths: Tensor) -> Encoding:
        y, _, _ = self.encoder(self.source(inputs), lengths)
        real = real_steps(lengths, y.shape[1])[..., None]
        return Encoding(y, lengths, (y * real).sum(1) / lengths.clamp(min=1)[:, None])


class PictureReader(Reader):
    """Read pictures: the vectors of their grid are the keys, and the summary is their mean.

    ::

        encoding = reader(pictures, lengths, rows)      (N, S, C), (N,), (B,) to keys (N, S, D)
        summary  = LayerNorm(mean of keys)              objects are small, so that means hardly differ

    Each of the N different pictures of a batch is encoded once, however many of its B rows read it. Xu et al. 2015,
    https://arxiv.org/abs/1502.03044

    Args:
        source (nn.Module): turns pictures, as the medium batches them, into vectors (N, S, D).
        size (int): D.
        dropout (float): dropout of the keys.
    """

    def __init__(self, source: nn.Module, size: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.pictures = source
        self.norm = nn.LayerNorm(size)
        self.dropout = SequenceDropout(dropout)
        self.output_size = self.summary_size = size

    def forward(self, pictures: Tensor, lengths: Tensor, rows: Tensor) -> Encoding:
        keys = self.dropout(self.pictures(pictures))
        return Encoding(keys, lengths, self.norm(keys.mean(1)), rows)


class QuestionReader(TextReader):
    """Read questions about pictures: a question is read first, and steers the attention to the picture.

    ::

        q = last states of BiRNN(question)
        c = attention(q, v)                                      v: the vectors of the grid
        f = relu(W [c; q; (U c) * q])                            the only key
        summary = [q; f]

    Each of the N different pictures of a batch is encoded once, however many questions are about it. The product of
    question and picture: Kim et al. 2017, https://arxiv.org/abs/1610.04325

    Args:
        embedding, shared: see `TextReader`.
        source, size: see `PictureReader`.
        cell (str): the cell of the recurrence over the question.
        hidden_size (int): its units, half of them for each direction.
        output_size (int): the size of the key.
        kind (str): the attention to the grid, a name of `elman.layers.attention.attention`.
        heads (int): heads of multihead and rotary attention.
        dropout (float): dropout of embeddings and of the grid; the decoder drops parts of the key with its output.
    """

    def __init__(
        self, embedding: nn.Embedding, shared: bool, source: nn.Module, size: int, cell: str, hidden_size: int,
        output_size: int, *, kind: AttentionKind = "additive", heads: int = 4, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(embedding, shared)
        self.scale = math.sqrt(embedding.embedding_dim)
        self.pictures = source
        self.question = deep_encoder(cell, embedding.embedding_dim, hidden_size, 1)
        Q = _summary_size(self.question)
        if kind == "dot" and size != Q:
            raise ValueError(f"dot attention needs a picture_size of {Q}, the size of the question's state, not {size}")
        self.attention = attention(kind, Q, size, hidden_size, heads)
        C = self.attention.output_size
        self.product, self.fusion = nn.Linear(C, Q), nn.Linear(C + 2 * Q, output_size)
        self.dropout = SequenceDropout(dropout)
        self.output_size, self.summary_size = output_size, Q + output_size

    def forward(
        self, pictures: Tensor, lengths: Tensor, rows: Tensor, question: Tensor, question_lengths: Tensor
    ) -> Encoding:
        _, state = self.question(self.dropout(self.source(question) * self.scale), None, question_lengths)
        q = _summary(state)
        v = self.dropout(self.pictures(pictures))
        memory = map_state(self.attention.read(v, lengths), lambda t: t[rows])
        contexts, weights, _ = self.attention(q[:, None], memory)
        c = contexts[:, 0]
        f = torch.relu(self.fusion(torch.cat((c, q, self.product(c) * q), -1)))
        return Encoding(f[:, None], torch.ones_like(question_lengths), torch.cat((q, f), -1), focus=weights)


def _summary(state: Any) -> Tensor:
    """The whole state of the last layer of a stack as one vector a row."""
    return torch.cat(list(flatten(state[-1]).values()), -1)


def _summary_size(encoder: RecurrentLayer) -> int:
    return _summary(encoder.initial_state(torch.zeros(1, encoder.input_size))).shape[1]
