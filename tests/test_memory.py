"""Cells with a matrix memory: their papers' equations, the kernels, and a cell of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode

import elman
from elman.benchmarks import chunkwise
from elman.cells import Cell
from elman.cells.memory import DeltaNet
from elman.layers import Recurrent, stack
from elman.layers.recorder import Recorder
from tests.conftest import MEMORY_FAMILY, close, recurrent

D, H, HEADS, K = 5, 6, 2, 3
U = H // HEADS


def layer_of(cell: str | Cell | type[Cell], **options: Any) -> Recurrent:
    """A layer in float64, its parameters all drawn at random."""
    layer = Recurrent(cell, D, **{"hidden_size": H, "heads": HEADS, "key_size": K, "dtype": torch.float64, **options})
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -0.6, 0.6)
    return layer


def sigma(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def norm(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x) + 1e-5)


def mlstm(g: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> np.ndarray:
    """Without the stabiliser, whose m cancels out as long as nothing overflows: C, n are those of the paper, (19, 20).

    With C and n scaled by exp(m), max(|n q|, exp(-m)) becomes max(|n q|, 1).
    """
    f, i, k = sigma(g["f"]), np.exp(g["i"]), g["k"] / np.sqrt(K)
    state["C"] = f * state["C"] + i * np.outer(g["v"], k)
    state["n"] = f * state["n"] + i * k
    return sigma(g["o"]) * (state["C"] @ g["q"]) / max(abs(state["n"] @ g["q"]), 1)


def gla(g: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> np.ndarray:
    state["C"] = state["C"] @ np.diag(sigma(g["g"]) ** (1 / 16)) + np.outer(g["v"], g["k"])
    return g["o"] * sigma(g["o"]) * norm(state["C"] @ g["q"])


def deltanet(g: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> np.ndarray:
    """As Householder-like updates: C' = C (I - b k k^T) + b v k^T."""
    b, k = sigma(g["b"]), unit(g["k"])
    state["C"] = state["C"] @ (np.eye(K) - b * np.outer(k, k)) + b * np.outer(g["v"], k)
    return state["C"] @ unit(g["q"])


def gated_deltanet(g: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> np.ndarray:
    a, b, k = sigma(g["a"]), sigma(g["b"]), unit(g["k"])
    state["C"] = state["C"] @ (a * (np.eye(K) - b * np.outer(k, k))) + b * np.outer(g["v"], k)
    return g["o"] * sigma(g["o"]) * norm(state["C"] @ unit(g["q"]))


ORACLES: dict[str, Callable] = {"mlstm": mlstm, "gla": gla, "deltanet": deltanet, "gated_deltanet": gated_deltanet}


@pytest.mark.parametrize("name", MEMORY_FAMILY)
def test_the_equations_of_the_paper(name: str) -> None:
    layer, x = layer_of(name), torch.randn(2, 40, D, dtype=torch.float64)
    y = layer(x)[0].detach().numpy()
    w, b = layer.weight_ih.detach().numpy(), layer.bias_ih.detach().numpy()  # type: ignore[union-attr]
    sizes = [U] * len(layer.cell.input_gates) + [K] * len(layer.cell.key_gates) + [1] * len(layer.cell.head_gates)
    ends = np.cumsum([HEADS * size for size in sizes])
    for row in range(2):
        states = [{"C": np.zeros((U, K)), "n": np.zeros(K)} for _ in range(HEADS)]
        for t in range(40):
            parts = np.split(w @ x[row, t].numpy() + b, ends[:-1])
            for head in range(HEADS):
                pieces = [part.reshape(HEADS, -1)[head] for part in parts]
                gates = dict(zip(layer.cell.gates, pieces, strict=True))
                h = ORACLES[name](gates, states[head])
                np.testing.assert_allclose(y[row, t, head * U : (head + 1) * U], h, rtol=1e-9, atol=1e-12)


def test_the_stabiliser_prevents_overflow() -> None:
    layer = layer_of("mlstm")
    with torch.no_grad():
        layer.weight_ih[-2 * HEADS : -HEADS] *= 2000  # i: exp(i) would be infinite
    y, _ = layer(torch.randn(2, 50, D, dtype=torch.float64))
    assert torch.isfinite(y).all()


class Softmax(Cell):
    """A user's own cell: keys by softmax, a count for each key, a running maximum for each head, two memories."""

    input_gates = ("v", "w")
    key_gates = ("k", "q")
    head_gates = ("g",)
    state = ("h", "a")
    memory = ("C", "M")
    key_state = ("n",)
    head_state = ("m",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, ...]:
        k, q = torch.softmax(x.k, -1), torch.softmax(x.q, -1)
        m = torch.where(x.g > state.m, x.g, 0.9 * state.m)
        a = 0.5 * state.a + torch.tanh(x.v)
        n = state.n * 0.8 + k
        C = state.C + (x.v - (state.C * k).sum(-1, keepdim=True)) * k / (1 + n)
        M = torch.sigmoid(m) * state.M + torch.tanh(C) * x.w
        C = torch.where(x.k > 0, C, x.g * C)
        read = (M * q).mean(-1, keepdim=True) + (C * q).sum(-1, keepdim=True) + torch.softmax(x.v, -1)
        among = k * (1.0 if k.shape[-1] < 10 else 2.0) / k.shape[-2]  # numbers of the sizes, a name of C
        n = (
            n
            + among.softmax(-1)
            - 0.1 * (x.w.amax(-2, keepdim=True) + k.amax(-1, keepdim=True))
            + C.mean((-2, -1), keepdim=True)
        )
        return torch.tanh(read) * a.abs(), a, C, M, n, m


def results(layer: Recurrent, engine: str, data: dict[str, Any]) -> list[Tensor]:
    """The output, the final state, and all gradients."""
    x = data["x"].detach().requires_grad_()
    state = [part.detach().requires_grad_() for part in data["state"]]
    with elman.engine(engine, strict=True):
        y, final = layer(x, tuple(state), data["lengths"], data["resets"])
    loss = (y * data["weight"]).sum() + sum((part * part).sum() for part in final)
    grads = torch.autograd.grad(loss, [x, *state, *layer.parameters()], allow_unused=True, materialize_grads=True)
    return [y.detach(), *(part.detach() for part in final), *grads]


@settings(max_examples=8)
@given(data=st.data())
def test_the_kernel_equals_eager(data: st.DataObject) -> None:
    cell: Any = data.draw(st.sampled_from([*MEMORY_FAMILY, Softmax]))
    heads, units, keys = data.draw(st.sampled_from([(2, 3, 4), (1, 17, 16), (3, 32, 5)]))
    B, T = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 31, 32, 33, 70]))
    layer = layer_of(cell, hidden_size=heads * units, heads=heads, key_size=keys)
    torch.manual_seed(data.draw(st.integers(0, 99)))
    x = torch.randn(B, T, D, dtype=torch.float64)
    given = {
        "x": x,
        "state": [torch.randn_like(part) for part in layer.initial_state(x)],
        "lengths": data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B)),
        "resets": (torch.rand(B, T) < 0.1) if data.draw(st.booleans()) else None,
        "weight": torch.randn(B, T, heads * units, dtype=torch.float64),
    }
    close(results(layer, "cpu", given), results(layer, "eager", given), 1e-9)


@pytest.mark.parametrize("cell", ["mlstm", Softmax])
def test_float32_on_two_threads(cell: Any) -> None:
    layer = layer_of(cell, hidden_size=32, heads=2, key_size=8, dtype=torch.float32)
    given: dict[str, Any] = {"x": torch.randn(6, 64, D), "lengths": [64, 60, 50, 40, 3, 0], "resets": None}
    given |= {"state": layer.initial_state(given["x"]), "weight": torch.randn(6, 64, 32)}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    ours = results(layer, "cpu", given)
    torch.set_num_threads(before)
    for a, b in zip(ours, results(layer, "eager", given), strict=True):
        assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max()) + 1e-6


@pytest.mark.parametrize("name", [*MEMORY_FAMILY])
@pytest.mark.parametrize("engine", ["cpu", "eager"])
def test_chunks_and_steps_give_what_the_whole_gives(name: str, engine: str) -> None:
    layer, x = layer_of(name), torch.randn(2, 40, D, dtype=torch.float64)
    with torch.no_grad(), elman.engine(engine):
        y, final = layer(x)
        first, state = layer(x[:, :33])
        rest, state = layer(x[:, 33:], state)
        close((torch.cat((first, rest), 1), state), (y, final))
        state = None
        for t in range(40):
            one, state = layer.step(x[:, t], state)
            close(one, y[:, t])
        close(state, final)


def test_nothing_at_all() -> None:
    layer = layer_of("mlstm")
    for B, T in ((0, 3), (2, 0)):
        y, state = layer(torch.randn(B, T, D, dtype=torch.float64))
        assert y.shape == (B, T, H)
        assert state[1].shape == (B, H, K)


@pytest.mark.parametrize("sizes", [{"hidden_size": 2}, {"key_size": 1}])
def test_heads_of_one_unit_or_one_key(sizes: dict[str, int]) -> None:
    layer, x = layer_of(DeltaNet, **sizes), torch.randn(2, 7, D, dtype=torch.float64)
    y, state = layer(x, lengths=[7, 2])
    assert y.shape[-1] == layer.hidden_size
    assert state[1].shape == (2, layer.hidden_size, layer.key_size)


def test_the_default_sizes() -> None:
    assert (Recurrent("gla", 4, 192).heads, Recurrent("gla", 4, 192).key_size) == (3, 64)
    assert (Recurrent("gla", 4, 100).heads, Recurrent("gla", 4, 100).key_size) == (1, 100)
    assert (Recurrent("lstm", 4, 192).heads, Recurrent("lstm", 4, 192).key_size) == (1, 0)
    assert "heads=2, key_size=3" in repr(layer_of("mlstm"))


def test_autocast_and_second_derivatives() -> None:
    layer = layer_of("gated_deltanet", dtype=torch.float32)
    x = torch.randn(2, 40, D, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x)
    assert y.dtype is torch.bfloat16
    assert state[1].dtype is torch.float32
    torch.testing.assert_close(y.float(), layer(x)[0], atol=0.1, rtol=0.1)
    layer, x = layer.double(), torch.randn(1, 4, D, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))


def test_layers_of_layers_and_rows() -> None:
    deep = stack(["mlstm", "lstm"], D, 8, 2, bidirectional=True).double()
    x = torch.randn(3, 9, D, dtype=torch.float64)
    y, state = deep(x, lengths=[9, 4, 1])
    alone, _ = deep(x[1:2, :4])
    close(y[1:2, :4], alone)
    close(elman.layers.state.join_rows([state, state])[0][0][1], torch.cat([state[0][0][1]] * 2))


def test_it_learns_to_recall() -> None:
    """Pairs of a key and a value, then a key: which value?"""
    torch.manual_seed(0)
    layer, head = Recurrent("deltanet", 16, 16, heads=1, key_size=16), torch.nn.Linear(16, 8)
    optimiser = torch.optim.Adam([*layer.parameters(), *head.parameters()], 1e-2)
    for _ in range(150):
        keys, values = torch.rand(64, 8).argsort(1)[:, :4], torch.randint(8, (64, 4))
        asked = torch.randint(4, (64, 1))
        x = torch.cat((torch.eye(8)[keys], torch.eye(8)[values]), -1)
        question = torch.cat((torch.eye(8)[keys.gather(1, asked)], torch.zeros(64, 1, 8)), -1)
        y, _ = layer(torch.cat((x, question), 1))
        scores, answer = head(y[:, -1]), values.gather(1, asked)[:, 0]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(scores, answer).backward()
        optimiser.step()
    assert (scores.argmax(1) == answer).float().mean() > 0.7  # by chance 0.125


def test_the_chunkwise_form_of_the_benchmark() -> None:
    layer, x = layer_of("mlstm"), torch.randn(2, 2 * chunkwise.CHUNK, D, dtype=torch.float64)
    close(chunkwise.mlstm(layer, x), layer(x)[0])


def test_no_scan_over_memories() -> None:
    assert "has a matrix memory" in str(elman.engines.affine(elman.cells.get("gla")).reason)


class Kept(Cell):
    """A user's own cell: a part that is kept, and one that is a truth value."""

    input_gates, key_gates, memory = ("v",), ("k",), ("C",)
    state = ("h", "a", "b")

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, ...]:
        part_ = x.k * 2
        C = 0.5 * state.C + x.v * part_ / (part_ * part_).sum(-1, keepdim=True)
        return (C * x.k).sum(-1, keepdim=True) + state.a, state.a, x.v > state.b, C


def test_a_part_that_is_kept_and_one_that_is_a_truth_value() -> None:
    layer, x = layer_of(Kept), torch.randn(2, 5, D, dtype=torch.float64, requires_grad=True)
    state = [torch.randn_like(part) for part in layer.initial_state(x)]
    state[3] = torch.randn(2, K, H, dtype=torch.float64).transpose(1, 2).requires_grad_()
    found = []
    for engine in ("cpu", "eager"):
        with elman.engine(engine, strict=True):
            y, new = layer(x, tuple(state))
        total = (y * y).sum() + sum(part.sum() for part in new)
        grads = torch.autograd.grad(total, [x, state[3]], create_graph=True)
        found.append([y, *new, *grads, *torch.autograd.grad(grads[0].square().sum(), [x])])
    close(*found)


def test_modes_that_watch_run_eager_steps() -> None:
    layer, x = layer_of("gla"), torch.randn(2, 5, D, dtype=torch.float64)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert layer(torch.randn(2, 5, D, dtype=torch.float64))[0].shape == (2, 5, H)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: torch.stack([t, t], -1)[..., 0]):
        y = layer(x)[0].sum()
    grads = torch.autograd.grad(y, list(layer.parameters()))
    close(grads, torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters())))


def test_steps_are_recorded() -> None:
    layer, x = layer_of("mlstm"), torch.randn(1, 5, D, dtype=torch.float64)
    with Recorder(layer) as recorder:
        y = layer(x)[0]
    (record,) = recorder.layers()
    shapes = {name: tuple(value.shape) for name, value in record.values.items()}
    assert shapes["h"] == (5, H)
    assert shapes["n"] == (5, HEADS * K)
    assert shapes["m"] == shapes["a"] == (5, HEADS)
    assert "C" not in shapes
    close(record.values["h"], y[0])


def test_the_family() -> None:
    assert set(ORACLES) == set(MEMORY_FAMILY)
    assert recurrent("mlstm").cell.parts == ("h", "C", "n", "m")
