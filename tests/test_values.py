"""A step that looks at a value has no kernel: one of its branches would be taken for ever."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import elman
from elman.cells import Cell
from elman.layers import Recurrent
from tests.conftest import close
from tests.own_cells import B, D, H, T, cell_of, refused, same_as_eager

LOOKS: dict[str, Callable[[Tensor], Any]] = {
    "numpy": lambda a: a.detach().numpy().sum() > 0,
    "numpy by force": lambda a: a.numpy(force=True).sum() > 0,
    "numpy of data": lambda a: a.data.numpy().sum() > 0,
    "numpy of a computed value": lambda a: (a * 2 + 1).detach().numpy().max() > 0,
    "numpy of a comparison": lambda a: (a > 0).numpy().any(),
    "tolist": lambda a: a.tolist()[0][0] > 0,
    "tolist without gradients": lambda a: a.detach().tolist()[0][0] > 0,
    "array": lambda a: np.asarray(a.detach())[0, 0] > 0,
    "array protocol": lambda a: a.detach().__array__().sum() > 0,
    "a function of numpy": lambda a: np.sum(np.array(a.detach())) > 0,
    "dlpack": lambda a: np.from_dlpack(a.detach()).sum() > 0,
    "memory": lambda a: memoryview(a.detach().numpy())[0, 0] > 0,
    "address": lambda a: a.data_ptr() % 128 == 0,
    "storage": lambda a: a.untyped_storage()[0] > 0,
    "typed storage": lambda a: a.storage()[0] > 0,
    "bytes": lambda a: pickle.dumps(a.detach())[-20] > 0,
    "item": lambda a: a[0, 0].item() > 0,
    "bool": lambda a: bool(a[0, 0] > 0),
    "float": lambda a: float(a[0, 0]) > 0,
    "int": lambda a: int(a[0, 0]) > 0,
    "index": lambda a: [1, 2][a[0, 0].long()],
    "in": lambda a: 0.0 in a,
    "if": lambda a: 1 if a[0, 0] > 0 else 0,
    "max": lambda a: max(a[0, 0], a[0, 1]) > 0,
    "format": lambda a: f"{a[0, 0]:.1f}".startswith("-"),
    "repr": lambda a: "-" in repr(a),
    "all": lambda a: torch.all(a > 0),
    "allclose": lambda a: torch.allclose(a, a * 2),
    "equal": lambda a: torch.equal(a, a * 2),
    "is_nonzero": lambda a: torch.is_nonzero(a[0, 0]),
    "a copy": lambda a: copy.deepcopy(a.detach()).numpy().sum() > 0,
    "a hook": lambda a: a.register_hook(lambda g: g * 2),
}


def step_of(look: Callable[[Tensor], Any]) -> Callable[..., Tensor]:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        return torch.tanh(x.a + h.a) if look(x.a) else x.b * 0.5 + h.b

    return step


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
@pytest.mark.parametrize("name", LOOKS)
def test_a_look_at_a_value(name: str) -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        return torch.tanh(x.a + h.a) if LOOKS[name](x.a) else x.b * 0.5 + h.b

    layer = Recurrent(cell_of(step), D, H)
    match = r"test_values.py, line \d+: "
    with pytest.raises(elman.ElmanError, match=match) as caught, elman.engine("cpu", strict=True):
        layer(torch.randn(B, T, D))
    assert any(
        text in str(caught.value)
        for text in ("reads the value of a tensor", "not pointwise", "do not support", "in place")
    )


def _vector(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a * (2.0 if w.p.detach().numpy()[0] > 0 else 1.0)  # the line that the error names


def _state(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return torch.tanh(x.a + h.a) * float(np.mean(s.h.tolist()))  # the line that the error names


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:  # type: ignore[override]
        return v * 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * 2 if grad.numpy().sum() > 0 else grad  # the line that the error names


def _gradient(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return torch.tanh(_Sign.apply(x.a + h.a))


@pytest.mark.parametrize("step", [_vector, _state])
def test_the_error_names_the_line(step: Callable[..., Any]) -> None:
    refused(cell_of(step, weights={"p": 0.5}), step, "reads the value of a tensor; use torch.where|Can't call numpy")


def test_a_gradient_that_looks() -> None:
    with pytest.raises(elman.ElmanError, match="reads the value of a tensor"), elman.engine("cpu", strict=True):
        Recurrent(cell_of(_gradient), D, H)(torch.randn(B, T, D))


def test_what_is_asked_about_a_tensor_is_no_look() -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        a = x.a
        assert a.shape == s.h.shape and a.dim() == 2 == a.ndim and len(a) == a.size(0)
        assert a.dtype == s.h.dtype and a.is_floating_point() and not a.is_sparse and a.device.type == "cpu"
        assert a.numel() == a.nelement() and a.stride(1) == 1 and a.layout == torch.strided
        scale = 1 / math.sqrt(a.shape[-1])
        return torch.tanh(a + h.a) * scale + 0.1 * s.h + x.b + h.b

    same_as_eager(cell_of(step))


def test_constants_of_a_cell_may_be_read() -> None:
    class Constant(Cell):
        """h' = k tanh(W x + R h), k from a table."""

        input_gates = hidden_gates = ("n",)

        def __init__(self) -> None:
            self.table = torch.tensor([0.5, 0.7])

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            return self.table.tolist()[1] * torch.tanh(x.n + h.n)

    same_as_eager(Constant())


def test_such_a_step_runs_eagerly() -> None:
    layer, x = Recurrent(cell_of(step_of(LOOKS["numpy"])), D, H), torch.randn(B, T, D)
    with elman.engine("eager"):
        law = layer(x)
    close(layer(x), law, 0)
