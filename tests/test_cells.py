"""Cells: what their authors are told, and a user's own cell everywhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from elman import cells
from elman.cells import CELLS, Cell
from elman.layers import Recurrent, stack
from tests.conftest import MEMORY_FAMILY, Leaky, close


def test_documentation_of_every_cell() -> None:
    for cell in CELLS.values():
        assert "http" in (type(cell).__doc__ or ""), f"{cell} names no paper"
        assert "=" in (type(cell).__doc__ or ""), f"{cell} shows no equation"


def test_pointwise_is_known() -> None:
    pointwise = {name for name, cell in CELLS.items() if cell.pointwise}
    assert set(CELLS) - pointwise - set(MEMORY_FAMILY) == {"layer_norm_lstm", "projected_lstm", "original_gru"}


def test_own_cell_against_its_equations() -> None:
    layer = Recurrent(Leaky, 3, 4)
    x = torch.randn(2, 5, 3)
    y, (h,) = layer(x)
    state = torch.zeros(2, 4)
    for t in range(5):
        a = torch.sigmoid(layer.l)
        new = torch.tanh(x[:, t] @ layer.weight_ih.T + layer.bias_ih + state @ layer.weight_hh.T + layer.bias_hh)
        state = a * state + (1 - a) * new
        close(y[:, t], state, 1e-6)
    close(h, state, 1e-6)


def test_own_cell_with_an_inner_product_and_a_projection() -> None:
    class Both(Cell):
        """z = sigma(W x + R h); n = tanh(W x + R (z * h)); h' = P n."""

        input_gates = ("z", "n")
        hidden_gates = ("z",)
        inner_gates = ("n",)
        projected = True

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            z = torch.sigmoid(x.z + h.z)
            return torch.tanh(x.n + h.n(z[:, :2] * state.h))

    layer = Recurrent(Both, 3, 4, proj_size=2)
    assert layer(torch.randn(2, 5, 3))[0].shape == (2, 5, 2)
    assert layer.weight_hh is not None
    assert layer.weight_hh.shape == (8, 2)


def test_registry() -> None:
    cells.register("own", Leaky)
    try:
        assert isinstance(Recurrent("own", 3, 4).cell, Leaky)
        assert stack(["own", "lstm"], 3, 4, 2)(torch.zeros(1, 2, 3))[0].shape == (1, 2, 4)
        with pytest.raises(ValueError, match="the cell name 'own' is taken by Leaky"):
            cells.register("own", Leaky)
    finally:
        del CELLS["own"]


def test_unknown_cell() -> None:
    with pytest.raises(ValueError, match="unknown cell 'grru': did you mean gru\\? choose from .*lstm"):
        cells.get("grru")


@pytest.mark.parametrize(
    ("declarations", "message"),
    [
        ({"input_gates": "i"}, r'must be a tuple of names: \("i",\)'),
        ({"input_gates": ()}, "no input_gates"),
        ({"input_gates": ("i", "i")}, "distinct Python identifiers"),
        ({"input_gates": ("i", "for")}, "distinct Python identifiers"),
        ({"input_gates": ("i",), "state": ("c", "h")}, "must begin with 'h'"),
        ({"input_gates": ("i",), "open_gates": ("f",)}, "open_gates contains names that are not gates"),
    ],
)
def test_wrong_declarations(declarations: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        type("Wrong", (Cell,), declarations)


def test_a_step_that_gives_too_little() -> None:
    class Short(Cell):
        """h' = x."""

        input_gates = ("i",)
        state = ("h", "c")

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            return x.i

    with pytest.raises(TypeError, match="must return h, c; it returned 1 values"):
        Recurrent(Short, 3, 4)(torch.zeros(1, 2, 3))
