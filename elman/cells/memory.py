"""Cells with a matrix memory: each head stores values (U,) under keys (K,) and reads them by a query.

In the equations, sigma is the logistic function, * is elementwise, and v k^T is the outer product (U, K).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, sigmoid
from torch.nn.functional import logsigmoid, normalize, silu

from elman.cells.cell import Cell


class MLSTM(Cell):
    """The mLSTM of xLSTM: a matrix memory with exponential input gates, stabilised by m.

    ::

        m' = max(log sigma(f) + m, i)      a = exp(log sigma(f) + m - m')      b = exp(i - m')
        C' = a C + b v k^T / sqrt(K)       n' = a n + b k / sqrt(K)
        h' = sigma(o) * C' q / max(|n' q|, exp(-m'))

    q, k: K numbers a head; v, o: U numbers a head; i, f: one number a head. Beck et al. 2024,
    https://arxiv.org/abs/2405.04517

    Example::

        >>> layer = elman.layers.Recurrent("mlstm", input_size=8, hidden_size=16, heads=2, key_size=4)
        >>> y, (h, C, n, m) = layer(torch.randn(4, 10, 8))
        >>> y.shape, C.shape
        (torch.Size([4, 10, 16]), torch.Size([4, 16, 4]))
    """

    input_gates = ("v", "o")
    key_gates = ("q", "k")
    head_gates = ("i", "f")
    memory = ("C",)
    key_state = ("n",)
    head_state = ("m",)
    biases = {"f": (3.0, 6.0), "i": -2.0}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, ...]:
        k = x.k * x.k.shape[-1] ** -0.5
        kept = logsigmoid(x.f) + state.m
        m = torch.maximum(kept, x.i)
        a, b = torch.exp(kept - m), torch.exp(x.i - m)
        C = a * state.C + b * (x.v * k)
        n = a * state.n + b * k
        read = (C * x.q).sum(-1, keepdim=True)
        scale = torch.maximum((n * x.q).sum(-1, keepdim=True).abs(), torch.exp(-m))
        return sigmoid(x.o) * (read / scale), C, n, m


class GatedLinearAttention(Cell):
    """Gated linear attention: the memory forgets each key at a rate of its own.

    ::

        a = sigma(g)^(1/16)      C' = C a^T + v k^T      h' = silu(o) * norm(C' q)

    q, k, g: K numbers a head; v, o: U numbers a head; C a^T multiplies the columns of C by a; norm(x) is x divided by
    the root of its mean square over the units of the head. Yang et al. 2024, https://arxiv.org/abs/2312.06635
    """

    input_gates = ("v", "o")
    key_gates = ("q", "k", "g")
    memory = ("C",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, ...]:
        a = torch.exp(logsigmoid(x.g) / 16)
        C = state.C * a + x.v * x.k
        return silu(x.o) * _norm((C * x.q).sum(-1, keepdim=True)), C


class DeltaNet(Cell):
    """The delta rule: the memory replaces what it holds under a key.

    ::

        b = sigma(b~)      k = k~ / |k~|      q = q~ / |q~|
        C' = C + b (v - C k) k^T              h' = C' q

    q~, k~: K numbers a head; v: U numbers a head; b~: one number a head. Yang et al. 2024,
    https://arxiv.org/abs/2406.06484; Schlag et al. 2021, https://arxiv.org/abs/2102.11174
    """

    input_gates = ("v",)
    key_gates = ("q", "k")
    head_gates = ("b",)
    memory = ("C",)

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, ...]:
        k, q = normalize(x.k, dim=-1), normalize(x.q, dim=-1)
        held = (state.C * k).sum(-1, keepdim=True)
        C = state.C + sigmoid(x.b) * (x.v - held) * k
        return (C * q).sum(-1, keepdim=True), C


class GatedDeltaNet(Cell):
    """The gated delta rule: the memory forgets, then replaces what it holds under a key.

    ::

        a = sigma(a~)      b = sigma(b~)      k = k~ / |k~|      q = q~ / |q~|
        C' = a C + b (v - a C k) k^T          h' = silu(o) * norm(C' q)

    q~, k~: K numbers a head; v, o: U numbers a head; a~, b~: one number a head; norm(x) is x divided by the root of its
    mean square over the units of the head. Yang et al. 2025, https://arxiv.org/abs/2412.06464. The paper derives a from
    a time step.
    """

    input_gates = ("v", "o")
    key_gates = ("q", "k")
    head_gates = ("a", "b")
    memory = ("C",)
    biases = {"a": (1.0, 5.0)}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> tuple[Tensor, ...]:
        k, q = normalize(x.k, dim=-1), normalize(x.q, dim=-1)
        a = sigmoid(x.a)
        held = (state.C * k).sum(-1, keepdim=True)
        C = a * state.C + sigmoid(x.b) * (x.v - a * held) * k
        return silu(x.o) * _norm((C * q).sum(-1, keepdim=True)), C


def _norm(x: Tensor) -> Tensor:
    """Return x (R, U, 1) divided by the root of its mean square over U."""
    return x * torch.rsqrt((x * x).mean(-2, keepdim=True) + 1e-5)
