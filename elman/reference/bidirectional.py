"""Reading from both ends: two networks over the same x, one of them from the end.

Forward: the second network runs over the steps in reverse order, and its outputs are turned back, so
that at every t the two outputs stand side by side::

    u_1 .. u_T = forward network over x_1 .. x_T         knows the past of t
    v_T .. v_1 = backward network over x_T .. x_1        knows the future of t
    y_t        = (u_t, v_t)

Backward: y is a concatenation, so dy splits into du and dv; each network goes through its own time
backward (the second one thus from x_1 to x_T), and x, which both read, receives the sum::

    dx_t = dx_t from the forward network + dx_t from the backward network

Schuster & Paliwal 1997, https://doi.org/10.1109/78.650093
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np


class Tape(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    cell: ModuleType
    tape_u: Any  # of the forward network
    tape_v: Any  # of the backward network
    H_u: int  # the first H_u of y's H_u + H_v columns are the forward network's


def forward(
    cell: ModuleType, x: np.ndarray, states: tuple[Any, Any], weights: tuple[Any, Any]
) -> tuple[np.ndarray, tuple[Any, Any], Tape]:
    """Carries two networks over x, one from either end: y_t = (u_t, v_t).

    Arguments:
        cell: the module of the cell: `rnn` (with tanh), `lstm`, `peephole_lstm` or `gru`.
        x: (B, T, D).
        states: (the forward network's, the backward network's) before their first steps, each as the
            cell's own `forward` takes it. The backward network's first step is x_T.
        weights: (the forward network's, the backward network's).

    Returns y (B, T, H_u + H_v), both final states, the backward network's being that after x_1, and the
    tape. Raises ValueError (NumPy's) where the shapes do not fit.
    """
    # u_t from x_1 .. x_T                                                         (B, T, H_u)
    u, state_u, tape_u = cell.forward(x, states[0], weights[0])
    # v_t from x_T .. x_1, turned back                                            (B, T, H_v)
    v, state_v, tape_v = cell.forward(x[:, ::-1], states[1], weights[1])
    # y_t = (u_t, v_t)                                                            (B, T, H_u + H_v)
    y = np.concatenate((u, v[:, ::-1]), axis=2)
    return y, (state_u, state_v), Tape(cell, tape_u, tape_v, u.shape[2])


def backward(
    dy: np.ndarray, dstates: tuple[Any, Any], tape: Tape
) -> tuple[np.ndarray, tuple[Any, Any], tuple[Any, Any]]:
    """The gradients of the loss, from those of y and of both final states.

    Arguments:
        dy: (B, T, H_u + H_v).
        dstates: (the forward network's, the backward network's), each as the cell's `backward` takes it.
        tape: from `forward`.

    Returns dx (B, T, D), and in the order forward, backward network: the gradients of the initial
    states and those of the weights. Raises ValueError (NumPy's) where the shapes do not fit.
    """
    cell, tape_u, tape_v, H_u = tape
    du, dv = dy[:, :, :H_u], dy[:, :, H_u:]  # (B, T, H_u), (B, T, H_v)
    dx_u, dstate_u, dweights_u = cell.backward(du, dstates[0], tape_u)
    dx_v, dstate_v, dweights_v = cell.backward(dv[:, ::-1], dstates[1], tape_v)
    # dx = the forward network's + the backward network's, turned back            (B, T, D)
    dx = dx_u + dx_v[:, ::-1]
    return dx, (dstate_u, dstate_v), (dweights_u, dweights_v)
