"""Products with weights in int8: the same integers by every instruction, and what the rounding of vectors costs."""

from __future__ import annotations

import ctypes
import platform
from ctypes import c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from elman.engines.cpu import build
from elman.layers import Recurrent, packed, quantize
from tests.test_writing import network

_PRODUCT = """
i64 weights_size(i64 N, i64 K) { return (N + 3 * VL - 1) / (3 * VL) * 3 * VL * fours(K); }
int multiply(const real *v, const real *w, i64 N, i64 K, int8_t *to, real *scales, char *row, real *y) {
    if (!pack_8(to, scales, w, 1, 3, N, K)) return 0;
    to_digits(row, v, K);
    for (i64 n = 0; n < N; n += 3 * VL) product_8(3, 0, K, row, K, to + n * fours(K), scales + 2 * n, y + n);
    return 1;
}
"""
#: Flags for each way to multiply (four bytes, pairs, single numbers; wide and narrow vectors), and what they need.
_FLAGS = {
    "-march=native": "sse2", "-march=x86-64-v3 -mavxvnni": "avx_vnni", "-march=x86-64-v3": "avx2",
    "-march=x86-64": "sse2", "-march=x86-64-v3 -mavx512f": "avx512f", "-march=sandybridge": "avx",
}  # fmt: skip


def product(v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """w (N, K) times v (K,) by int8.h, with scales of 1."""
    folder = Path(build.__file__).parent
    source = (folder / "vector.h").read_text() + (folder / "int8.h").read_text() + _PRODUCT
    library, (N, K) = build.load(source, "int8"), w.shape
    library.weights_size.restype = ctypes.c_int64
    size = library.weights_size(N, ctypes.c_int64(K))
    to, scales, row = (np.zeros(2 * size + 999, kind) for kind in (np.int8, np.float32, np.int64))
    given, y = (v.astype(np.float32), w.astype(np.float32)), np.zeros(size, np.float32)
    at = [c_void_p(array.ctypes.data) for array in (*given, to, scales, row, y)]
    assert library.multiply(*at[:2], ctypes.c_int64(N), ctypes.c_int64(K), *at[2:])
    return y[:N]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86")
@pytest.mark.parametrize("flags", _FLAGS)
def test_every_instruction_gives_the_same_integers(flags: str, monkeypatch: Any, tmp_path: Path) -> None:
    if _FLAGS[flags] not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"no {_FLAGS[flags]}")
    monkeypatch.setattr(build, "_flags", lambda: [*build._FLAGS, *flags.split()])
    monkeypatch.setattr(build, "_folder", lambda: tmp_path)
    draw = np.random.default_rng(1)
    for N, K in ((1, 1), (5, 3), (50, 37), (70, 64), (3, 1000)):
        w, q = draw.integers(-127, 128, (N, K)), draw.integers(-32639, 32640, K)
        w[0], w[:, 0], q[0] = 127, -127, 32639  # so that all scales are 1
        q[1:] = np.where(q[1:] % 5 == 0, -32639, q[1:])
        high = (q + 128) >> 8
        upper, lower = w @ high, w @ (q - 256 * high)
        assert np.array_equal(product(q, w), np.float32(np.float32(upper) * 256.0 + lower)), (N, K)
    w = draw.integers(-127, 128, (9, 40))
    w[:, 3] = 127
    v = draw.normal(size=40).astype(np.float32)
    assert np.abs(product(v, w) - w @ v).max() < 40 * 127 * np.abs(v).max() / 65278
    assert not product(np.zeros(40), w).any() and not product(np.full(40, 1e-40), w).any()
    for wrong in (np.nan, np.inf, -np.inf):
        v[7] = wrong
        assert np.isnan(product(v, w)).all()


@torch.no_grad()
def test_rounding_of_vectors_costs_nothing() -> None:
    """The loss of a text with products in int8 is that with the rounded weights; only the latter cost anything."""
    net, ids = network(hidden_size=24), torch.randint(11, (8, 30))

    def loss() -> float:
        return float(cross_entropy(net(ids[:, :-1])[0].flatten(0, 1), ids[:, 1:].flatten()))

    before = loss()
    quantize(net)
    rounded = loss()
    with packed(net):
        assert abs(loss() - rounded) < 2e-5
    assert 0 < abs(rounded - before) < 0.01


@torch.no_grad()
def test_rows_and_threads_do_not_change_a_bit() -> None:
    layer = Recurrent("lstm", 70, 200).eval()
    quantize(layer)
    x, before = torch.randn(5, 7, 70), torch.get_num_threads()
    with packed(layer):
        expected = layer(x)[0]
        try:
            torch.set_num_threads(2)
            assert torch.equal(layer(x)[0], expected)
        finally:
            torch.set_num_threads(before)
        assert torch.equal(torch.cat([layer(row[None])[0] for row in x]), expected)
