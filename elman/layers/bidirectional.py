"""Bidirectional layers, and functions that reverse sequences of different lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman.layers.lengths import Lengths, check_lengths
from elman.layers.recurrent import RecurrentLayer, check_layer
from elman.layers.state import Sizes, State


class Bidirectional(RecurrentLayer):
    """Run two layers over a sequence in opposite directions, and concatenate their outputs.

    Schuster & Paliwal 1997, https://doi.org/10.1109/78.650093

    Args:
        forward (RecurrentLayer): The layer that runs from the first step.
        backward (RecurrentLayer): The layer that runs from the last step of each row. It has the ``input_size`` and raw
            columns of ``forward``; each step has the same raw columns in both directions.

    Shapes:
        - x: (B, T, D).
        - y: (B, T, H_forward + H_backward).
        - state: (state of forward, state of backward). The final state of ``backward`` is the one after the first step.
        - lengths, resets: See `RecurrentLayer`. The state of ``backward`` is zeroed between the same steps as that of
          ``forward``.

    Raises:
        TypeError: A direction is not a `RecurrentLayer`.
        ValueError: The directions differ in ``input_size`` or raw columns.

    Example::

        >>> from elman.layers import Recurrent
        >>> layer = Bidirectional(Recurrent("gru", 8, 16), Recurrent("gru", 8, 16))
        >>> y, (forward, backward) = layer(torch.randn(4, 10, 8))
        >>> y.shape
        torch.Size([4, 10, 32])
    """

    causal = False

    def __init__(self, forward: RecurrentLayer, backward: RecurrentLayer) -> None:
        super().__init__()
        check_layer("forward", forward), check_layer("backward", backward)
        if forward.input_size != backward.input_size:
            raise ValueError(
                f"both directions must have the same input_size, got: {forward.input_size} and {backward.input_size}"
            )
        if forward.raw != backward.raw:
            raise ValueError(f"both directions must have the same raw columns, got: {forward.raw} and {backward.raw}")
        self.raw = forward.raw
        self.directions = torch.nn.ModuleList([forward, backward])
        self.input_size = forward.input_size
        self.output_size = forward.output_size + backward.output_size

    def sizes(self) -> Sizes:
        """Return the sizes of the states of both directions."""
        return tuple(layer.sizes() for layer in self._layers)

    @property
    def _layers(self) -> tuple[RecurrentLayer, RecurrentLayer]:
        forward, backward = self.directions
        return forward, backward  # type: ignore[return-value]

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return y (B, T, H_forward + H_backward) and the new state."""
        x, lengths, resets = self.check(x, lengths, resets)
        self.check_state(x, state)
        forward, backward = self._layers
        forward_state, backward_state = (None, None) if state is None else state
        y, forward_state = forward(x, forward_state, lengths, resets)
        z, backward_state = backward(reverse(x, lengths), backward_state, lengths, reverse_resets(resets, lengths))
        return torch.cat((y, reverse(z, lengths)), -1), (forward_state, backward_state)

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Raise ValueError: a bidirectional layer needs the whole sequence."""
        raise ValueError("Bidirectional needs the whole sequence; it cannot run step by step")

    def ends(self, y: Tensor, lengths: Lengths = None) -> Tensor:
        """Return the output of each direction at its own last step.

        This is the forward half of y at the last real step and the backward half at the first one, unlike ``y[:, -1]``.

        Args:
            y (Tensor): The output of the layer, (B, T, H).
            lengths (Tensor | Sequence[int] | ndarray, optional): Lengths (B,). Default: ``None``, T for every row.

        Returns:
            Tensor: Outputs (B, H), 0 for rows of length 0.
        """
        size = self._layers[0].output_size
        return torch.cat((last_step(y[..., :size], lengths), y[:, 0, size:]), -1)


def reverse(x: Tensor, lengths: Lengths = None) -> Tensor:
    """Reverse the real steps of each row; padding stays in place.

    Args:
        x (Tensor): Sequences (B, T, ...).
        lengths (Tensor | Sequence[int] | ndarray, optional): Lengths (B,). Default: ``None``, T for every row.

    Returns:
        Tensor: Sequences (B, T, ...).

    Example::

        >>> reverse(torch.tensor([[1, 2, 3], [1, 2, 0]]), torch.tensor([3, 2]))
        tensor([[3, 2, 1],
                [2, 1, 0]])
    """
    if lengths is None:
        return x.flip(1)
    if not isinstance(lengths, Tensor):
        lengths = check_lengths(lengths, x)
    if x.stride(0) < x.stride(1):  # x is stored step by step
        order = (_reversed_steps(lengths, x) * x.shape[0]).t() + _arange(x, 0)
        return _permute(x.transpose(0, 1), order).transpose(0, 1)
    return _permute(x, _reversed_steps(lengths, x) + x.shape[1] * _arange(x, 0)[:, None])


def _arange(x: Tensor, dim: int) -> Tensor:
    """Return the indices of a dimension of x."""
    return torch.arange(x.shape[dim], device=x.device)


def _reversed_steps(lengths: Tensor, x: Tensor) -> Tensor:
    """Return the step (B, T) of x that each step of the result takes."""
    steps, end = _arange(x, 1), lengths.to(x.device).clamp(max=x.shape[1])[:, None]
    return torch.where(steps < end, end - 1 - steps, steps)


def _permute(x: Tensor, order: Tensor) -> Tensor:
    """Permute the M N rows of x (M, N, ...) by a permutation (M, N) that is its own inverse."""
    rows, order = x.flatten(0, 1), order.flatten()
    y = (
        rows.index_select(0, order)
        if torch.compiler.is_compiling() or torch.jit.is_tracing()
        else _Permute.apply(rows, order)
    )
    return y.view(x.shape)


class _Permute(torch.autograd.Function):
    """Permute the rows of x (N, ...) by a permutation (N,) that is its own inverse; the gradient likewise."""

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
        return _Permute.apply(dy, *ctx.saved_tensors), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, _: None) -> Tensor:  # type: ignore[override]
        return dx.index_select(0, *ctx.saved_tensors)


def reverse_resets(resets: Tensor | None, lengths: Tensor | None = None) -> Tensor | None:
    """Return the resets of a backward layer: a boundary before step t is one after step t - 1.

    Args:
        resets (Tensor, optional): Bool (B, T), true where the state of the forward layer is zeroed before a step.
        lengths (Tensor, optional): Lengths (B,). Default: ``None``, T for every row.

    Returns:
        Tensor | None: Bool (B, T) for the reversed sequence; None without resets.
    """
    if resets is None:
        return None
    after = torch.cat((resets[:, 1:], torch.zeros_like(resets[:, :1])), 1)
    return reverse(after, lengths)


def last_step(y: Tensor, lengths: Lengths = None) -> Tensor:
    """Return the last real step of each row.

    Args:
        y (Tensor): Sequences (B, T, H).
        lengths (Tensor | Sequence[int] | ndarray, optional): Lengths (B,). Default: ``None``, T for every row.

    Returns:
        Tensor: The last steps (B, H), 0 for rows of length 0.

    Example::

        >>> last_step(torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]]]), [2, 1])
        tensor([[2.],
                [3.]])
    """
    if lengths is None:
        return y[:, -1]
    lengths = lengths.to(y.device) if isinstance(lengths, Tensor) else check_lengths(lengths, y)
    index = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, y.shape[-1])
    return torch.where((lengths > 0)[:, None], y.gather(1, index).squeeze(1), 0.0)
