"""Traces a cell's step and its gradient into straight-line programs.

The step runs on small tensors while every operation of torch is recorded. Then the backward pass of torch runs and is
recorded too, so that the author of a cell writes its equations only and no gradient is derived by hand.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from elman.cells import Cell
from elman.engines.compiler import across
from elman.engines.compiler.author import Author
from elman.engines.compiler.formulas import FORMULAS, POINTWISE
from elman.engines.compiler.operations import BOOLEAN, BOOLEAN_ARGUMENTS, CONSTANTS, COPIES, FILLS, LITERALS
from elman.engines.compiler.program import Node, Program, TraceError, ancestors, generalise, kind_of, of
from elman.engines.compiler.recording import Parts, Recorder, gradients, key_of
from elman.engines.compiler.units import READS_VALUE, Units

#: The rows and units of the traced tensors. Three traces show which numbers depend on them.
_SIZES = (2, 7), (3, 5), (4, 8)


def trace(cell: Cell, dtype: torch.dtype = torch.float32) -> Program:
    """Return the program of ``cell.step`` and of its gradient.

    Args:
        cell: the cell.
        dtype: the precision that the kernel computes in, torch.float32 or torch.float64.

    Raises:
        TraceError: the step cannot be made into a kernel. It changes a tensor in place, reads the value of a tensor,
            uses an operation that kernels do not support, or reads across units in a way that they do not support.
    """
    return generalise([Trace(cell, *sizes, dtype).program() for sizes in _SIZES], [H for _, H in _SIZES])


class Trace(TorchDispatchMode, Recorder):
    """Records the operations below autograd: those of the step, then those of its gradient."""

    def __init__(self, cell: Cell, B: int, H: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.cell, self.B, self.H, self.dtype = cell, B, H, dtype
        self.code: CodeType = inspect.unwrap(type(cell).step).__code__
        self.nodes: dict[tuple, Node | Parts] = {}  # by `key_of`
        self.normalised: dict[Node, Parts] = {}
        self.inner: dict[int, Node] = {}  # by inner gate: what its matrix is multiplied with
        self.inner_grads: dict[int, Node] = {}
        self.detached: list[Tensor] = []  # arguments of inner gates that have no gradient of their own
        self.author = Author(self.location)
        self.error: TraceError | None = None
        self._alive: list[Tensor] = []  # so that no memory, and no key, is used twice

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes a second

    def program(self) -> Program:
        cell, B, H = self.cell, self.B, self.H
        generator = torch.Generator().manual_seed(0)

        def draw(name: str, *shape: int) -> Tensor:
            value = torch.rand(*shape, generator=generator, dtype=self.dtype, device="cpu") * 0.5 + 0.25
            value.requires_grad_()
            self.record(value, Node(name, (), "row" if len(shape) == 2 else "unit", name))
            return value

        with torch.enable_grad():
            gates = [draw(f"x_{gate}", B, H) for gate in cell.inputs]
            products = [draw(f"h_{gate}", B, H) for gate in cell.hidden_gates]
            inner = [self._inner_product(k) for k in range(len(cell.inner_gates))]
            old = [draw(f"s_{part}", B, H) for part in cell.state]
            vectors = [draw(f"w_{name}", H) for name in cell.weights]
            grads = [draw(f"d_{part}", B, H).detach() for part in cell.state]
            inputs = {n.op: n for n in self.nodes.values() if isinstance(n, Node) and n.kind == "row"}
            units = Units(self, vectors)
            with self.author, units, self:
                new = self._step((
                    cell.InputGates(*gates), cell.HiddenGates(*products, *inner), cell.State(*old),
                    cell.Vectors(*vectors),
                ))  # fmt: skip
                leaves = list(units.leaves.values())
                wanted = [*gates, *products, *old, *leaves]
                pairs = [(n, d) for n, d in zip(new, grads, strict=True) if n.requires_grad]
                if not pairs:
                    raise TraceError(
                        f"{cell}.step: the new state has no gradient: it depends on none of x, h, state and w"
                    )
                found = gradients([n for n, _ in pairs], [d for _, d in pairs], [*wanted, *self.detached])
            results = [self._single(n) for n in new]
            nodes = [None if g is None else self._single(g) for g in found[: len(wanted)]]
        read = set(ancestors([*results, *nodes, *self.inner.values()]))
        used = [k for k, leaf in enumerate(leaves) if self.nodes[key_of(leaf)] in read]
        counts = (len(gates), len(products), len(old))
        inputs_end, hidden_end = counts[0], counts[0] + counts[1]
        unit_grads = nodes[sum(counts) :]
        if missing := [gate for k, gate in enumerate(cell.inner_gates) if k not in self.inner]:
            raise TraceError(f"{cell}.step does not call its inner gate: h.{missing[0]}(value)")
        return Program(
            inputs=inputs,
            units=tuple(self._single(leaves[k]) for k in used),
            new=tuple(results),
            inner=tuple(self.inner[k] for k in range(len(inner))),
            input_grads=tuple(nodes[:inputs_end]),
            hidden_grads=(*nodes[inputs_end:hidden_end], *map(self.inner_grads.get, range(len(inner)))),
            state_grads=tuple(nodes[hidden_end : sum(counts)]),
            unit_grads=tuple(unit_grads[k] for k in used),
            derive=units.derive([leaves[k] for k in used]),
        )

    def _step(self, arguments: tuple) -> tuple[Tensor, ...]:
        """Run the step and return the new state.

        Raises:
            TraceError: the step fails, or the new state has another number of parts or another shape.
        """
        try:
            new = self.cell.step(*arguments)
            if self.error:
                raise self.error
        except TraceError:
            raise
        except Exception as error:  # in the author's code; the eager engine may still run it
            if self.error:
                raise self.error from None
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self.code.co_filename]
            what = f"{type(error).__name__}: {error}"
            if "in-place" in what:
                what = "the step changes a tensor in place; compute a new tensor instead"
            else:
                what += f" (tried with {self.B} rows of {self.H} units)"
            raise TraceError(f"{self.code.co_filename}, line {lines[-1] if lines else '?'}: {what}") from error
        new = (new,) if isinstance(new, Tensor) else tuple(new or ())
        if not all(isinstance(part, Tensor) for part in new):
            raise TraceError(f"{self.cell}.step must return tensors")
        if len(new) != len(self.cell.parts):
            raise TraceError(
                f"{self.cell}.step must return {', '.join(self.cell.parts)}; it returned {len(new)} values"
            )
        self._check_new(new)
        return new

    def _check_new(self, new: tuple[Tensor, ...]) -> None:
        """Raise a TraceError if a part of the new state has the wrong shape."""
        for name, part in zip(self.cell.state, new, strict=True):
            if part.shape != (self.B, self.H):
                raise TraceError(f"{self.cell}.step must return {name} of shape (B, H)")

    def _inner_product(self, k: int) -> Callable[[Tensor], Tensor]:
        """Return ``h.n`` of an inner gate, which the step calls."""

        def product(v: Tensor) -> Tensor:
            if k in self.inner:
                raise TraceError(f"{self.location()}: a kernel can call each inner gate once in a step only")
            if not isinstance(v, Tensor) or v.shape != (self.B, self.H):
                raise TraceError(f"{self.location()}: the argument of an inner gate must be a tensor (B, H)")
            if not v.requires_grad:  # the matrix has a gradient nevertheless
                v = self.record(v.detach().requires_grad_(), self.node(v))
                self.detached.append(v)
            return _Inner.apply(v, self, k)

        return product

    def record(self, tensor: Tensor, node: Any) -> Tensor:
        self._alive.append(tensor)
        self.nodes[key_of(tensor)] = node
        return tensor

    def recorded(self, key: tuple) -> bool:
        return key in self.nodes

    def node(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        node = self.nodes.get(key_of(value))
        if node is None:
            if value.numel() != 1 or value.requires_grad:
                raise TraceError(f"{self.location()}: the step uses a tensor from outside; declare it in weights")
            return value.item()
        return node

    def _single(self, value: Tensor) -> Node:
        """Return the one node of a tensor (B, H), (B, 1) or (H,)."""
        node = self.node(value)
        return node if isinstance(node, Node) else Node("fill", (float(node),))

    def parts(self, tensor: Tensor, op: str) -> Parts:
        node, count = self._operand(tensor, False), self._count(tensor)
        node = node if isinstance(node, (Node, tuple)) else Node("fill", (float(node),))
        return node if isinstance(node, tuple) else (node,) * count

    def _frame(self) -> FrameType | None:
        """Return the frame of the author's code that is running; None in the gradient."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code is not type(self).program.__code__:
            if frame.f_code.co_filename == self.code.co_filename:
                return frame
            frame = frame.f_back
        return None

    def in_gradient(self) -> bool:
        return self._frame() is None

    def location(self) -> str:
        frame = self._frame()
        if frame is None:
            node = torch._C._current_autograd_node()
            if node is not None and (location := self.author.gradient(node._sequence_nr())):
                return location
            return f"the gradient of {self.code.co_filename}, line {self.code.co_firstlineno}"
        return f"{frame.f_code.co_filename}, line {frame.f_lineno}"

    def _name_nodes(self) -> None:
        """Name nodes after the author's local variables."""
        frame = self._frame()
        for letter, value in frame.f_locals.items() if frame else ():
            node = self.nodes.get(key_of(value)) if isinstance(value, Tensor) else None
            if isinstance(node, Node) and not node.letter:
                object.__setattr__(node, "letter", letter)

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        try:
            with torch._C.DisableTorchFunction():  # the author does not call what is called here
                return self._dispatch(function, args, kwargs or {})
        except TraceError as error:
            self.error = self.error or error  # after an error in `a += b` Python tries `a + b`
            raise

    def _dispatch(self, function: Any, args: tuple, kwargs: dict) -> Any:
        """Run an operation, record it and return its result."""
        self._name_nodes()
        op, changes = function._schema.name.removeprefix("aten::"), function._schema.is_mutable
        if changes and self.author.changes(args[0]):
            raise TraceError(
                f"{self.location()}: {self.author.named(op)} changes a tensor in place; compute a new tensor instead"
            )
        op = op.removesuffix("_") if changes else op
        if op in ("_local_scalar_dense", "is_nonzero", "equal"):
            raise TraceError(f"{self.location()}: {READS_VALUE}")
        if op in LITERALS:
            return function(*args, **kwargs)
        if op in CONSTANTS or op in FILLS:
            result = function(*args, **kwargs)
            fill = CONSTANTS[op] if op in CONSTANTS else self.node(args[FILLS[op]])
            fill = fill if isinstance(fill, Node) else Node("fill", (float(fill),), self._kind(result, op))
            count = self._count(result)
            return self.record(result, fill if count == 1 else (fill,) * count)
        if op not in POINTWISE | COPIES | across.OPERATIONS:
            raise TraceError(
                f"{self.location()}: kernels do not support the operation {self.author.named(op)}"
                f"{self._instead(op)}; docs/engines.md lists the supported operations, and the eager engine runs "
                "all others"
            )
        result = function(*args, **kwargs)
        if op in across.OPERATIONS:
            return self._across(op, args, kwargs, result)
        if op in COPIES:
            return self.record(result, self._copied(args[0], result, op))
        arguments = tuple(self._operand(a, k in BOOLEAN_ARGUMENTS.get(op, ())) for k, a in enumerate(args))
        if any(isinstance(a, list) for a in arguments):
            raise TraceError(f"{self.location()}: {self.author.named(op)} is not pointwise")
        given = {k: v for k, v in kwargs.items() if v is not None}
        for k, value in enumerate((result,) if isinstance(result, Tensor) else result):
            self.record(value, self._pointwise(f"{op}.{k}" if k else op, arguments, value, given))
        return result

    def _instead(self, op: str) -> str:
        """Return a hint what to use instead of an operation, as the end of a sentence; empty if there is none."""
        return self.author.instead(op)

    def _across(self, op: str, args: tuple, kwargs: dict, result: Any) -> Any:
        """Record an operation that reads several units, and return its result."""
        if not (self.cell.mixes_units or (op == "sum" and self.in_gradient())):
            raise TraceError(
                f"{self.location()}: {self.author.named(op)} is not pointwise; a cell whose step reads across units "
                "must declare mixes_units = True"
            )
        return across.record(self, op, args, kwargs, result)

    def _pointwise(self, op: str, arguments: tuple, result: Tensor, keywords: dict) -> Node | Parts:
        """Return the node of a pointwise operation; k nodes for a result (B, k H)."""
        shape, where = self._kind(result, op), self.location()
        if op in ("add", "sub", "rsub") and "alpha" in keywords:
            arguments, keywords = (*arguments, keywords["alpha"]), {}
        if op == "nan_to_num":
            keywords = {"largest": torch.finfo(result.dtype).max}

        def node(*arguments: Any) -> Node:
            try:
                made = FORMULAS[op](*arguments, **keywords) if op in FORMULAS else Node(op, arguments, **keywords)
            except TypeError:
                raise TraceError(
                    f"{where}: kernels do not support {op} with the option {', '.join(keywords)}"
                ) from None
            nodes = [a for a in arguments if isinstance(a, Node)]
            made = Node(made.op, made.arguments, kind_of(nodes, shape), where=where)
            if result.dtype == torch.bool and made.op not in BOOLEAN:
                return of("ne", made, 0.0)
            return made

        count = self._count(result)
        nodes = [node(*(a[k] if isinstance(a, tuple) else a for a in arguments)) for k in range(count)]
        return nodes[0] if count == 1 else tuple(nodes)

    def _copied(self, old: Tensor, new: Tensor, op: str) -> Any:
        """Return the node or nodes of the result of one of `operations.COPIES`."""
        kind, node = self._kind(new, op), self._operand(old, new.dtype == torch.bool)
        if new.dtype != old.dtype and (
            new.dtype not in (torch.bool, torch.float32, torch.float64)
            or old.is_floating_point() > new.is_floating_point()
        ):
            raise TraceError(
                f"{self.location()}: kernels compute in one precision and do not support a cast to {new.dtype}"
            )
        node = node if isinstance(node, (Node, tuple)) else Node("fill", (float(node),), kind)
        count = self._count(new)
        return (node,) * count if isinstance(node, Node) and count > 1 else node

    def _operand(self, value: Any, truth: bool) -> Any:
        """Return the node of an argument, as a truth value or as a number."""
        node = self.node(value)
        if isinstance(node, tuple):
            return tuple(_converted(n, truth) for n in node)
        return _converted(node, truth) if isinstance(node, Node) else node

    def _kind(self, t: Tensor, op: str) -> Literal["row", "unit", "scalar"]:
        """Return the kind of the nodes of a tensor, by its shape."""
        shape = tuple(t.shape)
        if shape == (self.B, self.H) or self._count(t) > 1:
            return "row"
        if shape in ((self.H,), (1, self.H), ()):
            return "unit"
        if self.cell.mixes_units and shape in ((self.B, 1), (self.B,)):
            return "scalar"
        names = {self.B: "B", self.H: "H", 4 * self.H: "4 H", 3 * self.H: "3 H", 2 * self.H: "2 H"}
        sizes = ", ".join(names.get(n, str(n)) for n in shape)
        raise TraceError(
            f"{self.location()}: {op} is not pointwise, its result is ({sizes}); "
            "a step computes (B, H) tensors, each unit from its own gates, or its cell declares mixes_units = True"
        )

    def _count(self, t: Tensor) -> int:
        """Return k for a tensor (B, k H), and 1 for all others."""
        wide = self.cell.mixes_units and t.dim() == 2 and t.shape[0] == self.B and t.shape[1] % self.H == 0
        return t.shape[1] // self.H if wide else 1


def _converted(node: Node, truth: bool) -> Node:
    """Return a node as a truth value or as a number."""
    if (node.op in BOOLEAN) == truth:
        return node
    return of("ne", node, 0.0) if truth else of("where", node, 1.0, 0.0)


class _Inner(torch.autograd.Function):
    """The product of an inner gate. Only its node matters, so its values are arbitrary."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, trace: Trace, k: int) -> Tensor:  # type: ignore[override]
        ctx.trace, ctx.k = trace, k
        trace.inner[k] = trace._single(v)
        return _Inner._make(trace, Node("inner", (trace.inner[k], k), where=trace.location()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:  # type: ignore[override]
        trace, k = ctx.trace, ctx.k
        trace.inner_grads[k] = trace._single(grad)
        return _Inner._make(trace, Node("inner_back", (trace.inner_grads[k], k))), None, None

    @staticmethod
    def _make(trace: Trace, node: Node) -> Tensor:
        with _disable_current_modes():
            return trace.record(torch.full((trace.B, trace.H), 0.5, dtype=trace.dtype, device="cpu"), node)
