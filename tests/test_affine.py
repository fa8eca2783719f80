"""Which steps are affine in the state that they carry, and the engine that computes all their steps at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import elman
from elman import engines
from elman.cells import CELLS, Cell
from elman.engines import associative
from elman.layers import Recurrent
from tests.conftest import close
from tests.test_recurrent import gradients, inputs, some_state

D, H = 5, 3


def cell(step: Any, *state: str, **declarations: Any) -> Cell:
    """A cell with this step, which may name its arguments as it likes."""
    body = {"input_gates": ("a", "b"), "state": ("h", *state), **declarations}
    return type("Own", (Cell,), {**body, "step": lambda self, x, h, state, w: step(x, state, w)})()


def lagged(x: Any, s: Any, w: Any) -> tuple[Tensor, ...]:
    """A gate that reads the input before the last, the mean of all inputs so far, and an arbitrary output."""
    p = torch.sigmoid(x.a + s.q)
    m = 0.9 * s.m + 0.1 * torch.tanh(x.b)
    return torch.sin(s.m * s.c) + m, p * s.c + torch.exp(-s.m * s.m), x.b, s.p, m


AFFINE: dict[str, tuple[Cell, tuple[str, ...]]] = {
    "leaky": (cell(lambda x, s, w: w.l * s.h + x.a, weights={"l": 0.5}), ("h",)),
    "gated": (cell(lambda x, s, w: torch.sigmoid(x.a) * (s.h - x.b) / (2 + x.a.square()) + x.b), ("h",)),
    "lerp": (cell(lambda x, s, w: torch.lerp(s.h, x.b, torch.sigmoid(x.a))), ("h",)),
    "chosen by x": (cell(lambda x, s, w: torch.where(x.a > 0, s.h, 0.5 * s.h + x.b)), ("h",)),
    "rotation": (cell(lambda x, s, w: (0.6 * s.h - x.a.cos() * s.c, s.c * 0.6 + s.h + x.b), "c"), ("h", "c")),
    "three": (cell(lambda x, s, w: (0.5 * s.d + x.a, s.h, s.c - 0.5 * s.h), "c", "d"), ("h", "c", "d")),
    "chain": (cell(lagged, "c", "p", "q", "m"), ("m", "c")),
    "output": (cell(lambda x, s, w: (torch.tanh(s.c * s.c), 0.5 * s.c + x.a), "c"), ("c",)),
    "stateless": (cell(lambda x, s, w: torch.tanh(x.a)), ()),
    "time": (cell(lambda x, s, w: torch.exp(-x.dt.square()) * s.h + x.a, raw=("dt",)), ("h",)),
    "norm of x": (
        cell(lambda x, s, w: 0.5 * s.h + torch.nn.functional.layer_norm(x.a, x.a.shape[-1:]), mixes_units=True),
        ("h",),
    ),
}

NOT_AFFINE: dict[str, tuple[Cell, str]] = {
    "tanh": (cell(lambda x, s, w: torch.tanh(s.h + x.a)), "tanh"),
    "product": (cell(lambda x, s, w: (s.h * s.c, s.h + x.a), "c"), "mul"),
    "square": (cell(lambda x, s, w: s.h * s.h + x.a), "mul"),
    "relu": (cell(lambda x, s, w: torch.relu(x.a + s.h)), "relu"),
    "abs": (cell(lambda x, s, w: s.h.abs() + x.a), "abs"),
    "maximum": (cell(lambda x, s, w: torch.maximum(s.h, x.a)), "maximum"),
    "division": (cell(lambda x, s, w: x.a / (2 + s.h)), "div"),
    "gate": (cell(lambda x, s, w: (s.c, torch.sigmoid(x.a + s.c) * s.c + x.b), "c"), "sigmoid"),
    "chosen by the state": (cell(lambda x, s, w: torch.where(s.h > 0, s.h, 0.5 * s.h) + x.a), "gt"),
    "chosen by both": (cell(lambda x, s, w: torch.where(s.h + x.a > 0, x.a, x.b)), "gt"),
    "mixed units": (cell(lambda x, s, w: s.h.sum(-1, keepdim=True) + x.a, mixes_units=True), "total"),
    "detached": (cell(lambda x, s, w: 0.5 * s.h.detach() + x.a), "detaches"),
    "random": (cell(lambda x, s, w: s.h + torch.rand_like(x.a)), "rand_like"),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine(name: str) -> None:
    own, carried = AFFINE[name]
    found = engines.affine(own)
    assert found, found.reason
    assert found.carried == carried
    assert sorted(part for stage in found.stages for part in stage.parts) == sorted(own.state)


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_not_affine(name: str) -> None:
    own, operation = NOT_AFFINE[name]
    found = engines.affine(own)
    assert not found
    assert operation in str(found.reason)
    assert found.stages == ()


def test_built_in_cells() -> None:
    found = {name: engines.affine(cell).carried for name, cell in CELLS.items() if engines.affine(cell)}
    assert found == {
        "mingru": ("h",),
        "gated_mingru": ("c",),
        "minlstm": ("h",),
        "gated_minlstm": ("c",),
        "qrnn": ("c",),
        "rg_lru": ("h",),
        "lru": ("re", "im"),
    }
    assert "multiplies h by a matrix" in str(engines.affine(CELLS["gru"]).reason)


def test_a_setting_that_changes() -> None:
    class Power(Cell):
        """h' = h^k + W x."""

        input_gates = ("a",)
        k = 1

        def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
            return (state.h if self.k == 1 else state.h * state.h) + x.a

    own = Power()
    assert engines.affine(own)
    own.k = 2
    assert not engines.affine(own)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_all_at_once_equals_the_loop(data: st.DataObject) -> None:
    own, _ = AFFINE[data.draw(st.sampled_from(list(AFFINE)))]
    B, T = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 12))
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B)))
    resets = torch.rand(B, T) < data.draw(st.sampled_from([0.0, 0.3]))
    layer = Recurrent(own, D, H).double()
    x = inputs(B, T)
    arguments = (
        x,
        some_state(layer, x),
        *data.draw(st.sampled_from([(None, None), (lengths, None), (lengths, resets)])),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(associative, "CHUNK", data.draw(st.sampled_from([1, 4 * B * H, 2**20])))
        ours = gradients(layer, "scan", *arguments)
    close(ours, gradients(layer, "eager", *arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes_steps_and_transforms(dtype: torch.dtype) -> None:
    layer = Recurrent("gated_mingru", D, H).to(dtype)
    x, tolerance = inputs().to(dtype), 1e-6 if dtype == torch.float32 else 2e-2
    with elman.engine("scan", strict=True), torch.inference_mode():
        y, state = layer(x)
        first, between = layer(x[:, :1])
        rest, after = layer(x[:, 1:], between)
    assert y.dtype == state[0].dtype == dtype
    close((torch.cat((first, rest), 1), after), (y, state), tolerance)
    with elman.engine("eager"):
        close(y, layer(x)[0], tolerance)


def test_a_projection() -> None:
    class Projected(Cell):
        """c' = c / 2 + W x;  h' = P tanh(c')."""

        input_gates = ("a",)
        state = ("h", "c")
        projected = True

        def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, Tensor]:
            c = 0.5 * state.c + x.a
            return torch.tanh(c), c

    layer, x = Recurrent(Projected, D, H, proj_size=2).double(), inputs()
    arguments = (x, some_state(layer, x), None, None)
    assert engines.affine(layer.cell).carried == ("c",)
    close(gradients(layer, "scan", *arguments), gradients(layer, "eager", *arguments))


def test_second_and_batched_derivatives() -> None:
    layer, x = Recurrent("lru", D, H).double(), inputs(1, 3).requires_grad_()
    with elman.engine("scan", strict=True):
        assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))
        many = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x, vectorize=True)
    close(many, torch.autograd.functional.jacobian(lambda x: layer(x)[0], x))


def test_what_it_returns_may_change_in_place() -> None:
    layer, x = Recurrent("mingru", D, H), inputs().float().requires_grad_()
    with elman.engine("scan", strict=True):
        y, (h,) = layer(x)
    h.zero_()
    y.mul_(2).sum().backward()


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0), (1, 1)])
def test_empty_batches_and_sequences(shape: tuple[int, int]) -> None:
    with elman.engine("scan", strict=True):
        y, state = Recurrent("qrnn", D, H)(torch.zeros(*shape, D))
    assert y.shape == (*shape, H)
    assert all(part.shape == (shape[0], H) for part in state)


def test_autocast() -> None:
    layer, x = Recurrent("lru", D, H), inputs().float()
    results = []
    for engine in ("scan", "eager"):
        with torch.autocast("cpu", torch.bfloat16), elman.engine(engine, strict=True):
            y, state = layer(x)
            y.sum().backward()
        results.append((y, state))
    close(*results, 2e-2)


def test_a_reset_stops_what_is_no_number() -> None:
    layer, x = Recurrent("minlstm", D, H), inputs().float()
    x[:, 1] = torch.nan
    resets = torch.zeros(x.shape[:2], dtype=torch.bool)
    resets[:, 3] = True
    with elman.engine("scan", strict=True):
        y, _ = layer(x, None, None, resets)
        assert y[:, 1:3].isnan().all()
        close(y[:, 3:], layer(x[:, 3:])[0], 1e-6)


def test_what_it_refuses() -> None:
    x = inputs().float()
    for layer, why in (
        (Recurrent("lstm", D, H), "multiplies h by a matrix"),
        (Recurrent("mingru", D, H, zoneout=0.1), "does not support zoneout"),
    ):
        with elman.engine("scan", strict=True), pytest.raises(elman.ElmanError, match=why):
            layer(x)


def test_the_door_takes_it_where_it_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    for other in (engines.Cpu, engines.TorchFused):
        monkeypatch.setattr(other, "refusal", lambda self, scan: "as on another device")
    layer = Recurrent("mingru", D, H)

    def chosen(T: int) -> str:
        x = torch.zeros(1, T, D)
        return engines.choose(layer.recurrence.scan(layer.weights(), x, layer.initial_state(x))).name

    assert chosen(99) == "eager"  # on the CPU
    monkeypatch.setattr(engines.Associative, "least_steps", {"cpu": 32})
    assert [chosen(31), chosen(32)] == ["eager", "scan"]
    with elman.engine("scan", strict=True):
        assert chosen(1) == "scan"
