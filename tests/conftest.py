"""The families: every cell and every layer that the properties are tested on."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from elman import engines
from elman.cells import CELLS, Cell
from elman.engines.cpu import library
from elman.layers import Bidirectional, Recurrent, RecurrentLayer, stack
from elman.training import trainer

torch.set_num_threads(1)  # the tensors here are small, and CI's cores few
os.environ["OMP_NUM_THREADS"] = "1"  # the same for the processes that the tests start

settings.register_profile("elman", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("elman")

#: Seconds after which a process that a test started counts as hung: many times what any takes on a busy machine.
HUNG = 900

D, H = 5, 6


class Leaky(Cell):
    """A user's own cell, as the documentation shows it: a = sigma(l); h' = a h + (1 - a) tanh(W x + R h)."""

    input_gates = hidden_gates = ("n",)
    weights = {"l": 0.0}

    def step(self, x: Any, h: Any, state: Any, w: Any) -> Tensor:
        a = torch.sigmoid(w.l)
        return a * state.h + (1 - a) * torch.tanh(x.n + h.n)


#: Every cell.
EVERY_CELL: dict[str, Cell] = CELLS | {"leaky": Leaky()}
#: The cells of tests/test_parallel_cells.py. They take the same way through all code, so other tests have two of them.
PARALLEL = ("slstm", *(name for name, cell in CELLS.items() if type(cell).__module__ == "elman.cells.parallel"))
#: The cells with a matrix memory, of tests/test_memory.py.
MEMORY_FAMILY: dict[str, Cell] = {name: cell for name, cell in CELLS.items() if cell.memory}
#: The cells that the properties are tested on: those that are slow to test, and those that are quick.
CELL_FAMILY: dict[str, Cell] = {k: cell for k, cell in EVERY_CELL.items() if k not in (*PARALLEL, *MEMORY_FAMILY)}
QUICK_FAMILY: dict[str, Cell] = CELL_FAMILY | {name: CELLS[name] for name in ("slstm", "lru")}


def recurrent(name: str, **options: Any) -> Recurrent:
    """A layer of that cell, its parameters all drawn at random so that nothing is hidden by a zero."""
    cell = EVERY_CELL[name]
    layer = Recurrent(cell, D, H, proj_size=4 if cell.projected else 0, **options)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -0.6, 0.6)
    return layer


LAYER_FAMILY: dict[str, Callable[[], RecurrentLayer]] = {
    **{name: (lambda name=name: recurrent(name)) for name in QUICK_FAMILY},
    "gated_deltanet": lambda: recurrent("gated_deltanet", heads=2, key_size=4),
    "blocks": lambda: stack("lstm", D, H, 2, blocks=True),
    "bidirectional": lambda: Bidirectional(recurrent("lstm"), recurrent("gru")),
    "plain": lambda: stack("lstm", D, H, 2),
    "mixed": lambda: stack(["lstm", "gru", "mgu"], D, [4, 5, 6], 3),
    "residual": lambda: stack("gru", D, H, 3, connection="residual"),
    "highway": lambda: stack("lstm", D, H, 3, connection="highway"),
    "dense": lambda: stack("rnn_tanh", D, H, 3, connection="dense"),
    "deep bidirectional": lambda: stack("lstm", D, 4, 2, bidirectional=True, backward_size=3),
}


@pytest.fixture(params=CELL_FAMILY)
def cell_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=LAYER_FAMILY)
def layer(request: pytest.FixtureRequest) -> RecurrentLayer:
    return LAYER_FAMILY[request.param]().double()


@pytest.fixture(params=[name for name in engines.ENGINES if name != "scan"])  # tests/test_affine.py has its properties
def engine_name(request: pytest.FixtureRequest) -> Iterator[str]:
    with engines.engine(request.param):
        yield request.param


class Clock:
    """Python's `time`, but its `perf_counter` goes on by ``tick`` seconds whenever it is read, and by itself never."""

    def __init__(self, tick: float) -> None:
        self.tick, self.now = tick, 0.0

    def perf_counter(self) -> float:
        self.now += self.tick
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of training: runs with ``minutes`` make the same number of steps on every machine."""
    clock = Clock(0.01)
    monkeypatch.setattr(trainer, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def close(a: Any, b: Any, tolerance: float = 1e-10) -> None:
    """Equal nested tuples of tensors, up to the tolerance."""
    if isinstance(a, Tensor):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)
        return
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        close(x, y, tolerance)


def elman_cli(*arguments: str, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """``elman`` with these arguments, as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "elman", *arguments], capture_output=True, text=True, cwd=cwd, timeout=HUNG, **options
    )


def some_text(characters: int = 6000, seed: int = 0) -> str:
    """English-like text that a small model learns something of."""
    import random

    draw = random.Random(seed)
    subjects, verbs = ["the cat", "a dog", "the old man", "she"], ["sees", "hears", "likes", "finds"]
    lines = []
    while sum(map(len, lines)) < characters:
        lines.append(f"{draw.choice(subjects)} {draw.choice(verbs)} {draw.choice(subjects)}.\n")
    return "".join(lines)


@pytest.fixture
def text_file(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(some_text(), encoding="utf-8")
    return str(path)


#: Flags for kernels that only one test uses. Small vectors and no optimisation: a tenth of the time, from the same C.
QUICK_FLAGS = "-O0 -mno-avx" if platform.machine() in ("x86_64", "AMD64") else "-O0"
_FAMILY_NAMES = {type(cell).__name__ for cell in CELL_FAMILY.values()}


def _flags(name: str) -> str:
    """Flags for the kernel of that name, which is that of the cell's class and of the dtype."""
    cell, _, dtype = name.rpartition("_")
    if cell in _FAMILY_NAMES:  # as users have it: the LSTM in every dtype, and every cell in float32
        return "" if cell == "LSTM" or dtype == "float32" else "-O1"
    return QUICK_FLAGS if dtype == "float64" else "-O0"


@pytest.fixture(scope="session", autouse=True)
def _kernels_of_tests() -> Iterator[None]:
    """Compile most kernels with less optimisation. What ELMAN_CFLAGS says goes first."""
    load = library.load

    def quickly(source: str, name: str) -> ctypes.CDLL:
        if "ELMAN_CFLAGS" in os.environ:
            return load(source, name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ELMAN_CFLAGS", _flags(name))
            return load(source, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "load", quickly)
        yield


@pytest.fixture(scope="session", autouse=True)
def _sounds_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the frames of sounds in a temporary folder; the cache of kernels stays."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elman.media.sound_rows.cache_folder", lambda name: folder / name)
        yield


@pytest.fixture
def native_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are not optimised, but use the vectors of this machine."""
    monkeypatch.setenv("ELMAN_CFLAGS", "-O0")
