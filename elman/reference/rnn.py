"""Simple recurrent network (Elman network): forward pass, and backpropagation through time.

Forward, for t = 1 .. T, with f = tanh or relu::

    a_t = W x_t + b + R h_{t-1} + b'
    h_t = f(a_t)                                 y_t = h_t

Backward. dv denotes the gradient dL/dv of the loss L. h_t is used twice, as the output y_t and, through
R, by the next step, so its gradient is the sum of two terms. The chain rule gives, for t = T .. 1::

    dh_t     = dy_t + R^T da_{t+1}               at t = T: dy_T + the gradient of the final state
    da_t     = dh_t * f'(a_t)                    tanh' = 1 - h_t^2;   relu' = 1 where h_t > 0, else 0
    dx_t     = W^T da_t
    dh_{t-1} = R^T da_t  (+ dy_{t-1})
    dW       = sum_t da_t x_t^T                  all steps share the weights, so their gradients
    dR       = sum_t da_t h_{t-1}^T              are sums over the steps
    db = db' = sum_t da_t

A batch has one sequence per row, so W x_t becomes x_t @ W.T and W^T da_t becomes da_t @ W, and the
product da_t.T @ x_t also sums over the batch.

Elman 1990, "Finding structure in time", https://doi.org/10.1207/s15516709cog1402_1;
backward: Werbos 1990, "Backpropagation through time", https://doi.org/10.1109/5.58337;
relu: Le, Jaitly & Hinton 2015, "A simple way to initialize recurrent networks of rectified linear units",
https://arxiv.org/abs/1504.00941
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np


class Weights(NamedTuple):
    """The parameters or their gradients, named as in torch.nn.RNN."""

    weight_ih: np.ndarray  # (H, D)  W
    weight_hh: np.ndarray  # (H, H)  R
    bias_ih: np.ndarray  # (H,)  b
    bias_hh: np.ndarray  # (H,)  b'; redundant beside b, but torch has both


class Tape(NamedTuple):
    """The intermediate values that `forward` keeps for `backward`."""

    x: np.ndarray  # (B, T, D)
    h: np.ndarray  # (B, T + 1, H)  h[:, t] enters step t, h[:, t + 1] leaves it
    weights: Weights
    nonlinearity: str


def forward(
    x: np.ndarray,
    state: tuple[np.ndarray],
    weights: Weights,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
) -> tuple[np.ndarray, tuple[np.ndarray], Tape]:
    """Run the network over x: h_t = f(W x_t + b + R h_{t-1} + b').

    The equations are at the top of the file.

    Args:
        x: (B, T, D), the input.
        state: (h,), with h (B, H), the state before the first step.
        weights: the parameters. All results have their dtype.
        nonlinearity: f, ``"tanh"`` or ``"relu"``. Default: ``"tanh"``.

    Returns:
        - y (B, T, H), the output.
        - (h,), the state after the last step, h (B, H).
        - The tape for `backward`.

    Raises:
        ValueError: if the shapes do not match, or ``nonlinearity`` is neither.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> B, T, D, H = 2, 5, 3, 4
        >>> shapes = [(H, D), (H, H), (H,), (H,)]
        >>> weights = Weights(*[rng.standard_normal(shape) for shape in shapes])
        >>> y, (h,), tape = forward(rng.standard_normal((B, T, D)), (np.zeros((B, H)),), weights)
        >>> y.shape, h.shape
        ((2, 5, 4), (2, 4))
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

    # Copies, so that in-place changes of y or the state do not affect the tape.
    return h[:, 1:].copy(), (h[:, T].copy(),), Tape(x, h, weights, nonlinearity)


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
        >>> shapes = [(H, D), (H, H), (H,), (H,)]
        >>> weights = Weights(*[rng.standard_normal(shape) for shape in shapes])
        >>> y, (h,), tape = forward(rng.standard_normal((B, T, D)), (np.zeros((B, H)),), weights)
        >>> dx, dstate_0, dweights = backward(np.ones_like(y), (np.zeros_like(h),), tape)  # L = sum(y)
        >>> dx.shape, dweights.weight_hh.shape
        ((2, 5, 3), (4, 4))
    """
    x, h, weights, nonlinearity = tape
    W, R, b, _ = weights
    T = x.shape[1]
    dx = np.empty(x.shape, W.dtype)
    dW, dR, db = np.zeros_like(W), np.zeros_like(R), np.zeros_like(b)
    (dh,) = dstate

    for t in reversed(range(T)):
        # dh_t = dy_t + the gradient from step t + 1                              (B, H)
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
