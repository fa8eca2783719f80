"""Gated recurrent units. In the equations, sigma is the logistic function and * is elementwise."""

from __future__ import annotations

from typing import Any

from torch import Tensor, sigmoid, tanh

from elman.cells.cell import Cell


class GRU(Cell):
    """A gated recurrent unit in the form of torch.nn.GRU and cuDNN: the reset gate acts after the product with R_n.

    ::

        r = sigma(W_r x + b_r + R_r h + b_hr)
        z = sigma(W_z x + b_z + R_z h + b_hz)
        n =  tanh(W_n x + b_n + r * (R_n h + b_hn))       h' = (1 - z) * n + z * h

    Cho et al. 2014, v1, https://arxiv.org/abs/1406.1078v1

    Example::

        >>> layer = elman.layers.Recurrent("gru", input_size=8, hidden_size=16)
        >>> y, (h,) = layer(torch.randn(4, 10, 8))
        >>> y.shape
        torch.Size([4, 10, 16])
    """

    input_gates = hidden_gates = ("r", "z", "n")

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        r = sigmoid(x.r + h.r)
        z = sigmoid(x.z + h.z)
        n = tanh(x.n + r * h.n)
        return (1 - z) * n + z * state.h


class OriginalGRU(Cell):
    """A gated recurrent unit in the published form: the reset gate acts on h before the product with R_n.

    ::

        r = sigma(W_r x + b_r + R_r h + b_hr)
        z = sigma(W_z x + b_z + R_z h + b_hz)
        n =  tanh(W_n x + b_n + R_n (r * h) + b_hn)       h' = (1 - z) * n + z * h

    Cho et al. 2014, v3, https://arxiv.org/abs/1406.1078v3. In ONNX, this is ``linear_before_reset = 0``.
    """

    input_gates = ("r", "z", "n")
    hidden_gates = ("r", "z")
    inner_gates = ("n",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        r = sigmoid(x.r + h.r)
        z = sigmoid(x.z + h.z)
        n = tanh(x.n + h.n(r * state.h))
        return (1 - z) * n + z * state.h


class MGU(Cell):
    """A minimal gated unit: a single gate takes the roles of the update gate and the reset gate.

    ::

        f = sigma(W_f x + b_f + R_f h + b_hf)
        n =  tanh(W_n x + b_n + f * (R_n h + b_hn))       h' = (1 - f) * h + f * n

    Zhou et al. 2016, https://arxiv.org/abs/1603.09420. The paper has R_n (f * h); here, f acts after the product, as r
    does in `GRU`, so that the step is pointwise and can be fused.
    """

    input_gates = hidden_gates = ("f", "n")

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        f = sigmoid(x.f + h.f)
        n = tanh(x.n + f * h.n)
        return (1 - f) * state.h + f * n
