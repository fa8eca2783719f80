"""Blocks around recurrent layers, and the short convolution inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elman.layers import Block, Recurrent, ShortConvolution, stack
from elman.tasks.language.options import LanguageConfig, with_defaults
from tests.conftest import close

OPTIONS: list[dict[str, Any]] = [{}, {"blocks": True}, {"blocks": True, "learning_rate": 0.02}]


@given(B=st.integers(1, 3), T=st.integers(0, 9), width=st.integers(1, 5), data=st.data())
def test_the_short_convolution(B: int, T: int, width: int, data: st.DataObject) -> None:
    """Against the definition, step by step."""
    layer = ShortConvolution(2, width).double()
    torch.nn.init.normal_(layer.weight)
    x, state = torch.randn(B, T, 2).double(), torch.randn(B, width - 1, 2).double()
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    resets = torch.rand(B, T) < 0.3 if data.draw(st.booleans()) else None
    y, final = layer(x, state, lengths, resets)
    assert y.shape == x.shape
    for b in range(B):
        past = list(state[b])
        for t in range(T if lengths is None else lengths[b]):
            if resets is not None and resets[b, t]:
                past = [torch.zeros(2).double()] * (width - 1)
            past.append(x[b, t])
            close(y[b, t], layer.bias + sum(layer.weight[k] * past[-1 - k] for k in range(width)))
            past = past[len(past) - (width - 1) :]
        close(final[b], torch.stack(past) if past else torch.zeros(0, 2).double())
        if lengths is not None:
            assert not y[b, lengths[b] :].any()


@pytest.mark.parametrize("cell", ["lstm", "mlstm"])
def test_a_block_equals_its_equations(cell: str) -> None:
    block = Block(Recurrent(cell, 6, 8), 4, 5).double()
    given = torch.randn(2, 7, 4).double()
    u = torch.nn.functional.rms_norm(given, (4,)) * block.norm.weight
    inside = block.layer(block.convolution(block.inward(u))[0])[0]  # type: ignore[misc]
    x = block.skip(given) + block.outward(torch.nn.functional.silu(block.gate(u)) * inside)
    v = torch.nn.functional.rms_norm(x, (5,)) * block.second_norm.weight
    a, b = block.hidden(v).split([10, 10], -1)
    close(block(given)[0], x + block.back(torch.nn.functional.silu(a) * b))


def test_steps_give_what_the_whole_gives() -> None:
    deep, x = stack(["gla", "gru"], 4, 8, 2, blocks=True).double(), torch.randn(2, 9, 4).double()
    y, final = deep(x)
    state: Any = None
    for t in range(9):
        one, state = deep.step(x[:, t], state)
        close(one, y[:, t])
    close(state, final)


def test_both_directions() -> None:
    deep = stack("gru", 4, 8, 2, bidirectional=True, blocks=True)
    y, state = deep(torch.randn(2, 9, 4), lengths=[9, 3])
    assert y.shape == (2, 9, 16)
    assert not y[1, 3:].any()
    assert len(state[0]) == 1  # no convolution: it would be causal in one direction only


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width"),
        ({"expansion": 0.0}, "expansion must be above 0"),
        ({"dropout": 1.5}, "dropout"),
        ({"layer": stack("gru", 4, 8, bidirectional=True), "width": 4}, "both directions"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Block(**{"layer": Recurrent("gru", 4, 8), "input_size": 4, **options})


def test_a_block_has_its_own_connections() -> None:
    with pytest.raises(ValueError, match="connection must be plain"):
        stack("gru", 4, 8, 2, blocks=True, connection="residual")


def test_the_learning_rate_of_blocks() -> None:
    rates = [with_defaults(LanguageConfig(steps=1, **options), 100).learning_rate for options in OPTIONS]
    assert rates == [1e-2, 3e-3, 0.02]
