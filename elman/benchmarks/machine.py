"""Peak performance of this machine: float32 operations and memory reads."""

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
    """Build and load machine.c."""
    library = load((Path(__file__).parent / "machine.c").read_text(encoding="utf-8"), "machine")
    library.multiply.argtypes, library.multiply.restype = [ctypes.c_double, ctypes.c_void_p], ctypes.c_double
    library.read_memory.argtypes, library.read_memory.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_float
    return library


@functools.cache
def peak() -> float:
    """Measure the float32 peak of all of torch's threads together.

    Returns:
        Operations per second, the best of five runs of 0.1 s. The result is cached.
    """
    threads, library = torch.get_num_threads(), _library()

    def rate_of_thread(_: int) -> float:
        return library.multiply(0.1, ctypes.byref(ctypes.c_float(0.5)))

    with ThreadPoolExecutor(threads) as pool:
        return max(sum(pool.map(rate_of_thread, range(threads))) for _ in range(5))


def read_seconds(size: int, rounds: int = 200) -> float:
    """Measure how long one core takes to read memory that it has just read before.

    Args:
        size: number of bytes.
        rounds: number of measurements. Default: 200.

    Returns:
        The median in seconds.
    """
    memory, library = torch.ones(size // 4), _library()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        library.read_memory(memory.data_ptr(), memory.numel())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def describe() -> str:
    """Describe the machine: processor, vector instructions, threads and torch version, in one line."""
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
