"""The reference engine: a loop over the cell's own step. The results of all other engines equal its results."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from elman.cells import Cell, Weights
from elman.engines import memory
from elman.engines.modes import shape_of
from elman.engines.scan import Engine, Scan, State, owned


class Eager(Engine):
    """A loop over the steps, for every cell, device and transform of torch.func."""

    name = "eager"

    def refusal(self, scan: Scan) -> str | None:
        return None

    def run(self, scan: Scan) -> tuple[Tensor, State]:
        if scan.cell.memory:
            return memory.loop(memory.layout(scan), memory.gates_of(scan), scan.state, scan.lengths, scan.resets)
        scan = hold_raw_columns(scan.wiped())
        cell, w = scan.cell, scan.weights
        hidden = _HiddenProducts(cell, w, scan.hidden_mask)
        vectors = cell.Vectors(*w.vectors)
        features = shape_of(scan.x)[-1] - len(cell.raw)
        gates = linear(scan.x[..., :features], w.weight_ih, w.bias_ih)  # (B, T, G_in H)
        H = shape_of(gates)[-1] // len(cell.input_gates)

        state, outputs = cell.State(*scan.state), []
        for t, gate in enumerate(gates.unbind(1)):
            if scan.resets is not None:
                zero = scan.resets[:, t, None]
                state = cell.State(*(torch.where(zero, 0.0, s) for s in state))
            x = cell.InputGates(
                *gate.chunk(len(cell.input_gates), -1),
                *(scan.x[:, t, features + k, None].expand(-1, H) for k in range(len(cell.raw))),
            )
            new = as_tuple(cell, cell.step(x, hidden(state.h), state, vectors))
            if w.weight_hr is not None:
                new = (linear(new[0], w.weight_hr), *new[1:])
            new = tuple(n.to(old.dtype) for n, old in zip(new, state, strict=True))  # autocast may differ
            if scan.zoneout is not None:
                new = tuple(  # where k is 1, lerp returns exactly the old value
                    torch.lerp(n, old, k if isinstance(k, float) else k[:, t].to(n.dtype))
                    for n, old, k in zip(new, state, scan.zoneout, strict=True)
                )
            y = new[0]
            if scan.lengths is not None:
                active = (scan.lengths > t)[:, None]
                new = tuple(torch.where(active, n, old) for n, old in zip(new, state, strict=True))
                y = torch.where(active, y, 0.0)
            state = cell.State(*new)
            outputs.append(y)
        if not outputs:
            return scan.x.new_zeros(scan.x.shape[0], 0, state.h.shape[-1]), owned(tuple(state))
        return torch.stack(outputs, 1), owned(tuple(state))


def hold_raw_columns(scan: Scan) -> Scan:
    """Return the scan with the raw columns beyond each row's length as they are at its last step.

    The loop computes these steps and discards their results. Their gradient must not be NaN, as it might be for a time
    step of 0, for example.
    """
    raw = len(scan.cell.raw)
    if not raw or scan.lengths is None or not shape_of(scan.x)[1]:
        return scan
    columns = scan.x[..., -raw:]
    last = (scan.lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, raw)
    held = torch.where(scan.lengths[:, None, None] > 0, columns.detach().gather(1, last), 1.0)
    beyond = torch.arange(shape_of(scan.x)[1], device=scan.x.device)[:, None] >= scan.lengths[:, None, None]
    return scan._replace(x=torch.cat((scan.x[..., :-raw], torch.where(beyond, held, columns)), -1))


class _HiddenProducts:
    """The products R h + b_hh, as the argument ``h`` of ``Cell.step``."""

    def __init__(self, cell: Cell, w: Weights, mask: Tensor | None) -> None:
        self.cell, self.mask = cell, mask
        gates, inner = len(cell.hidden_gates), len(cell.inner_gates)
        rows = 0 if w.weight_hh is None else shape_of(w.weight_hh)[0] // (gates + inner) * gates
        self.weight = None if w.weight_hh is None or not gates else w.weight_hh[:rows]
        self.bias = None if w.bias_hh is None else w.bias_hh[:rows]
        self.inner: list[Callable[[Tensor], Tensor]] = []
        if inner:
            assert w.weight_hh is not None
            matrices = w.weight_hh[rows:].chunk(inner)
            biases = [None] * inner if w.bias_hh is None else w.bias_hh[rows:].chunk(inner)
            self.inner = [self._product(m, b) for m, b in zip(matrices, biases, strict=True)]

    def _product(self, weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
        return lambda v: linear(v if self.mask is None else v * self.mask, weight, bias)

    def __call__(self, h: Tensor) -> tuple:
        parts: tuple[Tensor, ...] = ()
        if self.weight is not None:
            parts = self._product(self.weight, self.bias)(h).chunk(len(self.cell.hidden_gates), -1)
        return self.cell.HiddenGates(*parts, *self.inner)


def as_tuple(cell: Cell, new: Tensor | tuple[Tensor, ...]) -> State:
    """Return what a step returned as a tuple of the parts of the state."""
    parts = (new,) if isinstance(new, Tensor) else tuple(new)
    if len(parts) != len(cell.state):
        raise TypeError(f"{cell}.step must return {', '.join(cell.state)}; it returned {len(parts)} values")
    return parts
