"""Layers, compared with torch.nn, the eager engine, ONNX Runtime and JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

import elman.nn
from elman.benchmarks import chunkwise, peers
from elman.benchmarks.machine import peak, read_seconds
from elman.benchmarks.pairs import Row, side_by_side
from elman.cells import CELLS, Cell
from elman.engines import engine
from elman.layers import Recurrent, stack
from elman.training.trainer import mixed_precision

#: B, T, H; the input size is H.
SIZES = [(1, 64, 256), (1, 256, 512), (16, 64, 256), (32, 128, 256), (64, 128, 512), (128, 64, 1024), (64, 256, 128)]
_EAGER_SIZES = [(1, 64, 256), (16, 64, 256), (32, 128, 256)]


class Leaky(Cell):
    """A user-defined cell: a = sigma(l);  h' = a h + (1 - a) tanh(W x + R h)."""

    input_gates = hidden_gates = ("n",)
    weights = {"l": 0.0}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        a = torch.sigmoid(w.l)
        return a * state.h + (1 - a) * torch.tanh(x.n + h.n)


def layers(rounds: int) -> Iterator[Row]:
    """Measure single steps, then forward and backward passes over whole sequences.

    Single steps come first: torch.nn.LSTM allocates memory for its weights at every call, which takes many times as
    long in a new process as in one whose allocator holds memory from earlier training.

    Args:
        rounds: number of measurements per row.

    Yields:
        The rows of the table.
    """
    yield from steps(rounds)
    yield from compare_torch("LSTM", "forward + backward", rounds)
    yield from compare_torch("GRU", "forward + backward", rounds)
    yield from compare_torch("RNN", "forward + backward", rounds)
    yield from compare_torch("LSTM", "forward", rounds)
    if mixed_precision("auto", torch.device("cpu")):  # on other processors torch takes seconds per call
        yield from compare_torch("LSTM", "forward + backward, bf16", rounds)
    for cell in (
        "peephole_lstm", "coupled_lstm", "mgu", "layer_norm_lstm", "projected_lstm", "original_gru", "mingru", "lru",
        Leaky,
    ):  # fmt: skip
        yield from compare_eager(cell, rounds)
    yield from compare_chunkwise(rounds)
    yield from compare_peers(rounds)


def compare_torch(kind: str, work: str, rounds: int) -> Iterator[Row]:
    """Compare elman.nn with torch.nn with the same weights; the input requires a gradient, as inside a network.

    Args:
        kind: name of the layer, "LSTM", "GRU" or "RNN".
        work: "forward" or "forward + backward", with ", bf16" appended for bfloat16.
        rounds: number of measurements per row.

    Yields:
        The rows of the table, and their geometric mean.
    """
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


def compare_eager(cell: str | type[Cell], rounds: int) -> Iterator[Row]:
    """Compare the engine chosen by default with the eager engine, forward and backward.

    Args:
        cell: name or class of the cell.
        rounds: number of measurements per row.

    Yields:
        The rows of the table, and their geometric mean.
    """
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
        matrices = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
        share = 6 * B * T * matrices / pair.ours / peak()
        yield Row(f"{name}, forward + backward", f"{B}, {T}, {H}", "eager engine", pair, share)
    yield Row.mean(f"{name}, forward + backward", "eager engine", ratios)


def compare_chunkwise(rounds: int) -> Iterator[Row]:
    """Compare the mLSTM with its chunkwise form in operations of torch, 4 heads of 64 units, forward and backward.

    Args:
        rounds: number of measurements per row.

    Yields:
        The rows of the table.
    """
    B, T, H = 16, 256, 256
    layer, x = Recurrent("mlstm", H, H), torch.randn(B, T, H, requires_grad=True)
    bf16 = mixed_precision("auto", torch.device("cpu"))
    for name, dtype in [("", torch.float32), (", bf16", torch.bfloat16)][: 1 + bf16]:

        def ours(dtype: torch.dtype = dtype) -> None:
            with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
                y = layer(x)[0]
            y.sum().backward()

        def theirs(dtype: torch.dtype = dtype) -> None:
            with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
                y = chunkwise.mlstm(layer, x)
            y.sum().backward()

        pair = side_by_side(ours, theirs, rounds)
        yield Row(f"mlstm, forward + backward{name}", f"{B}, {T}, {H}", "chunkwise in torch", pair)


def compare_peers(rounds: int) -> Iterator[Row]:
    """Compare elman.nn.LSTM with ONNX Runtime (forward) and JAX (forward and backward), where they are installed.

    Args:
        rounds: number of measurements per row.

    Yields:
        The rows of the table.
    """
    sizes = [(1, 64, 256), (32, 128, 256), (64, 256, 128)]
    if find_spec("onnxruntime") and find_spec("onnx"):
        for B, T, H in sizes:
            theirs = peers.onnxruntime_forward(B, T, H, torch.get_num_threads())
            pair = side_by_side(_forward(elman.nn.LSTM(H, H), torch.randn(T, B, H)), theirs, rounds)
            yield Row("LSTM, forward", f"{B}, {T}, {H}", "ONNX Runtime", pair)
    if find_spec("jax"):
        for B, T, H in sizes:
            ours = _both(elman.nn.LSTM(H, H), torch.randn(T, B, H, requires_grad=True))
            yield Row(
                "LSTM, forward + backward",
                f"{B}, {T}, {H}",
                "JAX",
                side_by_side(ours, peers.jax_both(B, T, H), rounds),
            )


def steps(rounds: int) -> Iterator[Row]:
    """Compare one step at batch size 1 with torch.nn.LSTM and with a read of the weights from memory.

    Args:
        rounds: number of measurements per row.

    Yields:
        The rows of the table.
    """
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
    """Return a function that runs the forward pass without gradients."""

    def work() -> None:
        with torch.inference_mode():
            module(x)

    return work


def _both(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a function that runs the forward and backward pass."""

    def work() -> None:
        module.zero_grad()
        x.grad = None
        module(x)[0].sum().backward()

    return work
