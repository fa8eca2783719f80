"""Reading from both ends."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman.layers.recurrent import Lengths, RecurrentLayer, check_lengths, is_layer
from elman.layers.state import Sizes, State


class Bidirectional(RecurrentLayer):
    """Two layers over the same x, one of them from the end: y is (B, T, H_forward + H_backward).

    The backward layer starts at each row's own last real step. The state is (forward's, backward's);
    the backward one is that after the row's first step. With ``resets`` the backward layer is
    zeroed where a sequence ends, that is before it enters the step ahead of a reset. Both directions get the raw
    columns of a step with that step, such as the time since the step before it.

    Schuster & Paliwal 1997, https://doi.org/10.1109/78.650093
    """

    causal = False

    def __init__(self, forward: RecurrentLayer, backward: RecurrentLayer) -> None:
        super().__init__()
        is_layer("forward", forward), is_layer("backward", backward)
        if forward.input_size != backward.input_size:
            raise ValueError(
                f"both directions read the same x: input sizes {forward.input_size} and {backward.input_size} differ"
            )
        if forward.raw != backward.raw:
            raise ValueError(f"both directions read the same x: raw columns {forward.raw} and {backward.raw} differ")
        self.raw = forward.raw
        self.directions = torch.nn.ModuleList([forward, backward])
        self.input_size = forward.input_size
        self.output_size = forward.output_size + backward.output_size

    def sizes(self) -> Sizes:
        return tuple(layer.sizes() for layer in self._layers)

    @property
    def _layers(self) -> tuple[RecurrentLayer, RecurrentLayer]:
        forward, backward = self.directions
        return forward, backward  # type: ignore[return-value]

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        x, lengths, resets = self.check(x, lengths, resets)
        self.check_state(x, state)
        forward, backward = self._layers
        before, after = (None, None) if state is None else state
        y, before = forward(x, before, lengths, resets)
        z, after = backward(reverse(x, lengths), after, lengths, reverse_resets(resets, lengths))
        return torch.cat((y, reverse(z, lengths)), -1), (before, after)

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        raise ValueError("Bidirectional reads the whole sequence; it cannot go step by step")

    def ends(self, y: Tensor, lengths: Lengths = None) -> Tensor:
        """What each direction knows once it has read everything: y (B, T, H) to (B, H).

        The forward half at the last real step beside the backward half at the first: the two places
        that y[:, -1] mixes up. Rows of length 0 give 0.
        """
        size = self._layers[0].output_size
        return torch.cat((last_step(y[..., :size], lengths), y[:, 0, size:]), -1)


def reverse(x: Tensor, lengths: Lengths = None) -> Tensor:
    """x (B, T, ...) with each row's real steps in reverse order, its padding left where it is."""
    if lengths is None:
        return x.flip(1)
    if not isinstance(lengths, Tensor):
        lengths = check_lengths(lengths, x)
    if x.stride(0) < x.stride(1):  # step by step in memory
        return _in_order(x.transpose(0, 1), (_back(lengths, x) * x.shape[0]).t() + _count(x, 0)).transpose(0, 1)
    return _in_order(x, _back(lengths, x) + x.shape[1] * _count(x, 0)[:, None])


def _count(x: Tensor, dim: int) -> Tensor:
    return torch.arange(x.shape[dim], device=x.device)


def _back(lengths: Tensor, x: Tensor) -> Tensor:
    """(B, T): the step that comes to each place."""
    steps, end = _count(x, 1), lengths.to(x.device).clamp(max=x.shape[1])[:, None]
    return torch.where(steps < end, end - 1 - steps, steps)


def _in_order(x: Tensor, order: Tensor) -> Tensor:
    """x (M, N, ...) with its M N rows in an order (M, N) that undoes itself."""
    rows, order = x.flatten(0, 1), order.flatten()
    y = (
        rows.index_select(0, order)
        if torch.compiler.is_compiling() or torch.jit.is_tracing()
        else _Swapped.apply(rows, order)
    )
    return y.view(x.shape)


class _Swapped(torch.autograd.Function):
    """x (N, ...) with its rows in an order (N,) that undoes itself: so is the gradient, row by row."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, order: Tensor) -> Tensor:  # type: ignore[override]
        return x.index_select(0, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # type: ignore[override]
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _Swapped.apply(dy, *ctx.saved_tensors), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, _: None) -> Tensor:  # type: ignore[override]
        return dx.index_select(0, *ctx.saved_tensors)


def reverse_resets(resets: Tensor | None, lengths: Tensor | None = None) -> Tensor | None:
    """resets (B, T) for a layer that reads from the end: a boundary before step t is one after t - 1."""
    if resets is None:
        return None
    after = torch.cat((resets[:, 1:], torch.zeros_like(resets[:, :1])), 1)
    return reverse(after, lengths)


def last_step(y: Tensor, lengths: Lengths = None) -> Tensor:
    """y (B, T, H) at each row's last real step: (B, H); 0 for rows of length 0."""
    if lengths is None:
        return y[:, -1]
    lengths = lengths.to(y.device) if isinstance(lengths, Tensor) else check_lengths(lengths, y)
    index = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, y.shape[-1])
    return torch.where((lengths > 0)[:, None], y.gather(1, index).squeeze(1), 0.0)
