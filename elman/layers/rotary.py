"""Rotations of the heads of attention by their position, for rotary position embeddings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def rotations(positions: Tensor, x: Tensor) -> Tensor:
    """Return the rotations exp(j p 10000^(-i / n)) for positions p (...) and heads x (..., d).

    Args:
        positions (Tensor): Positions (...), in steps.
        x (Tensor): Heads; only their size d and dtype are used. n is max(1, d // 4).

    Returns:
        Tensor: Complex numbers (..., n).
    """
    n = max(1, x.shape[-1] // 4)
    rates = torch.exp(torch.arange(n, device=x.device) * (-math.log(10_000.0) / n))
    angles = (positions[..., None] * rates).to(torch.promote_types(x.dtype, torch.float32))
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, by: Tensor) -> Tensor:
    """Rotate the first part of heads x, and move the heads to the second dimension.

    The numbers i and n + i of a head are the real and imaginary part of a complex number, which is multiplied by the
    i-th rotation.

    Args:
        x (Tensor): Heads (B, T, parts, heads, d). The parts are, for example, keys and values.
        by (Tensor): Complex rotations, from `rotations`, broadcast over (B, T, heads, n).

    Returns:
        Tensor: The heads (B, heads, parts, T, d).
    """
    return _rotate(x, by) if torch.compiler.is_compiling() else _Rotate.apply(x, by)


def _rotate(x: Tensor, by: Tensor) -> Tensor:
    y, n = x.permute(0, 3, 2, 1, 4).clone(memory_format=torch.contiguous_format), by.shape[-1]
    first = x[:, :, 0, :, : 2 * n].to(by.real.dtype)
    numbers = (torch.complex(first[..., :n], first[..., n:]) * by).transpose(1, 2)
    y[:, :, 0, :, :n], y[:, :, 0, :, n : 2 * n] = numbers.real, numbers.imag
    return y


class _Rotate(torch.autograd.Function):
    """`_rotate`. The gradient is the same function with the conjugate rotations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, by: Tensor) -> Tensor:  # type: ignore[override]
        return _rotate(x, by)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # type: ignore[override]
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _Rotate.apply(dy, ctx.saved_tensors[0].transpose(1, 2).conj().resolve_conj()), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, _: None) -> Tensor:  # type: ignore[override]
        return _rotate(dx, *ctx.saved_tensors)
