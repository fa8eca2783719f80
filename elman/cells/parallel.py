"""Recurrences without recurrent matrices, most of which can be computed for all steps in parallel.

In the equations, sigma is the logistic function and * is elementwise. `elman.engines.affine` tells which cells are
affine in the state that they carry. A unit reads no other unit, so stack several layers, as the papers do.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, sigmoid, tanh
from torch.nn.functional import logsigmoid

from elman.cells.cell import Cell, Start


class MinGRU(Cell):
    """A minimal gated recurrent unit: a GRU whose gates read x alone, without tanh.

    ::

        z = sigma(W_z x + b_z)
        n = W_n x + b_n            h' = (1 - z) * h + z * n

    b_z is initialised to -1, so that the cell keeps its memory at the start of training.

    Feng et al. 2024, section 3.1, https://arxiv.org/abs/2410.01201

    Example::

        >>> layer = elman.layers.stack("mingru", input_size=8, hidden_size=16, num_layers=2)
        >>> y, state = layer(torch.randn(4, 10, 8))
        >>> y.shape
        torch.Size([4, 10, 16])
    """

    input_gates = ("z", "n")
    biases = {"z": -1.0}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        z = sigmoid(x.z)
        return (1 - z) * state.h + z * x.n


class GatedMinGRU(Cell):
    """A minimal gated recurrent unit with an output gate: `MinGRU` with c in place of h.

    ::

        z = sigma(W_z x + b_z)        c' = (1 - z) * c + z * n
        o = sigma(W_o x + b_o)        h' = o * c'
        n = W_n x + b_n

    b_z is initialised to -1. The output gate is that of the LSTM without tanh, as in the derivation of `MinLSTM`.

    Feng et al. 2024, https://arxiv.org/abs/2410.01201
    """

    input_gates = ("z", "n", "o")
    state = ("h", "c")
    biases = {"z": -1.0}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        z = sigmoid(x.z)
        c = (1 - z) * state.c + z * x.n
        return sigmoid(x.o) * c, c


def _kept(x: Any) -> Tensor:
    """Return sigma(f) / (sigma(f) + sigma(i)), also where both are too small for a number."""
    return sigmoid(logsigmoid(x.f) - logsigmoid(x.i))


class MinLSTM(Cell):
    """A minimal LSTM, whose gates read x alone and sum to 1, without tanh and without an output gate.

    ::

        f = sigma(W_f x + b_f)        f' = f / (f + i)
        i = sigma(W_i x + b_i)        i' = i / (f + i)
        n = W_n x + b_n               h' = f' * h + i' * n

    Feng et al. 2024, section 3.2, https://arxiv.org/abs/2410.01201
    """

    input_gates = ("f", "i", "n")
    open_gates = ("f",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        f = _kept(x)
        return f * state.h + (1 - f) * x.n


class GatedMinLSTM(Cell):
    """A minimal LSTM with the output gate that the paper drops in its last step.

    ::

        f = sigma(W_f x + b_f)        f' = f / (f + i)
        i = sigma(W_i x + b_i)        i' = i / (f + i)
        n = W_n x + b_n               c' = f' * c + i' * n
        o = sigma(W_o x + b_o)        h' = o * c'

    Feng et al. 2024, section 3.2, https://arxiv.org/abs/2410.01201
    """

    input_gates = ("f", "i", "n", "o")
    state = ("h", "c")
    open_gates = ("f",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        f = _kept(x)
        c = f * state.c + (1 - f) * x.n
        return sigmoid(x.o) * c, c


class QRNN(Cell):
    """A quasi-recurrent network with filters of width 2 and fo-pooling.

    ::

        z =  tanh(W_z x + b_z + V_z x_-)        c' = f * c + (1 - f) * z
        f = sigma(W_f x + b_f + V_f x_-)        h' = o * c'
        o = sigma(W_o x + b_o + V_o x_-)

    x_- is the previous input, and 0 at the first step. The state carries the products V x_-, as the parts vz, vf and
    vo; the rows of V are those of the gates of the same names. Their biases are redundant after the first step.

    Bradbury et al. 2016, https://arxiv.org/abs/1611.01576
    """

    input_gates = ("z", "f", "o", "vz", "vf", "vo")
    state = ("h", "c", "vz", "vf", "vo")
    open_gates = ("f",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, ...]:
        z = tanh(x.z + state.vz)
        f = sigmoid(x.f + state.vf)
        o = sigmoid(x.o + state.vo)
        c = f * state.c + (1 - f) * z
        return o * c, c, x.vz, x.vf, x.vo


class SRU(Cell):
    """A simple recurrent unit, with highway connections.

    ::

        f = sigma(W_f x + b_f + v_f * c)        c' = f * c + (1 - f) * n
        r = sigma(W_r x + b_r + v_r * c)        h' = r * c' + (1 - r) * k
        n = W_n x + b_n
        k = W_k x + b_k

    k stands for x in the highway connection, scaled: x need not have H features. The gate f reads c, so the step is
    not affine in c and cannot be computed in parallel over time; without matrices in the loop it is still fast.

    Lei et al. 2018, https://arxiv.org/abs/1709.02755
    """

    input_gates = ("f", "r", "n", "k")
    state = ("h", "c")
    weights = {"v_f": 0.0, "v_r": 0.0}
    open_gates = ("f",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        f = sigmoid(x.f + w.v_f * state.c)
        r = sigmoid(x.r + w.v_r * state.c)
        c = f * state.c + (1 - f) * x.n
        return r * c + (1 - r) * x.k, c


def _decays(H: int) -> Tensor:
    """Return Lambda with sigma(Lambda)^8 uniform in [0.1, 0.999]."""
    return torch.logit(torch.empty(H, dtype=torch.float64, device="cpu").uniform_(0.1, 0.999) ** (1 / 8))


class RGLRU(Cell):
    """A real-gated linear recurrent unit, the recurrence of Griffin.

    ::

        r = sigma(W_r x + b_r)        a = sigma(Lambda)^(8 r)
        i = sigma(W_i x + b_i)        h' = a * h + sqrt(1 - a^2) * (i * u)
        u = W_u x + b_u

    u stands for the input x of the paper, which a linear layer computes there. sigma(Lambda)^8 is initialised uniformly
    in [0.1, 0.999]. The paper has [0.9, 0.999] behind a convolution over the last four steps; without one, units are
    needed that forget sooner. Where 1 - a^2 is below 1e-12, its root is 1e-6, so that its gradient is finite.

    De et al. 2024, section 2.4, https://arxiv.org/abs/2402.19427
    """

    input_gates = ("r", "i", "u")
    weights = {"Lambda": _decays}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        log_a = 8 * logsigmoid(w.Lambda) * sigmoid(x.r)
        scale = torch.sqrt(torch.clamp(-torch.expm1(2 * log_a), min=1e-12))
        return torch.exp(log_a) * state.h + scale * (sigmoid(x.i) * x.u)


def ring(r_min: float, r_max: float, max_phase: float = 2 * math.pi) -> dict[str, Start]:
    """Return initial values of `LRU.weights`: eigenvalues on a ring in the complex plane.

    The eigenvalues lie between two circles around 0, with equal density. Their radii are equally spaced in the area of
    the ring instead of drawn, so that gamma can start at the value that belongs to each; their phases are drawn.

    Orvieto et al. 2023, section 3.2, https://arxiv.org/abs/2303.06349

    Args:
        r_min (float): The smallest radius, at least 0.
        r_max (float): The largest radius, at most 1. A radius r keeps a share r of the state in each step.
        max_phase (float): The largest phase, in radians. Default: 2 pi

    Returns:
        dict[str, Start]: The initial values of nu, theta and gamma.

    Raises:
        ValueError: The radii are not 0 <= r_min < r_max <= 1, or the phase is not in (0, 2 pi].

    Example::

        class SlowLRU(elman.cells.LRU):
            '''An LRU with a long memory.'''
            weights = elman.cells.ring(0.9, 0.999)
    """
    if not 0 <= r_min < r_max <= 1:
        raise ValueError(f"ring: the radii must be 0 <= r_min < r_max <= 1, not {r_min} and {r_max}")
    if not 0 < max_phase <= 2 * math.pi:
        raise ValueError(f"ring: max_phase must be above 0 and at most 2 pi, not {max_phase}")

    def squares(H: int) -> Tensor:
        """Return the squared radii."""
        u = (torch.arange(H, dtype=torch.float64, device="cpu") + 0.5) / H
        return u * (r_max**2 - r_min**2) + r_min**2

    def phases(H: int) -> Tensor:
        u = torch.empty(H, dtype=torch.float64, device="cpu").uniform_(1e-6, 1)
        return (max_phase * u).log()

    return {
        "nu": lambda H: (-0.5 * squares(H).log()).log(),
        "theta": phases,
        "gamma": lambda H: 0.5 * (1 - squares(H)).log(),
    }


class LRU(Cell):
    """A linear recurrent unit: a complex linear recurrence with a diagonal matrix, in real and imaginary parts.

    ::

        lambda = exp(-exp(nu) + i exp(theta))        s' = lambda * s + exp(gamma) * (u + i v)
        u = W_u x + b_u                              h' = Re(s')
        v = W_v x + b_v

    The parts re and im of the state are those of s. u and v are the parts of the complex product B x of the paper. Its
    output matrix C is left to the next layer, which reads Re(s). The eigenvalues lambda are initialised on the `ring`
    between the radii 0.5 and 0.99, and gamma so that s keeps the variance of its input. The cell is linear in x: put a
    nonlinear layer between two of it.

    Orvieto et al. 2023, https://arxiv.org/abs/2303.06349
    """

    input_gates = ("u", "v")
    state = ("h", "re", "im")
    weights = ring(0.5, 0.99)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor, Tensor]:
        radius, phase, gamma = torch.exp(-torch.exp(w.nu)), torch.exp(w.theta), torch.exp(w.gamma)
        a, b = radius * torch.cos(phase), radius * torch.sin(phase)
        re = a * state.re - b * state.im + gamma * x.u
        im = b * state.re + a * state.im + gamma * x.v
        return re, re, im
