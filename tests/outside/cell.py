"""A cell from outside the package."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman import cells
from elman.cells import Cell


class Leaky(Cell):
    """a = sigmoid(l);  h' = a h + (1 - a) tanh(W x + R h)"""

    input_gates = hidden_gates = ("n",)
    weights = {"l": 0.0}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        a = torch.sigmoid(w.l)
        return a * state.h + (1 - a) * torch.tanh(x.n + h.n)


cells.register("outside_leaky", Leaky)
