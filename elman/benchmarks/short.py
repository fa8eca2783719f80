"""Short calls: layers over few steps, cells, and single steps in a loop, compared with torch.nn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import elman.nn
from elman.benchmarks.pairs import Row, side_by_side
from elman.layers import stack

_SIZES = (64, 128, 256, 512)
_STEPS = (1, 2, 4, 8, 16, 64)


def short(rounds: int) -> Iterator[Row]:
    """Compare elman.nn with torch.nn with the same weights, without and with gradients; then `layer.step`.

    Args:
        rounds: number of measurements per row.

    Yields:
        The rows of the table.
    """
    for kind in ("LSTM", "GRU", "RNN"):
        for gradients in (False, True):
            ratios = []
            for H in _SIZES:
                for T in _STEPS:
                    row = layer(kind, H, T, gradients, rounds)
                    ratios.append(row.pair.ratio)
                    yield row
            yield Row.mean(f"{kind}, {_work(gradients)}", f"torch.nn.{kind}", ratios)
    for kind in ("LSTMCell", "GRUCell", "RNNCell"):
        ratios = []
        for gradients in (False, True):
            for B in (1, 32):
                for H in _SIZES:
                    row = cell(kind, B, H, gradients, rounds)
                    ratios.append(row.pair.ratio)
                    yield row
        yield Row.mean(kind, f"torch.nn.{kind}", ratios)
    yield from loops(rounds)


def layer(kind: str, H: int, T: int, gradients: bool, rounds: int) -> Row:
    """Measure one call of a layer over (1, T, H).

    Args:
        kind: name of the layer, "LSTM", "GRU" or "RNN".
        H: number of inputs and of hidden units.
        T: number of steps.
        gradients: whether to run the backward pass too.
        rounds: number of measurements.

    Returns:
        The row of the table.
    """
    peer, module = getattr(nn, kind)(H, H, batch_first=True), getattr(elman.nn, kind)(H, H, batch_first=True)
    module.load_state_dict(peer.state_dict())
    x, h = torch.randn(1, T, H), torch.randn(1, 1, H)
    state = (h, h) if kind == "LSTM" else h
    pair = side_by_side(_run(module, x, state, gradients), _run(peer, x, state, gradients), rounds, 0.02)
    return Row(f"{kind}, {_work(gradients)}", f"1, {T}, {H}", f"torch.nn.{kind}", pair)


def cell(kind: str, B: int, H: int, gradients: bool, rounds: int) -> Row:
    """Measure one call of a cell over (B, H).

    Args:
        kind: name of the cell, "LSTMCell", "GRUCell" or "RNNCell".
        B: batch size.
        H: number of inputs and of hidden units.
        gradients: whether to run the backward pass too.
        rounds: number of measurements.

    Returns:
        The row of the table.
    """
    peer, module = getattr(nn, kind)(H, H), getattr(elman.nn, kind)(H, H)
    module.load_state_dict(peer.state_dict())
    x, h = torch.randn(B, H), torch.randn(B, H)
    state = (h, h) if kind == "LSTMCell" else h
    pair = side_by_side(_run(module, x, state, gradients), _run(peer, x, state, gradients), rounds, 0.02)
    return Row(f"{kind}, {_work(gradients)}", f"{B}, {H}", f"torch.nn.{kind}", pair)


def loops(rounds: int) -> Iterator[Row]:
    """Compare ``y, s = lstm(x, s)`` with T = 1, and `layer.step`, with torch.nn.LSTM.

    Args:
        rounds: number of measurements per row.

    Yields:
        The rows of the table.
    """
    for H, L in ((256, 1), (512, 1), (1024, 2)):
        peer, module = nn.LSTM(H, H, L, batch_first=True).eval(), elman.nn.LSTM(H, H, L, batch_first=True).eval()
        layers, x, h = stack("lstm", H, H, L).eval(), torch.randn(1, 1, H), torch.zeros(L, 1, H)
        state = layers.initial_state(x)

        def step(layers: Any = layers, x: Tensor = x[:, 0], state: Any = state) -> None:
            with torch.no_grad():
                layers.step(x, state)

        call = _run(peer, x, (h, h), False)
        size = f"1, 1, {L} x {H}"
        yield Row(
            "LSTM, one step", size, "torch.nn.LSTM", side_by_side(_run(module, x, (h, h), False), call, rounds, 0.02)
        )
        yield Row("layer.step, one step", size, "torch.nn.LSTM", side_by_side(step, call, rounds, 0.02))


def _work(gradients: bool) -> str:
    """Name the measured work."""
    return "forward + backward" if gradients else "forward"


def _run(module: nn.Module, x: Tensor, state: Any, gradients: bool) -> Callable[[], None]:
    """Return a function that runs the module: forward without gradients, or forward and backward."""

    def forward() -> None:
        with torch.no_grad():
            module(x, state)

    def both() -> None:
        output = module(x, state)
        (output[0] if isinstance(output, tuple) else output).sum().backward()

    return both if gradients else forward
