"""The kernel for the scores of additive attention, and the autograd function that calls it."""

from __future__ import annotations

import ctypes
import functools
import logging
from ctypes import Structure, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elman.engines import additive
from elman.engines.cpu.build import BuildError, load
from elman.engines.cpu.library import Source, source, threads
from elman.engines.modes import batched, transform

_log = logging.getLogger("elman")
#: The number of hidden units from which the kernel is faster than operations of torch.
LEAST = 1 << 12
#: The number of hidden units from which a second thread is worth waking.
_SHARED = 1 << 18


class _Job(Structure):
    """The C struct Job of additive.c."""

    _fields_ = [
        *((name, c_int64) for name in ("B", "T", "S", "A", "threads", "q_b", "q_t", "k_b", "k_s")),
        *((name, c_void_p) for name in ("q", "k", "v", "e", "de", "dq", "dk", "dv", "dv_rows")),
        ("source", Source),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernel; None if it cannot be built, which is logged once."""
    folder = Path(__file__).parent
    text = "\n".join((folder / name).read_text(encoding="utf-8") for name in ("vector.h", "additive.c"))
    try:
        built = load(text, "additive_attention")
    except BuildError as error:
        _log.warning("no fast kernel for additive attention, so it runs slower: %s", error)
        return None
    built.forward.argtypes = built.backward.argtypes = [c_void_p]
    return built


def scores(query: Tensor, keys: Tensor, weight: Tensor) -> Tensor:
    """Return the scores (B, T, S) of query (B, T, A), keys (B, S, A) and weight (1, A), all of dtype float32.

    No size is 0, and `library` has a kernel.
    """
    if torch.is_grad_enabled() and (query.requires_grad or keys.requires_grad or weight.requires_grad):
        return _Scores.apply(query, keys, weight)
    return _forward(query, keys, weight)


class _Scores(torch.autograd.Function):
    """The scores with their gradients. Only the inputs are saved; backward computes the hidden units again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(query, keys, weight)
        return _forward(query, keys, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled() or transform() or batched(grad):
            return _reference_backward(ctx, grad)
        query, keys, weight = ctx.saved_tensors
        return _backward(grad, query, keys, weight, ctx.needs_input_grad)


def _forward(query: Tensor, keys: Tensor, weight: Tensor) -> Tensor:
    query, keys, weight = _rows(query), _rows(keys), _rows(weight)
    scores = torch.empty((*query.shape[:2], keys.shape[1]), dtype=torch.float32, device="cpu")
    job = _job(query, keys, weight)
    job.e = scores.data_ptr()
    _call("forward", job)
    return scores


def _backward(
    grad: Tensor, query: Tensor, keys: Tensor, weight: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    query, keys, weight, grad = _rows(query), _rows(keys), _rows(weight), grad.contiguous()
    found = [
        torch.empty(t.shape, dtype=torch.float32, device="cpu") if want else None
        for t, want in zip((query, keys, weight), wanted, strict=True)
    ]
    rows = torch.empty((query.shape[0], query.shape[2]), dtype=torch.float32, device="cpu") if wanted[2] else None
    job = _job(query, keys, weight)
    job.de = grad.data_ptr()
    job.dq, job.dk, job.dv, job.dv_rows = (None if t is None else t.data_ptr() for t in (*found, rows))
    _call("backward", job)
    return tuple(found)


def _reference_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients from the code in torch, for second derivatives and batched gradients."""
    inputs = ctx.saved_tensors
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        output = additive.reference(*inputs)
    wanted = [t for t, want in zip(inputs, ctx.needs_input_grad, strict=True) if want]
    found = iter(torch.autograd.grad(output, wanted, grad, create_graph=torch.is_grad_enabled()))
    return tuple(next(found) if want else None for want in ctx.needs_input_grad)


def _rows(t: Tensor) -> Tensor:
    """Return the tensor with a contiguous last dimension."""
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def _job(query: Tensor, keys: Tensor, weight: Tensor) -> _Job:
    """Return a job with its inputs, which must exist as long as it."""
    B, T, A = query.shape
    S = keys.shape[1]
    return _Job(
        B=B, T=T, S=S, A=A, threads=threads() if B * T * S * A >= _SHARED else 1, source=source(),
        q_b=query.stride(0), q_t=query.stride(1), k_b=keys.stride(0), k_s=keys.stride(1),
        q=query.data_ptr(), k=keys.data_ptr(), v=weight.data_ptr(),
    )  # fmt: skip


def _call(name: str, job: _Job) -> None:
    if getattr(library(), name)(ctypes.addressof(job)):
        raise MemoryError("no memory for the kernel of additive attention")
