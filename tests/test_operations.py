"""Every operation that a step may use, as value and as gradient, against the loop over the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import elman
from elman.layers import Recurrent
from tests.own_cells import cell_of, same_as_eager

#: By name: from two values of each unit. Groups share a kernel, where each has a part of the state for itself.
POINTWISE: dict[str, dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "activations": {
        "gelu": lambda a, b: F.gelu(a),
        "gelu tanh": lambda a, b: F.gelu(a, approximate="tanh"),
        "elu": lambda a, b: F.elu(a, 0.7),
        "selu": lambda a, b: F.selu(a),
        "celu": lambda a, b: F.celu(a, 0.6),
        "hardsigmoid": lambda a, b: F.hardsigmoid(4 * a),
        "hardswish": lambda a, b: F.hardswish(4 * a),
        "hardtanh": lambda a, b: F.hardtanh(a, -0.5, 0.3),
        "silu": lambda a, b: F.silu(a),
        "mish": lambda a, b: F.mish(a),
        "softplus": lambda a, b: F.softplus(a, 2, 1.5),
        "logsigmoid": lambda a, b: F.logsigmoid(a),
        "leaky_relu": lambda a, b: F.leaky_relu(a, 0.2),
        "relu6": lambda a, b: F.relu6(5 * a),
        "softsign": lambda a, b: F.softsign(a),
        "tanhshrink": lambda a, b: F.tanhshrink(a),
        "softshrink": lambda a, b: F.softshrink(a, 0.1),
        "hardshrink": lambda a, b: F.hardshrink(a, 0.1),
        "threshold": lambda a, b: F.threshold(a, 0.1, 2.0),
        "logit": lambda a, b: a.sigmoid().logit(),
        "logit eps": lambda a, b: a.sigmoid().logit(0.2),
        "square": lambda a, b: a.square(),
        "rsqrt": lambda a, b: (a * a + 0.1).rsqrt(),
        "reciprocal": lambda a, b: (a.abs() + 0.5).reciprocal(),
    },
    "whole numbers": {
        "floor": lambda a, b: (3 * a).floor() * b,
        "ceil": lambda a, b: (3 * a).ceil() * b,
        "trunc": lambda a, b: (3 * a).trunc() * b,
        "round": lambda a, b: (3 * a).round() * b,
        "round decimals": lambda a, b: a.round(decimals=2) * b,
        "frac": lambda a, b: (3 * a).frac(),
        "fmod": lambda a, b: torch.fmod(3 * a, b),
        "fmod number": lambda a, b: torch.fmod(a, 0.7),
        "remainder": lambda a, b: torch.remainder(3 * a, b),
        "remainder number": lambda a, b: a % 0.5,
        "div floor": lambda a, b: torch.div(3 * a, b.sigmoid(), rounding_mode="floor") + a,
        "div trunc": lambda a, b: torch.div(3 * a, b.sigmoid(), rounding_mode="trunc") + a,
        "sign": lambda a, b: a.sign() * b,
        "copysign": lambda a, b: torch.copysign(a, b),
        "heaviside": lambda a, b: torch.heaviside(a.detach(), b.detach()) * a,
        "signbit": lambda a, b: torch.where(a.signbit(), b, a),
    },
    "functions": {
        "atan": lambda a, b: a.atan(),
        "atan2": lambda a, b: torch.atan2(a, b),
        "asin": lambda a, b: (a.sin() * 0.9).asin(),
        "acos": lambda a, b: (a.cos() * 0.9).acos(),
        "tan": lambda a, b: a.sin().tan(),
        "sinh": lambda a, b: a.sinh(),
        "cosh": lambda a, b: a.cosh(),
        "asinh": lambda a, b: a.asinh(),
        "acosh": lambda a, b: (a * a + 2).acosh(),
        "atanh": lambda a, b: (a.sin() * 0.9).atanh(),
        "exp2": lambda a, b: a.exp2(),
        "expm1": lambda a, b: a.expm1(),
        "log1p": lambda a, b: torch.log1p(a * a),
        "log2": lambda a, b: (a.abs() + 0.1).log2(),
        "log10": lambda a, b: (a * a + 0.1).log10(),
        "erf": lambda a, b: a.erf() + b.erfc(),
        "sinc": lambda a, b: a.sinc(),
        "logaddexp": lambda a, b: torch.logaddexp(a, b),
        "logaddexp2": lambda a, b: torch.logaddexp2(a, b),
        "xlogy": lambda a, b: torch.xlogy(a, b.abs() + 0.1),
        "hypot": lambda a, b: torch.hypot(a, b),
        "number ** value": lambda a, b: 2**a + torch.pow(0.3, b),
        "value ** value": lambda a, b: (a.abs() + 0.1) ** b,
        "value ** number": lambda a, b: a**2 + b**3 + (a * a + 1) ** 1.7 + (b * b + 1) ** -0.5,
        "degrees": lambda a, b: torch.deg2rad(a) + torch.rad2deg(b),
    },
    "choices": {
        "lerp near": lambda a, b: torch.lerp(a, b, 0.3),
        "lerp far": lambda a, b: torch.lerp(a, b, 0.7),
        "lerp by a tensor": lambda a, b: torch.lerp(a, b, a * b),
        "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.3),
        "addcdiv": lambda a, b: torch.addcdiv(a, a, b.exp(), value=0.3),
        "nan_to_num": lambda a, b: torch.nan_to_num(torch.log(a).detach(), 0.5, 1.0, -1.0) * b + torch.nan_to_num(a),
        "clamp by tensors": lambda a, b: torch.clamp(a, min=b) + torch.clamp(a, b * 0.1, a * 2),
        "clamp on a side": lambda a, b: a.clip(0.1) + b.clamp(max=0.2) + torch.clip(a, -0.2, 0.4),
        "maximum": lambda a, b: torch.maximum(a, b) - torch.max(a, 2 * b) + torch.min(a, b),
        "fmax": lambda a, b: torch.fmax(a, b) + 0.5 * torch.fmin(a, 2 * b),
        "xor": lambda a, b: torch.where((a > 0) ^ (b > 0), a, b) + torch.where(torch.logical_xor(a > 0.1, b), a, b),
        "truths multiplied and added": lambda a, b: (
            torch.where((a > 0) * (b > 0), a, b) + torch.where((a > 0) + (b > 0), 2 * a, b)
        ),
        "truths of where": lambda a, b: torch.where(torch.where(a > 0, b > 0, a < b), a, b),
        "isnan": lambda a, b: torch.where(torch.log(a).isnan(), b, a),
        "isfinite": lambda a, b: torch.where(a.isfinite(), b, a) + torch.where(a.isinf(), b, a),
        "where of numbers": lambda a, b: torch.where(a > 0, 0.0, 1.0) * b,
    },
}
ACROSS: dict[str, dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "sums": {
        "softmax": lambda a, b: F.softmax(a, -1) * 3,
        "log_softmax": lambda a, b: F.log_softmax(a, 1),
        "softmin": lambda a, b: F.softmin(a, -1) * 3,
        "softmax of gates": lambda a, b: sum(torch.softmax(torch.cat((a, b), -1), -1).chunk(2, -1)) * 3,  # type: ignore[return-value]
        "logsumexp": lambda a, b: a.logsumexp(-1, keepdim=True) * b,
        "var": lambda a, b: a.var(-1, keepdim=True) * b,
        "var without correction": lambda a, b: a.var(-1, correction=0)[:, None] * b,
        "var of gates": lambda a, b: torch.cat((a, b), -1).var(-1, keepdim=True) * b,
        "std": lambda a, b: a.std(-1, keepdim=True) * b,
        "std and mean": lambda a, b: (
            torch.std_mean(a, -1, keepdim=True)[0] * torch.var_mean(a, -1, keepdim=True)[1] * b
        ),
        "standardised": lambda a, b: (a - a.mean(-1, keepdim=True)) / (a.std(-1, keepdim=True) + 1e-5),
        "rms_norm": lambda a, b: F.rms_norm(a, a.shape[-1:]),
        "group_norm": lambda a, b: F.group_norm(a, 1) + b,
        "glu": lambda a, b: F.glu(torch.cat((a, b), -1)),
        "gates together": lambda a, b: F.gelu(torch.cat((a, b), -1)).chunk(2, -1)[0] * F.elu(b),
        "nansum": lambda a, b: a.nansum(-1, True) * b,
        "count": lambda a, b: (a > 0).sum(-1, keepdim=True) * b / a.shape[-1],
    },
    "largest": {
        "amax": lambda a, b: a.amax(-1, keepdim=True) * b,
        "amax of gates": lambda a, b: torch.cat((a, b), -1).amax(-1, keepdim=True) * a,
        "amin": lambda a, b: a.amin(-1)[:, None] * b,
        "aminmax": lambda a, b: (
            torch.aminmax(a, dim=-1, keepdim=True)[0] * torch.aminmax(b, dim=-1, keepdim=True)[1] * b
        ),
        "max": lambda a, b: a.max(-1, keepdim=True)[0] * b,
        "max of a product": lambda a, b: (a * b).max(1).values.unsqueeze(1) * b,
        "max of gates": lambda a, b: torch.cat((a, b), -1).max(-1, keepdim=True).values * a,
        "min": lambda a, b: a.min(-1, keepdim=True)[0] * b,
        "those that are largest": lambda a, b: torch.where(a >= a.amax(-1, keepdim=True), a * b, b),
        "norm inf": lambda a, b: (a * b).norm(p=math.inf, dim=-1, keepdim=True) * b,
        "norm -inf": lambda a, b: torch.linalg.vector_norm(a, -math.inf, dim=-1, keepdim=True) * b,
        "any": lambda a, b: torch.where((a > 1).any(-1, keepdim=True), a, b),
        "all": lambda a, b: torch.where((a > -1).all(-1, keepdim=True), a, b),
    },
    "norms and cumulative sums": {
        "norm": lambda a, b: a.norm(dim=-1, keepdim=True) * b,
        "norm 1": lambda a, b: a.norm(p=1, dim=-1, keepdim=True) * b,
        "norm 3": lambda a, b: a.norm(p=3, dim=-1, keepdim=True) * b,
        "vector_norm": lambda a, b: torch.linalg.vector_norm(a, dim=-1, keepdim=True) * b,
        "normalize": lambda a, b: F.normalize(a, dim=-1),
        "cosine_similarity": lambda a, b: F.cosine_similarity(a, b, dim=-1)[:, None] * a,
        "cumsum": lambda a, b: a.cumsum(-1) * b,
        "cumsum from the end": lambda a, b: a.flip(-1).cumsum(-1).flip(-1) * b,
        "cumulative softmax": lambda a, b: a.softmax(-1).cumsum(-1) * b,
        "cumsum of gates": lambda a, b: torch.cat((a, b), -1).cumsum(-1).chunk(2, -1)[1],
    },
}  # fmt: skip


def _cell(operations: dict[str, Callable[[Tensor, Tensor], Tensor]], mixes_units: bool) -> elman.Cell:
    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> tuple[Tensor, ...]:
        a, b = x.a + h.a * w.p, x.b + h.b
        parts = [torch.tanh(f(a, b)) + 0.1 * old for f, old in zip(operations.values(), s[1:], strict=True)]
        return (torch.tanh(sum(parts) / 4), *parts)  # type: ignore[arg-type]

    state = ("h", *(f"s{k}" for k in range(len(operations))))
    return cell_of(step, state=state, weights={"p": (-1.0, 1.0)}, mixes_units=mixes_units)


def _differences(
    operations: dict[str, Callable[[Tensor, Tensor], Tensor]], mixes_units: bool, H: int, dtype: torch.dtype
) -> dict[str, float]:
    """By operation: how far its value, and the gradient of it, is from that of the loop."""
    cell, B, T, D = _cell(operations, mixes_units), 5, 4, 3
    layer = Recurrent(cell, D, H).to(dtype)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -2 / H**0.5, 2 / H**0.5)
    x, resets = torch.randn(B, T, D, dtype=dtype), torch.rand(B, T) < 0.2
    start = [torch.randn(B, H, dtype=dtype) for _ in cell.state]
    found: list[list[list[Tensor]]] = []
    for engine in ("eager", "cpu"):
        with elman.engine(engine, strict=True):
            leaves = [t.clone().requires_grad_() for t in (x, *start)]
            _, state = layer(leaves[0], tuple(leaves[1:]), torch.tensor([4, 3, 4, 1, 0]), resets)
            found.append([
                [part, *torch.autograd.grad(
                    part, [*leaves, *layer.parameters()], torch.arange(part.numel()).view_as(part).cos().to(dtype),
                    retain_graph=True, allow_unused=True, materialize_grads=True)]
                for part in state
            ])  # fmt: skip
    gaps = [
        max(float(((a - b).abs() / (1 + b.abs())).detach().max()) for a, b in zip(ours, law, strict=True))
        for law, ours in zip(*found, strict=True)
    ]
    return dict(zip(["h", *operations], gaps, strict=True))


@pytest.mark.usefixtures("native_kernels")
@pytest.mark.parametrize("group", POINTWISE)
def test_pointwise(group: str) -> None:
    gaps = _differences(POINTWISE[group], False, 11, torch.float64)
    assert not {name: gap for name, gap in gaps.items() if not gap < 1e-10}


@pytest.mark.usefixtures("native_kernels")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("group", ACROSS)
def test_across_units(group: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for H in (7, 117) if threads == 2 else (1, 4, 11):  # the kernel cuts many units into groups, one a thread
        operations = {n: f for n, f in ACROSS[group].items() if H > 1 or not n.startswith(("std", "var"))}
        if H == 1 and operations != ACROSS[group]:
            continue  # the variance of one value is NaN
        gaps = _differences(operations, True, H, torch.float64)
        assert not {name: gap for name, gap in gaps.items() if not gap < 1e-10}, H
    torch.set_num_threads(before)


@pytest.mark.parametrize("group", ["activations", "functions"])
def test_in_single_precision(group: str) -> None:
    gaps = _differences(POINTWISE[group], False, 11, torch.float32)
    assert not {name: gap for name, gap in gaps.items() if not gap < 2e-4}


def test_functions_of_single_precision() -> None:
    """Those that vectors compute by polynomials, at all sizes of numbers."""

    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> tuple[Tensor, ...]:
        return x.a, x.a.log(), x.a.log1p(), x.a.expm1(), torch.pow(1.7, x.a)

    layer = Recurrent(cell_of(step, input_gates=("a",), hidden_gates=(), state=tuple("habcd")), 1, 16, bias=False)
    sizes = torch.cat((torch.logspace(-44, 38, 330), torch.linspace(-1.5, 3, 450), -torch.logspace(-30, 1.9, 200)))
    values = torch.cat((sizes, torch.tensor([0.0, math.inf, math.nan, 1.0, -1.0])))
    with torch.no_grad():
        layer.weight_ih.fill_(1.0)
        with elman.engine("cpu", strict=True):
            _, (x, *ours) = layer(values[:, None, None])
        law = [x.double().log(), x.double().log1p(), x.double().expm1(), 1.7 ** x.double()]
    for mine, right, tolerance in zip(ours, law, (1e-6, 1e-6, 1e-6, 1e-5), strict=True):
        torch.testing.assert_close(mine, right.float(), rtol=tolerance, atol=1e-37, equal_nan=True)


def test_largest_of_equal_values() -> None:
    """amax shares its gradient among all units that have the largest value, max gives it to the first."""

    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        a = torch.round(2 * x.a) + 0 * x.a  # many are equal
        a = a + (x.a - x.a.detach())
        return a.amax(-1, keepdim=True) * x.b + a.max(-1, keepdim=True).values * h.a + a.min(-1)[0][:, None] * h.b

    same_as_eager(cell_of(step, mixes_units=True))


def test_a_vector_in_norms_and_activations() -> None:
    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        a = F.prelu(x.a + h.a, w.p) + F.rms_norm(x.b, w.q.shape, w.q) + F.group_norm(h.b, 1, w.p, w.q)
        return torch.tanh(a + torch.softmax(w.p, 0) * s.h + w.q / w.q.norm() + w.p.mean() * s.h)

    same_as_eager(cell_of(step, mixes_units=True, weights={"p": (-1.0, 1.0), "q": (0.5, 1.0)}))


VECTORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sorted": lambda p, q: p.sort()[0] + q.sort(descending=True).values,
    "largest": lambda p, q: p.max(0).values + q.min(dim=0)[0],
    "lists of vectors": lambda p, q: torch.stack((p, q)).mean(0) + torch.cat([p, q]).logsumexp(0),
    "parts": lambda p, q: p.unbind()[0] + q[1:].sum() + q[-1],
    "more axes": lambda p, q: (p[:, None] * q[None]).mean(1) + p[None, :, None].expand(2, -1, 3).sum((0, 2)),
    "several results": lambda p, q: torch.var_mean(p, 0)[0] + torch.aminmax(q)[1] + torch.std_mean(q)[1] * p,
    "keywords": lambda p, q: torch.cumsum(input=p, dim=0) + torch.where(condition=p > q, input=p, other=q),
}


@pytest.mark.parametrize("name", VECTORS)
def test_any_operation_on_vectors(name: str) -> None:
    """They are made outside the kernel."""

    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        return torch.tanh(x.a + h.a * VECTORS[name](w.p, w.q)) + x.b * h.b

    same_as_eager(cell_of(step, weights={"p": (-1.0, 1.0), "q": (0.5, 1.0)}))


@pytest.mark.parametrize("unused", ["x.b", "h.b", "s.c", "x.dt"])
def test_a_value_that_a_gradient_alone_reads(unused: str) -> None:
    """That of an operation on several gates reads all of them, though the step goes on with one."""

    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> tuple[Tensor, ...]:
        other = {"x.b": x.b, "h.b": h.b, "s.c": s.c, "x.dt": x.dt}[unused]
        a = F.gelu(torch.cat((x.a + h.a, other), -1)).chunk(2, -1)[0]
        return torch.tanh(a), 0.5 * a

    same_as_eager(cell_of(step, state=("h", "c"), raw=("dt",), mixes_units=True))


def test_cumulative_sums_in_different_phases() -> None:
    """Some are there while others are made; each has a name of its own in C, whatever the author's variables."""

    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        scan2 = torch.tanh(h.a) * s.h
        scan = (torch.tanh(s.h) + x.a).max(-1, keepdim=True)[0] * scan2
        scan1 = torch.cat((torch.tanh(scan2), torch.tanh(scan)), -1).cumsum(-1).tanh().chunk(2, -1)[1]
        scan3 = torch.tanh(scan1.cumsum(-1) - x.b) + h.n(scan1)
        return torch.tanh(scan3.flip(-1).cumsum(-1).flip(-1) * scan1 + scan2)

    same_as_eager(cell_of(step, hidden_gates=("a",), inner_gates=("n",), mixes_units=True))


def test_a_product_that_a_gradient_alone_reads() -> None:
    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        a = F.gelu(torch.cat((x.a, h.n(s.h * x.b)), -1)).chunk(2, -1)[0]
        return torch.tanh(a)

    same_as_eager(cell_of(step, hidden_gates=(), inner_gates=("n",), mixes_units=True))


INNER: dict[str, Callable[[Any, Any], Tensor]] = {
    "a state cut off": lambda x, s: s.h.detach(),
    "a constant": lambda x, s: torch.full_like(x.a, 0.5),
    "truth values": lambda x, s: (x.a > 0).to(x.a.dtype),
    "whole numbers": lambda x, s: torch.sign(s.h) + x.a.detach().floor(),
}


@pytest.mark.parametrize("name", INNER)
def test_an_inner_gate_of_what_has_no_gradient(name: str) -> None:
    """Its matrix and its bias have one."""

    def step(self: Any, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        return torch.tanh(x.b + h.n(INNER[name](x, s)) + 0.1 * s.h)

    same_as_eager(cell_of(step, hidden_gates=(), inner_gates=("n",)))


def test_bfloat16() -> None:
    for group, mixes in ((POINTWISE["activations"], False), (ACROSS["largest"], True)):
        gaps = _differences(group, mixes, 300 if mixes else 11, torch.bfloat16)
        assert all(math.isfinite(gap) for gap in gaps.values())
