"""Bidirectional network: two networks over the same x, in opposite directions of time.

Forward. The second network runs over the steps in reverse order, and its outputs are reversed again, so
that the outputs of both networks for the same t are concatenated::

    u_1 .. u_T = forward network over x_1 .. x_T         depends on the past of t
    v_T .. v_1 = backward network over x_T .. x_1        depends on the future of t
    y_t        = (u_t, v_t)

Backward. y is a concatenation, so dy splits into du and dv. Each network backpropagates through its own
order of steps (the second one from x_1 to x_T), and x, which both networks read, receives the sum::

    dx_t = dx_t of the forward network + dx_t of the backward network

Schuster & Paliwal 1997, "Bidirectional recurrent neural networks", https://doi.org/10.1109/78.650093
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np


class Tape(NamedTuple):
    """The intermediate values that `forward` keeps for `backward`."""

    cell: ModuleType
    tape_u: Any  # tape of the forward network
    tape_v: Any  # tape of the backward network
    H_u: int  # the first H_u of the H_u + H_v columns of y are those of the forward network


def forward(
    cell: ModuleType, x: np.ndarray, states: tuple[Any, Any], weights: tuple[Any, Any]
) -> tuple[np.ndarray, tuple[Any, Any], Tape]:
    """Run two networks over x, one in each direction: y_t = (u_t, v_t).

    Args:
        cell: the module of the cell: `rnn` (with tanh), `lstm`, `peephole_lstm` or `gru`.
        x: (B, T, D), the input.
        states: the states of the forward and the backward network before their first steps, each as
            ``cell.forward`` takes it. The first step of the backward network reads x_T.
        weights: the parameters of the forward and the backward network, each a ``cell.Weights``.

    Returns:
        - y (B, T, H_u + H_v), the output.
        - The final states of both networks; that of the backward network is the state after x_1.
        - The tape for `backward`.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> from elman.reference import rnn
        >>> rng = np.random.default_rng(0)
        >>> B, T, D, H = 2, 5, 3, 4
        >>> shapes = [(H, D), (H, H), (H,), (H,)]
        >>> weights = [rnn.Weights(*[rng.standard_normal(shape) for shape in shapes]) for _ in range(2)]
        >>> zeros = (np.zeros((B, H)),)
        >>> y, states, tape = forward(rnn, rng.standard_normal((B, T, D)), (zeros, zeros), weights)
        >>> y.shape
        (2, 5, 8)
    """
    # u_t from x_1 .. x_T                                                         (B, T, H_u)
    u, state_u, tape_u = cell.forward(x, states[0], weights[0])
    # v_t from x_T .. x_1, in reverse order                                       (B, T, H_v)
    v, state_v, tape_v = cell.forward(x[:, ::-1], states[1], weights[1])
    # y_t = (u_t, v_t)                                                            (B, T, H_u + H_v)
    y = np.concatenate((u, v[:, ::-1]), axis=2)
    return y, (state_u, state_v), Tape(cell, tape_u, tape_v, u.shape[2])


def backward(
    dy: np.ndarray, dstates: tuple[Any, Any], tape: Tape
) -> tuple[np.ndarray, tuple[Any, Any], tuple[Any, Any]]:
    """Compute the gradients of the loss L from those of the output and of both final states.

    Args:
        dy: (B, T, H_u + H_v), the gradient dL/dy of the output.
        dstates: the gradients of the final states of the forward and the backward network, each as
            ``cell.backward`` takes it.
        tape: the tape of `forward`.

    Returns:
        - dx (B, T, D), the gradient of the input.
        - The gradients of both initial states, forward network first.
        - The gradients of both networks' parameters, forward network first.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> from elman.reference import rnn
        >>> rng = np.random.default_rng(0)
        >>> B, T, D, H = 2, 5, 3, 4
        >>> shapes = [(H, D), (H, H), (H,), (H,)]
        >>> weights = [rnn.Weights(*[rng.standard_normal(shape) for shape in shapes]) for _ in range(2)]
        >>> zeros = (np.zeros((B, H)),)
        >>> y, _, tape = forward(rnn, rng.standard_normal((B, T, D)), (zeros, zeros), weights)
        >>> dx, dstates_0, dweights = backward(np.ones_like(y), (zeros, zeros), tape)  # L = sum(y)
        >>> dx.shape, len(dweights)
        ((2, 5, 3), 2)
    """
    cell, tape_u, tape_v, H_u = tape
    du, dv = dy[:, :, :H_u], dy[:, :, H_u:]  # (B, T, H_u), (B, T, H_v)
    dx_u, dstate_u, dweights_u = cell.backward(du, dstates[0], tape_u)
    dx_v, dstate_v, dweights_v = cell.backward(dv[:, ::-1], dstates[1], tape_v)
    # dx = that of the forward network + that of the backward network, reversed   (B, T, D)
    dx = dx_u + dx_v[:, ::-1]
    return dx, (dstate_u, dstate_v), (dweights_u, dweights_v)
