"""The kernel of additive attention equals the code in torch, which runs wherever the kernel cannot."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import elman
from elman.engines import additive_scores
from elman.engines.additive import reference
from elman.engines.cpu import additive, library
from elman.layers.attention import Additive, Memory

Arguments = tuple[Tensor, Tensor, Tensor]


def inputs(B: int, T: int, S: int, A: int, scale: float = 1.0, seed: int = 0) -> Arguments:
    draw = torch.Generator().manual_seed(seed)
    query, keys, weight = (torch.randn(*shape, generator=draw) for shape in ((B, T, A), (B, S, A), (1, A)))
    return query * scale, keys * scale, weight


def with_gradients(scores: Callable[..., Tensor], arguments: Arguments) -> list[Tensor]:
    """The scores and the gradients of their sum with random weights, all in float64."""
    leaves = [t.detach().requires_grad_() for t in arguments]
    output = scores(*leaves)
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.dtype)
    return [t.double() for t in (output.detach(), *torch.autograd.grad(output, leaves, grad))]


def assert_near(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * float(other.abs().max()))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of the kernel: "forward" or "backward"."""
    found: list[str] = []
    call = additive._call

    def counted(name: str, job: Any) -> None:
        found.append(name)
        call(name, job)

    monkeypatch.setattr(additive, "_call", counted)
    return found


@pytest.fixture(autouse=True)
def _kernel() -> None:
    if additive.library() is None:
        pytest.skip("no C compiler")


@settings(max_examples=40)
@given(
    *(st.integers(1, most) for most in (4, 9, 19, 40)),
    st.sampled_from([1e-4, 0.1, 1.0, 5.0, 30.0]),
    st.integers(0, 2**16),
)
def test_equals_torch(B: int, T: int, S: int, A: int, scale: float, seed: int) -> None:
    arguments = inputs(B, T, S, A, scale, seed)
    found = with_gradients(additive.scores, arguments)
    exact = with_gradients(reference, tuple(t.double() for t in arguments))
    for k, one in enumerate(found):  # 1 - tanh^2 keeps few digits where all units are saturated, in torch too
        size = max(float(exact[k].abs().max()), 1.0 if scale > 1 else 0.0)
        torch.testing.assert_close(one, exact[k], rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("sizes", [(2, 65, 17, 40), (1, 6, 300, 33), (3, 16, 49, 100)])
@pytest.mark.parametrize("scale", [0.01, 2.0])
def test_sizes_beyond_a_block(sizes: tuple[int, int, int, int], scale: float) -> None:
    arguments = inputs(*sizes, scale)
    exact = with_gradients(reference, tuple(t.double() for t in arguments))
    assert_near(with_gradients(additive.scores, arguments), exact)


def test_large_values_next_to_small_ones() -> None:
    query, keys, weight = inputs(2, 4, 5, 40)
    query[0, 1, 3], keys[0, 2, 3], keys[1, 0, 39], query[1, 3, 39] = 60.0, -60.5, 19.9, -19.5
    query[0, 0, 20:] *= 1e-4
    arguments = query, keys, weight
    exact = with_gradients(reference, tuple(t.double() for t in arguments))
    assert_near(with_gradients(additive.scores, arguments), exact)


def test_infinity_and_nan() -> None:
    query, keys, weight = inputs(1, 3, 3, 5)
    query[0, 0, 1], keys[0, 1, 2] = torch.inf, torch.nan
    torch.testing.assert_close(additive.scores(query, keys, weight), reference(query, keys, weight), equal_nan=True)


def test_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = inputs(3, 40, 21, 70)
    results = []
    monkeypatch.setattr(additive, "_SHARED", 0)
    for count in (1, 2, 3):
        monkeypatch.setattr(additive, "threads", lambda count=count: count)
        results.append(with_gradients(additive.scores, arguments))
    monkeypatch.setattr(additive, "source", library._own)  # as in a forked process
    results.append(with_gradients(additive.scores, arguments))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_strides() -> None:
    query, keys, weight = inputs(4, 6, 5, 24)
    views = query.transpose(0, 1).contiguous().transpose(0, 1), keys[:, :1].expand(4, 5, 24), weight
    for arguments in (views, (query.mT.contiguous().mT, keys[::2].repeat_interleave(2, 0), weight)):
        assert_near(with_gradients(additive.scores, arguments), with_gradients(reference, arguments))
    leaf = query.clone().requires_grad_()
    additive.scores(leaf, keys, weight).sum().backward()  # a gradient with strides of 0
    (expected,) = torch.autograd.grad(reference(leaf, keys, weight).sum(), leaf)
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)])
def test_gradients_of_some_inputs(wanted: tuple[int, ...]) -> None:
    arguments = inputs(2, 3, 4, 20)
    results = []
    for scores in (additive.scores, reference):
        leaves = [t.clone().requires_grad_(bool(want)) for t, want in zip(arguments, wanted, strict=True)]
        scores(*leaves).square().sum().backward()
        results.append([t.grad for t in leaves])
    for found, expected in zip(*results, strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_second_derivatives(calls: list[str]) -> None:
    arguments = inputs(2, 3, 4, 6)
    results = []
    for scores in (additive.scores, reference):
        leaves = [t.clone().requires_grad_() for t in arguments]
        first = torch.autograd.grad(scores(*leaves).square().sum(), leaves, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    assert calls == ["forward", "backward"]  # the last part of the second derivative is a first one


def test_batched_gradients() -> None:
    leaves = [t.requires_grad_() for t in inputs(2, 3, 4, 6)]
    grads = torch.randn(5, 2, 3, 4)
    found = torch.autograd.grad(additive.scores(*leaves), leaves, grads, is_grads_batched=True)
    expected = torch.autograd.grad(reference(*leaves), leaves, grads, is_grads_batched=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# ---- the door ----


def attention(A: int = 64) -> tuple[Additive, Tensor, Memory]:
    torch.manual_seed(0)
    layer = Additive(query_size=6, memory_size=7, size=A)
    return layer, torch.randn(3, 5, 6), layer.read(torch.randn(3, 9, 7), torch.tensor([9, 4, 1]))


def test_the_layer(calls: list[str]) -> None:
    layer, query, memory = attention()
    context, weights, _ = layer(query, memory)
    context.sum().backward()
    assert calls == ["forward", "backward"]
    found = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    memory = attention()[2]._replace(keys=layer.keys(memory.values, memory.mask))
    with elman.engine("eager"):
        other = layer(query, memory)
    other[0].sum().backward()
    torch.testing.assert_close((context, weights), other[:2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, [p.grad for p in layer.parameters()], rtol=1e-4, atol=1e-5)
    assert len(calls) == 2


def test_steps_of_beam_search(calls: list[str]) -> None:
    layer, _, memory = attention(128)
    query = torch.randn(9, 6)
    with torch.inference_mode():
        found = layer.step(query, memory)[0]
    assert calls == ["forward"]
    with torch.no_grad(), elman.engine("eager"):
        torch.testing.assert_close(found, layer.step(query, memory)[0], rtol=1e-5, atol=1e-6)


def test_autocast(calls: list[str]) -> None:
    layer, query, memory = attention()
    results = []
    for name in ("cpu", "eager"):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16), elman.engine(name):
            context, weights, _ = layer(query, layer.read(memory.values))
        context.float().square().sum().backward()
        results.append((context, weights, [p.grad for p in layer.parameters()]))
    assert calls == ["forward", "backward"]
    (found, found_weights, grads), (expected, expected_weights, others) = results
    assert found.dtype == expected.dtype and found_weights.dtype == expected_weights.dtype
    torch.testing.assert_close((found, found_weights), (expected, expected_weights), rtol=0.02, atol=0.02)
    torch.testing.assert_close(grads, others, rtol=0.05, atol=0.05)


def test_where_torch_runs(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    layer, query, memory = attention()
    layer.requires_grad_(False)
    keys = memory.keys.detach()
    q = layer.query(query).detach()
    expected = reference(q, keys, layer.score.weight)

    def assert_same(found: Tensor) -> None:
        torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-5)

    for name in ("eager", "torch"):
        with elman.engine(name):
            assert_same(additive_scores(q, keys, layer.score))
    assert_same(additive_scores(q.double(), keys.double(), copy.deepcopy(layer.score).double()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.trace is deprecated
        traced = torch.jit.trace(lambda q, k: additive_scores(q, k, layer.score), (q, keys), check_trace=False)
    assert_same(traced(q, keys))
    assert_same(torch.func.vmap(lambda q, k: additive_scores(q[None], k[None], layer.score)[0])(q, keys))
    _, tangent = torch.func.jvp(lambda q: additive_scores(q, keys, layer.score), (q,), (torch.ones_like(q),))
    assert tangent.shape == expected.shape
    handle = layer.score.register_forward_pre_hook(lambda module, given: None)
    assert_same(additive_scores(q, keys, layer.score))
    handle.remove()
    monkeypatch.setattr(additive, "library", lambda: None)  # no C compiler
    assert_same(additive_scores(q, keys, layer.score))
    assert not calls


@pytest.mark.parametrize(("B", "T", "S"), [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_empty(B: int, T: int, S: int) -> None:
    layer = Additive(4, 5, 8)
    query = torch.randn(B, T, 4, requires_grad=True)
    for name in ("cpu", "eager"):
        with elman.engine(name):
            context, weights, _ = layer(query, layer.read(torch.randn(B, S, 5)))
            assert context.shape == (B, T, 5) and weights.shape == (B, T, S)
            context.sum().backward()


def test_export() -> None:
    layer, query, memory = attention()
    values = memory.values.detach()

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = layer

        def forward(self, query: Tensor, values: Tensor) -> Tensor:
            return self.attention(query, self.attention.read(values))[0]

    program = torch.export.export(Reads(), (query, values))
    assert not any("elman" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(query, values), Reads()(query, values), rtol=1e-5, atol=1e-6)
