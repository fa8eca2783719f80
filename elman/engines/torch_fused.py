"""The engine that calls torch's own fused recurrences: oneDNN and ATen on the CPU, cuDNN on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from elman.cells import CELLS, Cell, Weights
from elman.engines.modes import exporting, readable, shape_of, to_onnx, transform
from elman.engines.scan import Engine, Scan, State, owned, trains

#: The fused operation of torch for each cell that has one.
OPERATIONS = {
    type(CELLS[name]): operation
    for name, operation in {
        "rnn_tanh": torch.rnn_tanh,
        "rnn_relu": torch.rnn_relu,
        "gru": torch.gru,
        "lstm": torch.lstm,
        "projected_lstm": torch.lstm,
    }.items()
}

#: The operation of torch for a single step.
STEPS: dict[type[Cell], Callable[..., Any]] = {
    type(CELLS["rnn_tanh"]): torch.rnn_tanh_cell,
    type(CELLS["rnn_relu"]): torch.rnn_relu_cell,
    type(CELLS["gru"]): torch.gru_cell,
    type(CELLS["lstm"]): torch.lstm_cell,
}

#: A gate input that saturates the gate: sigmoid(30) is 1, and sigmoid(-88) is below the smallest normal float32.
_SHUT = 1e4


class TorchFused(Engine):
    """Calls torch's kernel once for each segment. A segment ends where any row is reset."""

    name = "torch"
    fast_single_steps = True

    def refusal(self, scan: Scan) -> str | None:
        if type(scan.cell) not in OPERATIONS:
            return f"torch has no fused {scan.cell}"
        if scan.hidden_mask is not None or scan.zoneout is not None:
            return "torch's fused kernels do not support dropout or zoneout inside the recurrence"
        if why := transform():
            return f"torch's fused kernels do not support {why}"
        if not all(shape_of(scan.x)[::2]) or not shape_of(scan.state[0])[-1]:
            return "torch's fused kernels do not support a batch, input or state of size 0"
        if scan.resets is not None and not readable(scan.resets):
            return "a compiled or exported program cannot read the values of resets"
        if scan.cell.projected and to_onnx():
            return "ONNX has no LSTM with projections"
        if len(scan.state) == 2:
            if torch.compiler.is_compiling() and not exporting() and trains(scan):
                return "torch.compile has no gradient of torch's fused LSTM"
            if scan.x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
                return "torch's fused LSTM fails under autocast on some processors"
        if scan.cell.projected and shape_of(scan.state[0])[1] >= shape_of(scan.state[1])[1]:
            return "torch supports projections to fewer features than units only"
        return None

    def run(self, scan: Scan) -> tuple[Tensor, State]:
        T = shape_of(scan.x)[1]
        if T == 0:
            return scan.x.new_zeros(*scan.x.shape[:2], scan.state[0].shape[-1]), owned(scan.state)
        scan = scan.wiped()
        if scan.resets is None:
            return _segment(scan)
        starts = sorted({0, T, *scan.resets.any(0).nonzero().flatten().tolist()})
        state, outputs = scan.state, []
        for start, end in pairwise(starts):
            zero = scan.resets[:, start, None]
            y, state = _segment(
                scan._replace(
                    x=scan.x[:, start:end],
                    state=tuple(torch.where(zero, 0.0, s) for s in state),
                    lengths=None if scan.lengths is None else (scan.lengths - start).clamp(0, end - start),
                    resets=None,
                )
            )
            outputs.append(y)
        return torch.cat(outputs, 1), state


def _segment(scan: Scan) -> tuple[Tensor, State]:
    """Run torch's kernel over all of x, padding included, without packing.

    The output of a row beyond its end is masked, and its final h is read from y at its last step. Its c is kept beyond
    the end by an additional input, which is 1 on padding and whose weights close the input gate and open the forget
    gate.
    """
    x, weights, lengths = scan.x, scan.weights, scan.lengths
    if lengths is None and type(scan.cell) in STEPS and not exporting() and x.shape[1] == 1:
        state = step(scan.cell, weights, x.squeeze(1), scan.state)
        return state[0].unsqueeze(1).clone(), state
    has_c = len(scan.state) == 2
    if lengths is None:
        y, state = _call(scan.cell, weights, x, scan.state)
        return y, state
    padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]  # (B, T)
    if has_c:
        i, f, g, o = (weights.weight_ih.new_zeros(weights.weight_ih.shape[0] // 4, 1) for _ in range(4))
        hold = torch.cat((i - _SHUT, f + _SHUT, g, o))
        weights = weights._replace(weight_ih=torch.cat((weights.weight_ih, hold), 1))
        x = torch.cat((x, padding[..., None].to(x.dtype)), -1)
    y, state = _call(scan.cell, weights, x, scan.state)
    last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, y.shape[-1])
    h = torch.where((lengths > 0)[:, None], y.gather(1, last).squeeze(1), scan.state[0])
    return torch.where(padding[..., None], 0.0, y), (h, *state[1:])


def count(cell: Cell, D: int, H: int) -> int:
    """Return the number of elements of W and R."""
    return len(cell.input_gates) * H * (D + H)


def short(cell: Cell, D: int, H: int, graph: bool) -> int:
    """Return up to how many steps of a few rows torch is at least as fast as elman's kernels.

    The numbers come from `elman bench short`. Without a graph, reading the weights takes most of the time, and from a
    million weights on elman's kernels read them faster.

    Args:
        cell: a cell of `STEPS`.
        D: the size of x.
        H: the number of units.
        graph: whether autograd records the steps.
    """
    if not graph and count(cell, D, H) >= 2**20:
        return 0
    if len(cell.state) == 2:  # oneDNN's LSTM is fastest where R fits into a cache
        return (64 if graph else 16) if H < 128 else 1
    return 8 if graph or (len(cell.input_gates) == 1 and H < 256) else 4


def step(cell: Cell, w: Weights, x: Tensor, state: State) -> State:
    """Return the new state after one step of a cell of `STEPS`, from x (B, D) and the old state."""
    if any(t.device != x.device for t in w.tensors()):
        raise RuntimeError(f"x and the weights must be on the same device; x is on {x.device}")
    if w.bias_ih is not None and not w.bias_ih.numel() == w.bias_hh.numel() == len(w.weight_ih):  # type: ignore[union-attr]
        raise ValueError(
            f"biases must have {len(w.weight_ih)} elements, one for each gate and unit"
        )  # torch broadcasts
    new = STEPS[type(cell)](x, state if len(state) > 1 else state[0], w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh)
    return new if isinstance(new, tuple) else owned((new,)) if torch.is_grad_enabled() else (new,)


def _call(cell: Cell, w: Weights, x: Tensor, state: State) -> tuple[Tensor, State]:
    flat = [p for p in (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh, w.weight_hr) if p is not None]
    parts = [s.unsqueeze(0).contiguous() for s in state]
    hx = parts if len(parts) == 2 else parts[0]
    train = torch.is_grad_enabled() or exporting()
    # x, initial state, weights, has_biases, layers, dropout, train, bidirectional, batch_first.
    # train keeps what backward needs, and has no other effect on one layer without dropout. An exported program may be
    # trained.
    y, *new = OPERATIONS[type(cell)](  # type: ignore[operator]
        x.transpose(0, 1), hx, flat, w.bias_ih is not None, 1, 0.0, train, False, False
    )
    return y.transpose(0, 1), tuple(s.squeeze(0) for s in new)
