"""Attention: a weighted mean of a memory for each query.

::

    e_ts = score(query_t, memory_s)     a_t = softmax of e_t over the real steps s     context_t = sum_s a_ts memory_s
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from elman.engines import additive_scores
from elman.errors import unknown_name
from elman.layers.dot_product import dot_product_attention, masked_softmax
from elman.layers.lengths import real_steps
from elman.layers.rotary import rotate, rotations
from elman.layers.state import map_state

AttentionKind = Literal["additive", "concat", "dot", "general", "location", "multihead", "rotary"]


class Memory(NamedTuple):
    """The values that attention reads, prepared by `Attention.read`.

    Args:
        values (Tensor): The values, (B, S, D).
        keys (Tensor | tuple[Tensor, ...]): The keys, (B, ...), in the form that the attention needs.
        mask (Tensor): Bool (B, S), true on real steps.
    """

    values: Tensor
    keys: Any
    mask: Tensor


class Attention(nn.Module, ABC):
    """Base class of attention. A subclass implements `keys` and `forward`.

    Args:
        query_size (int): Q, the size of a query.
        memory_size (int): D, the size of a value.

    Attributes:
        output_size (int): C, the size of a context.

    Shapes:
        - query: (B, T, Q).
        - context: (B, T, C).
        - weights: (B, T, S). Each row sums to 1 over the real steps, or is 0 if there are none.
        - state: What the attention carries from query to query: a nested tuple of tensors (B, ·), or () for attentions
          without a state. None is the initial state.

    Example::

        >>> attention = General(query_size=8, memory_size=6)
        >>> memory = attention.read(torch.randn(2, 5, 6), lengths=torch.tensor([5, 3]))
        >>> context, weights, state = attention(torch.randn(2, 4, 8), memory)
        >>> context.shape, weights.shape
        (torch.Size([2, 4, 6]), torch.Size([2, 4, 5]))
    """

    output_size: int
    #: Whether the weights of a query depend on those of earlier queries.
    sequential: ClassVar[bool] = False

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        self.query_size, self.memory_size = query_size, memory_size
        self.output_size = memory_size

    def read(self, values: Tensor, lengths: Tensor | None = None) -> Memory:
        """Prepare values for any number of queries.

        Args:
            values (Tensor): The values, (B, S, D).
            lengths (Tensor, optional): Lengths (B,); later values are ignored. Default: ``None``, S for every row.

        Returns:
            Memory: The values with their keys and mask.
        """
        B, S = values.shape[:2]
        if lengths is None:
            mask = torch.ones(B, S, dtype=torch.bool, device=values.device)
        else:
            mask = real_steps(lengths.to(values.device), S)
        return Memory(values, self.keys(values, mask), mask)

    def step(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        """Compute the context of one query per row.

        Args:
            query (Tensor): The queries, (R, Q). R is a multiple of the rows of ``memory``; adjacent queries, such as
                the hypotheses of a beam search, share a row.
            memory (Memory): The values, from `read`.
            state (tuple, optional): The state after the previous query. Default: ``None``, the initial state.

        Returns:
            tuple[Tensor, Tensor, tuple]: The context (R, C), the weights (R, S), and the new state.
        """
        B, R = len(memory.values), len(query)
        if self.sequential and R != B:
            memory, B = map_state(memory, lambda t: t.repeat_interleave(R // B, 0)), R
        context, weights, state = self(query.view(B, R // B, -1), memory, state)
        return context.reshape(R, -1), weights.reshape(R, -1), state

    @abstractmethod
    def keys(self, values: Tensor, mask: Tensor) -> Any:
        """Return the keys (B, ...) of values (B, S, D) with a mask (B, S)."""

    @abstractmethod
    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        """Return the context (B, T, C), the weights (B, T, S), and the new state."""


def attention_weights(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax of scores (B, T, S) over the steps where the mask (B, S) is true, and 0 elsewhere."""
    return masked_softmax(scores, mask[:, None])


class Uniform(Attention):
    """Attention without parameters or a query: e = 0. The context is the mean of the memory, one key itself.

    Args:
        query_size (int): Q, the size of a query.
        memory_size (int): D, the size of a value.
    """

    def keys(self, values: Tensor, mask: Tensor) -> tuple[()]:
        return ()

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        weights = attention_weights(query.new_zeros(*query.shape[:2], memory.mask.shape[1]), memory.mask)
        return weights.to(memory.values.dtype) @ memory.values, weights, ()


class Dot(Attention):
    """Dot-product attention: e = q . m

    Luong, Pham & Manning 2015, https://arxiv.org/abs/1508.04025

    Args:
        query_size (int): Q, the size of a query.
        memory_size (int): D, the size of a value; equal to Q.

    Raises:
        ValueError: The sizes differ.
    """

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        if query_size != memory_size:
            raise ValueError(f"dot attention needs queries and memory of one size, got: {query_size} and {memory_size}")

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        return values

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        weights = attention_weights(query @ memory.keys.transpose(1, 2), memory.mask)
        return weights @ memory.values, weights, ()


class General(Attention):
    """Bilinear ("general") attention: e = q . W m

    Luong, Pham & Manning 2015, https://arxiv.org/abs/1508.04025

    Args:
        query_size (int): Q, the size of a query.
        memory_size (int): D, the size of a value.
    """

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        self.key = nn.Linear(memory_size, query_size, bias=False)

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.key(values)

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        weights = attention_weights(query @ memory.keys.transpose(1, 2), memory.mask)
        return weights @ memory.values, weights, ()


class Additive(Attention):
    """Additive attention: e = v . tanh(W q + U m + b)

    The "concat" attention of Luong et al., v . tanh(W [q; m]), is the same function.

    Bahdanau, Cho & Bengio 2015, https://arxiv.org/abs/1409.0473

    Args:
        query_size (int): Q, the size of a query.
        memory_size (int): D, the size of a value.
        size (int): The number of hidden units.
    """

    def __init__(self, query_size: int, memory_size: int, size: int) -> None:
        super().__init__(query_size, memory_size)
        self.query, self.key = nn.Linear(query_size, size), nn.Linear(memory_size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.key(values)

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        scores = additive_scores(self.query(query), memory.keys, self.score)
        weights = attention_weights(scores, memory.mask)
        return weights @ memory.values, weights, ()


class Location(Attention):
    """Location-sensitive attention: e = v . tanh(W q + U m + F f + b), with f a convolution of earlier weights.

    The convolution reads the weights of the previous query and the sum of the weights of all earlier queries, (B, S)
    each, which form the state. Queries are processed one by one. Suits speech, where attention moves forward.

    Chorowski et al. 2015, https://arxiv.org/abs/1506.07503. Sum of weights: Shen et al. 2018,
    https://arxiv.org/abs/1712.05884

    Args:
        query_size (int): Q, the size of a query.
        memory_size (int): D, the size of a value.
        size (int): The number of hidden units.
        filters (int): The number of filters of the convolution. Default: 16.
        width (int): The width of the convolution, in steps of the memory; odd. Default: 15.
    """

    sequential = True

    def __init__(self, query_size: int, memory_size: int, size: int, filters: int = 16, width: int = 15) -> None:
        super().__init__(query_size, memory_size)
        self.query, self.key = nn.Linear(query_size, size), nn.Linear(memory_size, size, bias=False)
        self.filters = nn.Conv1d(2, filters, width, padding=width // 2, bias=False)
        self.place, self.score = nn.Linear(filters, size, bias=False), nn.Linear(size, 1, bias=False)

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.key(values)

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        projected = self.query(query)
        last, total = state or (torch.zeros_like(memory.values[..., 0]),) * 2
        # one product with the windows is faster than a convolution with so few channels, and a second product
        located = (self.place.weight @ self.filters.weight.flatten(1)).t()
        width = self.filters.kernel_size[0]
        weights = []
        for t in range(query.shape[1]):
            earlier = pad(torch.stack((last, total), 2), (0, 0, width // 2, width // 2))
            windows = earlier.unfold(1, width, 1).flatten(2)
            scores = self.score(torch.tanh(projected[:, t, None] + memory.keys + windows @ located)).transpose(1, 2)
            last = attention_weights(scores, memory.mask)[:, 0]
            total = total + last
            weights.append(last)
        all_weights = (
            torch.stack(weights, 1) if weights else memory.values.new_zeros(len(query), 0, memory.mask.shape[1])
        )
        return all_weights @ memory.values, all_weights, (last, total)


class MultiHead(Attention):
    """Multi-head attention. The weights are the mean of those of the heads.

    ::

        head_k = softmax((W_q q)_k . (W_k m)_k / sqrt(d)) (W_v m)_k        context = W_o [head_1; ...]

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762

    Args:
        query_size (int): Q, the size of a query, and of all heads together.
        memory_size (int): D, the size of a value.
        heads (int): The number of heads; divides Q. Default: 4.
        output_size (int, optional): C, the size of a context. Default: ``None``, Q.

    Raises:
        ValueError: ``heads`` does not divide ``query_size``.
    """

    def __init__(self, query_size: int, memory_size: int, heads: int = 4, output_size: int | None = None) -> None:
        super().__init__(query_size, memory_size)
        self.output_size = output_size or query_size
        if query_size % heads:
            raise ValueError(f"query_size must be a multiple of heads, got: query_size {query_size}, heads {heads}")
        self.heads = heads
        self.query, self.key_value = nn.Linear(query_size, query_size), nn.Linear(memory_size, 2 * query_size)
        self.output = nn.Linear(query_size, self.output_size)

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return the keys and values of the heads, (B, heads, 2, S, d)."""
        return self._split_heads(self.key_value(values)).permute(0, 3, 2, 1, 4).contiguous()

    def queries(self, query: Tensor, state: tuple | None) -> tuple[Tensor, tuple]:
        """Return the queries of the heads, (B, heads, T, d), and the new state."""
        return self._split_heads(self.query(query)).squeeze(2).transpose(1, 2), ()

    def step(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        B, R = len(memory.values), len(query)
        q, state = self.queries(query[:, None], state)
        context, weights = self._attend(q.reshape(B, R // B, self.heads, -1).transpose(1, 2), memory)
        return context.reshape(R, -1), weights.reshape(R, -1), state

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        q, state = self.queries(query, state)
        return *self._attend(q, memory), state

    def _split_heads(self, x: Tensor) -> Tensor:
        """Reshape x (B, T, parts heads d) to (B, T, parts, heads, d)."""
        return x.unflatten(2, (-1, self.heads, self.query_size // self.heads))

    def _attend(self, q: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return the context and the weights of queries q (B, heads, T, d)."""
        k, v = memory.keys.unbind(2)
        y, weights = dot_product_attention(q, k, v, memory.mask[:, None, None])
        return self.output(y.transpose(1, 2).flatten(2)), weights.mean(1)


class Rotary(MultiHead):
    """Multi-head attention with rotary position embeddings.

    ::

        e_ts = (R_t W_q q_t)_k . (R_p W_k m_s)_k / sqrt(d)

    The position p of a step is s in half of the heads (rounded up), and is counted from the end, length - 1 - s, in the
    others. The rotation R_t turns the pair (i, n + i) of the d numbers of a head by t 10000^(-i / n) radians, for i
    below n = max(1, d // 4), and leaves the other numbers unchanged. The scores therefore depend on p - t: equal values
    at different positions are distinguished, and a head can move along memories longer than those in training.

    The state is the position of the next query, (B, 1).

    Su et al. 2021, https://arxiv.org/abs/2104.09864

    Args:
        query_size (int): Q, the size of a query; at least 2 for each head.
        memory_size (int): D, the size of a value.
        heads (int): The number of heads; divides Q. Default: 4.
        output_size (int, optional): C, the size of a context. Default: ``None``, Q.

    Raises:
        ValueError: ``heads`` does not divide ``query_size``, or ``query_size`` is below ``2 * heads``.
    """

    def __init__(self, query_size: int, memory_size: int, heads: int = 4, output_size: int | None = None) -> None:
        super().__init__(query_size, memory_size, heads, output_size)
        if query_size < 2 * heads:
            raise ValueError(f"rotary attention with {heads} heads needs query_size >= {2 * heads}, got: {query_size}")

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return the rotated keys and the values of the heads, (B, heads, 2, S, d)."""
        starts = torch.arange(values.shape[1], device=values.device)[:, None]
        ends = (mask.sum(1)[:, None, None] - 1 - starts).clamp(min=0)
        from_start = torch.arange(self.heads, device=values.device) < self.heads - self.heads // 2
        both = self._split_heads(self.key_value(values))
        return rotate(both, rotations(starts[:, 0], both)[torch.where(from_start, starts, ends)])

    def queries(self, query: Tensor, state: tuple | None) -> tuple[Tensor, tuple]:
        """Return the rotated queries of the heads, (B, heads, T, d), and the new state."""
        B, T = query.shape[:2]
        (start,) = state or (torch.zeros(1, 1, dtype=torch.long, device=query.device),)
        q = self._split_heads(self.query(query))
        by = rotations(start + torch.arange(T, device=query.device), q)[:, :, None]
        return rotate(q, by).squeeze(2), ((start + T).expand(B, 1),)


def attention(kind: AttentionKind, query_size: int, memory_size: int, size: int, heads: int = 4) -> Attention:
    """Construct an attention by name.

    Args:
        kind (str): One of ``"additive"``, ``"concat"`` (the same), ``"dot"``, ``"general"``, ``"location"``,
            ``"multihead"`` and ``"rotary"``.
        query_size (int): Q, the size of a query.
        memory_size (int): D, the size of a value.
        size (int): The number of hidden units of ``"additive"`` and ``"location"``.
        heads (int): The number of heads of ``"multihead"`` and ``"rotary"``. Default: 4.

    Returns:
        Attention: The attention.

    Raises:
        ValueError: The kind is unknown, or does not support the sizes.
    """
    if kind in ("additive", "concat"):
        return Additive(query_size, memory_size, size)
    if kind == "location":
        return Location(query_size, memory_size, size)
    if kind == "dot":
        return Dot(query_size, memory_size)
    if kind == "general":
        return General(query_size, memory_size)
    if kind == "multihead":
        return MultiHead(query_size, memory_size, heads)
    if kind == "rotary":
        return Rotary(query_size, memory_size, heads)
    raise unknown_name("attention", kind, get_args(AttentionKind))
