"""The networks of language models: ids to features of the next id, recurrent or Transformer, with one interface.

::

    y, state = network.features(ids, state, lengths)     # (B, T) to (B, T, H)
    loss = network.loss(y, targets)
    logits, state = network(ids, state, lengths)         # (B, T, V)
    logits, state = network.step(ids, state)             # one id: (B,) to (B, V)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from elman.engines import Linear, Written
from elman.engines.writing import Writes
from elman.layers import Connection, SequenceDropout, State, stack
from elman.layers.heads import linear_cross_entropy
from elman.layers.recurrent import features_only
from elman.layers.stepping import watched
from elman.layers.transformer import Positions, Transformer, TransformerState


class LanguageNetwork(nn.Module, Writes):
    """An embedding, layers over time, and a softmax layer.

    Args:
        vocab_size (int): V.
        embedding_size (int): E, the size of a token's vector.
        tie (bool): use the embedding matrix as output weights too.
    """

    #: Whether training starts each window from the final state of the window before.
    carries: bool

    def __init__(self, vocab_size: int, embedding_size: int, tie: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        if tie:
            nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)

    def _add_output(self, H: int, tie: bool) -> None:
        """Make the softmax layer for features of size H; last, as checkpoints have the parameters in this order."""
        V, E = self.embedding.weight.shape
        self.to_embedding = nn.Linear(H, E) if tie and H != E else nn.Identity()
        self.head = None if tie else nn.Linear(H, V)
        self.head_bias = nn.Parameter(torch.zeros(V)) if tie else None

    @abstractmethod
    def features(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """ids (B, T) to what the softmax layer sees (B, T, H), and the state."""

    def written(self, state: Any) -> Written | None:
        """The network after a state, as `elman.engines.writer` takes it; None if it cannot be written so."""
        return None

    @abstractmethod
    def step(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One token: ids (B,) to logits (B, V) of the next, and the state; for generation, without dropout."""

    def forward(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """ids (B, T) to logits (B, T, V) of the next ids, and the state."""
        y, state = self.features(ids, state, lengths)
        return self.logits(y), state

    def loss(self, y: Tensor, targets: Tensor) -> Tensor:
        """The mean of -log p(target) over targets (B, T) that are not negative, from `features`."""
        return linear_cross_entropy(self.to_embedding(y), *self.output, targets)

    def logits(self, y: Tensor) -> Tensor:
        return linear(self.to_embedding(y), *self.output)

    @property
    def output(self) -> tuple[Tensor, Tensor]:
        """The softmax layer's weight and bias."""
        if self.head is not None:
            return self.head.weight, self.head.bias
        assert self.head_bias is not None
        return self.embedding.weight, self.head_bias


class RecurrentLanguage(LanguageNetwork):
    """A language network whose layers are a recurrent stack; its state is all that it knows of the text before.

    Args:
        vocab_size, embedding_size, tie: see `LanguageNetwork`.
        cell, hidden_size, num_layers, connection, blocks, proj_size, open_bias, weight_drop, recurrent_dropout,
            zoneout: see `elman.layers.stack`.
        dropout (float): dropout of embeddings, between layers, and of the features.
        variational (bool): one dropout mask through time.
    """

    carries = True

    def __init__(
        self,
        vocab_size: int,
        *,
        embedding_size: int = 64,
        tie: bool = False,
        cell: Sequence[str] = ("lstm",),
        hidden_size: Sequence[int] = (320,),
        num_layers: int | None = None,
        connection: Connection = "plain",
        blocks: bool = False,
        dropout: float = 0.0,
        variational: bool = False,
        proj_size: int = 0,
        open_bias: float = 0.0,
        weight_drop: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
    ) -> None:
        super().__init__(vocab_size, embedding_size, tie)
        self.recurrent = stack(
            list(cell) if len(cell) > 1 else cell[0],
            embedding_size,
            list(hidden_size) if len(hidden_size) > 1 else hidden_size[0],
            num_layers,
            connection=connection,
            blocks=blocks,
            dropout=dropout,
            variational=variational,
            proj_size=proj_size,
            open_bias=open_bias,
            weight_drop=weight_drop,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
        )
        features_only(self.recurrent)
        self.dropout = SequenceDropout(dropout, variational)
        self._add_output(self.recurrent.output_size, tie)

    def features(self, ids: Tensor, state: State = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        y, state = self.recurrent(self.dropout(self.embedding(ids)), state, lengths)
        return self.dropout(y), state

    def step(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        y, state = self.recurrent.step(self.embedding(ids), state)
        return self.logits(y), state

    def written(self, state: State) -> Written | None:
        used = [self, self.embedding, self.to_embedding, *self.recurrent.parts(), *([self.head] if self.head else [])]
        own = type(self) is RecurrentLanguage and type(self.embedding) is nn.Embedding  # others may compute otherwise
        linear = type(self.to_embedding) in (nn.Identity, nn.Linear) and (not self.head or type(self.head) is nn.Linear)
        if not own or not linear:
            return None
        if {"step", "logits"} & self.__dict__.keys() or self.recurrent.options() is None or watched(used):
            return None
        inner = self.to_embedding
        linears = [Linear(inner.weight, inner.bias)] if isinstance(inner, nn.Linear) else []
        return Written(self.embedding.weight, self.recurrent.single(state), [*linears, Linear(*self.output)])


class Context(NamedTuple):
    """What a Transformer has read: ids (B, n), of which each row has lengths (B,); keys and values, where all rows have
    as many."""

    ids: Tensor
    lengths: Tensor
    known: tuple[Tensor, ...]


class TransformerLanguage(LanguageNetwork):
    """A language network whose layers are a causal Transformer over at most ``window`` tokens.

    When the window is full during generation, half of it is read again. Training windows are independent.

    Args:
        vocab_size, embedding_size, tie: see `LanguageNetwork`; the vectors have this size throughout.
        window (int): the most tokens that are attended to.
        hidden_size (int): size of the dense layers inside a block.
        num_layers, heads, positions, dropout: see `Transformer`.
    """

    carries = False

    def __init__(
        self,
        vocab_size: int,
        *,
        embedding_size: int = 128,
        tie: bool = False,
        window: int = 64,
        hidden_size: int = 512,
        num_layers: int = 4,
        heads: int = 4,
        positions: Positions = "sinusoidal",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vocab_size, embedding_size, tie)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        self.window = window
        self.transformer = Transformer(
            embedding_size, num_layers, heads, hidden_size, causal=True, max_positions=window, positions=positions,
            dropout=dropout,
        )  # fmt: skip
        self._add_output(embedding_size, tie)

    def features(
        self, ids: Tensor, state: Context | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Context | None]:
        if self.training:
            return self.transformer(self.embedding(ids))[0], None
        B, T = ids.shape
        left = torch.full((B,), T, device=ids.device) if lengths is None else lengths
        if state is None:
            state = Context(ids[:, :0], torch.zeros_like(left), ())
        parts = []
        for start in self._starts(T, state.ids.shape[1]):
            piece = ids[:, start[0] : start[1]]
            y, state = self._read(piece, (left - start[0]).clamp(0, piece.shape[1]), state)
            parts.append(y)
        return torch.cat(parts, 1), state

    def step(self, ids: Tensor, state: Context | None = None) -> tuple[Tensor, Context]:
        if state is None or not state.known or state.ids.shape[1] >= self.window:
            y, new = self.features(ids[:, None], state)
            assert new is not None
            return self.logits(y[:, 0]), new
        y, _, now = self.transformer.step(self.embedding(ids), None, TransformerState(state.known))
        return self.logits(y), Context(torch.cat((state.ids, ids[:, None]), 1), state.lengths + 1, now.cache)

    def _starts(self, T: int, known: int) -> list[tuple[int, int]]:
        """T new ids in pieces that are read at a time: what fits into the window, then half windows."""
        half, pieces, start = max(1, self.window // 2), [], 0
        while start < T:
            size = self.window - known if self.window - known >= min(half, T - start) else half
            end = min(T, start + size)
            known = min(known, self.window - size) + end - start
            pieces.append((start, end))
            start = end
        return pieces

    def _read(self, piece: Tensor, new: Tensor, state: Context) -> tuple[Tensor, Context]:
        """Features of a piece (B, p), of which each row has ``new`` ids, after what is in the state."""
        B, p = piece.shape
        past, have = state.ids, state.lengths
        if past.shape[1] + p > self.window:  # each row's last ids stay
            keep = self.window - max(p, self.window // 2)
            kept = have.clamp(max=keep)
            index = (have - kept)[:, None] + torch.arange(keep, device=past.device)
            past, have = past.gather(1, index.clamp(max=past.shape[1] - 1)), kept
        places = have[:, None] + torch.arange(p, device=piece.device)
        read = torch.cat((past, torch.zeros_like(piece)), 1).scatter(1, places, piece)
        y, _, now = self.transformer(self.embedding(read))
        y = y.gather(1, places[..., None].expand(B, p, y.shape[2]))
        have = have + new
        same = bool((have == read.shape[1]).all())
        return y, Context(read, have, now.cache if same else ())
