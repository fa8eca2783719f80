"""Outputs and states may be changed in place, as those of torch.nn may."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import elman.nn as ours
from elman.layers import RecurrentLayer
from elman.layers import state as states
from tests.conftest import D, H, close
from tests.test_nn import flat

B, T = 4, 3
DONE = torch.tensor([True, False, False, True])


def parts(state: Any) -> list[Tensor]:
    return list(states.flatten(state).values())


@pytest.mark.parametrize("steps", [0, 1, T])
@pytest.mark.parametrize("gradients", [True, False])
def test_states_of_layers(layer: RecurrentLayer, engine_name: str, gradients: bool, steps: int) -> None:
    x = torch.randn(B, steps, D, dtype=torch.float64)
    start = states.map_state(layer.initial_state(x), lambda s: s + 1)
    with torch.set_grad_enabled(gradients):
        y, state = layer(x, start)
        before = [part.detach().clone() for part in (y, *parts(state))]
        for part in parts(state):
            part[DONE] = 0
        for part, old in zip(parts(state), before[1:], strict=True):
            close(part, old.masked_fill(DONE.view(-1, *[1] * (old.dim() - 1)), 0))
        close(y, before[0])  # what is given out shares no memory
        assert all(bool((part == 1).all()) for part in parts(start))
        y, _ = layer(torch.randn_like(x), state)
    if gradients and steps:
        sum((part * part).sum() for part in (y, *parts(state))).backward()  # type: ignore[union-attr]
        assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_steps_of_layers(layer: RecurrentLayer, engine_name: str) -> None:
    if not layer.causal:
        return
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            y, state = layer.step(torch.randn(B, D, dtype=torch.float64))
            for part in parts(state):
                part[DONE] = 0
            again, state = layer.step(torch.randn(B, D, dtype=torch.float64), state)
            y.mul_(2) if not gradients else None
    assert again.shape == y.shape


def test_outputs_of_layers(layer: RecurrentLayer, engine_name: str) -> None:
    x = torch.randn(B, T, D, dtype=torch.float64)
    with torch.no_grad():
        y, state = layer(x)
        before = [part.clone() for part in parts(state)]
        y[DONE] = 0
        y *= 2
    close(parts(state), before)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(kind: str, engine_name: str, gradients: bool) -> None:
    """h[done] = 0 between steps, as reinforcement learning does it."""
    results, draw = [], torch.randn(T, B, D)
    for library in (torch.nn, ours):
        torch.manual_seed(1)
        cell, state = getattr(library, kind)(D, H), None
        with torch.set_grad_enabled(gradients):
            for x in draw:
                state = cell(x, state)
                if library is torch.nn and kind == "RNNCell":  # whose gradient needs h as it was
                    state = state.masked_fill(DONE[:, None], 0)  # type: ignore[union-attr]
                else:
                    for part in flat(state):
                        part[DONE] = 0
        result = flat(state)
        if gradients:
            result += torch.autograd.grad(sum((part * part).sum() for part in result), list(cell.parameters()))  # type: ignore[arg-type]
        results.append(result)
    close(*results, 1e-5)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_states_of_faces(kind: str, both: bool, engine_name: str, gradients: bool) -> None:
    module = getattr(ours, kind)(D, H, num_layers=2, bidirectional=both)
    with torch.set_grad_enabled(gradients):
        y, state = module(torch.randn(T, B, D))
        for part in flat(state):
            part[:, DONE] = 0
        again, _ = module(torch.randn(T, B, D), state)
        if gradients:
            (y.sum() + again.sum() + sum((part * part).sum() for part in flat(state))).backward()
        else:
            y[:, DONE] = 0


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_one_part_changes_alone(kind: str) -> None:
    """A change of h is none of c: each has a version of its own."""
    module = getattr(ours, f"{kind}Cell")(D, H)
    h, *rest = flat(module(torch.randn(B, D)))
    loss = sum((part * part).sum() for part in rest) + module.weight_ih.sum()
    h[DONE] = 0
    loss.backward()
