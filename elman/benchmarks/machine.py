"""What this machine can do at most, measured."""

from __future__ import annotations

import ctypes
import functools
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from elman.engines.cpu.build import load


@functools.cache
def _library() -> ctypes.CDLL:
    library = load((Path(__file__).parent / "machine.c").read_text(encoding="utf-8"), "machine")
    library.multiply.argtypes, library.multiply.restype = [ctypes.c_double, ctypes.c_void_p], ctypes.c_double
    library.read_memory.argtypes, library.read_memory.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_float
    return library


@functools.cache
def peak() -> float:
    """Float32 operations a second of all of torch's threads together: the best of five short runs."""
    threads, library = torch.get_num_threads(), _library()

    def one(_: int) -> float:
        return library.multiply(0.1, ctypes.byref(ctypes.c_float(0.5)))

    with ThreadPoolExecutor(threads) as pool:
        return max(sum(pool.map(one, range(threads))) for _ in range(5))


def read_seconds(size: int, rounds: int = 200) -> float:
    """Seconds to read ``size`` bytes once by one core, when they have just been read before: the median."""
    memory, library = torch.ones(size // 4), _library()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        library.read_memory(memory.data_ptr(), memory.numel())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def describe() -> str:
    """The machine, in words."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    name = f"{name} ({torch.backends.cpu.get_cpu_capability()})"
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
