"""Traces the step of a cell with a matrix memory: a program over units, keys and the memory of a head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from elman.cells import Cell
from elman.engines.compiler.program import Merge, Node, TraceError, of
from elman.engines.compiler.recording import gradients
from elman.engines.compiler.tracing import Trace
from elman.engines.compiler.units import Units
from elman.engines.memory import Layout

#: The axes of a value of a head: whether it has one number for each unit, and for each key.
Kind = tuple[bool, bool]
HEAD, UNITS, KEYS, MEMORY = (False, False), (True, False), (False, True), (True, True)


class MemoryProgram(NamedTuple):
    """The computation of a step of one head, and of its gradient.

    In addition to pointwise operations there are ``sum`` and ``amax`` nodes, whose second argument is the kind of the
    axes that they combine.

    Attributes:
        inputs: the inputs by name, as in `Program`: ``x_v`` of gate v, ``s_C`` of the old state, ``d_C`` for the
            gradient of the new state.
        kinds: the kinds of the inputs by name.
        new: the new state.
        gate_grads: the gradients of the gates. None stands for 0.
        state_grads: the gradients of the old state.
    """

    inputs: dict[str, Node]
    kinds: dict[str, Kind]
    new: tuple[Node, ...]
    gate_grads: tuple[Node | None, ...]
    state_grads: tuple[Node | None, ...]

    def kind(self, node: Node) -> Kind:
        """Return the axes of a value."""
        return _kind(node, self.kinds, {})


def trace(cell: Cell, U: int, K: int, dtype: torch.dtype = torch.float32) -> MemoryProgram:
    """Return the program of ``cell.step``, for a cell with a matrix memory, and of its gradient.

    Args:
        cell: the cell.
        U: the units of a head, 2 or more. The program is that of heads of these sizes.
        K: the keys of a head, 2 or more.
        dtype: the precision that the kernel computes in, torch.float32 or torch.float64.

    Raises:
        TraceError: the step cannot be made into a kernel.
    """
    rows = [R for R in range(2, 8) if R not in (U, K)][:2]  # so that a shape tells what a tensor is
    programs = [_MemoryTrace(cell, R, U, K, dtype).program() for R in rows]
    merge = Merge([U, U])

    def merged(name: str) -> tuple:
        return tuple(merge(values) for values in zip(*(getattr(p, name) for p in programs), strict=True))

    inputs = {name: merge(tuple(p.inputs[name] for p in programs)) for name in programs[0].inputs}
    fields: Any = {name: merged(name) for name in ("new", "gate_grads", "state_grads")}
    return programs[0]._replace(inputs=inputs, **fields)


def _kind(node: Node, inputs: dict[str, Kind], known: dict[Node, Kind]) -> Kind:
    if node not in known:
        units, keys = inputs.get(node.op, HEAD)
        for parent in node.parents:
            more = _kind(parent, inputs, known)
            units, keys = units or more[0], keys or more[1]
        if node.op in ("sum", "amax"):
            combined = node.arguments[1]
            units, keys = units and not combined[0], keys and not combined[1]
        known[node] = units, keys
    return known[node]


class _MemoryTrace(Trace):
    """Records a step of R heads of U units and K keys, and its gradient."""

    def __init__(self, cell: Cell, R: int, U: int, K: int, dtype: torch.dtype) -> None:
        super().__init__(cell, R, U, dtype)
        self.K = K
        self.kinds: dict[str, Kind] = {}

    def program(self) -> Any:
        cell, R = self.cell, self.B
        sizes = Layout(cell, 1, self.H, self.K)
        generator = torch.Generator().manual_seed(0)
        inputs: dict[str, Node] = {}

        def draw(name: str, size: tuple[int, int]) -> Tensor:
            value = torch.rand(R, *size, generator=generator, dtype=self.dtype, device="cpu") * 0.5 + 0.25
            inputs[name] = Node(name, (), letter=name)
            self.kinds[name] = size[0] > 1, size[1] > 1
            self.record(value.requires_grad_(), inputs[name])
            return value

        with torch.enable_grad():
            gates = [draw(f"x_{gate}", size) for gate, size in zip(cell.gates, sizes.gates, strict=True)]
            old = [draw(f"s_{part}", size) for part, size in zip(cell.parts, sizes.parts, strict=True)]
            grads = [draw(f"d_{part}", size).detach() for part, size in zip(cell.parts, sizes.parts, strict=True)]
            with self.author, Units(self, []), self:
                new = self._step((cell.InputGates(*gates), cell.HiddenGates(), cell.State(*old), cell.Vectors()))
                pairs = [(n, d) for n, d in zip(new, grads, strict=True) if n.requires_grad]
                if not pairs:
                    raise TraceError(f"{cell}.step: the new state has no gradient: it depends on neither x nor state")
                found = gradients([n for n, _ in pairs], [d for _, d in pairs], [*gates, *old])
            results = tuple(self.parts(n, "the step")[0] for n in new)
            nodes = tuple(None if g is None else self._single(g) for g in found)
        return MemoryProgram(inputs, self.kinds, results, nodes[: len(gates)], nodes[len(gates) :])

    def _check_new(self, new: tuple[Tensor, ...]) -> None:
        sizes = Layout(self.cell, 1, self.H, self.K).parts
        for name, part, size in zip(self.cell.parts, new, sizes, strict=True):
            if part.shape != (self.B, *size):
                letters = f"(R, {'U' if size[0] > 1 else '1'}, {'K' if size[1] > 1 else '1'})"
                raise TraceError(f"{self.cell}.step must return {name} of shape {letters}; sums need keepdim=True")

    def _kind(self, t: Tensor, op: str) -> Literal["row", "unit", "scalar"]:
        R, U, K = self.B, self.H, self.K
        shape = (1,) * (3 - t.dim()) + tuple(t.shape)
        if len(shape) > 3 or any(n not in (1, size) for n, size in zip(shape, (R, U, K), strict=True)):
            names = {R: "R", U: "U", K: "K"}
            letters = ", ".join(names.get(n, str(n)) for n in t.shape)
            raise TraceError(
                f"{self.location()}: {op} gives ({letters}); the step of a cell with a matrix memory computes values "
                "(R, U or 1, K or 1), and sums over keys or units with dim=-1 or -2 and keepdim=True"
            )
        return "row"

    def _count(self, t: Tensor) -> int:
        return 1

    def _instead(self, op: str) -> str:
        products = ("bmm", "matmul", "transpose", "permute", "einsum", "mv", "mm", "t")
        return "; for a product with the memory, write (C * k).sum(-1, keepdim=True)" if op in products else ""

    def _across(self, op: str, args: tuple, kwargs: dict, result: Any) -> Any:
        value = args[0]
        if op == "linalg_vector_norm":
            power, axes, keep = (*args[1:], *(2, None, False)[len(args) - 1 :])[:3]
            axes = _axes(axes)
            if power == 2 and keep and value.dim() == 3 and axes in _AXES:
                return self.record(result, of("sqrt", self._combined("sum", value, axes, square=True)))
        elif op in ("sum", "mean", "amax"):
            axes, keep = (*args[1:], *((), False)[len(args) - 1 :])[:2]
            axes = _axes(axes)
            if op == "amax" and _kind(self.parts(value, op)[0], self.kinds, {}) == MEMORY:
                raise TraceError(f"{self.location()}: kernels support amax of units and of keys, not of a whole memory")
            if value.dim() == 3 and keep and axes in _AXES:
                node = self._combined("amax" if op == "amax" else "sum", value, axes)
                count = math.prod(value.shape[axis] for axis in axes)
                return self.record(result, node * (1 / count) if op == "mean" else node)
        elif op == "_softmax" and value.dim() == 3 and args[1] in (-1, 2):
            shifted = self.parts(value, op)[0] - self._combined("amax", value, (2,))
            powers = of("exp", shifted)
            return self.record(result, powers / self._over("sum", powers, value.shape, (2,)))
        elif op == "_softmax_backward_data" and value.dim() == 3 and args[2] in (-1, 2):
            grad, output = self.parts(value, op)[0], self.parts(args[1], op)[0]
            projection = self._over("sum", grad * output, value.shape, (2,))
            return self.record(result, (grad - projection) * output)
        raise TraceError(
            f"{self.location()}: kernels do not support {self.author.named(op)} here; a step sums over keys, "
            "dim=-1, and units, dim=-2, with keepdim=True"
        )

    def _combined(self, op: str, value: Tensor, axes: Sequence[int], square: bool = False) -> Node:
        """Return the sum or maximum of a tensor over its axes 1 (units) and 2 (keys)."""
        node = self.parts(value, op)[0]
        return self._over(op, node * node if square else node, value.shape, axes)

    def _over(self, op: str, node: Node, shape: Sequence[int], axes: Sequence[int]) -> Node:
        """Return the sum or maximum over axes of a tensor (R, U or 1, K or 1) that has this node."""
        has = _kind(node, self.kinds, {})
        kind = (1 in axes and has[0], 2 in axes and has[1])
        combined = Node(op, (node, kind), where=self.location()) if True in kind else node
        for axis, there in ((1, has[0]), (2, has[1])):
            if axis in axes and not there and shape[axis] > 1 and op == "sum":  # the same number repeated
                combined = combined * float(shape[axis])
        return combined


#: The axes over which values are combined: keys, units, or both.
_AXES = (2,), (1,), (1, 2)


def _axes(axes: Any) -> tuple[int, ...]:
    """Return the axes of an operation on tensors of three dimensions, from 0, in order."""
    return tuple(sorted(axis % 3 for axis in ((axes,) if isinstance(axes, int) else axes or ())))
