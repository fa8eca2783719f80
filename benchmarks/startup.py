"""What it costs to begin: python -m benchmarks.startup"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

WORK = {
    "python": ["-c", "pass"],
    "elman --help": ["-m", "elman", "--help"],
    "elman train --help": ["-m", "elman", "train", "--help"],
    "import torch": ["-c", "import torch"],
    "import torch, elman": ["-c", "import torch, elman"],
    "import torch, elman, all its parts": [
        "-c",
        "import torch, elman; [getattr(elman, name) for name in elman.__all__]",
    ],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in WORK}
    for _ in range(7):
        for name, arguments in WORK.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - began)
    for name, seconds in times.items():
        print(f"{statistics.median(seconds):6.2f} s  {name}")


if __name__ == "__main__":
    main()
