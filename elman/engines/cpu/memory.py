"""Kernels for cells with a matrix memory, and the autograd function that calls them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import Structure, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from elman.engines.compiler.memory import MemoryProgram
from elman.engines.cpu.build import load
from elman.engines.cpu.library import Source, reused, source, threads
from elman.engines.cpu.memory_source import source as source_of
from elman.engines.memory import Layout, gates_of, layout, loop
from elman.engines.modes import batched, transform, watched
from elman.engines.scan import Scan, State

#: The steps between two states that forward keeps; in memory.c.
_CHUNK = 32
#: The numbers in all memories and steps from which a second thread is worth waking.
_SHARED = 1 << 17


class MemoryKernel:
    """The compiled kernel of a cell with a matrix memory, for the sizes of its heads and a dtype.

    Args:
        sizes (Layout): The cell and its sizes. The number of heads does not matter.
        program (MemoryProgram): The program of its step.
        dtype (torch.dtype): torch.float32 or torch.float64.

    Raises:
        BuildError: The C cannot be compiled.
    """

    def __init__(self, sizes: Layout, program: MemoryProgram, dtype: torch.dtype) -> None:
        name = "float64" if dtype == torch.float64 else "float32"
        self._c = load(source_of(sizes, program, name), f"{type(sizes.cell).__name__}_{sizes.U}x{sizes.K}_{name}")
        self._c.state_size.restype = c_int64
        for function in (self._c.forward, self._c.backward):
            function.argtypes, function.restype = [c_void_p], c_int
        self.dtype, self.state_size = dtype, self._c.state_size()
        parts = c_void_p * len(sizes.parts)
        fields = [
            *((one, c_int64) for one in ("B", "T", "heads", "threads")),
            *((one, c_void_p) for one in ("gates", "lengths", "resets")),
            ("state0", parts), ("state1", parts), ("y", c_void_p), ("saved", c_void_p), ("dy", c_void_p),
            ("dstate1", parts), ("dgates", c_void_p), ("dstate0", parts), ("source", Source),
        ]  # fmt: skip
        self.Job: Any = type("Job", (Structure,), {"_fields_": fields})

    def call(self, name: str, sizes: Layout, gates: Tensor, state: Sequence[Tensor], **fields: Any) -> None:
        """Run the function of a name.

        Args:
            name: "forward" or "backward".
            sizes: the sizes.
            gates: (B, T, G), contiguous.
            state: the parts of the state before the first step, contiguous.
            fields: tensors, or lists of tensors, for the other fields of the job; None for none.

        Raises:
            MemoryError: there is no memory for a thread.
        """
        B, T = gates.shape[:2]
        work = B * T * sizes.heads * sizes.U * sizes.K
        job = self.Job(B=B, T=T, heads=sizes.heads, threads=threads() if work >= _SHARED else 1, source=source())
        for field, value in {"gates": gates, "state0": state, **fields}.items():
            if isinstance(value, Tensor):
                setattr(job, field, value.data_ptr())
            elif value is not None:
                setattr(job, field, type(getattr(job, field))(*(part.data_ptr() for part in value)))
        if getattr(self._c, name)(ctypes.addressof(job)):
            raise MemoryError(f"no memory for the kernel of {sizes.cell}")


def refusal(scan: Scan) -> str | None:
    """Return in a few words why kernels cannot run a scan of a cell with a matrix memory; None if they can."""
    if torch.compiler.is_compiling():
        return "torch.compile does not support its kernels for a matrix memory"
    if watched(scan.x, *scan.state, *scan.weights.tensors()):
        return "a mode of torch or a subclass of Tensor intercepts every operation"
    sizes = layout(scan)
    return "its kernels need heads of two or more units and keys" if min(sizes.U, sizes.K) < 2 else None


def run(kernel: MemoryKernel, scan: Scan) -> tuple[Tensor, State]:
    """Run a scan of a cell with a matrix memory."""
    gates = gates_of(scan)
    lengths = None if scan.lengths is None else scan.lengths.long().clamp(0, gates.shape[1]).contiguous()
    resets = None if scan.resets is None else scan.resets.contiguous()
    inputs = [t.to(kernel.dtype).resolve_neg().contiguous() for t in (gates, *scan.state)]
    y, *new = _MemoryScan.apply(kernel, layout(scan), inputs[0], lengths, resets, *inputs[1:])
    return y.to(gates.dtype), tuple(part.to(old.dtype) for part, old in zip(new, scan.state, strict=True))


class _MemoryScan(torch.autograd.Function):
    """From the gates (B, T, G) and the state to y (B, T, H) and the new state.

    Forward keeps the gates and every 32nd state; backward computes the states between them again.
    """

    @staticmethod
    def forward(
        ctx: Any, kernel: MemoryKernel, sizes: Layout, gates: Tensor, lengths: Tensor | None, resets: Tensor | None,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        B, T = gates.shape[:2]
        y = gates.new_empty(B, T, sizes.heads * sizes.U)
        new = [torch.empty_like(part) for part in state]
        saved = None
        if any(ctx.needs_input_grad):
            shape = (B * sizes.heads, -(-T // _CHUNK), kernel.state_size)
            saved = reused(shape, kernel.dtype)
            ctx.kernel, ctx.sizes = kernel, sizes
            ctx.save_for_backward(gates, lengths, resets, saved, *state)
            ctx.set_materialize_grads(False)
        kernel.call("forward", sizes, gates, state, lengths=lengths, resets=resets, y=y, state1=new, saved=saved)
        return (y, *new)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *dstate: Tensor | None) -> tuple:  # type: ignore[override]
        if torch.is_grad_enabled() or transform() or batched(dy, *dstate):
            return _eager_backward(ctx, dy, dstate)
        gates, lengths, resets, saved, *state = ctx.saved_tensors
        gates, state = gates.contiguous(), [part.contiguous() for part in state]  # as hooks on saved tensors give them
        dgates, dold = torch.empty_like(gates), [torch.empty_like(part) for part in state]
        given = [
            torch.zeros_like(part) if grad is None else grad.contiguous()
            for part, grad in zip(state, dstate, strict=True)
        ]
        ctx.kernel.call(
            "backward", ctx.sizes, gates, state, lengths=lengths, resets=resets, saved=saved,
            dy=None if dy is None else dy.contiguous(), dstate1=given, dgates=dgates, dstate0=dold,
        )  # fmt: skip
        return (None, None, dgates, None, None, *dold)


def _eager_backward(ctx: Any, dy: Tensor | None, dstate: Sequence[Tensor | None]) -> tuple:
    """Return the gradients from eager steps, for second derivatives and batched gradients."""
    gates, lengths, resets, _, *state = ctx.saved_tensors
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        y, new = loop(ctx.sizes, gates, state, lengths, resets)
    pairs = [(t, grad) for t, grad in zip((y, *new), (dy, *dstate), strict=True)]
    pairs = [(t, grad) for t, grad in pairs if grad is not None and t.requires_grad]
    wanted = [t for t in (gates, *state) if t.requires_grad]
    outputs, given = [t for t, _ in pairs], [grad for _, grad in pairs]
    create = torch.is_grad_enabled()
    found = iter(torch.autograd.grad(outputs, wanted, given, create_graph=create, materialize_grads=True))
    grads = [next(found) if t.requires_grad else None for t in (gates, *state)]
    return (None, None, grads[0], None, None, *grads[1:])
