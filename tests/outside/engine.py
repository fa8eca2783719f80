"""An engine from outside the package."""

from __future__ import annotations

from torch import Tensor

from elman import engines
from elman.engines import Eager, Engine, Scan, State


class Counting(Engine):
    """The eager engine, which counts its runs."""

    name = "outside_counting"
    runs = 0

    def refusal(self, scan: Scan) -> str | None:
        return None

    def run(self, scan: Scan) -> tuple[Tensor, State]:
        type(self).runs += 1
        return Eager().run(scan)


engines.register(Counting())
