"""Cells that tests write, and what is checked of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import elman
from elman.cells import Cell
from elman.layers import Recurrent
from tests.conftest import close

B, T, D, H = 3, 6, 4, 7


def cell_of(step: Callable[..., Any], **declared: Any) -> Cell:
    names = {"input_gates": ("a", "b"), "hidden_gates": ("a", "b"), "__doc__": "A cell of a test.", "step": step}
    return type("Own", (Cell,), names | declared)()


def same_as_eager(cell: Cell, dtype: torch.dtype = torch.float64, tolerance: float = 1e-10) -> None:
    """Outputs and gradients of the kernel are those of the loop."""
    layer = Recurrent(cell, D, H).to(dtype)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -0.9, 0.9)
    results = []
    for engine in ("eager", "cpu"):
        with elman.engine(engine, strict=True):
            x = torch.linspace(-2, 2, B * T * D, dtype=dtype).view(B, T, D).requires_grad_()
            y, state = layer(x, None, torch.tensor([6, 4, 1]))
            weight = torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y)
            total = (y * weight).sum() + sum(part.sum() for part in state)
            leaves = [x, *layer.parameters()]
            results.append((y, state, torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)))
    close(results[1], results[0], tolerance)


def refused(cell: Cell, step: Callable[..., Any], message: str) -> None:
    """The cpu engine says why, and names the line."""
    layer = Recurrent(cell, D, H)
    lines, first = inspect.getsourcelines(step)
    line = first + next(k for k, text in enumerate(lines) if "the error names" in text)
    with pytest.raises(elman.ElmanError, match=message) as caught, elman.engine("cpu", strict=True):
        layer(torch.randn(B, T, D))
    assert f"{Path(inspect.getfile(step)).name}, line {line}:" in str(caught.value)
