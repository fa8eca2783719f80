"""The Transformer, with the memory of what was read as its state, so that it goes step by step as recurrent layers do.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from elman.layers.attention import Memory, MultiHead
from elman.layers.dot_product import dot_product_attention
from elman.layers.dropout import SequenceDropout
from elman.layers.recurrent import real_steps

#: On a CPU torch's own attention pays only for sequences longer than this; for short ones it takes up to ten times
#: as long as two products and a softmax.
_SHORT = 512
#: And so many scores at once are too many to keep.
_SCORES = 1 << 25

Positions = Literal["sinusoidal", "learnt"]


def sinusoids(T: int, size: int) -> Tensor:
    """(T, size): sin and cos of t / 10000^(2 i / size), one beside the other."""
    rates = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
    angles = torch.arange(T)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :size]


class Place(nn.Module):
    """Adds to x (B, T, E) where each step is; ``most`` steps at most where places are learnt."""

    def __init__(self, size: int, kind: Positions, most: int) -> None:
        super().__init__()
        self.kind, self.most = kind, most
        self.learnt = nn.Parameter(torch.randn(most, size) * 0.02) if kind == "learnt" else None
        self.table: Tensor
        self.register_buffer("table", sinusoids(most if self.learnt is None else 0, size), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        end = start + x.shape[1]
        if self.learnt is not None:
            if end > self.most:
                raise ValueError(f"the model knows {self.most} places, not {end}")
            return x + self.learnt[start:end]
        table = self.table if end <= len(self.table) else sinusoids(end, x.shape[2]).to(self.table)
        return x + table[start:end].to(x.dtype)


class SelfAttention(nn.Module):
    """Every step looks at all real steps, or with ``causal`` at those up to itself."""

    def __init__(self, size: int, heads: int, causal: bool, dropout: float) -> None:
        super().__init__()
        if size % heads:
            raise ValueError(f"heads must divide the size, {size}; {heads} does not")
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.qkv, self.output = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor, mask: Tensor | None, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, T, E) to the same and the keys and values so far, (B, heads, 2, T', d).

        mask (B, T): true where steps are real, None: all. ``past``: of the steps before; then T is 1.
        """
        B, T, E = x.shape
        parts = self.qkv(x).view(B, T, 3, self.heads, E // self.heads).permute(0, 3, 2, 1, 4).contiguous()
        known = parts[:, :, 1:] if past is None else torch.cat((past.to(parts.dtype), parts[:, :, 1:]), 3)
        q, k, v = parts.unbind(2) if past is None else (parts[:, :, 0], *known.unbind(2))
        dropout, causal = self.dropout if self.training else 0.0, self.causal and past is None
        allowed = None if mask is None else mask[:, None, None]
        few = x.device.type == "cpu" and k.shape[2] <= _SHORT and B * self.heads * T * k.shape[2] <= _SCORES
        if causal and (few or allowed is not None):
            before = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
            allowed, causal = before if allowed is None else before & allowed, False
        if few:
            y, _ = dot_product_attention(q, k, v, allowed, dropout)
        else:
            y = scaled_dot_product_attention(q, k, v, allowed, dropout, is_causal=causal)
        return self.output(y.transpose(1, 2).reshape(B, T, E)), known


class Block(nn.Module):
    """Self-attention, attention to a memory (where there is one), two dense layers; each x + f(norm(x)).

    With ``norm`` "post", as first published: norm(x + f(x)).
    """

    def __init__(
        self, size: int, heads: int, inner_size: int, *, causal: bool, memory_size: int | None = None,
        norm: Literal["pre", "post"] = "pre", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pre = norm == "pre"
        self.self_attention = SelfAttention(size, heads, causal, dropout)
        self.cross = None if memory_size is None else MultiHead(size, memory_size, heads)
        self.dense = nn.Sequential(
            nn.Linear(size, inner_size), nn.ReLU(), SequenceDropout(dropout), nn.Linear(inner_size, size)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2 if memory_size is None else 3))
        self.dropout = SequenceDropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, memory: Memory | None = None, past: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """x (B, T, E) to the same, the weights (B, T, S) of what it looked at in the memory, keys and values."""
        y, known = self.self_attention(self._before(0, x), mask, past)
        x, weights = self._after(0, x, y), None
        if self.cross is not None:
            assert memory is not None
            query = self._before(1, x)
            if past is None:
                y, weights, _ = self.cross(query, memory)
            else:  # a step
                y, weights, _ = self.cross.step(query[:, 0], memory)
                y, weights = y[:, None], weights[:, None]
            x = self._after(1, x, y)
        return self._after(-1, x, self.dense(self._before(-1, x))), weights, known

    def _before(self, k: int, x: Tensor) -> Tensor:
        return self.norms[k](x) if self.pre else x

    def _after(self, k: int, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.dropout(y)
        return x if self.pre else self.norms[k](x)


class TransformerState(NamedTuple):
    """known: keys and values of each layer (B, heads, 2, t, d)."""

    known: tuple[Tensor, ...]


class Transformer(nn.Module):
    """A stack of blocks over x (B, T, E): an encoder; with ``causal`` a language model's; with a memory a decoder.

    ``y, weights, state = layer(x, lengths=None, memory=None)`` over whole sequences,
    ``y, weights, state = layer.step(x, memory, state)`` for one step, x (B, E); memory = layer.read(values, lengths).
    ``weights``: the mean over the layers.
    """

    def __init__(
        self,
        size: int,
        num_layers: int,
        heads: int,
        inner_size: int,
        *,
        causal: bool = False,
        memory_size: int | None = None,
        norm: Literal["pre", "post"] = "pre",
        positions: Positions = "sinusoidal",
        most: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.size, self.heads, self.causal = size, heads, causal
        self.place = Place(size, positions, most)
        self.blocks = nn.ModuleList(
            Block(size, heads, inner_size, causal=causal, memory_size=memory_size, norm=norm, dropout=dropout)
            for _ in range(num_layers)
        )
        self.dropout = SequenceDropout(dropout)
        self.norm = nn.LayerNorm(size) if norm == "pre" else nn.Identity()

    def read(self, values: Tensor, lengths: Tensor | None = None) -> Memory:
        """The memory that all blocks look at: of each its keys and values."""
        first, *rest = (block.cross for block in self.blocks)
        memory: Memory = first.read(values, lengths)  # type: ignore[union-attr, operator]
        return memory._replace(keys=(memory.keys, *(cross.keys(values, memory.mask) for cross in rest)))  # type: ignore[union-attr, operator]

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, memory: Memory | None = None
    ) -> tuple[Tensor, Tensor | None, TransformerState]:
        mask = None if lengths is None or self.causal else real_steps(lengths.to(x.device).clamp(min=1), x.shape[1])
        return self._blocks(self.dropout(self.place(x * math.sqrt(self.size))), mask, memory, None)

    def initial_state(self, x: Tensor) -> TransformerState:
        """Nothing is known yet, for the batch of x."""
        empty = x.new_zeros(len(x), self.heads, 2, 0, self.size // self.heads)
        return TransformerState((empty,) * len(self.blocks))

    def step(
        self, x: Tensor, memory: Memory | None, state: TransformerState
    ) -> tuple[Tensor, Tensor | None, TransformerState]:
        start = state.known[0].shape[3]
        x = self.place(x[:, None] * math.sqrt(self.size), start)
        y, weights, state = self._blocks(x, None, memory, state)
        return y[:, 0], None if weights is None else weights[:, 0], state

    def _blocks(
        self, x: Tensor, mask: Tensor | None, memory: Memory | None, state: TransformerState | None
    ) -> tuple[Tensor, Tensor | None, TransformerState]:
        known, looked = [], []
        for k, block in enumerate(self.blocks):
            own = None if memory is None else memory._replace(keys=memory.keys[k])
            x, weights, new = block(x, mask, own, None if state is None else state.known[k])
            known.append(new)
            looked += [] if weights is None else [weights]
        weights = torch.stack(looked).mean(0) if looked else None
        return self.norm(x), weights, TransformerState(tuple(known))
