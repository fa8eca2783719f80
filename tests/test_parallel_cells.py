"""The cells without recurrent matrices, and the sLSTM, against their papers' equations in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import elman
from elman import cells, engines
from elman.cells import CELLS
from elman.layers import Recurrent
from tests.conftest import PARALLEL, H, close, recurrent
from tests.test_recurrent import LENGTHS, gradients, inputs, some_resets, some_state

Array = NDArray[np.float64]


def sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def mingru(g: dict[str, Array], w: dict[str, Array]) -> Array:
    h, ys = np.zeros_like(g["z"][0]), []
    for z, n in zip(sigma(g["z"]), g["n"], strict=True):
        h = (1 - z) * h + z * n
        ys.append(h)
    return np.stack(ys)


def minlstm(g: dict[str, Array], w: dict[str, Array]) -> Array:
    h, ys = np.zeros_like(g["f"][0]), []
    for f, i, n in zip(sigma(g["f"]), sigma(g["i"]), g["n"], strict=True):
        h = f / (f + i) * h + i / (f + i) * n
        ys.append(h)
    return np.stack(ys)


def qrnn(g: dict[str, Array], w: dict[str, Array]) -> Array:
    """A convolution of width 2 over time, then fo-pooling."""
    z, f, o = (np.stack([g[k][t] + (g[f"v{k}"][t - 1] if t else 0) for t in range(len(g[k]))]) for k in "zfo")
    c, ys = np.zeros_like(z[0]), []
    for t in range(len(z)):
        c = sigma(f[t]) * c + (1 - sigma(f[t])) * np.tanh(z[t])
        ys.append(sigma(o[t]) * c)
    return np.stack(ys)


def sru(g: dict[str, Array], w: dict[str, Array]) -> Array:
    c, ys = np.zeros_like(g["f"][0]), []
    for t in range(len(g["f"])):
        f, r = sigma(g["f"][t] + w["v_f"] * c), sigma(g["r"][t] + w["v_r"] * c)
        c = f * c + (1 - f) * g["n"][t]
        ys.append(r * c + (1 - r) * g["k"][t])
    return np.stack(ys)


def rg_lru(g: dict[str, Array], w: dict[str, Array]) -> Array:
    h, ys = np.zeros_like(g["r"][0]), []
    for r, i, u in zip(sigma(g["r"]), sigma(g["i"]), g["u"], strict=True):
        a = sigma(w["Lambda"]) ** (8 * r)
        h = a * h + np.sqrt(1 - a**2) * (i * u)
        ys.append(h)
    return np.stack(ys)


def lru(g: dict[str, Array], w: dict[str, Array]) -> Array:
    """The sum over all past inputs, s_t = sum over k of lambda^k gamma (B x)_(t-k), in complex numbers."""
    eigenvalue = np.exp(-np.exp(w["nu"]) + 1j * np.exp(w["theta"]))
    x = np.exp(w["gamma"]) * (g["u"] + 1j * g["v"])
    return np.stack([sum(eigenvalue**k * x[t - k] for k in range(t + 1)).real for t in range(len(x))])


def slstm(g: dict[str, Array], w: dict[str, Array]) -> Array:
    """Without the stabiliser m."""
    h, ys = np.zeros_like(g["i"][0]), []
    c, n = h, h
    for t in range(len(g["i"])):
        i, f, z, o = (g[k][t] + h @ w[f"R_{k}"].T + w[f"b_h{k}"] for k in "ifzo")
        c = sigma(f) * c + np.exp(i) * np.tanh(z)
        n = sigma(f) * n + np.exp(i)
        h = sigma(o) * c / n
        ys.append(h)
    return np.stack(ys)


PAPERS: dict[str, Callable[[dict[str, Array], dict[str, Array]], Array]] = {
    "mingru": mingru,
    "gated_mingru": lambda g, w: sigma(g["o"]) * mingru(g, w),
    "minlstm": minlstm,
    "gated_minlstm": lambda g, w: sigma(g["o"]) * minlstm(g, w),
    "qrnn": qrnn,
    "sru": sru,
    "rg_lru": rg_lru,
    "lru": lru,
    "slstm": slstm,
}


def by_the_paper(layer: Recurrent, x: torch.Tensor) -> torch.Tensor:
    """y (B, T, H) by the NumPy function, from the layer's weights."""
    arrays = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    products = x.numpy().swapaxes(0, 1) @ arrays["weight_ih"].T + arrays["bias_ih"]
    names = layer.cell.input_gates
    gates = dict(zip(names, np.split(products, len(names), -1), strict=True))
    if layer.cell.hidden_gates:
        arrays |= {f"R_{k}": m for k, m in zip(names, np.split(arrays["weight_hh"], len(names)), strict=True)}
        arrays |= {f"b_h{k}": b for k, b in zip(names, np.split(arrays["bias_hh"], len(names)), strict=True)}
    return torch.from_numpy(PAPERS[next(n for n, c in CELLS.items() if c is layer.cell)](gates, arrays).swapaxes(0, 1))


def test_every_cell_has_its_paper() -> None:
    assert set(PAPERS) == set(PARALLEL)


@pytest.mark.parametrize("name", PAPERS)
def test_equals_the_paper(name: str) -> None:
    layer, x = recurrent(name).double(), inputs()
    close(layer(x)[0], by_the_paper(layer, x))


@pytest.mark.parametrize("name", PARALLEL)
def test_every_engine_equals_eager(name: str) -> None:
    layer, x = recurrent(name).double(), inputs()
    arguments = (x, some_state(layer, x), LENGTHS, some_resets())
    expected = gradients(layer, "eager", *arguments)
    assert bool(engines.affine(layer.cell)) is (name not in ("sru", "slstm"))
    for engine in ("cpu", "scan"):
        close(gradients(layer, engine, *arguments), expected)


@pytest.mark.parametrize("name", PAPERS)
def test_extreme_inputs_give_finite_gradients(name: str) -> None:
    layer = recurrent(name)
    x = inputs().float() * torch.tensor([0.0, 1e2, 1e3, 1e4])[:, None, None]
    x.requires_grad_()
    with elman.engine("eager"):
        y, _ = layer(x)
    y.square().mean().backward()
    assert all(t.isfinite().all() for t in (y, x.grad, *(p.grad for p in layer.parameters())))  # type: ignore[union-attr]


def test_the_first_step_of_an_slstm() -> None:
    """m starts at minus infinity: an input gate of exp(-500) is all that n has."""
    layer = recurrent("slstm").double()
    layer.bias_ih.data[:H] = -500.0  # type: ignore[union-attr]
    x = inputs()
    y, (_, _, n, _) = layer(x)
    o, z = (x[:, 0] @ w.T for w in (layer.weight_ih[3 * H :], layer.weight_ih[2 * H : 3 * H]))  # type: ignore[index]
    o, z = (g + b[k * H : (k + 1) * H] for g, k in ((o, 3), (z, 2)) for b in [layer.bias_ih + layer.bias_hh])  # type: ignore[operator]
    close(y[:, 0], torch.sigmoid(o) * torch.tanh(z))
    assert (n >= 1).all()
    resets = torch.zeros(x.shape[:2], dtype=torch.bool)
    resets[:, 2] = True
    close(layer(x, None, None, resets)[0][:, 2:], layer(x[:, 2:])[0])


def test_initial_eigenvalues() -> None:
    layer = Recurrent("lru", 3, 1000)
    radius = torch.exp(-torch.exp(layer.nu.detach()))  # type: ignore[operator]
    assert radius.min() >= 0.5 and radius.max() <= 0.99
    close((radius.square() < (0.5**2 + 0.99**2) / 2).float().mean(), torch.tensor(0.5), 1e-2)
    close(torch.exp(layer.gamma.detach()), (1 - radius.square()).sqrt(), 1e-4)  # type: ignore[operator]
    assert torch.exp(layer.theta.detach()).max() <= 2 * math.pi + 1e-5  # type: ignore[operator]
    decay = torch.sigmoid(Recurrent("rg_lru", 3, 1000).Lambda.detach()) ** 8  # type: ignore[operator]
    assert 0.099 <= decay.min() < 0.12 and 0.98 < decay.max() <= 0.9991


@pytest.mark.parametrize("radii", [(-0.1, 0.5), (0.5, 0.5), (0.5, 1.1)])
def test_wrong_rings(radii: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 <= r_min < r_max <= 1"):
        cells.ring(*radii)
    with pytest.raises(ValueError, match="max_phase"):
        cells.ring(0.1, 0.9, 7.0)
