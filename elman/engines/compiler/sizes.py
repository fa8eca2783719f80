"""Checks the tensors of a scan before a kernel reads their memory without any checks."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.cells import Weights
from elman.engines.scan import Scan


def checked(scan: Scan) -> Scan:
    """Return the scan, after checking that its tensors have the sizes and the device that its cell and x require.

    Tensors that torch keeps as the negative of their memory (the imaginary part of a conjugate) are resolved.

    Raises:
        ValueError: a parameter, a part of the state or a mask has the wrong shape.
        RuntimeError: one of them is on another device than x.
    """
    cell, w, x, state = scan.cell, scan.weights, scan.x, scan.state
    (B, T, D), H = x.shape, state[0].shape[-1]
    inputs, hidden = len(cell.inputs) * H, (len(cell.hidden_gates) + len(cell.inner_gates)) * H
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    shapes = ((inputs, D), (hidden, H), (inputs,), (hidden,))
    for name, tensor, shape in zip(names, (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh), shapes, strict=True):
        if tensor is not None and (tensor.shape != shape or tensor.device != x.device):
            _check(name, tensor, shape, x)
    for name, vector in zip(cell.weights, w.vectors, strict=True):
        _check(name, vector, (H,), x)
    for name, part in zip(cell.state, state, strict=True):
        if part.shape != (B, H) or part.device != x.device:
            _check(f"the state {name}", part, (B, H), x)
    for name, mask, shape in (
        ("lengths", scan.lengths, (B,)), ("resets", scan.resets, (B, T)), ("the mask of h", scan.hidden_mask, (B, H)),
    ):  # fmt: skip
        if mask is not None:
            _check(name, mask, shape, x)
    for k in scan.zoneout or ():
        if isinstance(k, Tensor):
            _check("the mask of zoneout", k, (B, T, H), x)
    if torch.compiler.is_compiling() or not _negative(x, *state, *w[:5], *w.vectors):
        return scan
    plain = [None if p is None else p.resolve_neg() for p in w[:5]]
    weights = Weights(*plain)._replace(vectors=tuple(v.resolve_neg() for v in w.vectors))  # type: ignore[arg-type]
    return scan._replace(x=x.resolve_neg(), state=tuple(s.resolve_neg() for s in state), weights=weights)


def _negative(*tensors: Tensor | None) -> bool:
    for t in tensors:  # noqa: SIM110 - a generator is slower than the rest of a step
        if t is not None and t.is_neg():
            return True
    return False


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    if tensor.shape != shape:
        raise ValueError(f"{name} must have the shape {tuple(shape)}, it has {tuple(tensor.shape)}")
    if tensor.device != x.device:
        raise RuntimeError(f"x and {name} must be on the same device; they are on {x.device} and {tensor.device}")
