"""Recurrences over recurrences: words make sentences, sentences make documents; and layers at several rates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import lcm
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elman.layers.arguments import whole
from elman.layers.pooling import Pooling
from elman.layers.recurrent import Lengths, RecurrentLayer, is_layer, real_steps
from elman.layers.state import Sizes, State


class Parts(NamedTuple):
    """The parts of sequences, each a row of its own.

    x (P, W, D), all parts of all sequences; lengths (P,); counts (B,), the parts of each sequence. steps: where each
    real step stands in the flattened sequences; slot: where each part does among the parts (B, N).
    """

    x: Tensor
    lengths: Tensor
    counts: Tensor
    steps: Tensor
    slot: Tensor

    def together(self, y: Tensor) -> Tensor:
        """Features of the parts (P, H) as sequences of parts (B, N, H), 0 beyond a sequence's count."""
        B, N = len(self.counts), int(self.counts.max())
        return y.new_zeros(B * N, y.shape[1]).index_copy(0, self.slot, y).view(B, N, -1)

    def back(self, y: Tensor, T: int) -> Tensor:
        """What the steps of the parts have, (P, W, ...), as it stood in the sequences, (B, T, ...)."""
        flat = y.new_zeros(len(self.counts) * T, *y.shape[2:])
        real = real_steps(self.lengths, y.shape[1])
        return flat.index_copy(0, self.steps, y[real]).view(len(self.counts), T, *y.shape[2:])


def parts(x: Tensor, begins: Tensor, lengths: Tensor | None = None) -> Parts:
    """Sequences x (B, T, D) cut where ``begins`` (B, T) is true, and at their own first step."""
    B, T = x.shape[:2]
    n = torch.full((B,), T, device=x.device) if lengths is None else lengths.to(x.device)
    real = real_steps(n, T)
    begins = (begins & real).index_fill(1, torch.zeros(1, dtype=torch.long, device=x.device), True) & real
    counts = begins.sum(1)
    index = real.flatten().nonzero()[:, 0]
    which = begins.flatten()[index].long().cumsum(0) - 1  # the part of each real step
    sizes = torch.bincount(which, minlength=int(counts.sum()))
    starts = sizes.cumsum(0) - sizes
    rows = x.flatten(0, 1)[index]
    W = int(sizes.max()) if len(sizes) else 0
    split = x.new_zeros(len(sizes), W, *x.shape[2:])
    split = split.index_put((which, torch.arange(len(index), device=x.device) - starts[which]), rows)
    N = int(counts.max()) if B else 0
    slot = real_steps(counts, N).flatten().nonzero()[:, 0]
    return Parts(split, sizes, counts, index, slot)


class Hierarchical(RecurrentLayer):
    """A recurrence over the steps of each part, and one over the parts; hierarchical attention networks.

    ::

        y, state = layer(x, None, lengths, resets)      resets: where a part (a sentence) begins
        lower:  w_p = pooled over the steps of part p, the recurrence started anew at each part
        upper:  y_p = recurrence over w_1, w_2, ...;    y at a step is that of its part

    ``upper`` may be `Hierarchical` itself: then ``resets`` are integers, 1 where a part of the lowest kind begins, 2
    where one of the next does as well, and so on; true counts as 1. Yang et al. 2016, https://aclanthology.org/N16-1174

    Arguments:
        lower, upper: layers; ``upper`` reads as many features as ``lower`` gives.
        pooling: over the steps of a part.
    """

    causal = False

    def __init__(self, lower: RecurrentLayer, pooling: Pooling, upper: RecurrentLayer) -> None:
        super().__init__()
        is_layer("lower", lower), is_layer("upper", upper)
        if not isinstance(pooling, Pooling):
            raise TypeError(f"pooling must be a Pooling, got: {type(pooling).__name__}")
        if upper.raw:
            raise ValueError(
                f"the upper layer reads raw columns of x ({', '.join(upper.raw)}); only the lower one has x"
            )
        if upper.input_size != lower.output_size:
            raise ValueError(f"the upper layer reads {upper.input_size} features, the lower gives {lower.output_size}")
        self.lower, self.pooling, self.upper = lower, pooling, upper
        self.input_size, self.output_size, self.raw = lower.input_size, upper.output_size, lower.raw

    def sizes(self) -> Sizes:
        """Those of the upper layer: the lower one begins anew with each part."""
        return self.upper.sizes()

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, state, found, _ = self.read(x, state, lengths, resets)
        T = x.shape[1]
        spread = [row[:count] for row, count in zip(y, found.counts.tolist(), strict=True)]
        every = torch.cat(spread)[:, None].expand(-1, found.x.shape[1], -1)
        return found.back(every, T), state

    def read(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State, Parts, Tensor]:
        """y (B, N, H) over the parts, the state, the parts, and the weight (B, T) of each step in its part."""
        levels = torch.zeros(x.shape[:2], dtype=torch.long, device=x.device) if resets is None else resets.long()
        x, lengths, _ = self.check(x, lengths, levels > 0)
        self.check_state(x, state)
        found = parts(x, levels > 0, lengths)
        w, _ = self.lower(found.x, None, found.lengths)
        pooled, weights = self.pooling(w, found.lengths)
        above = parts(levels[..., None], levels > 0, lengths)
        first = above.together(above.x[:, 0])[..., 0] - 1
        upper = first if isinstance(self.upper, Hierarchical) else None
        y, state = self.upper(found.together(pooled), state, found.counts, upper)
        return y, state, found, found.back(weights, x.shape[1])

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        raise ValueError("Hierarchical reads whole parts; it cannot go step by step")


class _Rates(NamedTuple):
    steps: Sizes
    layers: Sizes


class _Held(NamedTuple):
    state: Sizes
    y: Sizes


class MultiRate(RecurrentLayer):
    """A stack whose layer k moves only every p_k steps, and is held between: slow layers see far.

    ::

        layer k at step t:  if t mod p_k = 0: y^k_t, s^k_t = layer_k(y^{k-1}_t, s^k);  else y^k_t = y^k_{t-1}
        y_t = [y^1_t; ...; y^L_t],  y^0 = x

    t counts from the sequence's start, or from its last reset; the state has it modulo the periods' least common
    multiple, which the dtype of x must be able to hold (256 in bfloat16, 2,048 in float16). Koutník et al. 2014, https://arxiv.org/abs/1402.3511
    (there groups of units of one layer have the periods; here layers do, El Hihi & Bengio 1995).

    Arguments:
        layers: causal ones, the fastest first; each reads what the one below gives.
        periods: p_1, p_2, ...
    """

    def __init__(self, layers: Sequence[RecurrentLayer], periods: Sequence[int]) -> None:
        super().__init__()
        layers = [is_layer(f"layer {k} of several rates", layer) for k, layer in enumerate(layers)]
        periods = [whole(f"period {k}", period) for k, period in enumerate(periods)]
        if len(layers) != len(periods) or not layers:
            raise ValueError(f"a period for each layer is needed: {len(layers)} layers, {len(periods)} periods")
        if min(periods) < 1:
            raise ValueError(f"periods are steps, 1 or more, not {periods}")
        for below, above in pairwise(layers):
            if above.raw:
                raise ValueError(
                    f"an upper layer reads raw columns of x ({', '.join(above.raw)}); only the first one has x"
                )
            if above.input_size != below.output_size:
                raise ValueError(f"a layer reads {above.input_size} features but is given {below.output_size}")
        if not all(layer.causal for layer in layers):
            raise ValueError("layers at several rates must be causal")
        self.layers, self.periods, self._round = nn.ModuleList(layers), tuple(periods), lcm(*periods)
        self.input_size, self.output_size = layers[0].input_size, sum(layer.output_size for layer in layers)
        self.raw = layers[0].raw

    def sizes(self) -> Sizes:
        """(steps since all layers last moved together, (state, held y) of each layer)."""
        return _Rates(1, tuple(_Held(layer.sizes(), layer.output_size) for layer in self._layers))

    @property
    def _layers(self) -> Sequence[RecurrentLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        x, lengths, resets = self.check(x, lengths, resets)
        self._check_rates(x, state)
        B, T = x.shape[:2]
        before, held = self.initial_state(x) if state is None else state
        real = real_steps(torch.full((B,), T, device=x.device) if lengths is None else lengths.to(x.device), T)
        steps = torch.arange(T, device=x.device).expand(B, T)
        begins = torch.zeros_like(real) if resets is None else resets
        since = torch.where(begins, steps, -1).cummax(1).values if T else steps
        count = torch.where(since >= 0, steps - since, steps + before.long())
        y, outputs, new = x, [], []
        for layer, period, (old, kept) in zip(self._layers, self.periods, held, strict=True):
            moves = real & (count % period == 0)
            y, after = _sparsely(layer, y, moves, begins, old, kept)
            outputs.append(y.masked_fill(~real[..., None], 0.0))
            new.append(after)
        n = real.sum(1)
        last = count.gather(1, (n - 1).clamp(min=0)[:, None]) + 1 if T else before.long()
        after_all = torch.where(n[:, None] > 0, last, before.long()) % self._round
        return torch.cat(outputs, -1), (after_all.to(x.dtype), tuple(new))

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        self._check_rates(x, state)
        count, held = self.initial_state(x) if state is None else state
        y, outputs, new = x, [], []
        for layer, period, (old, kept) in zip(self._layers, self.periods, held, strict=True):
            moves = count.long()[:, 0] % period == 0
            stepped, after = layer.step(y, old)
            y = torch.where(moves[:, None], stepped, kept)
            outputs.append(y)
            new.append((_where(moves, after, old), y.clone()))  # the state may be changed in place
        return torch.cat(outputs, -1), ((count + 1) % self._round, tuple(new))

    def _check_rates(self, x: Tensor, state: State) -> None:
        self.check_state(x, state)
        if x.is_floating_point() and self._round > 2 / torch.finfo(x.dtype).eps:
            raise ValueError(
                f"layers of the periods {self.periods} count to {self._round}, which {x.dtype} cannot hold; choose "
                "periods with a smaller common multiple, or another dtype"
            )

    def extra_repr(self) -> str:
        return f"periods={self.periods}"


def _sparsely(
    layer: RecurrentLayer, x: Tensor, moves: Tensor, begins: Tensor, state: State, kept: Tensor
) -> tuple[Tensor, State]:
    """The layer over those steps alone, its y held between them (``kept`` before the first), 0 from a reset on until
    it moves (which is there)."""
    n = moves.sum(1)
    M = int(n.max()) if len(n) else 0
    order = (~moves).long().argsort(dim=1, stable=True)[:, :M]
    index = order[..., None].expand(-1, -1, x.shape[2])
    y, state = layer(x.gather(1, index), state, n, begins.gather(1, order))
    place = moves.long().cumsum(1)  # 0: not yet moved
    y = torch.cat((kept[:, None].to(y.dtype), y), 1)
    y = y.gather(1, place[..., None].expand(-1, -1, y.shape[2]))
    last = y[:, -1] if y.shape[1] else kept
    return y, (state, last.clone())


def _where(rows: Tensor, new: State, old: State) -> State:
    if isinstance(new, Tensor):
        return torch.where(rows[:, None], new, old)
    return tuple(_where(rows, a, b) for a, b in zip(new, old, strict=True))
