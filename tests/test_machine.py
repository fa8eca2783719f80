"""The cpu engine on whatever machine it finds itself: no compiler, a damaged cache, forked processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from elman.layers import Recurrent
from tests.conftest import HUNG, QUICK_FLAGS


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own. The kernels that it builds are not optimised."""
    environment = {"ELMAN_CFLAGS": QUICK_FLAGS} | environment
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HUNG, env=os.environ | environment
    )


FORWARD = """
import torch, elman, logging
logging.basicConfig(format="%(message)s")
torch.manual_seed(0)
for name in ("lstm", "lstm", "mgu"):
    layer = elman.layers.Recurrent(name, 4, 6)
    x = torch.linspace(-1, 1, 24).view(2, 3, 4)
    y, _ = layer(x)
    y.sum().backward()
    with elman.engine("eager"):
        assert torch.allclose(layer(x)[0], y, atol=1e-6)
print("engine", elman.engines.choose(layer.recurrence.scan(layer.weights(), x, layer.initial_state(x))).name)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the kernels of `FORWARD`."""
    cache = tmp_path_factory.mktemp("cache")
    done = python(FORWARD, ELMAN_CACHE=str(cache))
    assert done.stdout == "engine cpu\n", done.stderr
    return cache


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(built, tmp_path / "cache")


def test_no_compiler(tmp_path: Path) -> None:
    done = python(FORWARD, PATH=str(tmp_path), ELMAN_CACHE=str(tmp_path), CC="", ELMAN_ENGINE="")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "engine eager\n"
    assert (
        "no fast kernel for LSTM, so it runs slower: no C compiler (cc, gcc or clang; or pip install ziglang)"
        in done.stderr
    )
    assert done.stderr.count("no C compiler") == 1


def test_a_broken_compiler(tmp_path: Path) -> None:
    (tmp_path / "cc").write_text("#!/bin/sh\necho 'cc: error: out of order' >&2\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    done = python(FORWARD, CC=str(tmp_path / "cc"), ELMAN_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "cc failed: cc: error: out of order" in done.stderr
    assert not list(tmp_path.glob("kernels/*"))
    done = python(FORWARD, CC=str(tmp_path / "missing"), ELMAN_CACHE=str(tmp_path))
    assert "missing does not run" in done.stderr


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = python(FORWARD, ELMAN_CACHE=str(tmp_path / "file"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "engine cpu\n"
    assert done.stderr == ""


def test_a_damaged_cache_is_built_anew(cache: Path) -> None:
    libraries = sorted(cache.glob("kernels/*.so"))
    assert len(libraries) == 3  # two cells and the runtime
    before = {path.name: path.read_bytes() for path in libraries}
    libraries[0].write_bytes(libraries[0].read_bytes()[:1000])
    libraries[1].write_bytes(b"")
    changed = bytearray(before[libraries[2].name])
    changed[5000] ^= 1
    libraries[2].write_bytes(changed)
    done = python(FORWARD, ELMAN_CACHE=str(cache))
    assert done.stdout == "engine cpu\n", done.stderr
    assert len(list(cache.glob("kernels/*.so"))) == 3
    for path in cache.glob("kernels/*.so"):
        assert path.stat().st_size == len(before.get(path.name, path.read_bytes()))
    assert [p.name.split("-")[0] for p in sorted(cache.glob("kernels/*.c"))] == [
        "LSTM_float32",
        "MGU_float32",
        "runtime",
    ]


MANY = f"""
import io, os, sys, elman.layers, torch
children = []
for _ in range(3):
    children.append(os.fork())
    if not children[-1]:
        sys.stdout = io.StringIO()  # one write a child: prints of several processes would mix
        exec({FORWARD!r})
        os.write(1, sys.stdout.getvalue().encode())
        os._exit(0)
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 3
"""


def test_several_processes_build_at_once(tmp_path: Path) -> None:
    done = python(MANY, ELMAN_CACHE=str(tmp_path))
    assert (done.stdout, done.returncode) == ("engine cpu\n" * 3, 0), done.stderr
    assert {path.suffix for path in (tmp_path / "kernels").iterdir()} == {".c", ".so"}


FORK = """
import os, torch, elman
from elman.layers import Recurrent
from tests.conftest import HUNG
torch.set_num_threads(2)
layer = Recurrent("lstm", 64, 64)
x = torch.randn(8, 20, 64)  # so small that torch's own operations take one thread: they would hang in a fork
y = layer(x)[0]
y.sum().backward()
pid = os.fork()
if pid == 0:
    ok = True
    for _ in range(5):
        again = layer(x)[0]
        again.backward(torch.ones_like(again))
        ok = ok and torch.allclose(again, y, atol=1e-6)
    os._exit(0 if ok else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert torch.allclose(layer(x)[0], y, atol=1e-6)

class Data(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, k): return layer(x[k : k + 1])[0].detach()[0]

for k, one in enumerate(torch.utils.data.DataLoader(Data(), batch_size=None, num_workers=2)):
    assert torch.allclose(one, y[k], atol=1e-6)
print("fine")
"""


def test_forked_processes() -> None:
    done = python(FORK, OMP_NUM_THREADS="2")
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_idle_threads_sleep() -> None:
    torch.set_num_threads(2)
    try:
        Recurrent("lstm", 64, 128)(torch.randn(16, 40, 64))[0].sum().backward()
        began, used = time.process_time(), 1.0
        while used > 0.02:  # threads may wait for work for a while, on a busy machine for longer
            before = time.process_time()
            time.sleep(0.2)
            used = time.process_time() - before
            assert time.process_time() - began < 5.0
    finally:
        torch.set_num_threads(1)


def test_a_cached_kernel_needs_no_compiler(cache: Path, tmp_path: Path) -> None:
    done = python(FORWARD, ELMAN_CACHE=str(cache), PATH=str(tmp_path), CC="")
    assert (done.stdout, done.stderr) == ("engine cpu\n", "")
