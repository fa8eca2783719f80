"""What the kernels take for granted of the tensors that they are given: C reads their memory without looking."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.cells import Weights
from elman.engines.scan import Scan


def checked(scan: Scan) -> Scan:
    """The scan, if its tensors are of the sizes and on the device that its cell and its x say.

    What torch keeps as the negative of the numbers in memory (the imaginary part of a conjugate) is written out.

    Raises:
        ValueError: a parameter, a part of the state or a mask has another shape.
        RuntimeError: one is not in the memory that x is in.
    """
    cell, w = scan.cell, scan.weights
    (B, T, D), H = scan.x.shape, scan.state[0].shape[-1]
    inputs, hidden = len(cell.inputs) * H, (len(cell.hidden_gates) + len(cell.inner_gates)) * H
    _check("weight_ih", w.weight_ih, (inputs, D), scan.x)
    _check("weight_hh", w.weight_hh, (hidden, H), scan.x)
    _check("bias_ih", w.bias_ih, (inputs,), scan.x)
    _check("bias_hh", w.bias_hh, (hidden,), scan.x)
    for name, vector in zip(cell.weights, w.vectors, strict=True):
        _check(name, vector, (H,), scan.x)
    for name, part in zip(cell.state, scan.state, strict=True):
        _check(f"the state {name}", part, (B, H), scan.x)
    _check("lengths", scan.lengths, (B,), scan.x)
    _check("resets", scan.resets, (B, T), scan.x)
    _check("the mask of h", scan.hidden_mask, (B, H), scan.x)
    for k in scan.zoneout or ():
        _check("the mask of zoneout", k if isinstance(k, Tensor) else None, (B, T, H), scan.x)
    if not torch.compiler.is_compiling() and any(t.is_neg() for t in (scan.x, *scan.state, *w.tensors())):
        plain = [None if p is None else p.resolve_neg() for p in w[:5]]
        weights = Weights(*plain)._replace(vectors=tuple(v.resolve_neg() for v in w.vectors))  # type: ignore[arg-type]
        state = tuple(s.resolve_neg() for s in scan.state)
        return scan._replace(x=scan.x.resolve_neg(), state=state, weights=weights)
    return scan


def _check(name: str, tensor: Tensor | None, shape: tuple[int, ...], x: Tensor) -> None:
    if tensor is None:
        return
    if tensor.shape != shape:
        raise ValueError(f"{name} must be {tuple(shape)}, it is {tuple(tensor.shape)}")
    if tensor.device != x.device:
        raise RuntimeError(f"x and {name} are not at the same device: {x.device} and {tensor.device}")
