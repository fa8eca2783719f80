"""A cell's step, and its gradient, as straight-line programs.

The step is run once on small tensors while every operation that torch carries out is written down; then
torch's own backward pass is run and written down too. So nobody derives a gradient by hand, and a cell's
author writes nothing but the equations.
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
from elman.engines.compiler.formulas import FILLED, FORMULAS, FULL, NUMBERS, POINTWISE, SAME, TAKE_TRUTHS, TRUTHS
from elman.engines.compiler.program import (
    Derive,
    Made,
    Node,
    Program,
    TraceError,
    ancestors,
    generalise,
    kind_of,
    mapped,
    of,
)
from elman.engines.compiler.units import LOOKS, Units, key_of

#: Rows and units of the traced tensors, three times: what depends on them is seen by the difference.
_SIZES = (2, 7), (3, 5), (4, 8)


def trace(cell: Cell, dtype: torch.dtype = torch.float32) -> Program:
    """The programs of ``cell.step`` and of its gradient; ``dtype`` is that of the numbers to be computed with.

    Raises:
        TraceError: the step changes a tensor in place, looks at values, reads across units in a way that kernels
            do not know, or uses an operation on tensors that has no gradient rule here.
    """
    return generalise([_Trace(cell, *sizes, dtype).program() for sizes in _SIZES], [H for _, H in _SIZES])


class _Trace(TorchDispatchMode):
    """Writes down the operations below autograd: those of the step, then those of its gradient.

    A tensor (B, H) is a node, and so is (B, 1); one of (B, k H) is a tuple of k nodes.
    """

    def __init__(self, cell: Cell, B: int, H: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.cell, self.B, self.H, self.dtype = cell, B, H, dtype
        self.code: CodeType = inspect.unwrap(type(cell).step).__code__
        self.nodes: dict[tuple, Node | tuple[Node, ...]] = {}
        self.alive: list[Tensor] = []  # so that no memory is used twice
        self.leaves: dict[tuple, Tensor] = {}  # unit values, cut off from what they were made of
        self.recipe: list[tuple[Any, tuple, dict, Any]] = []
        self.normed: dict[Node, tuple[Node, ...]] = {}  # by 1 / deviation: the values less their mean, times it
        self.inner: dict[int, Node] = {}
        self.inner_grads: dict[int, Node] = {}
        self.cut: list[Tensor] = []  # what inner gates multiply, where it has no gradient itself
        self.author = Author(self._where)
        self.refused: TraceError | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch would import its compiler, which takes a second

    def program(self) -> Program:
        cell, B, H = self.cell, self.B, self.H
        generator = torch.Generator().manual_seed(0)

        def draw(name: str, *shape: int) -> Tensor:
            value = torch.rand(*shape, generator=generator, dtype=self.dtype, device="cpu") * 0.5 + 0.25
            value.requires_grad_()
            self._know(value, Node(name, (), "row" if len(shape) == 2 else "unit", name))
            return value

        with torch.enable_grad():
            gates = [draw(f"x_{gate}", B, H) for gate in cell.inputs]
            products = [draw(f"h_{gate}", B, H) for gate in cell.hidden_gates]
            inner = [self._inner_product(k) for k in range(len(cell.inner_gates))]
            old = [draw(f"s_{part}", B, H) for part in cell.state]
            vectors = [draw(f"w_{name}", H) for name in cell.weights]
            grads = [draw(f"d_{part}", B, H).detach() for part in cell.state]
            inputs = {n.op: n for n in self.nodes.values() if isinstance(n, Node) and n.kind == "row"}
            self.leaves = {key_of(v): v for v in vectors}
            with self.author, Units(self), self:
                new = self._step((
                    cell.InputGates(*gates), cell.HiddenGates(*products, *inner), cell.State(*old),
                    cell.Vectors(*vectors),
                ))  # fmt: skip
                leaves = list(self.leaves.values())
                wanted = [*gates, *products, *old, *leaves]
                pairs = [(n, d) for n, d in zip(new, grads, strict=True) if n.requires_grad]
                if not pairs:
                    raise TraceError(f"{cell}.step: the new state depends on nothing that is trained")
                # torch.autograd.grad, but for its import of a symbolic algebra, which takes a third of a second
                found = torch.autograd.Variable._execution_engine.run_backward(
                    tuple(n for n, _ in pairs), tuple(d for _, d in pairs), False, False, (*wanted, *self.cut),
                    allow_unreachable=True, accumulate_grad=False,
                )  # fmt: skip
            results = [self._one(n) for n in new]
            nodes = [None if g is None else self._one(g) for g in found[: len(wanted)]]
        met = set(ancestors([*results, *nodes, *self.inner.values()]))
        used = [k for k, leaf in enumerate(leaves) if self.nodes[key_of(leaf)] in met]
        counts = (len(gates), len(products), len(old))
        inputs_end, hidden_end = counts[0], counts[0] + counts[1]
        unit_grads = nodes[sum(counts) :]
        keys = [key_of(leaves[k]) for k in used]
        if missing := [gate for k, gate in enumerate(cell.inner_gates) if k not in self.inner]:
            raise TraceError(f"{cell}.step does not ask for its inner gate {missing[0]}")
        return Program(
            inputs=inputs,
            units=tuple(self._one(leaves[k]) for k in used),
            new=tuple(results),
            inner=tuple(self.inner[k] for k in range(len(inner))),
            input_grads=tuple(nodes[:inputs_end]),
            hidden_grads=(*nodes[inputs_end:hidden_end], *map(self.inner_grads.get, range(len(inner)))),
            state_grads=tuple(nodes[hidden_end : sum(counts)]),
            unit_grads=tuple(unit_grads[k] for k in used),
            derive=Derive([key_of(v) for v in vectors], list(map(_by_key, self.recipe)), keys),
        )

    def _step(self, arguments: tuple) -> tuple[Tensor, ...]:
        """The new state, checked."""
        try:
            new = self.cell.step(*arguments)
            if self.refused:
                raise self.refused
        except TraceError:
            raise
        except Exception as error:  # of the author's own code; where it is no fault, the eager engine runs it
            if self.refused:
                raise self.refused from None
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self.code.co_filename]
            what = f"{type(error).__name__}: {error}"
            if "in-place" in what:
                what = "the step changes a tensor in place; write the value anew"
            else:
                what += f" (tried with {self.B} rows of {self.H} units)"
            raise TraceError(f"{self.code.co_filename}, line {lines[-1] if lines else '?'}: {what}") from error
        new = (new,) if isinstance(new, Tensor) else tuple(new)
        if len(new) != len(self.cell.state):
            raise TraceError(f"{self.cell}.step must give {', '.join(self.cell.state)}; it gave {len(new)} values")
        for name, part in zip(self.cell.state, new, strict=True):
            if part.shape != (self.B, self.H):
                raise TraceError(f"{self.cell}.step gives {name} of another shape than (B, H)")
        return new

    def _inner_product(self, k: int) -> Callable[[Tensor], Tensor]:
        """``h.n`` of an inner gate, for the step to call."""

        def product(v: Tensor) -> Tensor:
            if k in self.inner:
                raise TraceError(f"{self._where()}: kernels ask for an inner gate once in a step")
            if not isinstance(v, Tensor) or v.shape != (self.B, self.H):
                raise TraceError(f"{self._where()}: an inner gate multiplies a tensor (B, H)")
            if not v.requires_grad:  # the matrix has a gradient all the same
                v = self._know(v.detach().requires_grad_(), self._node(v))
                self.cut.append(v)
            return _Inner.apply(v, self, k)

        return product

    def _know(self, tensor: Tensor, node: Any) -> Tensor:
        self.alive.append(tensor)
        self.nodes[key_of(tensor)] = node
        return tensor

    def _node(self, value: Any) -> Any:
        """The node of a tensor, or nodes; a number for a tensor of one value that is not part of the program."""
        if not isinstance(value, Tensor):
            return value
        node = self.nodes.get(key_of(value))
        if node is None:
            if value.numel() != 1 or value.requires_grad:
                raise TraceError(f"{self._where()}: a tensor from outside the step; declare it in weights")
            return value.item()
        return node

    def _one(self, value: Tensor) -> Node:
        node = self._node(value)
        return node if isinstance(node, Node) else Node("fill", (float(node),))

    def _parts(self, value: Tensor, op: str) -> tuple[Node, ...]:
        """The nodes of a tensor (B, k H), k of them, as numbers."""
        node, count = self._operand(value, False), self._count(value, op)
        node = node if isinstance(node, (Node, tuple)) else Node("fill", (float(node),))
        return node if isinstance(node, tuple) else (node,) * count

    def _frame(self) -> FrameType | None:
        """The author's code that is being carried out; None in the gradient."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code is not _Trace.program.__code__:
            if frame.f_code.co_filename == self.code.co_filename:
                return frame
            frame = frame.f_back
        return None

    def _where(self) -> str:
        frame = self._frame()
        if frame is None:
            node = torch._C._current_autograd_node()
            if node is not None and (found := self.author.gradient(node._sequence_nr())):
                return found
            return f"the gradient of {self.code.co_filename}, line {self.code.co_firstlineno}"
        return f"{frame.f_code.co_filename}, line {frame.f_lineno}"

    def _read_letters(self) -> None:
        """Calls nodes as the author has called them so far."""
        frame = self._frame()
        for letter, value in frame.f_locals.items() if frame else ():
            node = self.nodes.get(key_of(value)) if isinstance(value, Tensor) else None
            if isinstance(node, Node) and not node.letter:
                object.__setattr__(node, "letter", letter)

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        try:
            with torch._C.DisableTorchFunction():  # what is asked of tensors here is not the author's
                return self._write(function, args, kwargs or {})
        except TraceError as error:
            self.refused = self.refused or error  # Python tries `a + b` where it gets an error for `a += b`
            raise

    def _write(self, function: Any, args: tuple, kwargs: dict) -> Any:
        """Writes an operation down; its result."""
        self._read_letters()
        op, changes = function._schema.name.removeprefix("aten::"), function._schema.is_mutable
        if changes and self.author.changes(args[0]):
            raise TraceError(
                f"{self._where()}: {self.author.named(op)} changes a tensor in place; write the value anew"
            )
        op = op.removesuffix("_") if changes else op
        if op in ("_local_scalar_dense", "is_nonzero", "equal"):
            raise TraceError(f"{self._where()}: {LOOKS}")
        if op in NUMBERS:
            return function(*args, **kwargs)
        if op in FILLED or op in FULL:
            result = function(*args, **kwargs)
            fill = FILLED[op] if op in FILLED else self._node(args[FULL[op]])
            fill = fill if isinstance(fill, Node) else Node("fill", (float(fill),), self._kind(result, op))
            node, count = fill, self._count(result, op)
            return self._know(result, node if count == 1 else (node,) * count)
        if op not in POINTWISE | SAME | across.OPERATIONS:
            known = "docs/engines.md lists the operations that they know, and the eager engine runs the others"
            raise TraceError(f"{self._where()}: kernels do not know the operation {self.author.named(op)}"
                             f"{self.author.instead(op)}; {known}")  # fmt: skip
        if op in across.OPERATIONS and not (self.cell.mixes_units or (op == "sum" and self._frame() is None)):
            raise TraceError(f"{self._where()}: {self.author.named(op)} is not pointwise; a step that reads across "
                             "units declares mixes_units = True")  # fmt: skip
        result = function(*args, **kwargs)
        if op in across.OPERATIONS:
            return across.write(self, op, args, kwargs, result)
        if op in SAME:
            return self._know(result, self._renamed(args[0], result, op))
        arguments = tuple(self._operand(a, k in TAKE_TRUTHS.get(op, ())) for k, a in enumerate(args))
        if any(isinstance(a, list) for a in arguments):
            raise TraceError(f"{self._where()}: {self.author.named(op)} is not pointwise")
        given = {k: v for k, v in kwargs.items() if v is not None}
        for k, value in enumerate((result,) if isinstance(result, Tensor) else result):
            self._know(value, self._pointwise(f"{op}.{k}" if k else op, arguments, value, given))
        return result

    def _pointwise(self, op: str, arguments: tuple, result: Tensor, keywords: dict) -> Node | tuple[Node, ...]:
        """The node of an operation on each unit; for (B, k H), k of them."""
        shape, where = self._kind(result, op), self._where()
        if op in ("add", "sub", "rsub") and "alpha" in keywords:
            arguments, keywords = (*arguments, keywords["alpha"]), {}
        if op == "nan_to_num":
            keywords = {"most": torch.finfo(result.dtype).max}

        def node(*arguments: Any) -> Node:
            try:
                made = FORMULAS[op](*arguments, **keywords) if op in FORMULAS else Node(op, arguments, **keywords)
            except TypeError:
                raise TraceError(f"{where}: kernels do not know {op} with {', '.join(keywords)}") from None
            nodes = [a for a in arguments if isinstance(a, Node)]
            made = Node(made.op, made.arguments, kind_of(nodes, shape), where=where)
            if result.dtype == torch.bool and made.op not in TRUTHS:
                return of("ne", made, 0.0)
            return made

        count = self._count(result, op)
        nodes = [node(*(a[k] if isinstance(a, tuple) else a for a in arguments)) for k in range(count)]
        return nodes[0] if count == 1 else tuple(nodes)

    def _renamed(self, old: Tensor, new: Tensor, op: str) -> Any:
        kind, node = self._kind(new, op), self._operand(old, new.dtype == torch.bool)
        if new.dtype != old.dtype and (
            new.dtype not in (torch.bool, torch.float32, torch.float64)
            or old.is_floating_point() > new.is_floating_point()
        ):
            raise TraceError(
                f"{self._where()}: kernels compute in one precision; they do not know a cast to {new.dtype}"
            )
        node = node if isinstance(node, (Node, tuple)) else Node("fill", (float(node),), kind)
        count = self._count(new, op)
        return (node,) * count if isinstance(node, Node) and count > 1 else node

    def _operand(self, value: Any, truth: bool) -> Any:
        """The node of an argument: a truth value where one is wanted, else a number."""
        node = self._node(value)
        if isinstance(node, tuple):
            return tuple(_as(n, truth) for n in node)
        return _as(node, truth) if isinstance(node, Node) else node

    def _kind(self, t: Tensor, op: str) -> Literal["row", "unit", "scalar"]:
        shape = tuple(t.shape)
        if shape == (self.B, self.H) or self._count(t, op) > 1:
            return "row"
        if shape in ((self.H,), (1, self.H), ()):
            return "unit"
        if self.cell.mixes_units and shape in ((self.B, 1), (self.B,)):
            return "scalar"
        names = {self.B: "B", self.H: "H", 4 * self.H: "4 H", 3 * self.H: "3 H", 2 * self.H: "2 H"}
        raise TraceError(
            f"{self._where()}: {op} is not pointwise, it gives ({', '.join(names.get(n, str(n)) for n in shape)}); a "
            "step works on (B, H) tensors, each unit from its own gates, or declares mixes_units = True"
        )

    def _count(self, t: Tensor, op: str) -> int:
        """k for a tensor (B, k H); 1 for all others."""
        wide = self.cell.mixes_units and t.dim() == 2 and t.shape[0] == self.B and t.shape[1] % self.H == 0
        return t.shape[1] // self.H if wide else 1


def _as(node: Node, truth: bool) -> Node:
    """A truth value as a number, or a number as a truth value."""
    if (node.op in TRUTHS) == truth:
        return node
    return of("ne", node, 0.0) if truth else of("where", node, 1.0, 0.0)


class _Inner(torch.autograd.Function):
    """The product of an inner gate: any numbers, as only the nodes count."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, trace: _Trace, k: int) -> Tensor:  # type: ignore[override]
        ctx.trace, ctx.k = trace, k
        trace.inner[k] = trace._one(v)
        return _Inner._make(trace, Node("inner", (trace.inner[k], k), where=trace._where()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:  # type: ignore[override]
        trace, k = ctx.trace, ctx.k
        trace.inner_grads[k] = trace._one(grad)
        return _Inner._make(trace, Node("inner_back", (trace.inner_grads[k], k))), None, None

    @staticmethod
    def _make(trace: _Trace, node: Node) -> Tensor:
        with _disable_current_modes():
            return trace._know(torch.full((trace.B, trace.H), 0.5, dtype=trace.dtype, device="cpu"), node)


def _by_key(step: tuple[Any, tuple, dict, Any]) -> tuple[Any, tuple, dict, Any]:
    """A line of the recipe, with keys in place of tensors."""

    def by_key(value: Any) -> Any:
        return mapped(value, Tensor, lambda t: Made(key_of(t)))

    function, arguments, keywords, output = step
    return function, by_key(arguments), {k: by_key(v) for k, v in keywords.items()}, output
