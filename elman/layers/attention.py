"""Attention: for every query, a mean of what is remembered, weighted by how well it answers.

e_ts = score(query_t, memory_s)        a_t = softmax over the real s of e_t        context_t = sum_s a_ts memory_s
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from elman.layers.dropout import dropout_mask
from elman.layers.recurrent import real_steps
from elman.layers.state import over

#: Queries are scored by a sum over hidden units for so many numbers at once, where a score needs that.
_SCORES = 1 << 24

AttentionKind = Literal["additive", "concat", "dot", "general", "location", "multihead", "rotary"]


class Memory(NamedTuple):
    """What attention looks at.

    values (B, S, D); keys, as the attention has prepared them, (B, ...); mask (B, S), true where values are
    real.
    """

    values: Tensor
    keys: Any  # a tensor or a tuple of them
    mask: Tensor


class Attention(nn.Module, ABC):
    """``context, weights, state = attention(query, memory, state=None)``, ``memory = attention.read(values, lengths)``.

    Shapes:
        values (B, S, D), lengths (B,): beyond a row's length nothing is looked at.
        query (B, T, Q); context (B, T, C), C = ``output_size``; weights (B, T, S), rows of sum 1 (0 for empty rows).
        state: what a kind knows of the queries before, a nested tuple of tensors (B, ·); () for most.
    """

    output_size: int
    #: Whether a query's weights depend on those of the queries before.
    sequential: ClassVar[bool] = False

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        self.query_size, self.memory_size = query_size, memory_size
        self.output_size = memory_size

    def read(self, values: Tensor, lengths: Tensor | None = None) -> Memory:
        """The memory for any number of queries."""
        B, S = values.shape[:2]
        if lengths is None:
            mask = torch.ones(B, S, dtype=torch.bool, device=values.device)
        else:
            mask = real_steps(lengths.to(values.device), S)
        return Memory(values, self.keys(values, mask), mask)

    def look(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        """One query for each row: query (R, Q) to context (R, C) and weights (R, S).

        R is a multiple of the memory's rows: the beams of a search, side by side, have one memory.
        """
        B, R = len(memory.values), len(query)
        if self.sequential and R != B:
            memory, B = over(memory, lambda t: t.repeat_interleave(R // B, 0)), R
        context, weights, state = self(query.view(B, R // B, -1), memory, state)
        return context.reshape(R, -1), weights.reshape(R, -1), state

    @abstractmethod
    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        """What queries are compared with: (B, S, D) to (B, ...)."""

    @abstractmethod
    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]: ...


def weights_of(scores: Tensor, mask: Tensor) -> Tensor:
    """The softmax of scores (B, T, S) over the real steps of mask (B, S); 0 for all others."""
    return masked_softmax(scores, mask[:, None])


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """The softmax over the last dimension where the mask is true; 0 elsewhere, and where it is true nowhere."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1).mul(mask)


class Dot(Attention):
    """e = q . m

    Luong, Pham & Manning 2015, https://arxiv.org/abs/1508.04025
    """

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        if query_size != memory_size:
            raise ValueError(f"dot attention: queries ({query_size}) and memory ({memory_size}) must be of one size")

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        return values

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        weights = weights_of(query @ memory.keys.transpose(1, 2), memory.mask)
        return weights @ memory.values, weights, ()


class General(Attention):
    """e = q . W m

    Luong, Pham & Manning 2015, https://arxiv.org/abs/1508.04025
    """

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        self.key = nn.Linear(memory_size, query_size, bias=False)

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.key(values)

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        weights = weights_of(query @ memory.keys.transpose(1, 2), memory.mask)
        return weights @ memory.values, weights, ()


class Additive(Attention):
    """e = v . tanh(W q + U m + b)

    Bahdanau, Cho & Bengio 2015, https://arxiv.org/abs/1409.0473. Luong's "concat", v . tanh(W [q; m]), is the same.
    """

    def __init__(self, query_size: int, memory_size: int, size: int) -> None:
        super().__init__(query_size, memory_size)
        self.query, self.key = nn.Linear(query_size, size), nn.Linear(memory_size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.key(values)

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        asked = self.query(query)
        at_once = max(1, _SCORES // max(1, memory.keys.numel()))
        scores = [
            self.score(torch.tanh(part[:, :, None] + memory.keys[:, None])).squeeze(-1)
            for part in asked.split(at_once, 1)
        ]
        weights = weights_of(torch.cat(scores, 1), memory.mask)
        return weights @ memory.values, weights, ()


class Location(Attention):
    """e = v . tanh(W q + U m + F f + b), f a convolution over where was looked before.

    What is convolved are the weights of the query before, and their sum over all before it: (B, S) each, the state.
    For speech: attention that moves on. Query by query, as each needs the weights of the one before.

    Chorowski et al. 2015, https://arxiv.org/abs/1506.07503; the sum as in Shen et al. 2018, https://arxiv.org/abs/1712.05884
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
        asked = self.query(query)
        last, total = state or (torch.zeros_like(memory.values[..., 0]),) * 2
        weights = []
        for t in range(query.shape[1]):
            places = self.place(self.filters(torch.stack((last, total), 1)).transpose(1, 2))
            scores = self.score(torch.tanh(asked[:, t, None] + memory.keys + places)).transpose(1, 2)
            last = weights_of(scores, memory.mask)[:, 0]
            total = total + last
            weights.append(last)
        all_weights = (
            torch.stack(weights, 1) if weights else memory.values.new_zeros(len(query), 0, memory.mask.shape[1])
        )
        return all_weights @ memory.values, all_weights, (last, total)


class MultiHead(Attention):
    """context = W_o [head_1; ...], head_k = softmax((W_q q)_k . (W_k m)_k / sqrt(d)) (W_v m)_k

    The weights are the mean of the heads'.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762
    """

    def __init__(self, query_size: int, memory_size: int, heads: int = 4, output_size: int | None = None) -> None:
        super().__init__(query_size, memory_size)
        self.output_size = output_size or query_size
        if query_size % heads:
            raise ValueError(f"heads must divide the size of queries, {query_size}; {heads} does not")
        self.heads = heads
        self.query, self.key_value = nn.Linear(query_size, query_size), nn.Linear(memory_size, 2 * query_size)
        self.output = nn.Linear(query_size, self.output_size)

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        """The heads' keys and values, (B, heads, 2, S, d)."""
        return self._by_place(self.key_value(values)).permute(0, 3, 2, 1, 4).contiguous()

    def queries(self, query: Tensor, state: tuple | None) -> tuple[Tensor, tuple]:
        """The heads' queries (B, heads, T, d), and the next state."""
        return self._by_place(self.query(query)).squeeze(2).transpose(1, 2), ()

    def look(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        B, R = len(memory.values), len(query)
        q, state = self.queries(query[:, None], state)
        context, weights = self._attend(q.reshape(B, R // B, self.heads, -1).transpose(1, 2), memory)
        return context.reshape(R, -1), weights.reshape(R, -1), state

    def forward(self, query: Tensor, memory: Memory, state: tuple | None = None) -> tuple[Tensor, Tensor, tuple]:
        q, state = self.queries(query, state)
        return *self._attend(q, memory), state

    def _by_place(self, x: Tensor) -> Tensor:
        """(B, T, parts heads d) to (B, T, parts, heads, d)."""
        return x.unflatten(2, (-1, self.heads, self.query_size // self.heads))

    def _attend(self, q: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """q (B, heads, T, d) to the context and the weights."""
        k, v = memory.keys.unbind(2)
        y, weights = attended(q, k, v, memory.mask[:, None, None])
        return self.output(y.transpose(1, 2).flatten(2)), weights.mean(1)


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """softmax(q k^T / sqrt(d)) v over what the mask allows, and the softmax, 0 elsewhere; ``dropout``: of its numbers.

    Shapes: q (B, heads, T, d), k and v (B, heads, S, d), mask broadcast over (B, heads, T, S), None: everything.
    """
    scores = (q @ k.transpose(2, 3)).mul(1 / math.sqrt(q.shape[3]))
    weights = scores.softmax(-1) if mask is None else masked_softmax(scores, mask)
    return (weights * dropout_mask(weights, dropout) if dropout else weights) @ v, weights


class Rotary(MultiHead):
    """Multi-head attention that knows places: what query t and memory s have in common is turned by t and by s.

    e_ts = (R_t W_q q_t)_k . (R_p W_k m_s)_k / sqrt(d), with p = s in one half of the heads (and a middle one), in the
    other counted from the memory's end, p = length - 1 - s. R_t turns pair i of n = max(1, d // 4), the numbers i and
    n + i, by t 10000^(-i / n), and leaves the others as they are; so e_ts knows p - t. What stands twice in the memory
    is told apart, and a head can walk along it, forwards or backwards, further than it ever did in training.

    The state: t of the next query, (B, 1).

    Su et al. 2021, https://arxiv.org/abs/2104.09864
    """

    def __init__(self, query_size: int, memory_size: int, heads: int = 4, output_size: int | None = None) -> None:
        super().__init__(query_size, memory_size, heads, output_size)
        if query_size < 2 * heads:
            raise ValueError(f"rotary attention: {heads} heads need queries of at least {2 * heads}, not {query_size}")

    def keys(self, values: Tensor, mask: Tensor) -> Tensor:
        starts = torch.arange(values.shape[1], device=values.device)[:, None]
        ends = (mask.sum(1)[:, None, None] - 1 - starts).clamp(min=0)
        from_start = torch.arange(self.heads, device=values.device) < self.heads - self.heads // 2
        both = self._by_place(self.key_value(values))
        return turned(both, turns(starts[:, 0], both)[torch.where(from_start, starts, ends)])

    def queries(self, query: Tensor, state: tuple | None) -> tuple[Tensor, tuple]:
        B, T = query.shape[:2]
        (start,) = state or (torch.zeros(1, 1, dtype=torch.long, device=query.device),)
        q = self._by_place(self.query(query))
        by = turns(start + torch.arange(T, device=query.device), q)[:, :, None]
        return turned(q, by).squeeze(2), ((start + T).expand(B, 1),)


def turns(places: Tensor, x: Tensor) -> Tensor:
    """exp(j p 10000^(-i / n)), complex, (..., n), of places p (...), for x (..., d): n = d // 4, and one at least."""
    n = max(1, x.shape[-1] // 4)
    rates = torch.exp(torch.arange(n, device=x.device) * (-math.log(10_000.0) / n))
    angles = (places[..., None] * rates).to(torch.promote_types(x.dtype, torch.float32))
    return torch.polar(torch.ones_like(angles), angles)


def turned(x: Tensor, by: Tensor) -> Tensor:
    """x (B, T, parts, heads, d) to (B, heads, parts, T, d), its first part turned.

    Numbers i and n + i of a head, as a complex one, are multiplied by the i-th of n = d // 4 turns, which are
    broadcast over (B, T, heads, n).
    """
    return _turn(x, by) if torch.compiler.is_compiling() else _Turned.apply(x, by)


def _turn(x: Tensor, by: Tensor) -> Tensor:
    y, n = x.permute(0, 3, 2, 1, 4).clone(memory_format=torch.contiguous_format), by.shape[-1]
    first = x[:, :, 0, :, : 2 * n].to(by.real.dtype)
    numbers = (torch.complex(first[..., :n], first[..., n:]) * by).transpose(1, 2)
    y[:, :, 0, :, :n], y[:, :, 0, :, n : 2 * n] = numbers.real, numbers.imag
    return y


class _Turned(torch.autograd.Function):
    """`_turn`, whose gradient is put back and turned back by the same."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, by: Tensor) -> Tensor:  # type: ignore[override]
        return _turn(x, by)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # type: ignore[override]
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _Turned.apply(dy, ctx.saved_tensors[0].transpose(1, 2).conj().resolve_conj()), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, _: None) -> Tensor:  # type: ignore[override]
        return _turn(dx, *ctx.saved_tensors)


def attention(kind: AttentionKind, query_size: int, memory_size: int, size: int, heads: int = 4) -> Attention:
    """The attention of that kind; ``size``: of its hidden layer, if it has one; ``heads``: of multihead and rotary."""
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
    raise ValueError(f"unknown attention {kind!r}: known are {', '.join(get_args(AttentionKind))}")
