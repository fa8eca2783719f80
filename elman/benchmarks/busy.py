"""A neighbour that keeps one core busy, as another process on the same machine does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def neighbour() -> Iterator[None]:
    """Keeps one core busy for the time of a ``with`` block."""
    work = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        work.kill()
        work.wait()
