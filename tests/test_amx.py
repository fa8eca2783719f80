"""bfloat16 in the matrix unit of the processor (Intel AMX), beside the vectors, for all that a layer may be asked."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest
import torch
from torch import Tensor

import elman
from elman import engines
from elman.cells import CELLS
from elman.engines.cpu import build, library
from elman.engines.cpu.operation import LIBRARIES
from elman.layers import Recurrent
from tests.conftest import CELL_FAMILY
from tests.test_cpu import KERNELS, apart
from tests.test_machine import python

X86 = platform.machine() in ("x86_64", "AMD64")


def results(layer: Recurrent, *inputs: Tensor | None, seed: int = 0) -> list[Tensor]:
    """Output, final state and all gradients in bfloat16, with weights in float32."""
    torch.manual_seed(seed)
    x, lengths, resets = inputs
    assert x is not None
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), elman.engine("cpu", strict=True):
        y, final = layer(x, None, lengths, resets)
    weight = torch.linspace(-1, 1, y.numel()).view_as(y)
    total = (y.float() * weight).sum() + sum(part.sum() for part in final)
    return [y.detach(), *map(torch.Tensor.detach, final), *torch.autograd.grad(total, [x, *layer.parameters()])]


@pytest.fixture
def matrix_unit() -> None:
    """Skip the test where the processor, Linux or the compiler has no AMX."""
    key = engines.cpu._kernel(CELLS["lstm"], torch.bfloat16)
    assert key
    if not library.permitted_amx() or LIBRARIES[key].padded(1) != 32:
        pytest.skip("needs Intel AMX")


def with_vectors(layer: Recurrent, *inputs: Tensor | None, seed: int = 0) -> list[Tensor]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(library, "permitted_amx", lambda: False)
        return results(layer, *inputs, seed=seed)


def drawn(B: int, T: int, D: int, H: int, name: str, **options: float) -> tuple[Recurrent, list[Tensor]]:
    layer = Recurrent(CELL_FAMILY[name], D, H, **options)  # type: ignore[arg-type]
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -0.15, 0.15)
    return layer, [torch.randn(B, T, D), torch.randint(0, T + 1, (B,)), torch.rand(B, T) < 0.1]


@pytest.mark.parametrize("name", KERNELS)
def test_odd_sizes(name: str, matrix_unit: None) -> None:
    """Lengths, resets, zoneout and sizes that are no multiple of a tile: as with vectors, up to rounding."""
    torch.manual_seed(3)
    sizes = [(1, 9, 1, 1), (2, 5, 17, 33), (16, 4, 32, 16), (17, 7, 31, 15), (33, 3, 65, 47), (40, 20, 7, 70)]
    for B, T, D, H in sizes:
        for zoneout in (0.0, 0.2):
            layer, inputs = drawn(B, T, D, H, name, zoneout=zoneout)
            mine, law = results(layer, *inputs), with_vectors(layer, *inputs)
            count = 2 if name in ("rnn_relu", "indrnn") else None  # a kink makes gradients of the smallest differences
            assert apart(mine[:count], [t.double() for t in law[:count]]) < 1e-2, (B, T, D, H, zoneout)
            with torch.no_grad():
                plain = results_without_gradients(layer, *inputs)
            assert zoneout or torch.equal(plain, mine[0])


def results_without_gradients(layer: Recurrent, x: Tensor, lengths: Tensor, resets: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16), elman.engine("cpu", strict=True):
        return layer(x, None, lengths, resets)[0]


@pytest.mark.parametrize("name", ["lstm", "gru", "peephole_lstm"])
def test_exact_products_are_exact(name: str, matrix_unit: None) -> None:
    """Numbers of few bits, of which every sum is exact: not one bit may differ, in any order of summation."""
    torch.manual_seed(0)
    for B, T, D, H in ((19, 1, 35, 21), (40, 1, 64, 48), (5, 1, 3, 100)):
        layer, (x, *_) = drawn(B, T, D, H, name)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randint(-3, 4, parameter.shape) / 64)
        x = torch.randint(-3, 4, x.shape) / 4
        mine, law = results(layer, x, None, None), with_vectors(layer, x, None, None)
        assert torch.equal(mine[0], law[0])


def test_threads_and_calls_agree_to_the_last_bit(matrix_unit: None) -> None:
    before = torch.get_num_threads()
    for name in ("lstm", "gru", "rnn_tanh"):
        layer, inputs = drawn(37, 40, 50, 72, name)
        law = results(layer, *inputs)
        for threads in (2, 3, 2):
            torch.set_num_threads(threads)
            a = torch.randn(64, 64, dtype=torch.bfloat16)
            a @ a  # torch uses the tiles of these threads too
            assert all(map(torch.equal, results(layer, *inputs), law)), (name, threads)
            torch.set_num_threads(before)


def test_heads(matrix_unit: None) -> None:
    for heads, H in ((2, 34), (5, 100), (3, 195)):
        layer = Recurrent("gru", 9, H, heads=heads)
        x = torch.randn(18, 6, 9)
        mine, law = results(layer, x, None, None), with_vectors(layer, x, None, None)
        assert apart(mine, [t.double() for t in law]) < 1e-2


def test_values_that_are_no_numbers_stay_in_their_row(matrix_unit: None) -> None:
    layer, (x, *_) = drawn(20, 6, 5, 21, "lstm")
    law = results(layer, x, None, None)[0]
    x[3, 2, 1], x[7, 4, 0] = torch.nan, torch.inf
    y = results(layer, x, None, None)[0]
    rows = [row for row in range(20) if row not in (3, 7)]
    assert torch.equal(y[rows], law[rows])
    assert torch.equal(y[3, :2], law[3, :2])
    assert y[3, 2:].isnan().all()


FORK = """
import os, torch
from elman.engines.cpu import library
from elman.layers import Recurrent
layer, x = Recurrent("lstm", 20, 30).bfloat16(), torch.randn(5, 7, 20).bfloat16()
if EARLY:
    law = layer(x)[0]
pid = os.fork()
y = layer(x)[0]
y.float().sum().backward()
assert library.permitted_amx() == ALLOWED, library.permitted_amx()
if EARLY:
    assert torch.equal(law, y)
if pid == 0:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print("done", float(y.float().sum().detach()))
"""


@pytest.mark.parametrize("early", [True, False])
def test_forked_processes(early: bool, matrix_unit: None) -> None:
    done = python(f"EARLY, ALLOWED = {early}, True\n" + FORK, ELMAN_CFLAGS="-O0")
    assert done.stdout.startswith("done"), done.stderr


#: Linux refuses tiles to a process in which some thread has a stack for signals that cannot hold them.
SMALL_STACK = """
import ctypes
class Stack(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(4096)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, 4096)), None) == 0
EARLY, ALLOWED = True, False
"""


def test_linux_refuses_the_permission(matrix_unit: None) -> None:
    done = python(SMALL_STACK + FORK, ELMAN_CFLAGS="-O0")
    assert done.stdout.startswith("done"), done.stderr


@pytest.mark.skipif(not X86, reason="flags of x86")
def test_a_compiler_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "_native", lambda: "-O1 -march=native -mno-amx-tile -mno-amx-bf16")
    flags = build._flags()
    monkeypatch.setattr(build, "_flags", lambda: [word for flag in flags for word in flag.split()])
    monkeypatch.setattr(build, "_folder", lambda: tmp_path)
    monkeypatch.setattr(engines.cpu, "_programs", {})
    for key, kernel in LIBRARIES.items():  # which are put back after the test
        monkeypatch.setitem(LIBRARIES, key, kernel)
    _, inputs = drawn(9, 11, 13, 37, "lstm")
    layer = Recurrent(type(CELLS["lstm"])(), 13, 37)  # another object: its kernel is built again
    mine = results(layer, *inputs)
    with elman.engine("eager"):
        y = layer(*inputs[:1], None, *inputs[1:])[0]
    assert apart(mine[:1], [y.detach().double()]) < 2e-2
    (path,) = tmp_path.glob("LSTM*.so")
    assert ctypes.CDLL(str(path)).padded_units(ctypes.c_int64(1)) <= 16
