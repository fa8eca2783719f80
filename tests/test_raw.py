"""Columns of x that reach a step as they are, and starts by a function."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import elman
from elman.cells import Cell, chrono
from elman.layers import Bidirectional, Hierarchical, Recurrent, RecurrentLayer, stack
from elman.layers.lengths import real_steps
from elman.layers.pooling import MeanPooling
from elman.networks.classifier import SequenceLabeller
from elman.networks.tagger import Tagger
from tests.conftest import close


def _documented() -> dict[str, type[Cell]]:
    """The cells of papers that docs/cells.md shows."""
    text = (Path(__file__).parent.parent / "docs" / "cells.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class DecayGRU" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    return {name: names[name] for name in ("DecayGRU", "PhasedLSTM", "CfC")}


CELLS = _documented()
B, T, D, H = 4, 6, 3, 7


def _drawn(layer: RecurrentLayer) -> RecurrentLayer:
    layer = layer.double()
    for name, parameter in layer.named_parameters():
        low, high = (0.5, 2.0) if "tau" in name or name.endswith(".r") or name == "r" else (-0.8, 0.8)
        torch.nn.init.uniform_(parameter, low, high)
    return layer


def _input(columns: int) -> Tensor:
    return torch.cat((torch.randn(B, T, D), torch.rand(B, T, columns) * 3), -1).double()


def _same(layer: RecurrentLayer, columns: int = 1) -> None:
    """The kernel's outputs and gradients, that of the raw columns too, are those of the loop."""
    x, resets = _input(columns), torch.rand(B, T) < 0.2
    results = []
    for engine in ("eager", "cpu"):
        with elman.engine(engine, strict=True):
            leaf = x.clone().requires_grad_()
            y, state = layer(leaf, None, torch.tensor([T, 4, 1, T]), resets)
            weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
            results.append((y, state, torch.autograd.grad((y * weight).sum(), [leaf, *layer.parameters()])))
    close(results[1], results[0])
    assert results[0][2][0][..., D:].abs().sum() > 0


@pytest.mark.parametrize("name", CELLS)
def test_cells_of_papers(name: str) -> None:
    layer = _drawn(Recurrent(CELLS[name], D + 1, H))
    assert layer.weight_ih.shape == (len(CELLS[name].input_gates) * H, D)  # type: ignore[union-attr]
    _same(layer)
    x = _input(1)
    y, last = layer(x)
    for grad in (torch.enable_grad(), torch.no_grad()):
        with grad:
            state = None
            for t in range(T):
                out, state = layer.step(x[:, t], state)
                close(out, y[:, t])
            close(state, last)


def test_against_the_equations() -> None:
    layer, x = _drawn(Recurrent(CELLS["CfC"], D + 1, H)), _input(1)
    h = torch.zeros(B, H, dtype=torch.float64)
    for t in range(T):
        gates = x[:, t, :D] @ layer.weight_ih.T + layer.bias_ih + h @ layer.weight_hh.T + layer.bias_hh  # type: ignore[union-attr, operator]
        a, b, f, g = gates.chunk(4, -1)
        s = torch.sigmoid(a * x[:, t, D:] + b)
        h = (1 - s) * torch.tanh(f) + s * torch.tanh(g)
    close(layer(x)[1], (h,))


class TwoColumns(Cell):
    """h' = m tanh(W x + R h) + (1 - m) exp(-dt) h."""

    input_gates = hidden_gates = ("n",)
    raw = ("dt", "m")

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        return x.m * torch.tanh(x.n + h.n) + (1 - x.m) * torch.exp(-x.dt) * state.h


def test_padding_of_columns_that_a_step_divides_by() -> None:
    """What a step would make of the padding is in no gradient."""

    class Rate(Cell):
        """h' = h + tanh(W x + R h) / dt + log(m)."""

        input_gates = hidden_gates = ("n",)
        raw = ("dt", "m")

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            return state.h + torch.tanh(x.n + h.n) / x.dt + torch.log(x.m)

    layer = _drawn(Recurrent(Rate, D + 2, H))
    lengths = torch.tensor([T, 1, 0, 3])
    x = _input(2).abs() + 0.1
    x[real_steps(lengths, T).logical_not()] = torch.nan
    found = []
    for name in ("eager", "cpu"):
        with elman.engine(name, strict=True):
            leaf = x.clone().requires_grad_()
            y, state = layer(leaf, None, lengths)
            found.append((y, state, torch.autograd.grad(y.square().sum(), [leaf, *layer.parameters()])))
    close(found[1], found[0])
    assert all(g.isfinite().all() for g in found[0][2])


def test_columns_come_last_and_in_order() -> None:
    layer = _drawn(Recurrent(TwoColumns, D + 2, H, bias=False))
    _same(layer, 2)
    x = _input(2)
    x[..., D + 1] = 0  # nothing is taken in, so that the state only decays
    start = torch.randn(B, H, dtype=torch.float64)
    _, (h,) = layer(x, (start,))
    close(h, torch.exp(-x[..., D].sum(1))[:, None] * start)


@pytest.mark.parametrize("connection", ["plain", "residual", "highway", "dense"])
def test_stacks_hand_the_columns_on(connection: Any) -> None:
    layer = _drawn(stack([TwoColumns, "gru", TwoColumns], D + 2, H, connection=connection))
    _same(layer, 2)
    x = _input(2)
    y, state = layer(x)
    after = None
    with torch.no_grad():
        for t in range(T):
            out, after = layer.step(x[:, t], after)
            close(out, y[:, t])
    close(after, state)


def test_both_directions_get_the_columns() -> None:
    _same(_drawn(stack(TwoColumns, D + 2, H, 2, bidirectional=True)), 2)


def test_layers_that_cannot_have_the_columns() -> None:
    with pytest.raises(ValueError, match="layer 1 must have the raw columns of the first layer, .* or none"):
        stack(["gru", TwoColumns], D, H)
    with pytest.raises(ValueError, match="must have the same raw columns"):
        Bidirectional(Recurrent(TwoColumns, D + 2, H), Recurrent("gru", D + 2, H))
    with pytest.raises(ValueError, match="only the lower layer may read raw columns"):
        Hierarchical(Recurrent("gru", D, H), MeanPooling(H), Recurrent(TwoColumns, H, H))
    with pytest.raises(ValueError, match=r"raw columns of x \(dt, m\); it must be above 2, not 2"):
        Recurrent(TwoColumns, 2, H)
    with pytest.raises(ValueError, match=r"x must be \(B, T, 5\)"):
        Recurrent(TwoColumns, 5, H)(torch.zeros(1, 2, 3))


def test_torch_has_no_kernel_for_them() -> None:
    layer = Recurrent(TwoColumns, D + 2, H)
    with pytest.raises(elman.ElmanError, match="torch has no fused TwoColumns"), elman.engine("torch", strict=True):
        layer(torch.zeros(1, 2, D + 2))


@pytest.mark.parametrize(
    ("declarations", "message"),
    [
        ({"raw": "dt"}, r'raw must be a tuple of names: \("dt",\)'),
        ({"raw": ("i",)}, "inputs must be distinct Python identifiers"),
        ({"biases": {"q": 1.0}}, r"biases contains names that are not input gates: \['q'\]"),
        ({"biases": {"i": 1.0}, "gate_bias": False}, "biases needs gate_bias = True"),
    ],
)
def test_wrong_declarations(declarations: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        type("Wrong", (Cell,), {"input_gates": ("i",), **declarations})


def test_starts_by_a_function() -> None:
    class Chrono(elman.cells.LSTM):
        """An LSTM that starts with memories of many lengths."""

        biases = {("f", "i"): chrono(1000), "g": 0.25}
        weights = {"k": lambda H: torch.linspace(0, 1, H), "u": (2.0, 3.0)}

    layer = Recurrent(Chrono, 3, 64, dtype=torch.float64)
    i, f, g, o = layer.bias_ih.detach().chunk(4)  # type: ignore[union-attr]
    close(i, -f)
    assert 0 <= float(f.min()) < 4 < float(f.max()) < 6.91
    assert float(f.std()) > 0.3
    close(g, torch.full_like(g, 0.25))
    close(o, torch.zeros_like(o))
    close(layer.k.data, torch.linspace(0, 1, 64).double())
    assert 2 <= float(layer.u.detach().min()) < float(layer.u.detach().max()) <= 3  # type: ignore[operator]


def test_starts_of_a_wrong_shape() -> None:
    class Wrong(Cell):
        """h' = tanh(W x + k)."""

        input_gates = ("n",)
        weights = {"k": lambda H: torch.zeros(H, 2)}

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            return torch.tanh(x.n + w.k)

    with pytest.raises(ValueError, match=r"Wrong: the start of the weight k must be \(1, 4\), it is \(4, 2\)"):
        Recurrent(Wrong, 3, 4)
    with pytest.raises(ValueError, match="3 steps or more"):
        chrono(2)


def test_networks_of_embeddings_refuse_such_cells() -> None:
    with pytest.raises(elman.ElmanError, match=r"cell: it reads raw columns of its input \(dt, m\)"):
        SequenceLabeller(torch.nn.Embedding(5, 4), 4, 2, cell=TwoColumns)  # type: ignore[arg-type]
    with pytest.raises(elman.ElmanError, match="which this network does not give"):
        Tagger(5, 5, 3, cell=TwoColumns)  # type: ignore[arg-type]
