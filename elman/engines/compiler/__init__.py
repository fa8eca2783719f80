"""The compiler that all engines with kernels share.

`trace` turns the step of a cell into a `Program`, and `Plan` divides the program into phases and chooses what forward
keeps for backward. A backend prints the phases in its language, and decides nothing else about the step::

    plan = Plan(trace(cell))
    for phase in plan.forward.units():
        for instruction in phase.instructions:
            ...

`projection` and `raw` rewrite scans so that kernels need not know projections and raw columns, `sizes` checks the
tensors of a scan, and `settings` reads what a kernel depends on beside the class of a cell.
"""

from __future__ import annotations

from elman.engines.compiler.phases import Accumulate, Array, Instruction, Phase, Phases, PrefixSum, Slot, Store
from elman.engines.compiler.plan import Plan
from elman.engines.compiler.program import Node, Program, Size, TraceError
from elman.engines.compiler.tracing import trace

__all__ = [
    "Accumulate", "Array", "Instruction", "Node", "Phase", "Phases", "Plan", "PrefixSum", "Program", "Size", "Slot",
    "Store", "TraceError", "trace",
]  # fmt: skip
