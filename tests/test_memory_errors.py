"""What is refused of cells with a matrix memory, and what has no kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import elman
from elman.cells import Cell
from elman.cells.memory import DeltaNet
from elman.layers import Recurrent
from tests.test_memory import D, H, layer_of


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zoneout": 0.1}, "zoneout must be 0"),
        ({"recurrent_dropout": 0.1}, "no recurrent matrix"),
        ({"heads": 4}, "heads must divide"),
        ({"key_size": -1}, "key_size"),
        ({"cell": "lstm"}, "key_size must be 0"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recurrent(**{"cell": "mlstm", "input_size": D, "hidden_size": H, "key_size": 3, **options})


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"memory": (), "key_gates": ("k",)}, "declare memory, too"),
        ({"hidden_gates": ("v",)}, "has no hidden_gates"),
        ({"weights": {"p": 0.0}}, "has no weights"),
        ({"memory": "C"}, r'must be a tuple of names: \("C",\)'),
        ({"key_gates": ["k"]}, r"key_gates must be a tuple of names, got: \['k'\]"),
        ({"key_gates": ("v",)}, "distinct"),
        ({"biases": {"z": 1.0}}, "not input gates: \\['z'\\]"),
    ],
)
def test_declarations_that_do_not_fit(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        type("Wrong", (Cell,), {"input_gates": ("v",), "memory": ("C",), "step": DeltaNet.step, **attributes})


def test_a_state_of_another_size_is_refused() -> None:
    layer, x = layer_of("mlstm"), torch.randn(2, 3, D, dtype=torch.float64)
    h, C, n, m = layer.initial_state(x)
    with pytest.raises(ValueError, match=r"\(h, C, n, m\) must have the shapes \(\(2, 6\), \(2, 6, 3\), \(2, 2, 3\)"):
        layer(x, (h, C[:, :, :2], n, m))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda C, k: C @ k.transpose(-1, -2), r"write \(C \* k\)\.sum"),
        (lambda C, k: (C * k).sum(-1), "keepdim=True"),
        (lambda C, k: (C * k).amax(-1, keepdim=True), "not of a whole memory"),
        (lambda C, k: (C * k).cumsum(-1).sum(-1, keepdim=True), "cumsum"),
        (lambda C, k: torch.rand_like(C).sum(-1, keepdim=True), "rand"),
    ],
)
def test_a_step_without_a_kernel_says_why(change: Callable, message: str, caplog: pytest.LogCaptureFixture) -> None:
    class Own(Cell):
        input_gates, key_gates, memory = ("v",), ("k",), ("C",)

        def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, ...]:
            C = state.C + x.v * x.k
            return change(C, x.k), C

    layer, x = layer_of(Own), torch.randn(2, 3, D, dtype=torch.float64)
    with pytest.raises(elman.ElmanError, match=message), elman.engine("cpu", strict=True):
        layer(x)
    with caplog.at_level(logging.WARNING, "elman"):
        try:
            layer(x)
        except ValueError as error:
            assert "keepdim=True" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("returned", "message"),
    [(lambda x: (x.v, None), "must return tensors, it returned Tensor, NoneType"), (lambda x: None, "it returned 0")],
)
def test_what_a_step_returns(returned: Callable, message: str) -> None:
    class Own(Cell):
        input_gates, memory = ("v",), ("C",)

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Any:
            return returned(x)

    with pytest.raises(TypeError, match=message):
        layer_of(Own)(torch.randn(1, 2, D, dtype=torch.float64))


def test_a_head_that_is_too_large_runs_eager_steps() -> None:
    layer = Recurrent("deltanet", 4, 4, heads=1, key_size=9000)
    with pytest.raises(elman.ElmanError, match="too large for a kernel"), elman.engine("cpu", strict=True):
        layer(torch.randn(1, 2, 4))
