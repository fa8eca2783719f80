"""Parts of sequences, recurrences over them, layers at several rates."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from elman.layers import Recurrent, stack
from elman.layers.hierarchical import Hierarchical, MultiRate, parts
from elman.layers.pooling import POOLINGS, pooling_class
from elman.layers.state import flatten
from elman.networks.classifier import backward_size
from tests.conftest import close


def both(size: int, units: int, kind: str = "mean") -> tuple:
    layer = stack("gru", size, units, bidirectional=True).double()
    return layer, pooling_class(kind)(layer.output_size, backward_size(layer)).double()


def test_parts_are_what_was_cut() -> None:
    x = torch.arange(12.0).view(2, 6, 1)
    begins = torch.tensor([[0, 0, 1, 0, 0, 0], [0, 1, 1, 0, 0, 1]], dtype=torch.bool)
    found = parts(x, begins, torch.tensor([6, 4]))
    assert found.counts.tolist() == [2, 3]
    assert found.lengths.tolist() == [2, 4, 1, 1, 2]
    assert found.x[..., 0].tolist() == [[0, 1, 0, 0], [2, 3, 4, 5], [6, 0, 0, 0], [7, 0, 0, 0], [8, 9, 0, 0]]
    assert found.back(found.x, 6)[..., 0].tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 0, 0]]
    assert found.together(found.x[:, 0])[..., 0].tolist() == [[0, 2, 0], [6, 7, 8]]
    empty = parts(x, begins, torch.tensor([0, 2]))
    assert empty.counts.tolist() == [0, 2]


@pytest.mark.parametrize("kind", POOLINGS)
def test_hierarchical_is_a_recurrence_over_pooled_parts(kind: str) -> None:
    lower, pooling = both(3, 4, kind)
    upper, _ = both(8, 5)
    layer = Hierarchical(lower, pooling, upper)
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    resets = torch.tensor([[1, 0, 0, 1, 0, 0, 0], [1, 0, 1, 1, 0, 0, 0]], dtype=torch.bool)
    lengths = torch.tensor([7, 5])
    y, _ = layer(x, None, lengths, resets)
    assert y.shape == (2, 7, 10)
    assert not y[1, 5:].any()
    for row, cuts in ((0, [0, 3, 7]), (1, [0, 2, 3, 5])):
        pooled = []
        for start, end in pairwise(cuts):
            w, _ = lower(x[row : row + 1, start:end])
            pooled.append(pooling(w)[0])
        expected, _ = upper(torch.stack(pooled, 1))
        for k, (start, end) in enumerate(pairwise(cuts)):
            close(y[row, start:end], expected[0, k].expand(end - start, -1))
    _, _, _, weights = layer.read(x, None, lengths, resets)
    if kind != "max":
        assert weights[0, :3].sum().item() == pytest.approx(1.0)
    assert not layer.causal
    with pytest.raises(ValueError, match="cannot run step by step"):
        layer.step(x[:, 0])
    with pytest.raises(ValueError, match="the upper layer must read the 10 features of the lower one, got: 8"):
        Hierarchical(upper, both(8, 5)[1], both(8, 5)[0])


def test_hierarchies_of_any_depth() -> None:
    lower, pooling = both(3, 4)
    middle, above = both(8, 4)
    top, _ = both(8, 2)
    layer = Hierarchical(lower, pooling, Hierarchical(middle, above, top))
    x = torch.randn(1, 6, 3, dtype=torch.float64)
    levels = torch.tensor([[2, 0, 1, 2, 1, 0]])
    y, _ = layer(x, None, None, levels)
    assert y.shape == (1, 6, 4)
    close(y[0, 0], y[0, 2])  # one part of the upper kind
    close(y[0, 3], y[0, 5])
    assert not torch.allclose(y[0, 0], y[0, 3])


def clockwork(x: Tensor, layers: list[Recurrent], periods: list[int], resets: list[int]) -> Tensor:
    """The definition, step by step."""
    states: list = [None] * len(layers)
    held = [x.new_zeros(1, layer.output_size) for layer in layers]
    rows, count = [], 0
    for t in range(x.shape[1]):
        if t in resets:
            states, held, count = [None] * len(layers), [h * 0 for h in held], 0
        y = x[:, t]
        for k, (layer, period) in enumerate(zip(layers, periods, strict=True)):
            if count % period == 0:
                held[k], states[k] = layer.step(y, states[k])
            y = held[k]
        rows.append(torch.cat(held, -1))
        count += 1
    return torch.stack(rows, 1)


def test_layers_at_several_rates() -> None:
    layers = [Recurrent("lstm", 3, 4).double(), Recurrent("gru", 4, 2).double(), Recurrent("gru", 2, 3).double()]
    layer = MultiRate(layers, [1, 2, 3])
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    resets = torch.zeros(2, 9, dtype=torch.bool)
    resets[1, 4] = True
    lengths = torch.tensor([9, 7])
    y, state = layer(x, None, lengths, resets)
    close(y[:1], clockwork(x[:1], layers, [1, 2, 3], []))
    close(y[1:, :7], clockwork(x[1:, :7], layers, [1, 2, 3], [4]))
    assert not y[1, 7:].any()
    first, middle = layer(x[:, :4], None, torch.tensor([4, 4]), resets[:, :4])
    second, end = layer(x[:, 4:], middle, torch.tensor([5, 3]), resets[:, 4:])
    close(torch.cat((first, second), 1), y)
    close(end, state)
    now = None
    for t in range(9):
        step, now = layer.step(x[:1, t], now)
        close(step, y[:1, t])
    for wrong, message in (
        (([], []), "each layer needs a period, got: 0 layers"),
        ((layers, [1, 2]), "3 layers, 2 periods"),
        ((layers, [1, 0, 2]), "periods must be 1 step or more"),
        ((layers[::-1], [1, 2, 3]), "must read the 3 features of the one below, got: 4"),
    ):
        with pytest.raises(ValueError, match=message):
            MultiRate(*wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rates_hold_for_any_number_of_steps(dtype: torch.dtype) -> None:
    """bfloat16 knows no whole number between 256 and 258."""
    layer = MultiRate([Recurrent("indrnn", 1, 2), Recurrent("indrnn", 2, 2)], [1, 3]).to(dtype)
    x = torch.randn(2, 600, 1).to(dtype)
    with torch.no_grad():
        y, end = layer(x)
        slow, moved = y[..., 2:], torch.arange(600) % 3 == 0
        assert torch.equal(slow[:, ~moved], slow[:, moved].repeat_interleave(2, 1))
        state = None
        for start in range(0, 600, 100):
            _, state = layer(x[:, start : start + 100], state)
        for ours, law in zip(flatten(state).values(), flatten(end).values(), strict=True):
            torch.testing.assert_close(ours, law)
        state = None
        for t in range(300):
            step, state = layer.step(x[:, t], state)
        torch.testing.assert_close(step, y[:, 299], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_states_of_several_rates_may_be_changed_in_place(steps: int) -> None:
    layer = MultiRate([Recurrent("gru", 3, 4), Recurrent("gru", 4, 4)], [1, 2])
    x = torch.randn(2, steps, 3)
    start = layer.initial_state(x)
    for run in (lambda: layer(x, start), lambda: layer.step(torch.randn(2, 3), start)):
        y, state = run()
        before = y.detach().clone()
        for part in flatten(state).values():
            part[0] = 7
        assert torch.equal(y, before)
        assert not any(part.any() for part in flatten(start).values())
        total = y.sum() + sum((part * part).sum() for part in flatten(state).values())
        if total.requires_grad:
            total.backward()


def test_rates_that_a_dtype_cannot_count() -> None:
    layer = MultiRate([Recurrent("indrnn", 1, 2), Recurrent("indrnn", 2, 2)], [7, 100]).bfloat16()
    for run in (lambda x: layer(x), lambda x: layer.step(x[:, 0])):
        with pytest.raises(ValueError, match=r"cannot hold the common multiple 700 of the periods \(7, 100\)"):
            run(torch.zeros(1, 2, 1).bfloat16())
