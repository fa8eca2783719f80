"""Gated recurrent unit as torch and cuDNN compute it: forward, and backward through time.

Forward, for t = 1 .. T; * is by element, and the rows of W, R, b and b' are in the order r, z, n. The
reset gate acts after the product R_n h, so b'_n stays inside of it and is no twin of b_n::

    r_t = sigma(W_r x_t + b_r + R_r h_{t-1} + b'_r)      reset
    z_t = sigma(W_z x_t + b_z + R_z h_{t-1} + b'_z)      update: how much of the old stays
    m_t = R_n h_{t-1} + b'_n
    n_t =  tanh(W_n x_t + b_n + r_t * m_t)               what is new
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}                y_t = h_t

Backward. Write dv for the gradient dL/dv of the loss L, and a_r for what goes into the sigma of r, and
so on. h_t is read as y_t, by the three gates of the next step and by h_{t+1} directly. So,
for t = T .. 1::

    dh_t     = dy_t + z_{t+1} * dh_{t+1} + R^T dm_{t+1}
    da_n     = dh_t * (1 - z_t) * (1 - n_t^2)            tanh' = 1 - tanh^2
    da_z     = dh_t * (h_{t-1} - n_t) * z_t * (1 - z_t)  sigma' = sigma * (1 - sigma)
    da_r     = da_n * m_t * r_t * (1 - r_t)
    da_t     = (da_r, da_z, da_n)                        what W x_t + b receives
    dm_t     = (da_r, da_z, da_n * r_t)                  what R h_{t-1} + b' receives: n's part through r
    dx_t     = W^T da_t
    dW = sum_t da_t x_t^T      dR = sum_t dm_t h_{t-1}^T      db = sum_t da_t      db' = sum_t dm_t

At t = T the terms from t + 1 are the gradient into the final state. A batch has one sequence in a row,
so W x_t becomes x_t @ W.T and W^T da_t becomes da_t @ W.

Cho et al. 2014, v1, https://arxiv.org/abs/1406.1078v1
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from elman.reference.activations import sigma


class Weights(NamedTuple):
    """The parameters, or their gradients, under torch.nn.GRU's names; rows in the order r, z, n."""

    weight_ih: np.ndarray  # (3 H, D)  W
    weight_hh: np.ndarray  # (3 H, H)  R
    bias_ih: np.ndarray  # (3 H,)  b
    bias_hh: np.ndarray  # (3 H,)  b'


class Tape(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    x: np.ndarray  # (B, T, D)
    h: np.ndarray  # (B, T + 1, H)  h[:, t] goes into step t, h[:, t + 1] comes out of it
    r: np.ndarray  # (B, T, H)  the gates of step t
    z: np.ndarray  # (B, T, H)
    n: np.ndarray  # (B, T, H)
    m: np.ndarray  # (B, T, H)  R_n h_{t-1} + b'_n, before the reset
    weights: Weights


def forward(x: np.ndarray, state: tuple[np.ndarray], weights: Weights) -> tuple[np.ndarray, tuple[np.ndarray], Tape]:
    """Carries the GRU over x; the formulas stand at the top of the file.

    Arguments:
        x: (B, T, D).
        state: (h,), h (B, H): the state before the first step.
        weights: see `Weights`; all results have their dtype.

    Returns y (B, T, H), the state (h,) after the last step, h (B, H), and the tape for `backward`.
    Raises ValueError (NumPy's) where the shapes do not fit.
    """
    W, R, b, b_h = weights
    (h_0,) = state
    B, T, _ = x.shape
    H = R.shape[1]
    h = np.empty((B, T + 1, H), R.dtype)
    r, z, n, m = np.empty((4, B, T, H), R.dtype)
    h[:, 0] = h_0

    for t in range(T):
        # W x_t + b, and apart from it R h_{t-1} + b'                             each (B, 3 H)
        x_r, x_z, x_n = np.split(x[:, t] @ W.T + b, 3, axis=1)  # each (B, H)
        h_r, h_z, h_n = np.split(h[:, t] @ R.T + b_h, 3, axis=1)  # each (B, H)
        # r_t = sigma(W_r x_t + b_r + R_r h_{t-1} + b'_r);   z_t likewise         each (B, H)
        r[:, t] = sigma(x_r + h_r)
        z[:, t] = sigma(x_z + h_z)
        # m_t = R_n h_{t-1} + b'_n                                                (B, H)
        m[:, t] = h_n
        # n_t = tanh(W_n x_t + b_n + r_t * m_t)                                   (B, H)
        n[:, t] = np.tanh(x_n + r[:, t] * m[:, t])
        # h_t = (1 - z_t) * n_t + z_t * h_{t-1}                                   (B, H)
        h[:, t + 1] = (1 - z[:, t]) * n[:, t] + z[:, t] * h[:, t]

    # Copies, so that whoever changes y or the state in place does not change the tape.
    return h[:, 1:].copy(), (h[:, T].copy(),), Tape(x, h, r, z, n, m, weights)


def backward(dy: np.ndarray, dstate: tuple[np.ndarray], tape: Tape) -> tuple[np.ndarray, tuple[np.ndarray], Weights]:
    """The gradients of the loss L, from those of y and of the final state.

    Arguments:
        dy: (B, T, H), dL/dy.
        dstate: (dh,), dh (B, H): dL/dh of the final state, for whatever reads it besides y; else zeros.
        tape: from `forward`.

    Returns dx (B, T, D), dstate_0 = (dh_0,) (B, H) of the initial state, and dweights, a `Weights`.
    Raises ValueError (NumPy's) where the shapes do not fit.
    """
    x, weights = tape.x, tape.weights
    W, R, b, b_h = weights
    T = x.shape[1]
    dx = np.empty(x.shape, W.dtype)
    dW, dR, db, db_h = np.zeros_like(W), np.zeros_like(R), np.zeros_like(b), np.zeros_like(b_h)
    (dh,) = dstate

    for t in reversed(range(T)):
        r, z, n, m = tape.r[:, t], tape.z[:, t], tape.n[:, t], tape.m[:, t]  # each (B, H)
        h_old = tape.h[:, t]  # (B, H)

        # dh_t = dy_t + what comes back from step t + 1                           (B, H)
        dh = dh + dy[:, t]
        # da_n = dh_t * (1 - z_t) * (1 - n_t^2)                                   (B, H)
        da_n = dh * (1 - z) * (1 - n**2)
        # da_z = dh_t * (h_{t-1} - n_t) * z_t * (1 - z_t)                         (B, H)
        da_z = dh * (h_old - n) * z * (1 - z)
        # da_r = da_n * m_t * r_t * (1 - r_t)                                     (B, H)
        da_r = da_n * m * r * (1 - r)
        # da_t = (da_r, da_z, da_n);   dm_t = (da_r, da_z, da_n * r_t)            each (B, 3 H)
        da = np.concatenate((da_r, da_z, da_n), axis=1)
        dm = np.concatenate((da_r, da_z, da_n * r), axis=1)

        # dW = sum_t da_t x_t^T;   dR = sum_t dm_t h_{t-1}^T;   db = sum_t da_t;   db' = sum_t dm_t
        dW += da.T @ x[:, t]
        dR += dm.T @ h_old
        db += da.sum(axis=0)
        db_h += dm.sum(axis=0)
        # dx_t = W^T da_t                                                         (B, D)
        dx[:, t] = da @ W
        # z_t * dh_t + R^T dm_t goes back to step t - 1                           (B, H)
        dh = z * dh + dm @ R

    return dx, (dh,), Weights(dW, dR, db, db_h)
