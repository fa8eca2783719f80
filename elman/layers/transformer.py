"""Transformer layers. A cache of keys and values serves as their state, so that they also run step by step.

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
from elman.layers.lengths import real_steps

#: On the CPU, torch's attention is used only for sequences longer than this: for short ones, two products and a softmax
#: are up to ten times as fast.
_SHORT = 512
#: It is also used where the scores would be more than this many numbers.
_SCORES = 1 << 25

Positions = Literal["sinusoidal", "learnt"]


def sinusoids(T: int, size: int) -> Tensor:
    """Return sinusoidal position encodings: sin and cos of t / 10000^(2 i / size), interleaved.

    Args:
        T (int): The number of positions.
        size (int): The size of an encoding.

    Returns:
        Tensor: The encodings, (T, size).
    """
    rates = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
    angles = torch.arange(T)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :size]


class PositionalEncoding(nn.Module):
    """Add an encoding of its position to each step of x (B, T, E).

    Args:
        size (int): E, the size of an encoding.
        kind (str): ``"sinusoidal"`` or ``"learnt"``.
        max_positions (int): The number of learned encodings, in steps. Sinusoidal encodings have no maximum.

    Raises:
        ValueError: In `forward`, if a sequence is longer than the learned encodings.
    """

    def __init__(self, size: int, kind: Positions, max_positions: int) -> None:
        super().__init__()
        self.kind, self.max_positions = kind, max_positions
        self.learnt = nn.Parameter(torch.randn(max_positions, size) * 0.02) if kind == "learnt" else None
        self.table: Tensor
        self.register_buffer("table", sinusoids(max_positions if self.learnt is None else 0, size), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Return x (B, T, E) with encodings; ``start`` is the position of its first step."""
        end = start + x.shape[1]
        if self.learnt is not None:
            if end > self.max_positions:
                raise ValueError(f"the model has encodings for {self.max_positions} positions, the input needs {end}")
            return x + self.learnt[start:end]
        table = self.table if end <= len(self.table) else sinusoids(end, x.shape[2]).to(self.table)
        return x + table[start:end].to(x.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention over x (B, T, E).

    Args:
        size (int): E, the number of features.
        heads (int): The number of heads; divides E.
        causal (bool): Whether each step attends only to itself and earlier steps.
        dropout (float): The dropout probability of the attention weights.

    Raises:
        ValueError: ``heads`` does not divide ``size``.
    """

    def __init__(self, size: int, heads: int, causal: bool, dropout: float) -> None:
        super().__init__()
        if size % heads:
            raise ValueError(f"size must be a multiple of heads, got: size {size}, heads {heads}")
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.qkv, self.output = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor, mask: Tensor | None, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute self-attention.

        Args:
            x (Tensor): Features (B, T, E).
            mask (Tensor, optional): Bool (B, T), true on real steps. None: all steps are real.
            past (Tensor, optional): Keys and values of T_past earlier steps, (B, heads, 2, T_past, d). With it, T is 1.
                Default: ``None``.

        Returns:
            tuple[Tensor, Tensor]: Features (B, T, E), and the keys and values (B, heads, 2, T_past + T, d).
        """
        B, T, E = x.shape
        parts = self.qkv(x).view(B, T, 3, self.heads, E // self.heads).permute(0, 3, 2, 1, 4).contiguous()
        cache = parts[:, :, 1:] if past is None else torch.cat((past.to(parts.dtype), parts[:, :, 1:]), 3)
        q, k, v = parts.unbind(2) if past is None else (parts[:, :, 0], *cache.unbind(2))
        dropout, causal = self.dropout if self.training else 0.0, self.causal and past is None
        allowed = None if mask is None else mask[:, None, None]
        small = x.device.type == "cpu" and k.shape[2] <= _SHORT and B * self.heads * T * k.shape[2] <= _SCORES
        if causal and (small or allowed is not None):
            before = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
            allowed, causal = before if allowed is None else before & allowed, False
        if small:
            y, _ = dot_product_attention(q, k, v, allowed, dropout)
        else:
            y = scaled_dot_product_attention(q, k, v, allowed, dropout, is_causal=causal)
        return self.output(y.transpose(1, 2).reshape(B, T, E)), cache


class Block(nn.Module):
    """A Transformer block: self-attention, attention to a memory (optional) and a feed-forward network.

    Each part f has a residual connection: ``x + f(norm(x))`` with ``norm="pre"``, or ``norm(x + f(x))`` with
    ``norm="post"``, as in the paper.

    Args:
        size (int): E, the number of features.
        heads (int): The number of heads; divides E.
        inner_size (int): The number of hidden units of the feed-forward network.
        causal (bool): Whether each step attends only to itself and earlier steps.
        memory_size (int, optional): The size of the values of the memory. Default: ``None``, no memory.
        norm (str): ``"pre"`` or ``"post"``. Default: ``"pre"``.
        dropout (float): The dropout probability of each part's output, of its hidden units and of the attention
            weights. Default: 0.0.
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
        """Compute the block.

        Args:
            x (Tensor): Features (B, T, E).
            mask (Tensor, optional): Bool (B, T), true on real steps. Default: ``None``, all steps are real.
            memory (Memory, optional): The memory, for a block with ``memory_size``. Default: ``None``.
            past (Tensor, optional): Keys and values of earlier steps; see `SelfAttention`. Default: ``None``.

        Returns:
            tuple[Tensor, Tensor | None, Tensor]: Features (B, T, E); the attention weights (B, T, S), None without a
            memory; keys and values, see `SelfAttention`.
        """
        y, cache = self.self_attention(self._before(0, x), mask, past)
        x, weights = self._after(0, x, y), None
        if self.cross is not None:
            assert memory is not None
            query = self._before(1, x)
            if past is None:
                y, weights, _ = self.cross(query, memory)
            else:  # a single step
                y, weights, _ = self.cross.step(query[:, 0], memory)
                y, weights = y[:, None], weights[:, None]
            x = self._after(1, x, y)
        return self._after(-1, x, self.dense(self._before(-1, x))), weights, cache

    def _before(self, k: int, x: Tensor) -> Tensor:
        return self.norms[k](x) if self.pre else x

    def _after(self, k: int, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.dropout(y)
        return x if self.pre else self.norms[k](x)


class TransformerState(NamedTuple):
    """The state of a `Transformer`.

    Args:
        cache (tuple[Tensor, ...]): The keys and values of each block for the t steps so far, (B, heads, 2, t, d).
    """

    cache: tuple[Tensor, ...]


class Transformer(nn.Module):
    """A Transformer: an encoder, a language model (``causal``), or a decoder (with a memory).

    ::

        y, weights, state = layer(x, lengths, memory)            whole sequences
        y, weights, state = layer.step(x, memory, state)         one step
        memory = layer.read(values, lengths)

    Args:
        size (int): E, the number of features.
        num_layers (int): The number of blocks.
        heads (int): The number of heads; divides E.
        inner_size (int): The number of hidden units of the feed-forward networks.
        causal (bool): Whether each step attends only to itself and earlier steps. Default: ``False``.
        memory_size (int, optional): The size of the values of the memory. Default: ``None``, no memory.
        norm (str): ``"pre"`` or ``"post"``; see `Block`. Default: ``"pre"``.
        positions (str): ``"sinusoidal"`` or ``"learnt"``. Default: ``"sinusoidal"``.
        max_positions (int): The number of learned positions, in steps. Default: 1024.
        dropout (float): The dropout probability; see `Block`. Default: 0.0.

    Shapes:
        - x, y: (B, T, E).
        - lengths: (B,), or None if every row has T steps.
        - weights: (B, T, S), the mean over heads and blocks; None without a memory.

    Raises:
        ValueError: ``heads`` does not divide ``size``.

    Example::

        >>> decoder = Transformer(8, num_layers=2, heads=2, inner_size=16, causal=True, memory_size=6)
        >>> memory = decoder.read(torch.randn(4, 5, 6))
        >>> y, weights, state = decoder(torch.randn(4, 3, 8), memory=memory)
        >>> y.shape, weights.shape
        (torch.Size([4, 3, 8]), torch.Size([4, 3, 5]))
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
        max_positions: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.size, self.heads, self.causal = size, heads, causal
        self.place = PositionalEncoding(size, positions, max_positions)
        self.blocks = nn.ModuleList(
            Block(size, heads, inner_size, causal=causal, memory_size=memory_size, norm=norm, dropout=dropout)
            for _ in range(num_layers)
        )
        self.dropout = SequenceDropout(dropout)
        self.norm = nn.LayerNorm(size) if norm == "pre" else nn.Identity()

    def read(self, values: Tensor, lengths: Tensor | None = None) -> Memory:
        """Prepare values (B, S, D) with lengths (B,) as a memory, with the keys and values of each block."""
        first, *rest = (block.cross for block in self.blocks)
        memory: Memory = first.read(values, lengths)  # type: ignore[union-attr, operator]
        return memory._replace(keys=(memory.keys, *(cross.keys(values, memory.mask) for cross in rest)))  # type: ignore[union-attr, operator]

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, memory: Memory | None = None
    ) -> tuple[Tensor, Tensor | None, TransformerState]:
        """Return y (B, T, E), the attention weights (B, T, S), and the state."""
        mask = None if lengths is None or self.causal else real_steps(lengths.to(x.device).clamp(min=1), x.shape[1])
        return self._blocks(self.dropout(self.place(x * math.sqrt(self.size))), mask, memory, None)

    def initial_state(self, x: Tensor) -> TransformerState:
        """Return an empty cache for the batch of x (B, ...)."""
        empty = x.new_zeros(len(x), self.heads, 2, 0, self.size // self.heads)
        return TransformerState((empty,) * len(self.blocks))

    def step(
        self, x: Tensor, memory: Memory | None, state: TransformerState
    ) -> tuple[Tensor, Tensor | None, TransformerState]:
        """Return y (B, E), the attention weights (B, S), and the new state, for x (B, E)."""
        start = state.cache[0].shape[3]
        x = self.place(x[:, None] * math.sqrt(self.size), start)
        y, weights, state = self._blocks(x, None, memory, state)
        return y[:, 0], None if weights is None else weights[:, 0], state

    def _blocks(
        self, x: Tensor, mask: Tensor | None, memory: Memory | None, state: TransformerState | None
    ) -> tuple[Tensor, Tensor | None, TransformerState]:
        """Apply the blocks to x, with the cache of earlier steps in ``state``."""
        cache, all_weights = [], []
        for k, block in enumerate(self.blocks):
            block_memory = None if memory is None else memory._replace(keys=memory.keys[k])
            x, weights, new = block(x, mask, block_memory, None if state is None else state.cache[k])
            cache.append(new)
            all_weights += [] if weights is None else [weights]
        weights = torch.stack(all_weights).mean(0) if all_weights else None
        return self.norm(x), weights, TransformerState(tuple(cache))
