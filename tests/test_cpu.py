"""The cpu engine: exact, deterministic, and unharmed by whatever machine it finds itself on."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import elman
from elman.cells import CELLS
from elman.engines.cpu import operation
from elman.layers import Recurrent, packed, quantize, stack
from tests.conftest import CELL_FAMILY, close

KERNELS = [name for name, cell in CELL_FAMILY.items() if not cell.projected]


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def results(layer: Recurrent, x: Tensor, lengths: Tensor | None, resets: Tensor | None) -> list[Tensor]:
    """Output, final state and all gradients."""
    draw = torch.Generator().manual_seed(1)
    state = [torch.rand(x.shape[0], n, generator=draw).to(x.dtype).requires_grad_() for n in layer.sizes()]
    x = x.detach().clone().requires_grad_()
    y, final = layer(x, tuple(state), lengths, resets)
    weight = torch.randn(y.shape, generator=draw).to(y.dtype)
    total = (y * weight).sum() + sum(part.sum() for part in final)
    return [y.detach(), *map(Tensor.detach, final), *torch.autograd.grad(total, [x, *state, *layer.parameters()])]


def apart(values: list[Tensor], law: list[Tensor]) -> float:
    """The largest difference, relative to the largest value of each tensor.

    Where that is a hundredth of the largest of all, it is a sum that has cancelled out: relative to that hundredth.
    """
    most = max(float(b.abs().max()) for b in law if b.numel())
    return max(
        float((a.double() - b).abs().max()) / max(float(b.abs().max()), most / 100, 1e-12) if b.numel() else 0.0
        for a, b in zip(values, law, strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_float32_is_exact_to_2e_6(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(KERNELS))
    B, T = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 128))
    # One unit alone, or the norm of one input over units, may be all rounding.
    D, H = data.draw(st.integers(2, 70)), data.draw(st.integers(8, 70))
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B)))
    resets = torch.rand(B, T, generator=torch.Generator().manual_seed(T)) < data.draw(st.sampled_from([0.0, 0.1]))
    torch.manual_seed(B)
    layer = Recurrent(name if name in CELLS else CELL_FAMILY[name], D, H)
    x = torch.randn(B, T, D)
    double = copy.deepcopy(layer).double()
    with elman.engine("eager"):
        law = results(double, x.double(), lengths, resets)
    with elman.engine("eager"):
        eager = apart(results(layer, x, lengths, resets), law)
    with elman.engine("cpu", strict=True):
        ours = apart(results(layer, x, lengths, resets), law)
    assert ours < max(2e-6, 3 * eager)  # a few units, saturated, or without gates: eager itself is no better


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("size", [(1, 40, 16, 48), (7, 20, 33, 100), (40, 9, 64, 64)])
def test_bfloat16_is_close_and_threads_agree(name: str, size: tuple[int, ...], threads: int) -> None:
    B, T, D, H = size
    layer = Recurrent(CELL_FAMILY[name], D, H)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -0.15, 0.15)
    x = torch.randn(B, T, D)
    with elman.engine("eager"):
        law = results(copy.deepcopy(layer).double(), x.double(), None, None)
    with elman.engine("cpu", strict=True):
        assert apart(results(layer, x, None, None), law) < 1e-5
        rounded = results(layer.bfloat16(), x.bfloat16(), None, None)
    if name in ("rnn_relu", "indrnn"):  # rounding moves some values to the other side of the kink
        rounded, law = rounded[:2], law[:2]
    assert apart(rounded, law) < 2e-2


def test_the_same_bits_every_time(threads: int) -> None:
    layer = Recurrent("lstm", 64, 96)
    x, lengths = torch.randn(13, 50, 64), torch.randint(0, 51, (13,))
    first = results(layer, x, lengths, None)
    for _ in range(3):
        assert all(map(torch.equal, results(layer, x, lengths, None), first))


def test_values_that_are_no_numbers() -> None:
    for name in KERNELS:
        layer = Recurrent(CELL_FAMILY[name], 4, 20)
        x = torch.randn(7, 5, 4)
        x[0, 2, 1], x[1, 2, 1], x[2, 0, 0], x[3] = math.nan, math.inf, -math.inf, 1e4
        x[4], x[5] = -1e4, 1e-30
        with elman.engine("eager"), torch.no_grad():
            law = layer(x)
        with elman.engine("cpu", strict=True), torch.no_grad():
            y, state = layer(x)
        torch.testing.assert_close(y, law[0], atol=1e-6, rtol=1e-5, equal_nan=True)
        for ours, theirs in zip(state, law[1], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5, equal_nan=True)


def test_saturated_gates_stay_in_their_range() -> None:
    layer = Recurrent("rnn_tanh", 1, 16)
    with torch.no_grad():
        y, _ = layer(torch.linspace(-1e3, 1e3, 999).view(999, 1, 1))
    assert y.abs().max() <= 1


def test_inputs_of_any_layout() -> None:
    layer = Recurrent("gru", 6, 20)
    x = torch.randn(3, 5, 6)
    with elman.engine("eager"):
        law = layer(x)
    layouts = [
        x.transpose(0, 1).contiguous().transpose(0, 1),
        x.transpose(1, 2).contiguous().transpose(1, 2),
        torch.cat((x, x), 2)[..., :6],
        torch.stack((x, x), 3).flatten(2)[..., ::2],
    ]
    for other in layouts:
        close(layer(other), law, 1e-6)
    row = torch.randn(1, 1, 6)
    close(layer(row.expand(3, 5, 6))[0], layer(row.repeat(3, 5, 1))[0], 1e-7)


def test_operation_check() -> None:
    layer = Recurrent("peephole_lstm", 4, 5)
    x = torch.randn(2, 3, 4, requires_grad=True)
    layer(x)
    kernel = next(key for key in operation.LIBRARIES if key.startswith("PeepholeLSTM-float32"))
    w = layer.weights()
    state = torch.randn(2, 2, 5, requires_grad=True)
    vectors = torch.randn(3, 5, requires_grad=True)
    none = [torch.empty(0)] * 2
    arguments = (
        kernel, x, state, w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh, vectors, torch.tensor([3, 1]), None,
        None, none, [0.0, 0.0], 1, True,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.elman.scan.default, arguments)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("both", [False, True])
def test_compiled_without_a_break(both: bool) -> None:
    layer = stack(["lstm", "gru", "peephole_lstm"], 4, 6, bidirectional=both)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, lengths = torch.randn(3, 5, 4), torch.tensor([5, 2, 0])
    y, law = compiled(x, None, lengths)[0], layer(x, None, lengths)[0]
    close(y, law, 1e-6)
    ours = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
    theirs = torch.autograd.grad(law.square().sum(), list(layer.parameters()))
    close(ours, theirs, 1e-6)


def test_checkpointing() -> None:
    layer = Recurrent("lstm", 4, 6)
    x = torch.randn(3, 5, 4, requires_grad=True)
    for reentrant in (False, True):
        y = checkpoint(lambda x: layer(x)[0], x, use_reentrant=reentrant)
        again = torch.autograd.grad(y.sum(), x) if not reentrant else _backward(y, x)
        close(again, torch.autograd.grad(layer(x)[0].sum(), x), 1e-6)


def _backward(y: Tensor, x: Tensor) -> tuple[Tensor]:
    x.grad = None
    y.sum().backward()
    assert x.grad is not None
    return (x.grad,)


def test_backward_twice_through_one_graph() -> None:
    layer = Recurrent("lstm", 4, 6)
    y, _ = layer(torch.randn(3, 5, 4))
    first = torch.autograd.grad(y.sum(), layer.weight_hh, retain_graph=True)
    close(torch.autograd.grad(y.sum(), layer.weight_hh), first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(y.sum(), layer.weight_hh)


def test_no_weight_is_remembered() -> None:
    """Whatever way a weight is changed, also behind torch's back, the next call computes with it."""
    layer = Recurrent("lstm", 4, 20)
    x, other = torch.randn(2, 4), Recurrent("lstm", 4, 20)

    def changes() -> Iterator[None]:
        with torch.no_grad():
            layer.weight_hh[3, 5] += 1  # type: ignore[index]
            yield
            layer.bias_ih.mul_(2)  # type: ignore[union-attr]
            yield
        for matrix in (layer.weight_ih, layer.weight_hh):
            for row in range(0, 80, 7):
                matrix.data[row, row % 4] += 5  # type: ignore[union-attr]
                yield
        layer.weight_hh.detach().numpy()[11, 13] = 3.0  # type: ignore[union-attr]
        yield
        layer.bias_hh.data[7] -= 2  # type: ignore[union-attr]
        yield
        layer.weight_hh.data = torch.randn(80, 20)  # type: ignore[union-attr]
        yield
        layer.weight_hh.data = torch.randn(20, 80).T  # type: ignore[union-attr]
        yield
        layer.load_state_dict(other.state_dict())
        yield
        layer.weight_ih = torch.nn.Parameter(torch.randn(80, 4))
        yield
        quantize(layer)
        yield
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        layer(x[:, None])[0].sum().backward()
        optimizer.step()
        yield

    with torch.no_grad():
        _, state = layer.step(x)
    for _ in changes():
        with torch.no_grad():
            ours = layer.step(x, state)
            with elman.engine("eager"):
                close(ours, layer.step(x, state), 1e-5)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("size", [(1, 1, 3, 5), (1, 9, 16, 64), (3, 2, 7, 33), (5, 3, 40, 17), (2, 1, 1, 1)])
def test_weights_as_they_lie_and_packed_ones_agree(name: str, size: tuple[int, ...]) -> None:
    B, T, D, H = size
    layer = Recurrent(CELL_FAMILY[name], D, H)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3)
    x, state = torch.randn(B, T, D), tuple(torch.randn(B, n) for n in layer.sizes())
    lengths = torch.randint(0, T + 1, (B,))
    with torch.no_grad():
        short = layer(x, state, lengths)
        many = tuple(torch.cat([s] * 40) for s in state)
        y, final = layer(torch.cat([x] * 40), many, torch.cat([lengths] * 40))  # so many rows that weights are packed
        close((y[-B:], tuple(s[-B:] for s in final)), short, 2e-6)
        with elman.engine("eager"):
            close(short, layer(x, state, lengths), 5e-6)


def test_a_stepping_layer_is_copied_and_pickled() -> None:
    layer = Recurrent("gru", 4, 6)
    x = torch.randn(2, 4)
    with torch.no_grad():
        law = layer.step(x)
        close(copy.deepcopy(layer).step(x), law)
        close(pickle.loads(pickle.dumps(layer)).step(x), law)


def test_packed_weights_are_those_that_were_rounded() -> None:
    for name in KERNELS:
        layer = Recurrent(CELL_FAMILY[name], 37, 50).eval()
        before = layer.weight_ih.detach().clone()  # type: ignore[union-attr]
        quantize(layer)
        step = before.abs().amax(1, keepdim=True) / 127
        assert ((layer.weight_ih - before).abs() <= step / 2 + 1e-7).all()
        x = torch.randn(3, 37)
        with torch.no_grad():
            _, state = layer.step(x)
            with elman.engine("eager"):
                law = layer.step(x, state)
            close(layer.step(x, state), law, 2e-6)
            with packed(layer):
                assert "scale_ih" in layer.recurrence.packed.fields  # type: ignore[union-attr]
                close(layer.step(x, state), law, 1e-4)
                close(copy.deepcopy(layer).step(x, state), law, 2e-6)
                close(pickle.loads(pickle.dumps(layer)).step(x, state), law, 2e-6)
            quantize(layer, torch.bfloat16)
            with elman.engine("eager"):
                law = layer.step(x, state)
            with packed(layer):
                assert layer.recurrence.packed.bfloat16  # type: ignore[union-attr]
                close(layer.step(x, state), law, 2e-6)
            layer.weight_ih.data[3, 4] += 5.03  # type: ignore[index]
            with elman.engine("eager"):
                law = layer.step(x, state)
            close(layer.step(x, state), law, 1e-5)
            with packed(layer):  # not in bfloat16 any more
                close(layer.step(x, state), law, 1e-5)


def test_blocks_of_packed_weights_do_not_leave_any_behind() -> None:
    layer = Recurrent("gru", 3, 4).eval()
    quantize(layer)
    first, second = packed(layer), packed(layer)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert layer.recurrence.packed is not None
    second.__exit__(None, None, None)
    assert layer.recurrence.packed is None
    with packed(object()):
        pass


@pytest.mark.parametrize("lengths", [None, torch.tensor([30, 4, 0, 1, 17])], ids=["full", "lengths"])
@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
def test_a_projection_is_folded_into_r(lengths: Tensor | None, resets: bool) -> None:
    layer = Recurrent("projected_lstm", 7, 20, proj_size=6).double()
    x = torch.randn(5, 30, 7, dtype=torch.float64)
    where = torch.zeros(5, 30, dtype=torch.bool)
    where[0, 0] = where[0, 9] = where[1, 2] = where[4, 16] = True
    with elman.engine("eager"):
        law, plain = results(layer, x, lengths, where if resets else None), layer(x, None, lengths)
    with elman.engine("cpu", strict=True):
        close(results(layer, x, lengths, where if resets else None), law)
        close(layer(x, None, lengths), plain)


@pytest.mark.parametrize("heads", [1, 2, 5])
def test_heads_see_only_their_own(heads: int) -> None:
    layer = Recurrent("gru", 4, 20, heads=heads).double()
    assert layer.weight_hh.shape == (60, 20 // heads)  # type: ignore[union-attr]
    size = 20 // heads
    state = (torch.randn(2, 20, dtype=torch.float64).requires_grad_(),)
    _, (h,) = layer(torch.randn(2, 3, 4, dtype=torch.float64), state)
    (grad,) = torch.autograd.grad(h[:, :size].sum(), state)
    assert grad[:, :size].abs().min() > 0
    assert not grad[:, size:].any()
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    with elman.engine("eager"):
        law = results(layer, x, None, None)
    close(results(layer, x, None, None), law)
