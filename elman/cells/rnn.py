"""Simple recurrent networks, with one gate and one state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman.cells.cell import Cell


class RNNTanh(Cell):
    """A simple recurrent network: h' = tanh(W x + b + R h + b_h).

    Elman 1990, "Finding structure in time", https://doi.org/10.1207/s15516709cog1402_1
    """

    input_gates = hidden_gates = ("a",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        return torch.tanh(x.a + h.a)


class RNNReLU(Cell):
    """A simple recurrent network with rectified linear units: h' = relu(W x + b + R h + b_h).

    Le, Jaitly & Hinton 2015, https://arxiv.org/abs/1504.00941
    """

    input_gates = hidden_gates = ("a",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        return torch.relu(x.a + h.a)


class IndRNN(Cell):
    """An independently recurrent network, whose units read only their own state: h' = relu(W x + b + u * h).

    u is initialised uniformly in [0, 1]. Li et al. 2018, https://arxiv.org/abs/1803.04831
    """

    input_gates = ("a",)
    weights = {"u": (0.0, 1.0)}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        return torch.relu(x.a + w.u * state.h)
