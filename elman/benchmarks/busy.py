"""A background process that keeps one core busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Runs until it is killed or its parent process has ended.
_CODE = "import os\nwhile os.getppid() == {parent}: sum(range(10_000))"


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy during a ``with`` block.

    Example:
        >>> with busy_process():  # doctest: +SKIP
        ...     measure()
    """
    process = subprocess.Popen([sys.executable, "-c", _CODE.format(parent=os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()
