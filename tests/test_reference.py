"""The reference compared with torch and with finite differences."""

from __future__ import annotations

import doctest
import importlib
import itertools
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import elman.reference
from elman.layers import Recurrent
from elman.reference import activations, bidirectional, clip, gradcheck, gru, loss, lstm, peephole_lstm, rnn

ROOT = Path(__file__).parent.parent
#: (B, T, D, H)
SIZES = [(3, 7, 4, 5), (1, 5, 3, 2), (2, 1, 4, 3), (1, 1, 1, 1)]
BARE = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def rnn_relu_forward(x: np.ndarray, state: Any, weights: Any) -> Any:
    return rnn.forward(x, state, weights, nonlinearity="relu")


#: name: (forward, module of the cell, torch's layer, number of state parts)
TORCH: dict[str, tuple[Callable[..., Any], ModuleType, Callable[..., nn.RNNBase], int]] = {
    "rnn_tanh": (rnn.forward, rnn, lambda d, h, **k: nn.RNN(d, h, nonlinearity="tanh", **k), 1),
    "rnn_relu": (rnn_relu_forward, rnn, lambda d, h, **k: nn.RNN(d, h, nonlinearity="relu", **k), 1),
    "lstm": (lstm.forward, lstm, nn.LSTM, 2),
    "gru": (gru.forward, gru, nn.GRU, 1),
}


def draws(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array, requires_grad=True)


def close(a: np.ndarray, b: torch.Tensor | None) -> None:
    assert b is not None
    assert a.shape == tuple(b.shape)
    np.testing.assert_allclose(a, b.detach().numpy(), **CLOSE)


def parameters(layer: nn.Module, names: tuple[str, ...], suffix: str = "") -> list[torch.Tensor]:
    return [getattr(layer, name + suffix) for name in names]


def arrays(tensors: list[torch.Tensor]) -> list[np.ndarray]:
    return [t.detach().numpy() for t in tensors]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", TORCH)
def test_matches_torch(name: str, sizes: tuple[int, ...]) -> None:
    forward, cell, make, parts = TORCH[name]
    B, T, D, H = sizes
    torch.manual_seed(1)
    layer = make(D, H, batch_first=True, dtype=torch.float64)
    x, dy, *states = draws(2, (B, T, D), (B, T, H), *[(B, H)] * (2 * parts))
    state, dstate = tuple(states[:parts]), tuple(states[parts:])
    theirs = parameters(layer, BARE, "_l0")

    y, end, tape = forward(x, state, cell.Weights(*arrays(theirs)))
    dx, dstate_0, dweights = cell.backward(dy, dstate, tape)

    tx, ts = tensor(x), tuple(tensor(s) for s in state)
    ty, tend = layer(tx, ts[0][None] if parts == 1 else tuple(s[None] for s in ts))
    tend = (tend,) if parts == 1 else tend
    torch.autograd.backward([ty, *tend], [torch.from_numpy(dy), *(torch.from_numpy(d)[None] for d in dstate)])

    close(y, ty)
    for mine, other in zip(end, tend, strict=True):
        close(mine, other[0])
    close(dx, tx.grad)
    for mine, other in zip(dstate_0, ts, strict=True):
        close(mine, other.grad)
    for mine, other in zip(dweights, theirs, strict=True):
        close(mine, other.grad)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_peephole_lstm_matches_the_layer(sizes: tuple[int, ...]) -> None:
    B, T, D, H = sizes
    torch.manual_seed(1)
    layer = Recurrent("peephole_lstm", D, H, dtype=torch.float64)
    for parameter in layer.parameters():  # peepholes and biases are initialised with 0, which would hide errors
        nn.init.normal_(parameter)
    x, dy, h, c, dh, dc = draws(2, (B, T, D), (B, T, H), *[(B, H)] * 4)
    theirs = parameters(layer, peephole_lstm.Weights._fields)

    y, end, tape = peephole_lstm.forward(x, (h, c), peephole_lstm.Weights(*arrays(theirs)))
    dx, dstate_0, dweights = peephole_lstm.backward(dy, (dh, dc), tape)

    tx, ts = tensor(x), (tensor(h), tensor(c))
    ty, tend = layer(tx, ts)
    torch.autograd.backward([ty, *tend], [torch.from_numpy(d) for d in (dy, dh, dc)])

    close(y, ty)
    close(dx, tx.grad)
    for mine, other in zip(end, tend, strict=True):
        close(mine, other)
    for mine, other in zip((*dstate_0, *dweights), (*ts, *theirs), strict=True):
        close(mine, other.grad)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_bidirectional_matches_torch(sizes: tuple[int, ...]) -> None:
    B, T, D, H = sizes
    torch.manual_seed(1)
    layer = nn.LSTM(D, H, batch_first=True, bidirectional=True, dtype=torch.float64)
    x, dy, h, c, dh, dc = draws(2, (B, T, D), (B, T, 2 * H), *[(2, B, H)] * 4)
    theirs = [parameters(layer, BARE, suffix) for suffix in ("_l0", "_l0_reverse")]
    ours = lstm.Weights(*arrays(theirs[0])), lstm.Weights(*arrays(theirs[1]))

    y, ends, tape = bidirectional.forward(lstm, x, ((h[0], c[0]), (h[1], c[1])), ours)
    dx, dstates, dweights = bidirectional.backward(dy, ((dh[0], dc[0]), (dh[1], dc[1])), tape)

    tx, ts = tensor(x), (tensor(h), tensor(c))
    ty, tend = layer(tx, ts)
    torch.autograd.backward([ty, *tend], [torch.from_numpy(d) for d in (dy, dh, dc)])

    close(y, ty)
    close(dx, tx.grad)
    for direction, part in itertools.product((0, 1), (0, 1)):
        close(ends[direction][part], tend[part][direction])
        grad = ts[part].grad
        assert grad is not None
        close(dstates[direction][part], grad[direction])
    for direction in (0, 1):
        for mine, other in zip(dweights[direction], theirs[direction], strict=True):
            close(mine, other.grad)


GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "peephole_lstm": 4, "gru": 3}
CELLS = {name: (forward, cell, parts) for name, (forward, cell, _, parts) in TORCH.items()} | {
    "peephole_lstm": (peephole_lstm.forward, peephole_lstm, 2)
}


def random_weights(name: str, D: int, H: int, seed: int = 3) -> Any:
    G = GATES[name]
    shapes = [(G * H, D), (G * H, H), (G * H,), (G * H,), (H,), (H,), (H,)]
    weights = CELLS[name][1].Weights
    return weights(*draws(seed, *shapes[: len(weights._fields)]))


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_slopes(name: str) -> None:
    forward, cell, parts = CELLS[name]
    B, T, D, H = 2, 3, 2, 3
    weights = random_weights(name, D, H)
    x, dy, *states = draws(4, (B, T, D), (B, T, H), *[(B, H)] * (2 * parts))
    state, dstate = tuple(states[:parts]), tuple(states[parts:])

    def total() -> float:
        y, end, _ = forward(x, state, weights)
        return float(np.sum(dy * y) + sum(np.sum(d * s) for d, s in zip(dstate, end, strict=True)))

    _, _, tape = forward(x, state, weights)
    dx, dstate_0, dweights = cell.backward(dy, dstate, tape)
    for v, dv in zip((x, *state, *weights), (dx, *dstate_0, *dweights), strict=True):
        np.testing.assert_allclose(dv, gradcheck.numerical_gradient(total, v), rtol=1e-6, atol=1e-8)


def test_numerical_gradient_requires_float64() -> None:
    with pytest.raises(TypeError, match="float64, not float32"):
        gradcheck.numerical_gradient(lambda: 0.0, np.zeros(2, np.float32))


@pytest.mark.parametrize("name", CELLS)
def test_step_by_step_is_the_whole_sequence(name: str) -> None:
    forward, _, parts = CELLS[name]
    weights = random_weights(name, 3, 4)
    x, *state = draws(4, (2, 6, 3), *[(2, 4)] * parts)
    y, end, _ = forward(x, tuple(state), weights)
    carried = tuple(state)
    for t in range(6):
        out, carried, _ = forward(x[:, t : t + 1], carried, weights)
        np.testing.assert_allclose(out[:, 0], y[:, t], **CLOSE)
    for mine, other in zip(carried, end, strict=True):
        np.testing.assert_allclose(mine, other, **CLOSE)


@pytest.mark.parametrize("name", CELLS)
def test_outputs_may_be_changed_in_place(name: str) -> None:
    forward, cell, parts = CELLS[name]
    weights = random_weights(name, 3, 4)
    x, dy, *state = draws(4, (2, 6, 3), (2, 6, 4), *[(2, 4)] * parts)
    zeros = tuple(np.zeros_like(s) for s in state)
    y, end, tape = forward(x, tuple(state), weights)
    before = cell.backward(dy, zeros, tape)
    for array in (y, *end):
        array[:] = 7.0
    after = cell.backward(dy, zeros, tape)
    np.testing.assert_array_equal(before[0], after[0])
    for mine, other in zip(before[2], after[2], strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("B", "T"), [(2, 0), (0, 3)])
def test_empty_batches_and_sequences(name: str, B: int, T: int) -> None:
    forward, cell, parts = CELLS[name]
    weights = random_weights(name, 3, 4)
    state = tuple(draws(4, *[(B, 4)] * parts))
    y, end, tape = forward(np.zeros((B, T, 3)), state, weights)
    dx, dstate_0, dweights = cell.backward(np.zeros((B, T, 4)), state, tape)
    assert (y.shape, dx.shape) == ((B, T, 4), (B, T, 3))
    for mine, other in zip((*end, *dstate_0), (*state, *state), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert not any(dv.any() for dv in dweights)


@pytest.mark.parametrize("name", CELLS)
def test_float32_stays_float32_and_large_numbers_do_not_overflow(name: str) -> None:
    forward, cell, parts = CELLS[name]
    weights = type(random_weights(name, 3, 4))(*(w.astype(np.float32) for w in random_weights(name, 3, 4)))
    x, dy, *state = (a.astype(np.float32) for a in draws(4, (2, 6, 3), (2, 6, 4), *[(2, 4)] * parts))
    # rnn_relu is the only cell with unbounded outputs
    y, end, tape = forward(x if name == "rnn_relu" else 1e4 * x, tuple(state), weights)
    dx, dstate_0, dweights = cell.backward(dy, tuple(state), tape)
    for array in (y, *end, dx, *dstate_0, *dweights):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()


def test_rnn_rejects_other_nonlinearities() -> None:
    with pytest.raises(ValueError, match="'tanh' or 'relu', not 'sin'"):
        rnn.forward(np.zeros((1, 1, 3)), (np.zeros((1, 4)),), random_weights("rnn_tanh", 3, 4), "sin")  # type: ignore[arg-type]


def test_activations_match_torch() -> None:
    (a,) = draws(5, (4, 6))
    a = np.concatenate((a, [[-1000.0, -50.0, 0.0, 1.0, 50.0, 1000.0]]))
    close(activations.sigma(a), torch.sigmoid(torch.from_numpy(a)))
    close(activations.softmax(a), torch.softmax(torch.from_numpy(a), -1))


@pytest.mark.parametrize(("N", "V", "scale"), [(5, 4, 1.0), (1, 1, 1.0), (3, 7, 1000.0)])
def test_cross_entropy_matches_torch(N: int, V: int, scale: float) -> None:
    (logits,) = draws(6, (N, V))
    logits *= scale
    targets = np.random.default_rng(7).integers(V, size=N)
    value, dlogits = loss.cross_entropy(logits, targets)
    theirs = tensor(logits)
    total = nn.functional.cross_entropy(theirs, torch.from_numpy(targets))
    total.backward()
    close(np.asarray(value), total)
    close(dlogits, theirs.grad)


@pytest.mark.parametrize("targets", [[0, 4], [-1, 0], [0]])
def test_cross_entropy_rejects_invalid_targets(targets: list[int]) -> None:
    with pytest.raises(ValueError, match="2 integers between 0 and 3"):
        loss.cross_entropy(np.zeros((2, 4)), np.array(targets))


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clipping_matches_torch(limit: float) -> None:
    gradients = draws(8, (3, 4), (5,))
    kept = [g.copy() for g in gradients]

    def theirs() -> list[torch.Tensor]:
        tensors = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
        for t, g in zip(tensors, gradients, strict=True):
            t.grad = torch.tensor(g)
        return tensors

    by_norm = theirs()
    their_norm = nn.utils.clip_grad_norm_(by_norm, limit)
    clipped, norm = clip.clip_by_norm(gradients, limit)
    close(np.asarray(norm), their_norm)
    for mine, other in zip(clipped, by_norm, strict=True):
        close(mine, other.grad)

    by_value = theirs()
    nn.utils.clip_grad_value_(by_value, limit)
    for mine, other in zip(clip.clip_by_value(gradients, limit), by_value, strict=True):
        close(mine, other.grad)

    for mine, other in zip(gradients, kept, strict=True):  # neither function changes its input
        np.testing.assert_array_equal(mine, other)


def test_imports_numpy_only() -> None:
    code = (  # modules that "import elman" itself does not import
        "import sys, elman; before = set(sys.modules); import elman.reference, elman.reference.__main__;"
        "new = {m for m in set(sys.modules) - before if m.startswith('elman.')};"
        "print([m for m in new if not m.startswith('elman.reference')], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"


def test_examples_in_docstrings() -> None:
    for info in pkgutil.iter_modules(elman.reference.__path__, "elman.reference."):
        results = doctest.testmod(importlib.import_module(info.name))
        assert results.attempted > 0, info.name
        assert results.failed == 0, info.name
