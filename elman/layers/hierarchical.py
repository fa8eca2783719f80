"""Hierarchical layers over parts of sequences, such as the sentences of a document, and layers at several rates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import lcm
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elman.layers.arguments import integer
from elman.layers.lengths import Lengths, real_steps
from elman.layers.pooling import Pooling
from elman.layers.recurrent import RecurrentLayer, check_layer
from elman.layers.state import Sizes, State


class Parts(NamedTuple):
    """The parts of a batch of sequences, one part per row; see `parts`.

    Args:
        x (Tensor): The steps of all P parts, (P, W, D), padded to W steps.
        lengths (Tensor): The number of steps of each part, (P,).
        counts (Tensor): The number of parts of each sequence, (B,).
        steps (Tensor): The index of each real step in the flattened sequences (B T).
        slot (Tensor): The index of each part in the flattened array (B N) of parts.
    """

    x: Tensor
    lengths: Tensor
    counts: Tensor
    steps: Tensor
    slot: Tensor

    def together(self, y: Tensor) -> Tensor:
        """Group features of parts (P, H) by sequence: (B, N, H), 0 beyond the parts of a sequence."""
        B, N = len(self.counts), int(self.counts.max())
        return y.new_zeros(B * N, y.shape[1]).index_copy(0, self.slot, y).view(B, N, -1)

    def back(self, y: Tensor, T: int) -> Tensor:
        """Move features of the steps of parts, (P, W, ...), to their positions in the sequences, (B, T, ...)."""
        flat = y.new_zeros(len(self.counts) * T, *y.shape[2:])
        real = real_steps(self.lengths, y.shape[1])
        return flat.index_copy(0, self.steps, y[real]).view(len(self.counts), T, *y.shape[2:])


def parts(x: Tensor, begins: Tensor, lengths: Tensor | None = None) -> Parts:
    """Split sequences into parts.

    Args:
        x (Tensor): The sequences, (B, T, D).
        begins (Tensor): Bool (B, T), true at the first step of a part. The first step of a sequence always begins one.
        lengths (Tensor, optional): Lengths (B,). Default: ``None``, T for every row.

    Returns:
        Parts: The parts.
    """
    B, T = x.shape[:2]
    n = torch.full((B,), T, device=x.device) if lengths is None else lengths.to(x.device)
    real = real_steps(n, T)
    begins = (begins & real).index_fill(1, torch.zeros(1, dtype=torch.long, device=x.device), True) & real
    counts = begins.sum(1)
    index = real.flatten().nonzero()[:, 0]
    which = begins.flatten()[index].long().cumsum(0) - 1  # the index of the part of each real step
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
    """Run one layer over the steps of each part of a sequence, and another over the parts.

    ::

        y, state = layer(x, None, lengths, resets)      resets: the first steps of parts, such as sentences
        lower:  w_p = pooling over the outputs of ``lower`` for part p, with a zero initial state
        upper:  y_p = output of ``upper`` over w_1, w_2, ...        y at a step is that of its part

    ``upper`` may be `Hierarchical` too. Then ``resets`` are integers: 1 where a part of the lowest level begins, 2
    where a part of the next level begins as well, and so on. True counts as 1.

    Yang et al. 2016, https://aclanthology.org/N16-1174

    Args:
        lower (RecurrentLayer): The layer over steps.
        pooling (Pooling): The pooling over the steps of a part.
        upper (RecurrentLayer): The layer over parts; its ``input_size`` is the ``output_size`` of ``lower``.

    Shapes:
        - x: (B, T, D), D = ``lower.input_size``.
        - y: (B, T, H), H = ``upper.output_size``.
        - state: The state of ``upper``.
        - lengths: See `RecurrentLayer`.
        - resets: (B, T), bool or integers, as described above.

    Raises:
        TypeError: A layer is not a `RecurrentLayer`, or ``pooling`` is not a `Pooling`.
        ValueError: The sizes do not fit, or ``upper`` reads raw columns.

    Example::

        >>> from elman.layers import AttentionPooling, Recurrent
        >>> words, sentences = Recurrent("gru", 8, 16), Recurrent("gru", 16, 16)
        >>> document = Hierarchical(words, AttentionPooling(16), sentences)
        >>> y, state = document(torch.randn(4, 50, 8), resets=torch.rand(4, 50) < 0.1)
        >>> y.shape
        torch.Size([4, 50, 16])
    """

    causal = False

    def __init__(self, lower: RecurrentLayer, pooling: Pooling, upper: RecurrentLayer) -> None:
        super().__init__()
        check_layer("lower", lower), check_layer("upper", upper)
        if not isinstance(pooling, Pooling):
            raise TypeError(f"pooling must be a Pooling such as MaxPooling, got: {type(pooling).__name__}")
        if upper.raw:
            raise ValueError(
                f"only the lower layer may read raw columns of x, but the upper one reads {', '.join(upper.raw)}"
            )
        if upper.input_size != lower.output_size:
            raise ValueError(
                f"the upper layer must read the {lower.output_size} features of the lower one, got: {upper.input_size}"
            )
        self.lower, self.pooling, self.upper = lower, pooling, upper
        self.input_size, self.output_size, self.raw = lower.input_size, upper.output_size, lower.raw

    def sizes(self) -> Sizes:
        """Return the sizes of the state of the upper layer."""
        return self.upper.sizes()

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return y (B, T, H), the same at all steps of a part, and the new state."""
        y, state, split, _ = self.read(x, state, lengths, resets)
        rows = torch.cat([row[:count] for row, count in zip(y, split.counts.tolist(), strict=True)])
        return split.back(rows[:, None].expand(-1, split.x.shape[1], -1), x.shape[1]), state

    def read(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State, Parts, Tensor]:
        """Compute the layer with one output per part.

        Args:
            x (Tensor): See `Hierarchical`, likewise the following.
            state (State): The state of the upper layer. Default: ``None``, zeros.
            lengths (Tensor | Sequence[int] | ndarray, optional): Lengths (B,). Default: ``None``.
            resets (Tensor, optional): The first steps of parts, (B, T). Default: ``None``, one part per sequence.

        Returns:
            tuple[Tensor, State, Parts, Tensor]: y (B, N, H) for up to N parts; the new state; the parts; the weight of
            each step in the pooling of its part, (B, T).
        """
        levels = torch.zeros(x.shape[:2], dtype=torch.long, device=x.device) if resets is None else resets.long()
        x, lengths, _ = self.check(x, lengths, levels > 0)
        self.check_state(x, state)
        split = parts(x, levels > 0, lengths)
        w, _ = self.lower(split.x, None, split.lengths)
        pooled, weights = self.pooling(w, split.lengths)
        split_levels = parts(levels[..., None], levels > 0, lengths)
        first = split_levels.together(split_levels.x[:, 0])[..., 0] - 1
        upper_resets = first if isinstance(self.upper, Hierarchical) else None
        y, state = self.upper(split.together(pooled), state, split.counts, upper_resets)
        return y, state, split, split.back(weights, x.shape[1])

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Raise ValueError: a hierarchical layer needs whole parts."""
        raise ValueError("Hierarchical needs whole parts; it cannot run step by step")


class _Rates(NamedTuple):
    """The parts of the state of `MultiRate`."""

    steps: Sizes
    layers: Sizes


class _Held(NamedTuple):
    """The state and the held output of one layer of `MultiRate`."""

    state: Sizes
    y: Sizes


class MultiRate(RecurrentLayer):
    """Stack layers that are updated at different rates: layer k runs every p_k steps, and is held in between.

    ::

        layer k at step t:  if t mod p_k = 0: y^k_t, s^k_t = layer_k(y^{k-1}_t, s^k);  else y^k_t = y^k_{t-1}
        y_t = [y^1_t; ...; y^L_t],  y^0 = x

    t counts the steps since the start of the sequence or the last reset.

    El Hihi & Bengio 1995. Koutník et al. 2014, https://arxiv.org/abs/1402.3511, apply the periods to groups of units of
    one layer.

    Args:
        layers (Sequence[RecurrentLayer]): The layers, lowest first. All are causal; each reads the output of the one
            below.
        periods (Sequence[int]): The periods p_1, p_2, ... in steps, one for each layer.

    Shapes:
        - x: (B, T, D), D = ``input_size`` of the first layer.
        - y: (B, T, H), H = the sum of ``output_size`` over the layers.
        - state: (t, ((state, held y), ...)), with t (B, 1) modulo the least common multiple of the periods, in the
          dtype of x. bfloat16 can hold multiples up to 256, float16 up to 2,048.
        - lengths, resets: See `RecurrentLayer`.

    Raises:
        TypeError: A layer is not a `RecurrentLayer`, or a period is not an int.
        ValueError: The numbers or sizes of layers and periods do not fit, a period is below 1, a layer is not causal,
            or, when called, the dtype of x cannot hold t.

    Example::

        >>> from elman.layers import Recurrent
        >>> layer = MultiRate([Recurrent("gru", 8, 16), Recurrent("gru", 16, 16)], periods=[1, 4])
        >>> y, state = layer(torch.randn(4, 10, 8))
        >>> y.shape
        torch.Size([4, 10, 32])
    """

    def __init__(self, layers: Sequence[RecurrentLayer], periods: Sequence[int]) -> None:
        super().__init__()
        layers = [check_layer(f"layer {k}", layer) for k, layer in enumerate(layers)]
        periods = [integer(f"period {k}", period) for k, period in enumerate(periods)]
        if len(layers) != len(periods) or not layers:
            raise ValueError(f"each layer needs a period, got: {len(layers)} layers, {len(periods)} periods")
        if min(periods) < 1:
            raise ValueError(f"periods must be 1 step or more, got: {periods}")
        for below, above in pairwise(layers):
            if above.raw:
                raise ValueError(
                    f"only the first layer may read raw columns of x, but an upper one reads {', '.join(above.raw)}"
                )
            if above.input_size != below.output_size:
                raise ValueError(
                    f"a layer must read the {below.output_size} features of the one below, got: {above.input_size}"
                )
        if not all(layer.causal for layer in layers):
            raise ValueError("the layers of MultiRate must be causal")
        self.layers, self.periods, self._cycle = nn.ModuleList(layers), tuple(periods), lcm(*periods)
        self.input_size, self.output_size = layers[0].input_size, sum(layer.output_size for layer in layers)
        self.raw = layers[0].raw

    def sizes(self) -> Sizes:
        """Return the sizes (t, ((state, held y), ...)); see the class."""
        return _Rates(1, tuple(_Held(layer.sizes(), layer.output_size) for layer in self._layers))

    @property
    def _layers(self) -> Sequence[RecurrentLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return y (B, T, H) and the new state."""
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
            active = real & (count % period == 0)
            y, after = _run_active(layer, y, active, begins, old, kept)
            outputs.append(y.masked_fill(~real[..., None], 0.0))
            new.append(after)
        n = real.sum(1)
        last = count.gather(1, (n - 1).clamp(min=0)[:, None]) + 1 if T else before.long()
        after_all = torch.where(n[:, None] > 0, last, before.long()) % self._cycle
        return torch.cat(outputs, -1), (after_all.to(x.dtype), tuple(new))

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Return y (B, H) and the new state for one step x (B, D)."""
        self._check_rates(x, state)
        count, held = self.initial_state(x) if state is None else state
        y, outputs, new = x, [], []
        for layer, period, (old, kept) in zip(self._layers, self.periods, held, strict=True):
            active = count.long()[:, 0] % period == 0
            stepped, after = layer.step(y, old)
            y = torch.where(active[:, None], stepped, kept)
            outputs.append(y)
            new.append((_where(active, after, old), y.clone()))  # the state may be changed in place
        return torch.cat(outputs, -1), ((count + 1) % self._cycle, tuple(new))

    def _check_rates(self, x: Tensor, state: State) -> None:
        """Check the state, and that the dtype of x can hold the step counter."""
        self.check_state(x, state)
        if x.is_floating_point() and self._cycle > 2 / torch.finfo(x.dtype).eps:
            raise ValueError(
                f"{x.dtype} cannot hold the common multiple {self._cycle} of the periods {self.periods}; choose "
                "periods with a smaller common multiple, or another dtype"
            )

    def extra_repr(self) -> str:
        """Return the options, as ``repr`` prints them."""
        return f"periods={self.periods}"


def _run_active(
    layer: RecurrentLayer, x: Tensor, active: Tensor, begins: Tensor, state: State, kept: Tensor
) -> tuple[Tensor, State]:
    """Run a layer over its active steps, and hold its output in between.

    The output is ``kept`` before the first active step. The layer is active at every reset.
    """
    n = active.sum(1)
    M = int(n.max()) if len(n) else 0
    order = (~active).long().argsort(dim=1, stable=True)[:, :M]
    index = order[..., None].expand(-1, -1, x.shape[2])
    y, state = layer(x.gather(1, index), state, n, begins.gather(1, order))
    index = active.long().cumsum(1)  # 0 before the first active step
    y = torch.cat((kept[:, None].to(y.dtype), y), 1)
    y = y.gather(1, index[..., None].expand(-1, -1, y.shape[2]))
    last = y[:, -1] if y.shape[1] else kept
    return y, (state, last.clone())


def _where(rows: Tensor, new: State, old: State) -> State:
    """Return the new state for rows (B,) that are true, the old one for the others."""
    if isinstance(new, Tensor):
        return torch.where(rows.view(-1, *[1] * (new.dim() - 1)), new, old)
    return tuple(_where(rows, a, b) for a, b in zip(new, old, strict=True))
