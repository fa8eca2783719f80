"""The engine that computes all steps of an affine cell in parallel, by an associative scan in operations of torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from elman.cells import Cell
from elman.engines.compiler.affine import Affine, Stage, affinity, coefficients
from elman.engines.compiler.per_cell import PerCell
from elman.engines.eager import as_tuple, hold_raw_columns
from elman.engines.modes import exporting, shape_of, transform
from elman.engines.scan import Engine, Scan, State, owned

#: The largest number of elements (B, steps, H) of one part of the state that are computed at once.
CHUNK = 2**22

_affine: PerCell[Affine] = PerCell(affinity)


def affine(cell: Cell) -> Affine:
    """Return whether the step of a cell is affine in the state that it carries.

    Such a cell can be computed for all steps in parallel, as the engine ``scan`` does. The equations are traced, so
    this works for every cell that has a kernel. A step that is affine for some values only is not affine: it may choose
    by `torch.where`, but not by the state. Parts of the state may depend on one another in a chain, each affine in
    itself and arbitrary in the parts before it.

    Martin & Cundy 2018, https://arxiv.org/abs/1709.04057

    Args:
        cell (Cell): The cell.

    Returns:
        Affine: True if the step is affine. Its ``stages`` say which parts are carried, in the order in which they can
        be computed; otherwise its ``reason`` names the operation.

    Example::

        >>> bool(elman.engines.affine(elman.cells.get("gated_mingru")))
        True
        >>> elman.engines.affine(elman.cells.get("gated_mingru")).carried
        ('c',)
        >>> elman.engines.affine(elman.cells.get("lstm")).reason
        'LSTM multiplies h by a matrix, in the gates i, f, g, o'
    """
    return _affine(cell)


class Associative(Engine):
    """An associative scan (Blelloch 1990, https://doi.org/10.1184/R1/6608579.v1) in O(T) work and O(log T) depth."""

    name = "scan"
    portable = False
    least_steps = {"cuda": 32}

    def refusal(self, scan: Scan) -> str | None:
        if why := transform():
            return f"it does not support {why}"
        if torch.compiler.is_compiling() or exporting():
            return "it does not run in compiled and exported programs"
        if scan.zoneout is not None:
            return "it does not support zoneout"
        return affine(scan.cell).reason

    def run(self, scan: Scan) -> tuple[Tensor, State]:
        if torch.is_inference_mode_enabled():  # A is a derivative
            with torch.inference_mode(False), torch.no_grad():
                return self.run(scan)
        vectors = tuple(map(_differentiable, scan.weights.vectors))
        scan = scan._replace(
            weights=scan.weights._replace(vectors=vectors),
            x=_differentiable(scan.x),
            state=tuple(map(_differentiable, scan.state)),
        )
        scan = hold_raw_columns(scan.wiped())
        (B, T), H = shape_of(scan.x)[:2], scan.weights.weight_ih.shape[0] // len(scan.cell.input_gates)
        steps = max(1, CHUNK // max(1, B * H))
        state, outputs = owned(scan.state), [scan.x.new_zeros(B, 0, scan.state[0].shape[-1])]
        for start in range(0, T, steps):
            y, state = _chunk(
                scan._replace(
                    x=scan.x[:, start : start + steps],
                    state=state,
                    lengths=None if scan.lengths is None else (scan.lengths - start).clamp(0, min(steps, T - start)),
                    resets=None if scan.resets is None else scan.resets[:, start : start + steps],
                )
            )
            outputs.append(y)
        return torch.cat(outputs, 1), state  # a copy: the caller may change y in place


def _differentiable(t: Tensor) -> Tensor:
    """Return a tensor, copied if it was made in inference mode: autograd refuses those."""
    return t.clone() if t.is_inference() else t


def _chunk(scan: Scan) -> tuple[Tensor, State]:
    """Run a number of steps at once."""
    cell, w, (B, T, D) = scan.cell, scan.weights, scan.x.shape
    features = D - len(cell.raw)
    gates = linear(scan.x[..., :features], w.weight_ih, w.bias_ih).flatten(0, 1)
    H = gates.shape[-1] // len(cell.input_gates)
    columns = (c.reshape(B * T, 1).expand(-1, H) for c in scan.x[..., features:].unbind(-1))
    x = cell.InputGates(*gates.chunk(len(cell.input_gates), -1), *columns)

    def step(state: State) -> State:
        return as_tuple(cell, cell.step(x, cell.HiddenGates(), cell.State(*state), cell.Vectors(*w.vectors)))

    old, new = [s.new_zeros(B * T, H) for s in scan.state], list(scan.state)
    stages = affine(cell).stages
    for stage in stages:
        parts = [cell.state.index(part) for part in stage.parts]
        for k, value in zip(parts, _values(stage, parts, step, tuple(old), scan), strict=True):
            new[k] = value.to(scan.state[k].dtype)
            if stage is not stages[-1] and not (cell.projected and k == 0):  # no stage reads an h that is projected
                old[k] = _reset(_shifted(new[k], scan.state[k]), scan.resets).reshape(B * T, H)
    if w.weight_hr is not None:
        new[0] = linear(new[0], w.weight_hr).to(scan.state[0].dtype)
    y, lengths = new[0], scan.lengths
    if lengths is None:
        return y, tuple(part[:, -1].clone() for part in new)
    last, some = (lengths - 1).clamp(min=0)[:, None, None], (lengths > 0)[:, None]
    final = (part.gather(1, last.expand(-1, 1, part.shape[-1])).squeeze(1) for part in new)
    active = (torch.arange(T, device=y.device) < lengths[:, None])[..., None]
    return torch.where(active, y, 0.0), tuple(torch.where(some, f, s) for f, s in zip(final, scan.state, strict=True))


def _values(stage: Stage, parts: list[int], step: Any, old: State, scan: Scan) -> list[Tensor]:
    """Return the parts of a stage after each step, each (B, T, H)."""
    sizes = tuple(scan.x.shape[:2])
    if not stage.carried:
        new = step(old)
        return [new[k].unflatten(0, sizes) for k in parts]
    start = torch.stack([scan.state[k] for k in parts])
    exact = torch.promote_types(start.dtype, torch.float32)  # the products of many factors
    A, b = coefficients(step, old, parts)
    A, b = A.to(exact).unflatten(2, sizes), b.to(exact).unflatten(1, sizes)
    return list(_Recurrence.apply(A, b, start.to(exact), scan.resets).unbind())


def _reset(values: Tensor, resets: Tensor | None) -> Tensor:
    """Return values (..., B, T, H), set to 0 where ``resets`` (B, T) is true."""
    return values if resets is None else torch.where(resets[..., None], 0.0, values)


def _shifted(values: Tensor, start: Tensor) -> Tensor:
    """Return the values (..., T, H) one step later, with ``start`` (..., H) at the first."""
    return torch.cat((start.unsqueeze(-2), values[..., :-1, :]), -2)


class _Recurrence(torch.autograd.Function):
    """h_t = A_t h_(t-1) + b_t, with A (K, K, B, T, H), b (K, B, T, H), h_0 (K, B, H) and resets (B, T).

    Its gradient is the same recurrence from the end: g_t = dL/dh_t + A_(t+1)^T g_(t+1).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(A: Tensor, b: Tensor, start: Tensor, resets: Tensor | None) -> Tensor:  # type: ignore[override]
        first = b.narrow(-2, 0, 1) + _from_start(A, start.unsqueeze(-2), resets)
        return _prefixes(A, torch.cat((first, b.narrow(-2, 1, b.shape[-2] - 1)), -2), resets)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:  # type: ignore[override]
        A, _, start, resets = inputs
        ctx.save_for_backward(A, start, output, resets)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:  # type: ignore[override]
        A, start, h, resets = ctx.saved_tensors
        back = A.transpose(0, 1)
        later = torch.cat((back[..., 1:, :], torch.zeros_like(back[..., :1, :])), -2).flip(-2)
        ends = None if resets is None else torch.cat((resets[:, 1:], torch.zeros_like(resets[:, :1])), 1).flip(1)
        g = _Recurrence.apply(later, grad.flip(-2), torch.zeros_like(start), ends).flip(-2)
        old = _reset(_shifted(h, start), resets)
        d_start = _from_start(back, g.narrow(-2, 0, 1), resets).squeeze(-2)
        return g.unsqueeze(1) * old, g, d_start, None


def _from_start(A: Tensor, v: Tensor, resets: Tensor | None) -> Tensor:
    """Return A_1 v for v (K, B, 1, H), 0 in rows that are reset before the first step."""
    return _reset(_product(A[..., :1, :], v), _steps(resets, slice(1)))


def _steps(resets: Tensor | None, steps: slice) -> Tensor | None:
    return None if resets is None else resets[:, steps]


def _prefixes(A: Tensor, b: Tensor, resets: Tensor | None) -> Tensor:
    """Return h_t = A_t h_(t-1) + b_t from h = 0: of all odd t by pairs of steps, then of the others."""
    T = b.shape[-2]  # b may be a batch of gradients, which supports narrow, but no slice of all steps
    if T < 2:
        return b
    left, right, others = slice(0, T - 1, 2), slice(1, None, 2), slice(2, None, 2)
    joined = A[..., right, :].unsqueeze(2) * A[..., left, :].unsqueeze(0)
    pairs = b[..., right, :] + _reset(_product(A[..., right, :], b[..., left, :]), _steps(resets, right))
    resets_of_pairs = None if resets is None else resets[:, left] | resets[:, right]
    odd = _prefixes(joined.sum(1), pairs, resets_of_pairs)
    even = _product(A[..., others, :], odd.narrow(-2, 0, (T - 1) // 2))
    even = torch.cat((b.narrow(-2, 0, 1), b[..., others, :] + _reset(even, _steps(resets, others))), -2)
    both = torch.stack((even.narrow(-2, 0, T // 2), odd), -2).reshape(*b.shape[:-2], T // 2 * 2, b.shape[-1])
    return torch.cat((both, even.narrow(-2, T // 2, 1)), -2) if T % 2 else both


def _product(A: Tensor, v: Tensor) -> Tensor:
    """Return A v for A (K, K, ...) and v (K, ...)."""
    return (A * v).sum(1)
