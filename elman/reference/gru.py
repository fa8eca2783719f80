"""Gated recurrent unit (GRU) as torch and cuDNN define it: forward pass, and backpropagation through time.

Forward, for t = 1 .. T. * is the elementwise product. W, R, b and b' contain the rows of all gates, in the
order r, z, n. The reset gate multiplies the product R_n h_{t-1} + b'_n, so b'_n is not redundant beside
b_n::

    r_t = sigma(W_r x_t + b_r + R_r h_{t-1} + b'_r)      reset gate
    z_t = sigma(W_z x_t + b_z + R_z h_{t-1} + b'_z)      update gate: how much of the old state is kept
    m_t = R_n h_{t-1} + b'_n
    n_t =  tanh(W_n x_t + b_n + r_t * m_t)               candidate: the new content
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}                y_t = h_t

Backward. dv denotes the gradient dL/dv of the loss L, and a_r the argument of the sigma of gate r, and so
on. h_t is used by y_t, by the three gates of the next step and by h_{t+1} directly. Hence, for
t = T .. 1::

    dh_t     = dy_t + z_{t+1} * dh_{t+1} + R^T dm_{t+1}
    da_n     = dh_t * (1 - z_t) * (1 - n_t^2)            tanh' = 1 - tanh^2
    da_z     = dh_t * (h_{t-1} - n_t) * z_t * (1 - z_t)  sigma' = sigma * (1 - sigma)
    da_r     = da_n * m_t * r_t * (1 - r_t)
    da_t     = (da_r, da_z, da_n)                        gradient of W x_t + b
    dm_t     = (da_r, da_z, da_n * r_t)                  gradient of R h_{t-1} + b'
    dx_t     = W^T da_t
    dW = sum_t da_t x_t^T      dR = sum_t dm_t h_{t-1}^T      db = sum_t da_t      db' = sum_t dm_t

At t = T the terms from t + 1 are the gradient of the final state. A batch has one sequence per row, so
W x_t becomes x_t @ W.T and W^T da_t becomes da_t @ W.

Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder for statistical machine
translation", version 1, https://arxiv.org/abs/1406.1078v1
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from elman.reference.activations import sigma


class Weights(NamedTuple):
    """The parameters or their gradients, named as in torch.nn.GRU; rows in the order r, z, n."""

    weight_ih: np.ndarray  # (3 H, D)  W
    weight_hh: np.ndarray  # (3 H, H)  R
    bias_ih: np.ndarray  # (3 H,)  b
    bias_hh: np.ndarray  # (3 H,)  b'


class Tape(NamedTuple):
    """The intermediate values that `forward` keeps for `backward`."""

    x: np.ndarray  # (B, T, D)
    h: np.ndarray  # (B, T + 1, H)  h[:, t] enters step t, h[:, t + 1] leaves it
    r: np.ndarray  # (B, T, H)  the gates of step t
    z: np.ndarray  # (B, T, H)
    n: np.ndarray  # (B, T, H)
    m: np.ndarray  # (B, T, H)  R_n h_{t-1} + b'_n, before the reset
    weights: Weights


def forward(x: np.ndarray, state: tuple[np.ndarray], weights: Weights) -> tuple[np.ndarray, tuple[np.ndarray], Tape]:
    """Run the GRU over x.

    The equations are at the top of the file.

    Args:
        x: (B, T, D), the input.
        state: (h,), with h (B, H), the state before the first step.
        weights: the parameters. All results have their dtype.

    Returns:
        - y (B, T, H), the output.
        - (h,), the state after the last step, h (B, H).
        - The tape for `backward`.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> B, T, D, H = 2, 5, 3, 4
        >>> shapes = [(3 * H, D), (3 * H, H), (3 * H,), (3 * H,)]
        >>> weights = Weights(*[rng.standard_normal(shape) for shape in shapes])
        >>> y, (h,), tape = forward(rng.standard_normal((B, T, D)), (np.zeros((B, H)),), weights)
        >>> y.shape, h.shape
        ((2, 5, 4), (2, 4))
    """
    W, R, b, b_h = weights
    (h_0,) = state
    B, T, _ = x.shape
    H = R.shape[1]
    h = np.empty((B, T + 1, H), R.dtype)
    r, z, n, m = np.empty((4, B, T, H), R.dtype)
    h[:, 0] = h_0

    for t in range(T):
        # W x_t + b and, separately, R h_{t-1} + b'                               each (B, 3 H)
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

    # Copies, so that in-place changes of y or the state do not affect the tape.
    return h[:, 1:].copy(), (h[:, T].copy(),), Tape(x, h, r, z, n, m, weights)


def backward(dy: np.ndarray, dstate: tuple[np.ndarray], tape: Tape) -> tuple[np.ndarray, tuple[np.ndarray], Weights]:
    """Compute the gradients of the loss L from those of the output and of the final state.

    The equations are at the top of the file.

    Args:
        dy: (B, T, H), the gradient dL/dy of the output.
        dstate: (dh,), with dh (B, H), the gradient of the final state from everything that reads it
            besides y. Zeros if nothing does.
        tape: the tape of `forward`.

    Returns:
        - dx (B, T, D), the gradient of the input.
        - (dh_0,), with dh_0 (B, H), the gradient of the initial state.
        - dweights, the gradients of the parameters, a `Weights`.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> B, T, D, H = 2, 5, 3, 4
        >>> shapes = [(3 * H, D), (3 * H, H), (3 * H,), (3 * H,)]
        >>> weights = Weights(*[rng.standard_normal(shape) for shape in shapes])
        >>> y, (h,), tape = forward(rng.standard_normal((B, T, D)), (np.zeros((B, H)),), weights)
        >>> dx, dstate_0, dweights = backward(np.ones_like(y), (np.zeros_like(h),), tape)  # L = sum(y)
        >>> dx.shape, dweights.weight_hh.shape
        ((2, 5, 3), (12, 4))
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

        # dh_t = dy_t + the gradient from step t + 1                              (B, H)
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
