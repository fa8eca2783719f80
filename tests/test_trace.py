"""Cells as programs: what a step may do, and what is said of one that may not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import elman
from elman import engines
from elman.cells import Cell
from elman.engines.compiler import Plan, trace
from elman.engines.cpu.generate import cell_source
from elman.layers import Recurrent
from tests.conftest import close
from tests.own_cells import B, D, H, T, cell_of, refused, same_as_eager

POINTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "arithmetic": lambda a, b: (2 * a - b / 3 + 1) * 0.3 + a.sub(b, alpha=0.5) - (1 - b).neg(),
    "exp log": lambda a, b: torch.exp(-a * a) * torch.log(1.5 + b * b) + torch.log1p(a * a) - torch.expm1(-b * b),
    "roots powers": lambda a, b: (a**2 + 1).sqrt() + (b**3) * 0.1 + (b * b + 1) ** -0.5 + torch.rsqrt(a * a + 2),
    "any power": lambda a, b: (a * a + 1) ** 1.7 + (b * b + 1) ** (0.1 * a),
    "reciprocal": lambda a, b: 1 / (a * a + 1) + torch.reciprocal(b * b + 2),
    "sigmoid tanh": lambda a, b: torch.sigmoid(a) * torch.tanh(b),
    "relu": lambda a, b: torch.relu(a) + torch.nn.functional.leaky_relu(b) + torch.nn.functional.leaky_relu(a, 0.3),
    "softplus silu": lambda a, b: torch.nn.functional.softplus(a) * 0.3 + torch.nn.functional.silu(b),
    "softplus of a slope": lambda a, b: torch.nn.functional.softplus(a, beta=2, threshold=1.5) - b,
    "hard": lambda a, b: torch.nn.functional.hardtanh(a) + b.clamp(-0.5, 0.7) + a.clamp(min=0.1) + b.clamp(max=0.2),
    "abs sign": lambda a, b: a.abs() * 0.5 + torch.sign(b) * a,
    "maximum": lambda a, b: torch.maximum(a, b) - torch.minimum(a, 0.5 * b),
    "where": lambda a, b: torch.where((a > 0) & (b <= 0.3) | ~(a != b), a, -b) + torch.where(a >= b, 0.0, b),
    "sine": lambda a, b: torch.sin(a) * torch.cos(b) + torch.erf(a),
    "constants": lambda a, b: a + torch.ones_like(a) * 0.5 - torch.full_like(b, 0.25) + torch.tensor(0.125) * b,
    "infinities": lambda a, b: torch.where(a > math.inf, b, a),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_operations(name: str) -> None:
    function = POINTWISE[name]
    same_as_eager(cell_of(lambda self, x, h, s, w: torch.tanh(function(x.a + h.a, x.b + h.b)) + 0.3 * s.h))


def test_operations_in_float32() -> None:
    """All in one kernel, where each has a part of the state for itself."""

    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> tuple[Tensor, ...]:
        a, b = x.a + h.a, x.b + h.b
        parts = [torch.tanh(f(a, b)) + 0.3 * old for f, old in zip(POINTWISE.values(), s[1:], strict=True)]
        return (torch.tanh(sum(parts) / 4), *parts)  # type: ignore[arg-type]

    same_as_eager(cell_of(step, state=("h", *(f"s{k}" for k in range(len(POINTWISE))))), torch.float32, 2e-5)


def test_vectors_and_what_is_made_of_them() -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        a, b = torch.sigmoid(w.p), torch.exp(-w.q)
        return torch.tanh(x.a + h.a * a + w.p * s.h) * (1 - a) + a * b * s.h + x.b - w.q

    same_as_eager(cell_of(step, weights={"p": (-1.0, 1.0), "q": 0.5, "unused": 1.0}))


def test_many_states_and_gates_apart() -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> tuple[Tensor, ...]:
        n = s.n + torch.exp(x.k).clamp(max=3)
        c = torch.sigmoid(x.f) * s.c + torch.tanh(x.v + h.q) * s.h
        return torch.tanh(c / (n + 1)) + h.r * 0.1, c, n, s.m * 0.9 + x.k

    names = {"input_gates": ("k", "f", "v"), "hidden_gates": ("q", "r"), "state": ("h", "c", "n", "m")}
    same_as_eager(cell_of(step, **names))


def test_no_hidden_product() -> None:
    """A gate that depends on x alone: a minGRU (Feng et al. 2024)."""

    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        z = torch.sigmoid(x.z)
        return (1 - z) * s.h + z * x.n

    same_as_eager(cell_of(step, input_gates=("z", "n"), hidden_gates=()))


@pytest.mark.parametrize("gates", [1, 2, 3, 5, 6, 9, 13])
def test_any_number_of_gates(gates: int) -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        return torch.tanh(sum(a * (0.3 + 0.1 * k) + b for k, (a, b) in enumerate(zip(x, h, strict=True))))

    names = tuple(f"g{k}" for k in range(gates))
    same_as_eager(cell_of(step, input_gates=names, hidden_gates=names))


def test_a_gate_that_is_not_used() -> None:
    same_as_eager(cell_of(lambda self, x, h, s, w: torch.tanh(x.a + h.b)))


def test_the_authors_letters_are_in_the_c() -> None:
    cell = elman.cells.CELLS["lstm"]
    text = cell_source(cell, Plan(trace(cell)))
    for line in (
        "const V i = v_sigmoid(",
        "const V f = v_sigmoid(",
        "const V g = v_tanh(",
        "n[1] = c;",
        "c' = f * c + i * g",
    ):
        assert line in text


def _in_place(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return s.h.mul_(0.5)  # the line that the error names


def _branch(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a if x.a.sum() > 0 else x.b  # the line that the error names


def _item(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a * s.h[0, 0].item()  # the line that the error names


def _mean(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a - x.b.mean(-1, keepdim=True)  # the line that the error names


def _matrix(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a @ (s.h.T @ x.b)  # the line that the error names


def _cumulative(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return torch.cumprod(x.a, -1)  # the line that the error names


def _random(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a * torch.rand_like(x.a)  # the line that the error names


def _dropped(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return torch.nn.functional.dropout(x.a, 0.5)  # the line that the error names


def _added(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    a = x.a * 2
    a += x.b  # the line that the error names
    return a


def _rectified(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return torch.nn.functional.relu(x.a * 2, inplace=True)  # the line that the error names


def _softmax(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return torch.nn.functional.softmax(x.a, -1)  # the line that the error names


def _outside(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a * torch.arange(7.0)  # the line that the error names


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (_in_place, "changes a tensor in place"),
        (_branch, "sum is not pointwise; a cell whose step reads across units must declare mixes_units = True"),
        (_item, "reads the value of a tensor|which uses select"),
        (_mean, "mean is not pointwise; a cell whose step reads across units must declare mixes_units = True"),
        (_matrix, "use an inner gate for a product with a matrix: declare it in inner_gates"),
        (_cumulative, "do not support the operation cumprod; docs/engines.md lists the supported operations"),
        (_random, "do not support the operation rand_like; a step must not draw random numbers"),
        (_dropped, "do not support the operation dropout .which uses bernoulli.; a step must not draw random"),
        (_added, "add changes a tensor in place; compute a new tensor instead"),
        (_rectified, "relu changes a tensor in place; compute a new tensor instead"),
        (_softmax, "softmax is not pointwise; a cell whose step reads across units must declare mixes_units = True"),
        (_outside, "arange"),
    ],
)
def test_a_step_that_cannot_be_a_kernel(step: Callable[..., Any], message: str) -> None:
    refused(cell_of(step), step, message)


def test_such_a_step_runs_eagerly_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ELMAN_ENGINE", raising=False)  # a forced engine would be reported too
    engines.cpu._reported.clear()
    layer = Recurrent(cell_of(_mean), D, H)
    with elman.engine("eager"):
        law = layer(torch.ones(B, T, D))
    assert not caplog.records
    close(layer(torch.ones(B, T, D)), law)
    close(layer(torch.ones(B, T, D)), law)
    (record,) = caplog.records
    assert "no fast kernel for Own, so it runs slower: " in record.getMessage()
    assert "mean is not pointwise" in record.getMessage()


def test_what_is_set_on_a_cell_counts() -> None:
    class Scaled(Cell):
        """h' = k tanh(W x + R h)."""

        input_gates = hidden_gates = ("n",)

        def __init__(self, k: float) -> None:
            self.k = k

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            return self.k * torch.tanh(x.n + h.n)

    for k in (0.5, 2.0):
        same_as_eager(Scaled(k))
    cell = Scaled(0.5)
    layer = Recurrent(cell, D, H)
    before = layer(torch.ones(B, T, D))[0]
    cell.k = 0.25
    assert not torch.equal(layer(torch.ones(B, T, D))[0], before)


_factor = 0.5


def _scaled(value: Tensor) -> Tensor:
    return _factor * value


class Reading(Cell):
    """h' = k tanh(W x + R h), where k is the product of all that can be set."""

    input_gates = hidden_gates = ("n",)
    factor: float = 1.0

    def __init__(self) -> None:
        self.array, self.tensors, self.apart = np.ones(5000), [torch.tensor(1.0)], Apart()
        self.settings = {"k": {"k": 1.0}}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        k = float(self.array[2500] * self.settings["k"]["k"] * self.apart.k * self.factor) * self._more()
        return _scaled(self.tensors[0] * (k * torch.tanh(x.n + h.n)))

    def _more(self) -> float:
        return 1.0


class Apart:
    """Something that is set on a cell."""

    def __init__(self) -> None:
        self.k = 1.0


CHANGES: dict[str, Callable[[Reading, pytest.MonkeyPatch], object]] = {
    "the middle of an array": lambda cell, patch: cell.array.__setitem__(2500, 0.25),
    "a tensor in a list": lambda cell, patch: cell.tensors[0].fill_(0.25),
    "an object": lambda cell, patch: setattr(cell.apart, "k", 0.25),
    "a dictionary in another": lambda cell, patch: cell.settings["k"].update(k=0.25),
    "the class": lambda cell, patch: patch.setattr(Reading, "factor", 0.25),
    "a global variable of a function": lambda cell, patch: patch.setitem(globals(), "_factor", 0.25),
    "a function": lambda cell, patch: patch.setitem(globals(), "_scaled", lambda value: 0.25 * value),
    "the step": lambda cell, patch: patch.setattr(Reading, "step", lambda self, x, h, state, w: 0.1 * x.n + h.n),
    "another method": lambda cell, patch: patch.setattr(Reading, "_more", lambda self: 0.25),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_step_reads_may_change(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Reading()
    layer, x = Recurrent(cell, D, H), torch.randn(B, T, D)
    before = layer(x)[0]
    CHANGES[change](cell, monkeypatch)
    with elman.engine("eager"):
        law = layer(x)[0]
    with elman.engine("cpu", strict=True):
        close(layer(x)[0], law, 1e-6)
    assert not torch.equal(law, before)


def test_an_enclosing_variable_may_change() -> None:
    k = 0.5

    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        return k * torch.tanh(x.a + h.a)

    cell = cell_of(step)
    for k in (0.5, 2.0):  # noqa: B007 - the step reads it
        same_as_eager(cell)


MISREAD: dict[str, Callable[[Any, Any], Tensor]] = {
    "cast to whole numbers": lambda a, b: a.int().float() + b,
    "cast to half": lambda a, b: a.half().float() + b,
    "a parameter from outside": lambda a, b: a * torch.nn.Parameter(torch.tensor(0.5)) + b,
}


@pytest.mark.parametrize("name", MISREAD)
def test_nothing_is_misread(name: str) -> None:
    cell = cell_of(lambda self, x, h, s, w: MISREAD[name](x.a + h.a, x.b + h.b))
    with pytest.raises(elman.ElmanError, match=r"test_trace.py, line \d+"), elman.engine("cpu", strict=True):
        Recurrent(cell, D, H)(torch.randn(B, T, D))


EDGES: dict[str, Callable[[Any, Any, Any, Any], Tensor]] = {
    "truth values as numbers": lambda x, h, s, w: (x.a > 0).float() * h.a + (x.b > 0) * h.b + 0.1 * s.h,
    "alpha of nothing": lambda x, h, s, w: torch.tanh(x.a.add(h.a, alpha=0) + h.b),
    "linear": lambda x, h, s, w: 0.9 * s.h + x.a,
    "diagonal": lambda x, h, s, w: w.p * s.h + x.a,
    "a vector that is only compared": lambda x, h, s, w: torch.where(w.p > 0.5, torch.tanh(x.a + h.a), 0.5 * s.h),
    "numbers as truth values": lambda x, h, s, w: torch.where(torch.logical_and(x.a, h.a > 0), x.b, h.b),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str) -> None:
    same_as_eager(cell_of(lambda self, x, h, s, w: EDGES[name](x, h, s, w), weights={"p": (0.0, 1.0)}))


def test_cells_of_one_name_are_told_apart() -> None:
    for made in (torch.sigmoid, torch.tanh, torch.exp):
        same_as_eager(
            cell_of(
                lambda self, x, h, s, w, made=made: made(w.p) * s.h + torch.tanh(x.a + h.a), weights={"p": (-1.0, 1.0)}
            )
        )
    for first, second in (("p", "q"), ("q", "p")):
        same_as_eager(
            cell_of(
                lambda self, x, h, s, w, a=first, b=second: (
                    getattr(w, a) * s.h * 0.1 + torch.tanh(x.a + h.a * getattr(w, b))
                ),
                weights={"p": (-1.0, 1.0), "q": (0.0, 0.5)},
            )
        )


def test_letters_that_mean_something_in_c() -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        short = torch.sigmoid(x.a + h.a)
        real = torch.tanh(x.b + h.b)
        keep = short * real
        ü = keep + 0.1 * s.h
        return ü * short

    same_as_eager(cell_of(step))


def test_a_cell_first_used_without_gradients() -> None:
    for context in (torch.inference_mode, torch.no_grad):
        layer = Recurrent(cell_of(lambda self, x, h, s, w: torch.tanh(x.a + h.a) * 0.7 + 0.1 * s.h), D, H)
        with context():
            layer(torch.randn(B, T, D))
            layer.step(torch.randn(B, D))
        layer(torch.randn(B, T, D))[0].sum().backward()
        assert layer.weight_hh.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_a_layer_made_in_inference_mode() -> None:
    with torch.inference_mode():
        layer = Recurrent("lstm", D, H)
        x = torch.randn(B, D)
        _, state = layer.step(x)
        ours = layer.step(x, state)
        with elman.engine("eager"):
            close(ours, layer.step(x, state), 1e-6)


def test_a_cell_without_a_hash() -> None:
    import dataclasses

    @dataclasses.dataclass
    class Scale(Cell):
        """h' = k tanh(W x + R h)."""

        k: float = 0.5
        input_gates = hidden_gates = ("n",)

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            return self.k * torch.tanh(x.n + h.n)

    same_as_eager(Scale(0.3))


def test_many_vectors_step_by_step() -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        return torch.tanh(x.a + h.a + sum(w) * 0.01)

    layer = Recurrent(cell_of(step, weights={f"v{k}": (0.0, 1.0) for k in range(30)}), D, H)
    x = torch.randn(B, D)
    with torch.no_grad():
        ours = layer.step(x)
        with elman.engine("eager"):
            close(ours, layer.step(x), 1e-6)
