"""The compiler that every engine with kernels shares: from a cell's step to programs that a backend prints."""

from __future__ import annotations

from elman.engines.compiler.program import Program, TraceError
from elman.engines.compiler.tracing import trace

__all__ = ["Program", "TraceError", "trace"]
