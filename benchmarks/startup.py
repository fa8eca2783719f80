"""Startup time of Python, torch and elman: python -m benchmarks.startup

Each line of the output is the median of seven runs in seconds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

#: Name of each measurement to the arguments of Python.
COMMANDS = {
    "python": ["-c", "pass"],
    "elman --help": ["-m", "elman", "--help"],
    "elman train --help": ["-m", "elman", "train", "--help"],
    "import torch": ["-c", "import torch"],
    "import torch, elman": ["-c", "import torch, elman"],
    "import torch, elman and every submodule": [
        "-c",
        "import torch, elman; [getattr(elman, name) for name in elman.__all__]",
    ],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(7):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    for name, seconds in times.items():
        print(f"{statistics.median(seconds):6.2f} s  {name}")


if __name__ == "__main__":
    main()
