"""Layers side by side with torch.nn, and with the loop over a cell's step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

import elman.nn
from elman.benchmarks import others
from elman.benchmarks.machine import peak, read_seconds
from elman.benchmarks.pairs import Row, side_by_side
from elman.cells import CELLS, Cell
from elman.engines import engine
from elman.layers import Recurrent, stack
from elman.training.trainer import mixed_precision

#: B, T, H; the input is as wide as the layer.
SIZES = [(1, 64, 256), (1, 256, 512), (16, 64, 256), (32, 128, 256), (64, 128, 512), (128, 64, 1024), (64, 256, 128)]
_EAGER_SIZES = [(1, 64, 256), (16, 64, 256), (32, 128, 256)]


class Leaky(Cell):
    """A cell of one's own: a = sigma(l);  h' = a h + (1 - a) tanh(W x + R h)."""

    input_gates = hidden_gates = ("n",)
    weights = {"l": 0.0}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        a = torch.sigmoid(w.l)
        return a * state.h + (1 - a) * torch.tanh(x.n + h.n)


def layers(rounds: int) -> Iterator[Row]:
    """Single steps, then forward and backward over whole sequences.

    Steps come first: torch.nn takes new memory for its weights at every call, which costs it many times as
    much in a process that does nothing else than in one whose allocator has grown by training before.
    """
    yield from steps(rounds)
    yield from over_torch("LSTM", "forward + backward", rounds)
    yield from over_torch("GRU", "forward + backward", rounds)
    yield from over_torch("RNN", "forward + backward", rounds)
    yield from over_torch("LSTM", "forward", rounds)
    if mixed_precision("auto", torch.device("cpu")):  # elsewhere torch takes seconds for a call
        yield from over_torch("LSTM", "forward + backward, bf16", rounds)
    for cell in ("peephole_lstm", "coupled_lstm", "mgu", "layer_norm_lstm", "projected_lstm", "original_gru", Leaky):
        yield from over_eager(cell, rounds)
    yield from over_others(rounds)


def over_torch(kind: str, work: str, rounds: int) -> Iterator[Row]:
    """elman.nn beside torch.nn with the same weights; the input needs a gradient, as inside a network."""
    dtype = torch.bfloat16 if "bf16" in work else torch.float32
    ratios = []
    for B, T, H in SIZES[2:] if "bf16" in work else SIZES:
        theirs, ours = getattr(nn, kind)(H, H).to(dtype), getattr(elman.nn, kind)(H, H).to(dtype)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(T, B, H).to(dtype).requires_grad_("backward" in work)
        run = _forward if work == "forward" else _both
        pair = side_by_side(run(ours, x), run(theirs, x), rounds)
        operations = 4 * B * T * H * theirs.weight_ih_l0.shape[0] * (3 if "backward" in work else 1)
        share = operations / pair.ours / peak() if dtype == torch.float32 else None
        ratios.append(pair.ratio)
        yield Row(f"{kind}, {work}", f"{B}, {T}, {H}", f"torch.nn.{kind}", pair, share)
    yield Row.mean(f"{kind}, {work}", f"torch.nn.{kind}", ratios)


def over_eager(cell: str | type[Cell], rounds: int) -> Iterator[Row]:
    """The engine that is chosen beside the loop over the step, forward and backward."""
    name = cell if isinstance(cell, str) else f"{cell.__name__} (user's)"
    projected = isinstance(cell, str) and CELLS[cell].projected
    ratios = []
    for B, T, H in _EAGER_SIZES:
        layer = Recurrent(cell, H, H, proj_size=H // 2 if projected else 0)
        x = torch.randn(B, T, H, requires_grad=True)

        def loop(layer: Recurrent = layer, x: Tensor = x) -> None:
            with engine("eager"):
                _both(layer, x)()

        pair = side_by_side(_both(layer, x), loop, min(rounds, 5))
        ratios.append(pair.ratio)
        yield Row(f"{name}, forward + backward", f"{B}, {T}, {H}", "eager engine", pair)
    yield Row.mean(f"{name}, forward + backward", "eager engine", ratios)


def over_others(rounds: int) -> Iterator[Row]:
    """elman.nn.LSTM beside ONNX Runtime (forward) and JAX (forward and backward), where they are installed."""
    sizes = [(1, 64, 256), (32, 128, 256), (64, 256, 128)]
    if find_spec("onnxruntime") and find_spec("onnx"):
        for B, T, H in sizes:
            theirs = others.onnxruntime_forward(B, T, H, torch.get_num_threads())
            pair = side_by_side(_forward(elman.nn.LSTM(H, H), torch.randn(T, B, H)), theirs, rounds)
            yield Row("LSTM, forward", f"{B}, {T}, {H}", "ONNX Runtime", pair)
    if find_spec("jax"):
        for B, T, H in sizes:
            ours = _both(elman.nn.LSTM(H, H), torch.randn(T, B, H, requires_grad=True))
            yield Row(
                "LSTM, forward + backward",
                f"{B}, {T}, {H}",
                "JAX",
                side_by_side(ours, others.jax_both(B, T, H), rounds),
            )


def steps(rounds: int) -> Iterator[Row]:
    """One step at batch 1, beside torch.nn.LSTM, and beside a plain read of the weights' bytes."""
    for H, L in ((256, 1), (512, 1), (1024, 2)):
        theirs, ours = nn.LSTM(H, H, L, batch_first=True).eval(), stack("lstm", H, H, L).eval()
        x = torch.randn(1, H)
        with torch.inference_mode():
            state, other = ours.step(x)[1], theirs(x[:, None])[1]

            def step(ours: Any = ours, x: Tensor = x, state: Any = state) -> None:
                with torch.inference_mode():
                    ours.step(x, state)

            def call(theirs: Any = theirs, x: Tensor = x[:, None], other: Any = other) -> None:
                with torch.inference_mode():
                    theirs(x, other)

            pair = side_by_side(step, call, rounds)
            yield Row("LSTM, one step", f"1, 1, {L} x {H}", "torch.nn.LSTM", pair)
            reading = read_seconds(8 * H * H * L * 4) / torch.get_num_threads()
            yield Row(
                "LSTM, one step",
                f"1, 1, {L} x {H}",
                "reading the weights",
                pair._replace(theirs=reading, ratio=reading / pair.ours),
            )


def _forward(module: nn.Module, x: Tensor) -> Callable[[], None]:
    def work() -> None:
        with torch.inference_mode():
            module(x)

    return work


def _both(module: nn.Module, x: Tensor) -> Callable[[], None]:
    def work() -> None:
        module.zero_grad()
        x.grad = None
        module(x)[0].sum().backward()

    return work
