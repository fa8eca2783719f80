"""A neighbour that keeps one core busy, as another process on the same machine does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Works until it is killed, or until the process that wanted it is gone.
_WORK = "import os\nwhile os.getppid() == {parent}: sum(range(10_000))"


@contextmanager
def neighbour() -> Iterator[None]:
    """Keeps one core busy for the time of a ``with`` block."""
    work = subprocess.Popen([sys.executable, "-c", _WORK.format(parent=os.getpid())])
    try:
        yield
    finally:
        work.kill()
        work.wait()
