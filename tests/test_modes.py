"""Modes, transforms and exporters of torch around a layer: the same numbers as without, also at its first use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, jacobian
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import elman
from elman.cells import Cell
from elman.layers import Recurrent
from tests.conftest import CELL_FAMILY, EVERY_CELL, close

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, of compilers and exporters
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning"),
]

B, T, D, H = 3, 5, 4, 6


def fresh(name: str, **options: Any) -> Recurrent:
    """A layer with a cell of its own, which no kernel has been made for."""
    cell = type(EVERY_CELL[name])()
    layer = Recurrent(cell, D, H, proj_size=3 if cell.projected else 0, **options)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -0.6, 0.6)
    return layer


def some_input() -> Tensor:
    return torch.linspace(-2, 2, B * T * D).view(B, T, D)


class _Seen(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def _same(t: Tensor) -> Tensor:
    return t


def _in_float64(layer: nn.Module, x: Tensor) -> Tensor:
    torch.set_default_dtype(torch.float64)
    try:
        return layer(x)[0]
    finally:
        torch.set_default_dtype(torch.float32)


def _deterministic(layer: nn.Module, x: Tensor) -> Tensor:
    torch.use_deterministic_algorithms(True)
    try:
        return layer(x)[0]
    finally:
        torch.use_deterministic_algorithms(False)


def _fake(layer: nn.Module, x: Tensor) -> Tensor:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y = layer(mode.from_tensor(x))[0]
    assert type(y) is not Tensor
    return layer(x)[0]


def _inside(mode: Callable[[], Any]) -> Callable[[nn.Module, Tensor], Tensor]:
    def run(layer: nn.Module, x: Tensor) -> Tensor:
        with mode():
            return layer(x)[0]

    return run


def _after(mode: Callable[[], Any]) -> Callable[[nn.Module, Tensor], Tensor]:
    def run(layer: nn.Module, x: Tensor) -> Tensor:
        with mode():
            layer(x)
        return layer(x)[0]

    return run


def _compiled(layer: nn.Module, x: Tensor) -> Tensor:
    torch._dynamo.reset()
    return torch.compile(layer, fullgraph=True, backend="aot_eager")(x)[0]


def _jit(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.jit.trace(layer, (x,))(x)[0]


def _exported(strict: bool) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda layer, x: torch.export.export(layer, (x,), strict=strict).module()(x)[0]


#: What stands around a layer when it is first used: layer, x -> y, with gradients.
MODES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "nothing": lambda layer, x: layer(x)[0],
    "checkpoint": lambda layer, x: checkpoint(lambda x: layer(x)[0], x, use_reentrant=False),
    "reentrant checkpoint": lambda layer, x: checkpoint(lambda x: layer(x)[0], x, use_reentrant=True),
    "anomaly detection": _inside(lambda: torch.autograd.detect_anomaly()),
    "hooks": _inside(lambda: saved_tensors_hooks(_same, _same)),
    "no hooks allowed": _inside(lambda: torch.autograd.graph.disable_saved_tensors_hooks("none here")),
    "inference mode": _after(torch.inference_mode),
    "no gradients": _after(torch.no_grad),
    "autocast": _after(lambda: torch.autocast("cpu", torch.bfloat16)),
    "fake tensors": _fake,
    "dispatch mode": _inside(_Seen),
    "function mode": _inside(_Called),
    "flop counter": _inside(lambda: FlopCounterMode(display=False)),
    "device meta": _inside(lambda: torch.device("meta")),
    "default float64": _in_float64,
    "deterministic": _deterministic,
    "vmap": lambda layer, x: torch.vmap(lambda x: layer(x)[0])(x[:, None]).squeeze(1),
    "forward-mode derivatives": _after(forward_ad.dual_level),
    "torch.func": lambda layer, x: torch.func.vjp(lambda x: layer(x)[0], x)[0],
    "compiled": _compiled,
    "jit trace": _jit,
    "export": _exported(False),
    "strict export": _exported(True),
}


def gradients(y: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 1, y.numel()).view_as(y)
    total = (y * weight).sum()
    total.backward()
    found = tuple(leaf.grad for leaf in leaves)
    for leaf in leaves:
        leaf.grad = None
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("cell", "engine"),
    [("lstm", "cpu"), ("leaky", "cpu"), ("layer_norm_lstm", "cpu"), ("lstm", "torch"), ("gru", "torch"),
     ("projected_lstm", "torch"), ("original_gru", "eager")],
)  # fmt: skip
@pytest.mark.parametrize("mode", MODES)
def test_a_mode_at_the_first_use(mode: str, cell: str, engine: str, caplog: pytest.LogCaptureFixture) -> None:
    layer = fresh(cell)
    x = some_input().requires_grad_()
    leaves = [x, *layer.parameters()]
    with elman.engine(engine), caplog.at_level(logging.WARNING, "elman"):
        y = MODES[mode](layer, x)
        found = gradients(y, leaves) if mode != "torch.func" else ()
    with elman.engine("eager"):
        law = layer(x)[0]
    close(y, law, 1e-5)
    if found:
        close(found, gradients(law, leaves), 1e-5)
    assert not [r for r in caplog.records if "no fast kernel" in r.getMessage()]
    if not layer.cell.projected:
        with elman.engine("cpu", strict=True):  # nothing of the mode is remembered
            close(layer(x)[0], law, 1e-5)


def test_anomaly_detection_is_as_it_was() -> None:
    with torch.autograd.detect_anomaly(check_nan=False):
        fresh("lstm")(some_input())
        assert torch.is_anomaly_enabled()
        assert not torch.is_anomaly_check_nan_enabled()
    assert not torch.is_anomaly_enabled()


def test_a_cell_with_tensors_of_its_own() -> None:
    class Scaled(Cell):
        """h' = k tanh(W x + R h)."""

        input_gates = hidden_gates = ("n",)

        def __init__(self) -> None:
            self.k = torch.tensor(0.5)

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            return self.k * torch.tanh(x.n + h.n)

    for mode in ("fake tensors", "dispatch mode", "jit trace", "compiled"):
        layer, x = Recurrent(Scaled(), D, H), some_input().requires_grad_()
        y = MODES[mode](layer, x)
        with elman.engine("eager"):
            close(y, layer(x)[0], 1e-6)
        with elman.engine("cpu", strict=True):
            close(y, layer(x)[0], 1e-6)


# Derivatives of derivatives, and many at once


@pytest.mark.parametrize("cell", list(CELL_FAMILY))
def test_second_derivatives(cell: str) -> None:
    layer = fresh(cell, zoneout=0.1).double().eval()
    x = torch.randn(2, 3, D, dtype=torch.float64, requires_grad=True)
    state = tuple(torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in layer.sizes())
    lengths, resets = torch.tensor([3, 2]), torch.tensor([[False, True, False], [False] * 3])

    def penalty(*leaves: Tensor) -> Tensor:
        y, final = layer(x, state, lengths, resets)
        total = y.square().sum() + sum(part.sum() for part in final)
        grads = torch.autograd.grad(total, leaves, create_graph=True)
        return sum(g.square().sum() for g in grads)  # type: ignore[return-value]

    leaves = [x, *state, *layer.parameters()]
    results = []
    for engine in ("eager", "cpu"):
        with elman.engine(engine):
            results.append(torch.autograd.grad(penalty(*leaves), leaves))
    close(results[1], results[0])


def test_a_gradient_of_an_older_cell() -> None:
    """What is set on a cell after its forward pass is not in its second derivatives."""

    class Scaled(Cell):
        """h' = k tanh(W x + R h)."""

        input_gates = hidden_gates = ("n",)
        k = 0.5

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            return self.k * torch.tanh(x.n + h.n)

    cell = Scaled()
    cell.k = 0.7
    layer, x = Recurrent(cell, D, H), some_input().requires_grad_()
    (law,) = torch.autograd.grad(layer(x)[0].sum(), x)
    y = layer(x)[0]
    cell.k = 0.1
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    close(grad, law, 1e-6)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # of torch's own fused LSTM
@pytest.mark.parametrize(("cell", "engine"), [("lstm", "cpu"), ("leaky", "cpu"), ("lstm", "torch"), ("gru", "torch")])
def test_many_gradients_at_once(cell: str, engine: str) -> None:
    layer, x = fresh(cell), some_input().requires_grad_()

    def of(x: Tensor) -> Tensor:
        return layer(x)[0]

    def energy(x: Tensor) -> Tensor:
        return layer(x)[0].square().sum()

    many = torch.randn(2, B, T, H)
    with elman.engine("eager"):
        law = jacobian(of, x), hessian(energy, x), torch.autograd.grad(of(x), x, many, is_grads_batched=True)
    with elman.engine(engine):
        close(jacobian(of, x, vectorize=True), law[0], 1e-5)
        close(jacobian(of, x, vectorize=True, strategy="forward-mode"), law[0], 1e-5)
        close(torch.func.jacrev(of)(x), law[0], 1e-5)
        close(hessian(energy, x), law[1], 1e-5)
        close(hessian(energy, x, vectorize=True), law[1], 1e-5)
        close(torch.func.hessian(energy)(x), law[1], 1e-5)
        close(torch.autograd.grad(of(x), x, many, is_grads_batched=True), law[2], 1e-5)
        y = of(x)
        close(torch.vmap(lambda v: torch.autograd.grad(y, x, v, retain_graph=True)[0])(many), law[2][0], 1e-5)


@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_tangents_are_not_lost(grad: bool, step: bool) -> None:
    layer = fresh("gru")
    x, tangent = some_input(), torch.ones(B, T, D)
    x, tangent = (x[:, 0], tangent[:, 0]) if step else (x, tangent)
    run = layer.step if step else layer
    results = []
    for engine in ("eager", "cpu", "torch"):
        with elman.engine(engine), torch.set_grad_enabled(grad), forward_ad.dual_level():
            y = run(forward_ad.make_dual(x, tangent))[0]
            results.append(forward_ad.unpack_dual(y).tangent)
    close(results[1], results[0], 1e-6)
    close(results[2], results[0], 1e-6)
