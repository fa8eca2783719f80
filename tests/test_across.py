"""Steps that read across the units of a row, or multiply in their midst."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from elman.cells import Cell
from tests.own_cells import cell_of, refused, same_as_eager

pytestmark = pytest.mark.usefixtures("native_kernels")


def _norm_of_gates(*gates: Tensor) -> Tensor:
    z = torch.cat(gates, 1)
    a, b, c = torch.nn.functional.layer_norm(z, z.shape[1:]).chunk(3, 1)
    return a + 2 * b + 3 * c


def _parts(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    H = a.shape[1]
    z = torch.tanh(torch.cat((a, b, c), -1) * 0.5 + 0.1)
    _, rest = z.split([H, 2 * H], 1)
    return z[:, :H] * z[:, -H:] + sum(rest.chunk(2, 1))


ACROSS: dict[str, Callable[[Any, Any, Any], Tensor]] = {
    "mean": lambda a, b, c: a - b.mean(-1, keepdim=True) * c,
    "mean of a mean": lambda a, b, c: a - (b * (c - c.mean(1, keepdim=True)) ** 2).mean(-1, keepdim=True).add(5).sqrt(),
    "sum by the number of units": lambda a, b, c: a - (b * c).sum(1, True) / b.shape[-1] ** 0.5 + b.shape[1] * 0.01 * c,
    "sum without its axis": lambda a, b, c: a + torch.sigmoid(b.sum(-1))[:, None] * c,
    "a gate for the row": lambda a, b, c: torch.where(b.sum(-1, keepdim=True) > 0, a, c),
    "layer_norm": lambda a, b, c: torch.nn.functional.layer_norm(a + b, (a.shape[1],)) + c,
    "layer_norm of gates": lambda a, b, c: _norm_of_gates(a, b, c),
    "parts": lambda a, b, c: _parts(a, b, c),
    "a part that is not used": lambda a, b, c: torch.cat((a * b, c), 1).chunk(2, -1)[0],
    "root of the mean square": lambda a, b, c: a * torch.rsqrt((a * a).mean(-1, keepdim=True) + 1e-5) + b * c,
    "softmax": lambda a, b, c: a + (e := torch.exp(torch.tanh(b))) / e.sum(-1, keepdim=True) * c,
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ACROSS)
def test_steps_that_read_across_units(name: str, threads: int) -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        return torch.tanh(ACROSS[name](x.a + h.a, x.b + h.b, s.h) + w.p)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    same_as_eager(cell_of(step, mixes_units=True, weights={"p": (-1.0, 1.0)}))
    torch.set_num_threads(before)


def test_layer_norm_with_weights() -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        norm = torch.nn.functional.layer_norm
        return torch.tanh(norm(x.a + h.a, (x.a.shape[1],), w.p, w.q) * s.h + norm(h.b, h.b.shape[1:], torch.exp(w.q)))

    same_as_eager(cell_of(step, mixes_units=True, weights={"p": (-1.0, 1.0), "q": (-1.0, 1.0)}))


def test_layer_norm_of_what_needs_no_gradient() -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        constant = torch.nn.functional.layer_norm(s.h.new_full(s.h.shape, 0.4), w.p.shape, w.p, w.q)
        cut = torch.nn.functional.layer_norm((x.a + h.a).detach(), w.q.shape, w.q)
        return torch.tanh(constant + cut + x.a + h.a)

    same_as_eager(
        cell_of(step, input_gates=("a",), hidden_gates=("a",), weights={"p": 1.0, "q": 0.5}, mixes_units=True)
    )


def test_inner_gates() -> None:
    """Two products in the middle of a step, one inside the other, and no hidden gate."""

    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
        v = torch.tanh(x.a + h.a(torch.sigmoid(x.b) * s.h))
        return 0.5 * s.h + torch.tanh(h.b(v * w.p) + x.b) * v

    same_as_eager(cell_of(step, hidden_gates=(), inner_gates=("a", "b"), weights={"p": (-1.0, 1.0)}))


def test_inner_gates_and_norms_together() -> None:
    def step(self: Cell, x: Any, h: Any, s: Any, w: Any) -> tuple[Tensor, Tensor]:
        r = torch.sigmoid(x.a + h.a)
        n = h.n(r * s.h)
        c = r * s.c + torch.tanh(n - n.mean(-1, keepdim=True) + x.b)
        return torch.tanh(c) * r, c

    declared = {"hidden_gates": ("a",), "inner_gates": ("n",), "mixes_units": True, "state": ("h", "c")}
    same_as_eager(cell_of(step, **declared))


def test_a_number_that_goes_with_the_number_of_units() -> None:
    same_as_eager(cell_of(lambda self, x, h, s, w: torch.tanh(x.a + h.a / h.a.shape[1] ** 0.5) + 0.3 * s.h))


def _rows(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return torch.tanh(x.a + h.a / x.a.shape[0])  # the line that the error names


def _pieces(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return torch.cat((x.a[:, 1:], x.b[:, :1]), 1)  # the line that the error names


def _median(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a - x.b.median(-1, keepdim=True)[0]  # the line that the error names


def _half(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a * (x.b.shape[1] // 2)  # the line that the error names


def _double(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a - x.b.sum(-1, keepdim=True, dtype=torch.float64)  # the line that the error names


def _over_rows(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a - x.b.amax(0, keepdim=True)  # the line that the error names


def _turned(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return x.a - x.b.flip(-1)  # the line that the error names


def _in_groups(self: Cell, x: Any, h: Any, s: Any, w: Any) -> Tensor:
    return torch.nn.functional.group_norm(x.a, 2)  # the line that the error names


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (_rows, "depends on the number of rows or units"),
        (_pieces, "slice splits a gate"),
        (_median, "kernels do not support the operation median; all units of a row must compute the same"),
        (_half, "a number that depends on the number of rows or units"),
        (_double, "kernels compute in one precision and do not support sum with a dtype"),
        (_over_rows, "kernels support amax only over the units of a row"),
        (_turned, "kernels support flip only around cumsum"),
        (_in_groups, "RuntimeError: .*tried with 2 rows of 7 units"),
    ],
)
def test_a_step_across_units_that_cannot_be_a_kernel(step: Callable[..., Any], message: str) -> None:
    refused(cell_of(step, mixes_units=True), step, message)
