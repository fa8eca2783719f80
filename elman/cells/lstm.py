"""Long short-term memory and its variants. sigma is the logistic function, * is by element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, sigmoid, tanh

from elman.cells.cell import Cell


def _lstm(x: Any, h: Any, state: Any) -> tuple[Tensor, Tensor]:
    i = sigmoid(x.i + h.i)
    f = sigmoid(x.f + h.f)
    g = tanh(x.g + h.g)
    o = sigmoid(x.o + h.o)
    c = f * state.c + i * g
    return o * tanh(c), c


class LSTM(Cell):
    """Long short-term memory with a forget gate, as torch.nn.LSTM computes it.

    ::

        i = sigma(W_i x + b_i + R_i h + b_hi)        c' = f * c + i * g
        f = sigma(W_f x + b_f + R_f h + b_hf)        h' = o * tanh(c')
        g =  tanh(W_g x + b_g + R_g h + b_hg)
        o = sigma(W_o x + b_o + R_o h + b_ho)

    Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735;
    forget gate: Gers, Schmidhuber & Cummins 2000, https://doi.org/10.1162/089976600300015015
    """

    input_gates = hidden_gates = ("i", "f", "g", "o")
    state = ("h", "c")
    open_gates = ("f",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        return _lstm(x, h, state)


class ProjectedLSTM(Cell):
    """LSTM whose output is projected to P < H units before it is carried and given out.

    As `LSTM`, with h' = W_hr (o * tanh(c')); h is (B, P), c is (B, H). torch's ``proj_size``.

    Sak, Senior & Beaufays 2014, https://arxiv.org/abs/1402.1128
    """

    input_gates = hidden_gates = ("i", "f", "g", "o")
    state = ("h", "c")
    open_gates = ("f",)
    projected = True

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
        return _lstm(x, h, state)


class PeepholeLSTM(Cell):
    """LSTM whose gates look at the cell: i and f at the old one, o at the new one.

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
    """LSTM that forgets exactly as much as it writes: the input gate is 1 - f.

    ::

        f = sigma(W_f x + b_f + R_f h + b_hf)        c' = f * c + (1 - f) * g
        g =  tanh(W_g x + b_g + R_g h + b_hg)        h' = o * tanh(c')
        o = sigma(W_o x + b_o + R_o h + b_ho)

    The "CIFG" of Greff et al. 2017, https://arxiv.org/abs/1503.04069
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
    """(z - mean) / sqrt(variance + 1e-5), both taken over all units of all parts together."""
    z = torch.cat(parts, -1)
    return torch.nn.functional.layer_norm(z, z.shape[-1:]).chunk(len(parts), -1)


class LayerNormLSTM(Cell):
    """LSTM with layer normalisation of W x, of R h (each over all four gates) and of c'.

    ::

        (i, f, g, o) = LN(W x) * s + LN(R h) * r + b      sigma on i, f, o; tanh on g
        c' = f * c + i * g                                h' = o * tanh(LN(c') * s_c + b_c)

    The biases are the per-unit vectors b_i, b_f, b_g, b_o (b_f starts at 1): one added before
    a norm would be normalised away.

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
