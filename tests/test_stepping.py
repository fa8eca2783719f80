"""Single steps by one call of C: what a whole sequence gives, whatever has happened since the step before."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import elman
from elman import engines
from elman.cells import Cell
from elman.layers import Recurrent, Stack, packed, quantize, stack
from elman.layers.recorder import Recorder
from tests.conftest import QUICK_FAMILY, recurrent

D, H = 5, 6


def called(layer: Any, x: Tensor, state: Any) -> Any:
    """The step by the layers' own ``forward``."""
    with elman.engine("cpu"):  # a forced engine excludes the short way
        return layer.step(x, state)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return len(a) == len(b) and all(same(*pair) for pair in zip(a, b, strict=True))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each step that was asked for took the short way."""
    asked: list[bool] = []
    run = elman.layers.stepping.Steps.run

    def seen(*given: Any) -> Any:
        asked.append((done := run(*given)) is not None)
        return done

    monkeypatch.setattr(elman.layers.stepping.Steps, "run", seen)
    return asked


def check(layer: Any, steps: int = 3, rows: int = 2) -> None:
    """Some steps equal those of the layers themselves, bit for bit."""
    with torch.no_grad():
        x = torch.randn(steps, rows, layer.input_size)
        _, state = layer.step(x[0])
        for row in x:
            expected = called(layer, row, state)
            old, given = state, copy.deepcopy(state)
            y, state = layer.step(row, old)
            assert same((y, state), expected) and same(old, given)
            assert y.data_ptr() not in {part.data_ptr() for part in flat(state)}


def flat(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [part for one in state for part in flat(one)]


@pytest.mark.parametrize("name", list(QUICK_FAMILY))
def test_every_cell(name: str, short: list[bool]) -> None:
    layer = recurrent(name).eval()
    check(layer)
    cell = layer.cell
    assert short[-1] is not (bool(cell.weights) or cell.projected or bool(cell.raw))


@pytest.mark.parametrize("connection", ["plain", "residual", "highway", "dense"])
def test_stacks(connection: Any, short: list[bool]) -> None:
    net = stack("gru", D, H, 3, connection=connection, zoneout=0.2).eval()
    with torch.no_grad():
        _, state = net.step(torch.randn(4, D))
        for _ in range(3):
            x = torch.randn(4, D)
            expected = called(net, x, state)
            y, state = net.step(x, state)
            torch.testing.assert_close((y, state), expected, rtol=1e-6, atol=1e-7)
    assert short[-1]


EVENTS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda layer: None,
    "in place": lambda layer: layer.weight_hh.mul_(1.1),
    "data": lambda layer: setattr(layer.weight_ih, "data", torch.randn_like(layer.weight_ih)),
    "transposed": lambda layer: setattr(layer.weight_ih, "data", torch.randn(D, 4 * H).t()),
    "numpy": lambda layer: layer.bias_ih.detach().numpy().__imul__(1.5),
    "another parameter": lambda layer: setattr(layer, "weight_hh", nn.Parameter(torch.randn_like(layer.weight_hh))),
    "loaded": lambda layer: layer.load_state_dict({k: v * 0.9 for k, v in layer.state_dict().items()}),
    "zoneout": lambda layer: setattr(layer, "zoneout", tuple(random.random() / 2 for _ in layer.zoneout)),
    "quantized": quantize,
    "moved": lambda layer: layer.double().float(),
    "training": lambda layer: layer.train().eval(),
    "garbage": lambda layer: gc.collect(),
}


def test_whatever_happens_between_steps() -> None:
    draw = random.Random(5)
    layer = Recurrent("lstm", D, H).eval()
    with torch.no_grad():
        _, state = layer.step(torch.randn(2, D))
        for _ in range(120):
            name = draw.choice(list(EVENTS))
            EVENTS[name](layer)
            x = torch.randn(2, D)
            expected = called(layer, x, state)
            y, state = layer.step(x, state)
            assert same((y, state), expected), name
            if draw.random() < 0.2:
                state = tuple(torch.zeros_like(part) for part in state)


def test_batches_of_any_size() -> None:
    net = stack("lstm", D, H, 2).eval()
    for rows in (1, 3, 1, 7, 3, *range(1, 14), 2):
        check(net, 2, rows)


def test_a_layer_is_replaced() -> None:
    net = stack("lstm", D, H, 2).eval()
    check(net)
    net.layers[1] = Recurrent("lstm", H, H).eval()
    check(net)
    net.connection = "residual"
    check(net)


class Scaled(Cell):
    """h' = tanh(scale x + h)."""

    input_gates = hidden_gates = ("n",)

    def __init__(self) -> None:
        self.scale = 1.0

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        return torch.tanh(self.scale * x.n + h.n)


def test_a_setting_of_a_cell_changes(short: list[bool]) -> None:
    cell = Scaled()
    layer = Recurrent(cell, D, H).eval()
    for scale in (1.0, 0.5, 2.0):
        cell.scale = scale
        check(layer)
    assert short.count(True) >= 9


def test_who_watches_sees_every_step(short: list[bool]) -> None:
    net, seen = stack("lstm", D, H, 2).eval(), []
    check(net)
    handle = net.layers[0].register_forward_hook(lambda *_: seen.append(1))
    check(net, 4)
    assert len(seen) == 1 + 2 * 4
    handle.remove()
    every = torch.nn.modules.module.register_module_forward_hook(lambda *_: seen.append(2))
    try:
        check(net)
        assert not short[-1]
    finally:
        every.remove()
    with torch.no_grad(), Recorder(net):
        net.step(torch.randn(1, D), net.initial_state(torch.randn(1, D)))
        assert not short[-1]


def test_weights_that_are_computed(short: list[bool]) -> None:
    class Double(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return 2 * w

    layer = Recurrent("lstm", D, H).eval()
    check(layer)
    parametrize.register_parametrization(layer, "weight_hh", Double())
    check(layer)
    assert not short[-1]
    check(Recurrent("lstm", D, H, heads=2).eval())
    assert not short[-1]


def test_parameters_that_appear() -> None:
    layer = Recurrent("lstm", D, H, bias=False).eval()
    check(layer)
    layer.bias_ih = nn.Parameter(torch.randn(4 * H))
    check(layer)
    net = stack("gru", D, H, 3, connection="highway").eval()
    for change in (
        lambda: setattr(net.carry[0], "bias", None),
        lambda: setattr(net.carry[0], "bias", nn.Parameter(torch.ones(H))),
        lambda: parametrize.register_parametrization(net.carry[0], "weight", nn.Tanh()),
        lambda: net.carry[0].parametrizations.weight.original.mul_(2),  # type: ignore[union-attr, operator]
        lambda: net.carry.__setitem__(1, Gate(H, H).eval()),
        lambda: net.dropout.train(),
    ):
        with torch.no_grad():
            change()
            x = torch.randn(2, D)
            state = net.step(x)[1]
            torch.testing.assert_close(net.step(x, state), called(net, x, state), rtol=1e-5, atol=1e-6)


class Gate(nn.Linear):
    """A linear layer that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 5


def test_threads_do_not_disturb_each_other() -> None:
    net = stack("lstm", D, H, 2).eval()

    def last(seed: int) -> Any:
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            state = net.initial_state(torch.zeros(1, D))
            for _ in range(200):
                _, state = net.step(torch.randn(1, D, generator=draw), state)
        return state

    expected = [last(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(same, pool.map(last, range(4)), expected))


def test_a_layer_is_freed_with_its_last_name() -> None:
    for make in (lambda: Recurrent("gru", D, H).eval(), lambda: stack("gru", D, H, 2).eval()):
        layer = make()
        check(layer)
        weight = weakref.ref(next(layer.parameters()))
        gc.disable()
        try:
            del layer
            assert weight() is None
        finally:
            gc.enable()


def test_another_default_device() -> None:
    net = stack("lstm", D, H, 2).eval()
    x = torch.randn(1, D)
    with torch.no_grad(), torch.device("meta"):
        y, _ = net.step(x, net.initial_state(x))
    assert y.device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16])
def test_rounded_weights_inside_packed_and_outside(dtype: torch.dtype, short: list[bool]) -> None:
    net = stack("lstm", D, H, 2).eval()
    quantize(net, dtype)
    check(net)
    with packed(net):
        check(net)
    check(net)
    assert short[-1]


def test_copies() -> None:
    net = stack("lstm", D, H, 2).eval()
    check(net)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(1.5)
        check(other)
        check(net)


def test_what_goes_the_long_way(short: list[bool]) -> None:
    layer = Recurrent("lstm", D, H).eval()
    x, state = torch.randn(2, D), (torch.randn(2, H), torch.randn(2, H))
    layer.step(x, state)  # with gradients
    with torch.no_grad():
        layer.step(x.t().contiguous().t(), state)
        with pytest.raises(ValueError, match="float32"):
            layer.step(x.double(), state)
        layer.train().step(x, state)
        layer.eval()
        with torch.autocast("cpu", torch.bfloat16):
            layer.step(x, state)
        with elman.engine("eager"):
            layer.step(x, state)
        assert not any(short)
        layer.step(x, list(state))
        assert short[-1]
        layer.double().step(x.double(), tuple(part.double() for part in state))
        assert not short[-1]


def test_errors_are_those_of_the_layers() -> None:
    layer = Recurrent("lstm", D, H).eval()
    x, state = torch.randn(2, D), (torch.randn(2, H), torch.randn(2, H))
    with torch.no_grad():
        layer.step(x, state)
        for wrong in ((x[:, 1:], state), (x, state[:1]), (x, (state[0], state[1][:1])), (x[:1], state), (x[0], state)):
            with pytest.raises((ValueError, IndexError)):
                layer.step(*wrong)


def test_an_engine_before_it_runs_the_steps(short: list[bool]) -> None:
    class First(engines.Eager):
        name = "first"

    net = stack("lstm", D, H, 2).eval()
    engines.register(First(), before="cpu")
    try:
        with torch.no_grad():
            net.step(torch.randn(1, D), net.initial_state(torch.randn(1, D)))
        assert not any(short)
    finally:
        engines.unregister("first")
    assert isinstance(net, Stack)
