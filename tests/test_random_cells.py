"""Steps that nobody would have thought of: kernels equal the loop on them too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from elman import engines
from elman.engines.cpu import build
from tests.own_cells import cell_of, same_as_eager
from tests.random_cells import RandomCell


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kernels that are thrown away."""
    monkeypatch.setattr(build, "_folder", lambda: tmp_path)
    monkeypatch.setattr(engines.cpu, "_programs", {})


#: Some cells, and others that reach lines of the compiler which those do not reach.
NUMBERS = [*range(36), 101, 105, 119, 126, 154, 163, 165, 166, 210, 242, 281, 282]


@pytest.mark.parametrize("block", range(8))
def test_random_cells(block: int) -> None:
    reports = [RandomCell(number).check() for number in NUMBERS[block::8]]
    assert not [report for report in reports if report and "is no test" not in report]
    assert sum(map(bool, reports)) <= 2  # that overflow, or are constant


@pytest.mark.parametrize("number", range(10))
def test_random_cells_whose_values_tie(number: int) -> None:
    """Where maximum, abs or clamp have two gradients, the kernel takes torch's."""
    report = RandomCell(number, exact=True).check()
    assert not report or "is no test" in report


def test_what_is_done_to_what_an_inner_gate_gives() -> None:
    """torch's GRU, written with an inner gate: r multiplies its product."""

    def step(self: object, x: object, h: object, state: object, w: object) -> torch.Tensor:
        r, z = torch.sigmoid(x.r + h.r), torch.sigmoid(x.z + h.z)  # type: ignore[attr-defined]
        n = torch.tanh(x.n + r * h.n(state.h))  # type: ignore[attr-defined]
        return (1 - z) * n + z * state.h  # type: ignore[attr-defined]

    same_as_eager(cell_of(step, input_gates=("r", "z", "n"), hidden_gates=("r", "z"), inner_gates=("n",)))
