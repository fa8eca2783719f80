"""Long short-term memory and variants. In the equations, sigma is the logistic function and * is elementwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, sigmoid, tanh
from torch.nn.functional import logsigmoid

from elman.cells.cell import Cell


def _lstm(x: Any, h: Any, state: Any) -> tuple[Tensor, Tensor]:
    """Return h' (before a projection) and c'."""
    i = sigmoid(x.i + h.i)
    f = sigmoid(x.f + h.f)
    g = tanh(x.g + h.g)
    o = sigmoid(x.o + h.o)
    c = f * state.c + i * g
    return o * tanh(c), c


class LSTM(Cell):
    """A long short-term memory with a forget gate, in the form of torch.nn.LSTM.

    ::

        i = sigma(W_i x + b_i + R_i h + b_hi)        c' = f * c + i * g
        f = sigma(W_f x + b_f + R_f h + b_hf)        h' = o * tanh(c')
        g =  tanh(W_g x + b_g + R_g h + b_hg)
        o = sigma(W_o x + b_o + R_o h + b_ho)

    Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735.
    Forget gate: Gers, Schmidhuber & Cummins 2000, https://doi.org/10.1162/089976600300015015

    Example::

        >>> layer = elman.layers.Recurrent("lstm", input_size=8, hidden_size=16)
        >>> y, (h, c) = layer(torch.randn(4, 10, 8))
        >>> y.shape, c.shape
        (torch.Size([4, 10, 16]), torch.Size([4, 16]))
    """

    input_gates = hidden_gates = ("i", "f", "g", "o")
    state = ("h", "c")
    open_gates = ("f",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        return _lstm(x, h, state)


class ProjectedLSTM(Cell):
    """An LSTM that projects its output to P < H features.

    The equations are those of `LSTM`, except for h' = W_hr (o * tanh(c')). h is (B, P), c is (B, H). P is the layer's
    ``proj_size``, as in torch.nn.LSTM.

    Sak, Senior & Beaufays 2014, https://arxiv.org/abs/1402.1128

    Example::

        >>> layer = elman.layers.Recurrent("projected_lstm", input_size=8, hidden_size=16, proj_size=4)
        >>> y, (h, c) = layer(torch.randn(4, 10, 8))
        >>> y.shape, c.shape
        (torch.Size([4, 10, 4]), torch.Size([4, 16]))
    """

    input_gates = hidden_gates = ("i", "f", "g", "o")
    state = ("h", "c")
    open_gates = ("f",)
    projected = True

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        return _lstm(x, h, state)


class PeepholeLSTM(Cell):
    """An LSTM with peephole connections: the gates i and f read the previous c, and o reads the new one.

    ::

        i = sigma(W_i x + R_i h + p_i * c  + b_i)    c' = f * c + i * g
        f = sigma(W_f x + R_f h + p_f * c  + b_f)    h' = o * tanh(c')
        g =  tanh(W_g x + R_g h            + b_g)
        o = sigma(W_o x + R_o h + p_o * c' + b_o)

    Gers & Schmidhuber 2000, https://doi.org/10.1109/IJCNN.2000.861302
    """

    input_gates = hidden_gates = ("i", "f", "g", "o")
    state = ("h", "c")
    weights = {"p_i": 0.0, "p_f": 0.0, "p_o": 0.0}
    open_gates = ("f",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        i = sigmoid(x.i + h.i + w.p_i * state.c)
        f = sigmoid(x.f + h.f + w.p_f * state.c)
        g = tanh(x.g + h.g)
        c = f * state.c + i * g
        o = sigmoid(x.o + h.o + w.p_o * c)
        return o * tanh(c), c


class CoupledLSTM(Cell):
    """An LSTM with coupled input and forget gates: the input gate is 1 - f.

    ::

        f = sigma(W_f x + b_f + R_f h + b_hf)        c' = f * c + (1 - f) * g
        g =  tanh(W_g x + b_g + R_g h + b_hg)        h' = o * tanh(c')
        o = sigma(W_o x + b_o + R_o h + b_ho)

    "CIFG" in Greff et al. 2017, https://arxiv.org/abs/1503.04069
    """

    input_gates = hidden_gates = ("f", "g", "o")
    state = ("h", "c")
    open_gates = ("f",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        f = sigmoid(x.f + h.f)
        g = tanh(x.g + h.g)
        o = sigmoid(x.o + h.o)
        c = f * state.c + (1 - f) * g
        return o * tanh(c), c


def _norm(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the parts normalised together: (z - mean) / sqrt(variance + 1e-5) over all units of all parts."""
    z = torch.cat(parts, -1)
    return torch.nn.functional.layer_norm(z, z.shape[-1:]).chunk(len(parts), -1)


class LayerNormLSTM(Cell):
    """An LSTM with layer normalisation of W x and R h, each over all four gates, and of c'.

    ::

        (i, f, g, o) = LN(W x) * s + LN(R h) * r + b      sigma on i, f, o; tanh on g
        c' = f * c + i * g                                h' = o * tanh(LN(c') * s_c + b_c)

    The gates have no biases before the norm. Their biases are the per-unit parameters b_i, b_f, b_g and b_o, added
    after it; b_f starts at 1.

    Ba, Kiros & Hinton 2016, equations 29 to 31, https://arxiv.org/abs/1607.06450
    """

    input_gates = hidden_gates = ("i", "f", "g", "o")
    state = ("h", "c")
    weights = (
        {f"s_{gate}": 1.0 for gate in "ifgo"}
        | {f"r_{gate}": 1.0 for gate in "ifgo"}
        | {"b_i": 0.0, "b_f": 1.0, "b_g": 0.0, "b_o": 0.0, "s_c": 1.0, "b_c": 0.0}
    )
    mixes_units = True
    gate_bias = False

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        xi, xf, xg, xo = _norm(x)
        hi, hf, hg, ho = _norm(h)
        i = sigmoid(w.s_i * xi + w.r_i * hi + w.b_i)
        f = sigmoid(w.s_f * xf + w.r_f * hf + w.b_f)
        g = tanh(w.s_g * xg + w.r_g * hg + w.b_g)
        o = sigmoid(w.s_o * xo + w.r_o * ho + w.b_o)
        c = f * state.c + i * g
        (n,) = _norm((c,))
        return o * tanh(w.s_c * n + w.b_c), c


class SLSTM(Cell):
    """An LSTM with an exponential input gate and a normaliser, the sLSTM of xLSTM.

    ::

        i =   exp(W_i x + b_i + R_i h + b_hi)        c' = f * c + i * z
        f = sigma(W_f x + b_f + R_f h + b_hf)        n' = f * n + i
        z =  tanh(W_z x + b_z + R_z h + b_hz)        h' = o * c' / n'
        o = sigma(W_o x + b_o + R_o h + b_ho)

    The state has c and n divided by exp(m), where m' = max(log f + m, log i), so that no gate overflows. At the first
    step and after a reset n is 0, and m is taken as minus infinity: m' = log i. Then n' is 1 or more at every step.
    A state from elsewhere may have any n; n' below 0.5 counts as 0.5 in h'.

    ``heads`` of the layer makes R block-diagonal, as in the paper.

    Beck et al. 2024, equations 8 to 17, https://arxiv.org/abs/2405.04517
    """

    input_gates = hidden_gates = ("i", "f", "z", "o")
    state = ("h", "c", "n", "m")
    open_gates = ("f",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, ...]:
        log_i = x.i + h.i
        log_f = torch.where(state.n == 0, log_i, logsigmoid(x.f + h.f) + state.m)
        m = torch.maximum(log_f, log_i)
        i, f = torch.exp(log_i - m), torch.exp(log_f - m)
        z = tanh(x.z + h.z)
        o = sigmoid(x.o + h.o)
        c = f * state.c + i * z
        n = f * state.n + i
        return o * c / torch.clamp(n, min=0.5), c, n, m
