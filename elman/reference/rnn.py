"""The simple recurrent network: forward, and backward through time.

Forward, for t = 1 .. T, with f = tanh or relu::

    a_t = W x_t + b + R h_{t-1} + b'
    h_t = f(a_t)                                 y_t = h_t

Backward. Write dv for the gradient dL/dv of the loss L. h_t is read twice, as the output y_t and by
the next step through R, so two gradients meet in it; the chain rule does the rest, for t = T .. 1::

    dh_t     = dy_t + R^T da_{t+1}               at t = T: dy_T + the gradient into the final state
    da_t     = dh_t * f'(a_t)                    tanh' = 1 - h_t^2;   relu' = 1 where h_t > 0, else 0
    dx_t     = W^T da_t
    dh_{t-1} = R^T da_t  (+ dy_{t-1})
    dW       = sum_t da_t x_t^T                  the weights are the same at all steps: their gradient
    dR       = sum_t da_t h_{t-1}^T              is the sum over the steps
    db = db' = sum_t da_t

A batch has one sequence in a row, so W x_t becomes x_t @ W.T, W^T da_t becomes da_t @ W, and the
product da_t.T @ x_t sums over the batch as well.

Elman 1990, "Finding structure in time", https://doi.org/10.1207/s15516709cog1402_1;
backward: Werbos 1990, "Backpropagation through time", https://doi.org/10.1109/5.58337;
relu: Le, Jaitly & Hinton 2015, https://arxiv.org/abs/1504.00941
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np


class Weights(NamedTuple):
    """The parameters, or their gradients, under torch.nn.RNN's names."""

    weight_ih: np.ndarray  # (H, D)  W
    weight_hh: np.ndarray  # (H, H)  R
    bias_ih: np.ndarray  # (H,)  b
    bias_hh: np.ndarray  # (H,)  b'; a second bias adds nothing to the first, but torch has both


class Tape(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    x: np.ndarray  # (B, T, D)
    h: np.ndarray  # (B, T + 1, H)  h[:, t] goes into step t, h[:, t + 1] comes out of it
    weights: Weights
    nonlinearity: str


def forward(
    x: np.ndarray,
    state: tuple[np.ndarray],
    weights: Weights,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
) -> tuple[np.ndarray, tuple[np.ndarray], Tape]:
    """Carries the network over x: h_t = f(W x_t + b + R h_{t-1} + b').

    Arguments:
        x: (B, T, D).
        state: (h,), h (B, H): the state before the first step.
        weights: see `Weights`; all results have their dtype.
        nonlinearity: f, "tanh" or "relu".

    Returns y (B, T, H), the state (h,) after the last step, h (B, H), and the tape for `backward`.
    Raises ValueError for another nonlinearity, or (NumPy's) where the shapes do not fit.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', not {nonlinearity!r}")
    W, R, b, b_h = weights
    (h_0,) = state
    B, T, _ = x.shape
    H = R.shape[1]
    h = np.empty((B, T + 1, H), R.dtype)
    h[:, 0] = h_0

    for t in range(T):
        # a_t = W x_t + b + R h_{t-1} + b'                                        (B, H)
        a = x[:, t] @ W.T + b + h[:, t] @ R.T + b_h
        # h_t = f(a_t)                                                            (B, H)
        h[:, t + 1] = np.tanh(a) if nonlinearity == "tanh" else np.maximum(a, 0)

    # Copies, so that whoever changes y or the state in place does not change the tape.
    return h[:, 1:].copy(), (h[:, T].copy(),), Tape(x, h, weights, nonlinearity)


def backward(dy: np.ndarray, dstate: tuple[np.ndarray], tape: Tape) -> tuple[np.ndarray, tuple[np.ndarray], Weights]:
    """The gradients of the loss L, from those of y and of the final state.

    Arguments:
        dy: (B, T, H), dL/dy.
        dstate: (dh,), dh (B, H): dL/dh of the final state, for whatever reads it besides y; else zeros.
        tape: from `forward`.

    Returns dx (B, T, D), dstate_0 = (dh_0,) (B, H) of the initial state, and dweights, a `Weights`.
    Raises ValueError (NumPy's) where the shapes do not fit.
    """
    x, h, weights, nonlinearity = tape
    W, R, b, _ = weights
    T = x.shape[1]
    dx = np.empty(x.shape, W.dtype)
    dW, dR, db = np.zeros_like(W), np.zeros_like(R), np.zeros_like(b)
    (dh,) = dstate

    for t in reversed(range(T)):
        # dh_t = dy_t + what comes back from step t + 1                           (B, H)
        dh = dh + dy[:, t]
        # da_t = dh_t * f'(a_t)                                                   (B, H)
        h_t = h[:, t + 1]
        da = dh * (1 - h_t**2) if nonlinearity == "tanh" else dh * (h_t > 0)
        # dW = sum_t da_t x_t^T;   dR = sum_t da_t h_{t-1}^T;   db = sum_t da_t
        dW += da.T @ x[:, t]
        dR += da.T @ h[:, t]
        db += da.sum(axis=0)
        # dx_t = W^T da_t                                                         (B, D)
        dx[:, t] = da @ W
        # R^T da_t goes back to step t - 1                                        (B, H)
        dh = da @ R

    return dx, (dh,), Weights(dW, dR, db, db.copy())
