"""LSTM with peephole connections: forward pass, and backpropagation through time.

Forward, for t = 1 .. T. Like the LSTM in lstm.py, with three vectors p, by which the gates of a unit
depend on the cell state of that unit: i and f on the old cell state, o on the new one::

    i_t = sigma(W_i x_t + b_i + R_i h_{t-1} + b'_i + p_i * c_{t-1})
    f_t = sigma(W_f x_t + b_f + R_f h_{t-1} + b'_f + p_f * c_{t-1})
    g_t =  tanh(W_g x_t + b_g + R_g h_{t-1} + b'_g)
    c_t = f_t * c_{t-1} + i_t * g_t
    o_t = sigma(W_o x_t + b_o + R_o h_{t-1} + b'_o + p_o * c_t)
    h_t = o_t * tanh(c_t)                                y_t = h_t

Backward. dv denotes the gradient dL/dv of the loss L, and a_i the argument of the sigma of gate i, and
so on. c_t is used in five places: by h_t and o_t, and in the next step by c_{t+1}, i_{t+1} and f_{t+1}.
da_o comes first, because dc_t depends on it. For t = T .. 1::

    dh_t     = dy_t + R^T da_{t+1}                       da = (da_i, da_f, da_g, da_o), concatenated
    da_o     = dh_t * tanh(c_t) * o_t * (1 - o_t)
    dc_t     = dh_t * o_t * (1 - tanh(c_t)^2) + p_o * da_o
             + dc_{t+1} * f_{t+1} + p_i * da_i,{t+1} + p_f * da_f,{t+1}
    da_i     = dc_t * g_t     * i_t * (1 - i_t)
    da_f     = dc_t * c_{t-1} * f_t * (1 - f_t)
    da_g     = dc_t * i_t     * (1 - g_t^2)
    dx_t     = W^T da_t
    dW = sum_t da_t x_t^T      dR = sum_t da_t h_{t-1}^T      db = db' = sum_t da_t
    dp_i = sum_t da_i * c_{t-1}      dp_f = sum_t da_f * c_{t-1}      dp_o = sum_t da_o * c_t

At t = T the terms from t + 1 are the gradients of the final state (h_T, c_T). A batch has one sequence
per row, so W x_t becomes x_t @ W.T and W^T da_t becomes da_t @ W.

Gers & Schmidhuber 2000, "Recurrent nets that time and count", https://doi.org/10.1109/IJCNN.2000.861302;
these equations: Graves 2013, "Generating sequences with recurrent neural networks", equations 7 to 11,
https://arxiv.org/abs/1308.0850
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from elman.reference.activations import sigma


class Weights(NamedTuple):
    """The parameters or their gradients, named as in torch.nn.LSTM; rows in the order i, f, g, o."""

    weight_ih: np.ndarray  # (4 H, D)  W
    weight_hh: np.ndarray  # (4 H, H)  R
    bias_ih: np.ndarray  # (4 H,)  b
    bias_hh: np.ndarray  # (4 H,)  b'
    p_i: np.ndarray  # (H,)  peephole weights, one per unit
    p_f: np.ndarray  # (H,)
    p_o: np.ndarray  # (H,)


class Tape(NamedTuple):
    """The intermediate values that `forward` keeps for `backward`."""

    x: np.ndarray  # (B, T, D)
    h: np.ndarray  # (B, T + 1, H)  h[:, t] enters step t, h[:, t + 1] leaves it
    c: np.ndarray  # (B, T + 1, H)  likewise
    i: np.ndarray  # (B, T, H)  the gates of step t
    f: np.ndarray  # (B, T, H)
    g: np.ndarray  # (B, T, H)
    o: np.ndarray  # (B, T, H)
    weights: Weights


def forward(
    x: np.ndarray, state: tuple[np.ndarray, np.ndarray], weights: Weights
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], Tape]:
    """Run the peephole LSTM over x.

    The equations are at the top of the file.

    Args:
        x: (B, T, D), the input.
        state: (h, c), each (B, H), the state before the first step.
        weights: the parameters. All results have their dtype.

    Returns:
        - y (B, T, H), the output.
        - (h, c), the state after the last step, each (B, H).
        - The tape for `backward`.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> B, T, D, H = 2, 5, 3, 4
        >>> shapes = [(4 * H, D), (4 * H, H), (4 * H,), (4 * H,)] + [(H,)] * 3
        >>> weights = Weights(*[rng.standard_normal(shape) for shape in shapes])
        >>> y, (h, c), tape = forward(rng.standard_normal((B, T, D)), (np.zeros((B, H)), np.zeros((B, H))), weights)
        >>> y.shape, h.shape
        ((2, 5, 4), (2, 4))
    """
    W, R, b, b_h, p_i, p_f, p_o = weights
    h_0, c_0 = state
    B, T, _ = x.shape
    H = R.shape[1]
    h, c = np.empty((2, B, T + 1, H), R.dtype)
    i, f, g, o = np.empty((4, B, T, H), R.dtype)
    h[:, 0], c[:, 0] = h_0, c_0

    for t in range(T):
        # W x_t + b + R h_{t-1} + b'                                              (B, 4 H)
        a = x[:, t] @ W.T + b + h[:, t] @ R.T + b_h
        a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)  # each (B, H)
        # i_t = sigma(... + p_i * c_{t-1});   f_t = sigma(... + p_f * c_{t-1})    each (B, H)
        i[:, t] = sigma(a_i + p_i * c[:, t])
        f[:, t] = sigma(a_f + p_f * c[:, t])
        # g_t = tanh(...)                                                         (B, H)
        g[:, t] = np.tanh(a_g)
        # c_t = f_t * c_{t-1} + i_t * g_t                                         (B, H)
        c[:, t + 1] = f[:, t] * c[:, t] + i[:, t] * g[:, t]
        # o_t = sigma(... + p_o * c_t)                                            (B, H)
        o[:, t] = sigma(a_o + p_o * c[:, t + 1])
        # h_t = o_t * tanh(c_t)                                                   (B, H)
        h[:, t + 1] = o[:, t] * np.tanh(c[:, t + 1])

    # Copies, so that in-place changes of y or the state do not affect the tape.
    return h[:, 1:].copy(), (h[:, T].copy(), c[:, T].copy()), Tape(x, h, c, i, f, g, o, weights)


def backward(
    dy: np.ndarray, dstate: tuple[np.ndarray, np.ndarray], tape: Tape
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], Weights]:
    """Compute the gradients of the loss L from those of the output and of the final state.

    The equations are at the top of the file.

    Args:
        dy: (B, T, H), the gradient dL/dy of the output.
        dstate: (dh, dc), each (B, H), the gradient of the final state from everything that reads it
            besides y. Zeros if nothing does.
        tape: the tape of `forward`.

    Returns:
        - dx (B, T, D), the gradient of the input.
        - (dh_0, dc_0), each (B, H), the gradient of the initial state.
        - dweights, the gradients of the parameters, a `Weights`.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> B, T, D, H = 2, 5, 3, 4
        >>> shapes = [(4 * H, D), (4 * H, H), (4 * H,), (4 * H,)] + [(H,)] * 3
        >>> weights = Weights(*[rng.standard_normal(shape) for shape in shapes])
        >>> y, (h, c), tape = forward(rng.standard_normal((B, T, D)), (np.zeros((B, H)), np.zeros((B, H))), weights)
        >>> dx, dstate_0, dweights = backward(np.ones_like(y), (np.zeros_like(h), np.zeros_like(c)), tape)  # L = sum(y)
        >>> dx.shape, dweights.weight_hh.shape
        ((2, 5, 3), (16, 4))
    """
    x, weights = tape.x, tape.weights
    W, R, b, _, p_i, p_f, p_o = weights
    T = x.shape[1]
    dx = np.empty(x.shape, W.dtype)
    dW, dR, db = np.zeros_like(W), np.zeros_like(R), np.zeros_like(b)
    dp_i, dp_f, dp_o = np.zeros_like(p_i), np.zeros_like(p_f), np.zeros_like(p_o)
    dh, dc = dstate

    for t in reversed(range(T)):
        i, f, g, o = tape.i[:, t], tape.f[:, t], tape.g[:, t], tape.o[:, t]  # each (B, H)
        h_old, c_old, c_new = tape.h[:, t], tape.c[:, t], tape.c[:, t + 1]  # each (B, H)
        tanh_c = np.tanh(c_new)  # (B, H)

        # dh_t = dy_t + the gradient from step t + 1                              (B, H)
        dh = dh + dy[:, t]
        # da_o = dh_t * tanh(c_t) * o_t * (1 - o_t)                               (B, H)
        da_o = dh * tanh_c * o * (1 - o)
        # dc_t = the gradient from step t + 1
        #      + dh_t * o_t * (1 - tanh(c_t)^2) + p_o * da_o                      (B, H)
        dc = dc + dh * o * (1 - tanh_c**2) + p_o * da_o
        # da_i = dc_t * g_t * i_t * (1 - i_t)                                     (B, H)
        da_i = dc * g * i * (1 - i)
        # da_f = dc_t * c_{t-1} * f_t * (1 - f_t)                                 (B, H)
        da_f = dc * c_old * f * (1 - f)
        # da_g = dc_t * i_t * (1 - g_t^2)                                         (B, H)
        da_g = dc * i * (1 - g**2)
        da = np.concatenate((da_i, da_f, da_g, da_o), axis=1)  # (B, 4 H)

        # dW = sum_t da_t x_t^T;   dR = sum_t da_t h_{t-1}^T;   db = sum_t da_t
        dW += da.T @ x[:, t]
        dR += da.T @ h_old
        db += da.sum(axis=0)
        # dp_i = sum_t da_i * c_{t-1};   dp_f likewise;   dp_o = sum_t da_o * c_t
        dp_i += (da_i * c_old).sum(axis=0)
        dp_f += (da_f * c_old).sum(axis=0)
        dp_o += (da_o * c_new).sum(axis=0)
        # dx_t = W^T da_t                                                         (B, D)
        dx[:, t] = da @ W
        # R^T da_t and dc_t * f_t + p_i * da_i + p_f * da_f go back to step t - 1 each (B, H)
        dh = da @ R
        dc = dc * f + p_i * da_i + p_f * da_f

    return dx, (dh, dc), Weights(dW, dR, db, db.copy(), dp_i, dp_f, dp_o)
