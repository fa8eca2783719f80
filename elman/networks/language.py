"""The networks of language models: ids to features of the next id, recurrent or Transformer, with one face.

::

    y, state = network.features(ids, state, lengths)     # (B, T) to (B, T, H)
    loss = network.loss(y, targets)
    logits, state = network(ids, state, lengths)         # (B, T, V)
    logits, state = network.step(ids, state)             # one id: (B,) to (B, V)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from elman.layers import SequenceDropout, State, stack
from elman.layers.heads import linear_cross_entropy
from elman.layers.recurrent import features_only
from elman.layers.transformer import Transformer, TransformerState
from elman.tasks.language.options import LanguageConfig


class LanguageNetwork(nn.Module, ABC):
    """Embedding, something over time, softmax layer; with ``tie`` the softmax uses the embedding matrix."""

    #: Whether training goes on from the state of the window before.
    carries: bool

    def __init__(self, config: LanguageConfig, vocab_size: int) -> None:
        super().__init__()
        E = config.embedding_size
        self.embedding = nn.Embedding(vocab_size, E)
        if config.tie:
            nn.init.normal_(self.embedding.weight, std=E**-0.5)

    def _add_output(self, config: LanguageConfig, vocab_size: int, H: int) -> None:
        """The softmax layer for features of size H: made last, as checkpoints have the parameters in this order."""
        E = config.embedding_size
        self.to_embedding = nn.Linear(H, E) if config.tie and H != E else nn.Identity()
        self.head = None if config.tie else nn.Linear(H, vocab_size)
        self.head_bias = nn.Parameter(torch.zeros(vocab_size)) if config.tie else None

    @abstractmethod
    def features(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """ids (B, T) to what the softmax layer sees (B, T, H), and the state."""

    @abstractmethod
    def step(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One token: ids (B,) to logits (B, V) of the next, and the state; for generation, without dropout."""

    def forward(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """ids (B, T) to logits (B, T, V) of the next ids, and the state."""
        y, state = self.features(ids, state, lengths)
        return self.logits(y), state

    def loss(self, y: Tensor, targets: Tensor) -> Tensor:
        """The mean of -log p(target) over targets (B, T) that are not negative, from `features`."""
        return linear_cross_entropy(self.to_embedding(y), *self._output, targets)

    def logits(self, y: Tensor) -> Tensor:
        return linear(self.to_embedding(y), *self._output)

    @property
    def _output(self) -> tuple[Tensor, Tensor]:
        """The softmax layer's weight and bias."""
        if self.head is not None:
            return self.head.weight, self.head.bias
        assert self.head_bias is not None
        return self.embedding.weight, self.head_bias


class RecurrentLanguage(LanguageNetwork):
    """A recurrent stack; its state is all that it knows of the text before."""

    carries = True

    def __init__(self, config: LanguageConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        assert config.hidden_size is not None
        E, dropout = config.embedding_size, config.dropout or 0.0
        self.recurrent = stack(
            config.cell if len(config.cell) > 1 else config.cell[0],
            E,
            config.hidden_size if len(config.hidden_size) > 1 else config.hidden_size[0],
            config.num_layers,
            connection=config.connection,
            dropout=dropout,
            variational=config.variational,
            proj_size=config.proj_size,
            open_bias=config.open_bias,
            weight_drop=config.weight_drop,
            recurrent_dropout=config.recurrent_dropout,
            zoneout=config.zoneout,
        )
        features_only(self.recurrent)
        self.dropout = SequenceDropout(dropout, config.variational)
        self._add_output(config, vocab_size, self.recurrent.output_size)

    def features(self, ids: Tensor, state: State = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        y, state = self.recurrent(self.dropout(self.embedding(ids)), state, lengths)
        return self.dropout(y), state

    def step(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        y, state = self.recurrent.step(self.embedding(ids), state)
        return self.logits(y), state


class Context(NamedTuple):
    """What a Transformer has read: ids (B, n), of which each row has lengths (B,); keys and values, where all rows have
    as many."""

    ids: Tensor
    lengths: Tensor
    known: tuple[Tensor, ...]


class TransformerLanguage(LanguageNetwork):
    """A causal Transformer over at most ``window`` tokens, also when it generates.

    Where a text is longer, half of the window is read again when it is full. Training windows know nothing of each
    other.
    """

    carries = False

    def __init__(self, config: LanguageConfig, vocab_size: int) -> None:
        assert config.hidden_size is not None
        assert config.num_layers is not None
        super().__init__(config, vocab_size)
        E = config.embedding_size
        nn.init.normal_(self.embedding.weight, std=E**-0.5)
        self.window = config.window
        self.transformer = Transformer(
            E, config.num_layers, config.heads, config.hidden_size[0], causal=True, max_positions=config.window,
            positions=config.positions, dropout=config.dropout or 0.0,
        )  # fmt: skip
        self._add_output(config, vocab_size, E)

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
