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
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from elman.cells import Cell
from elman.engines import across
from elman.engines.program import Derive, Node, Program, TraceError, ancestors, generalise

#: Rows and units of the traced tensors, twice: what depends on them is seen by the difference.
_SIZES = (2, 7), (3, 5)

#: What only renames or repeats a value.
_SAME = {"alias", "detach", "clone", "view", "_unsafe_view", "reshape", "expand", "unsqueeze", "squeeze", "_to_copy"}
#: Which arguments of what are truth values; every other one is a number.
_TRUTHS = {"where": (0,), "masked_fill": (1,), "logical_not": (0,), "bitwise_not": (0,)} | dict.fromkeys(
    ("logical_and", "logical_or", "bitwise_and", "bitwise_or"), (0, 1)
)
#: What acts on every unit by itself, and kernels can do: in a step, and in torch's gradient of one.
_NAMES = """
    abs add bitwise_and bitwise_not bitwise_or clamp clamp_max clamp_min cos div eq erf exp expm1 ge gt hardtanh
    hardtanh_backward le leaky_relu leaky_relu_backward log log1p logical_and logical_not logical_or lt masked_fill
    maximum minimum mul ne neg pow reciprocal relu rsqrt rsub sgn sigmoid sigmoid_backward sign silu silu_backward
    sin softplus softplus_backward sqrt square sub tanh tanh_backward threshold_backward where
"""
POINTWISE = frozenset(_NAMES.split())
_FILLED = {"zeros_like": 0.0, "ones_like": 1.0, "new_zeros": 0.0, "new_ones": 1.0, "zeros": 0.0, "ones": 1.0}


def trace(cell: Cell) -> Program:
    """The programs of ``cell.step`` and of its gradient.

    Raises:
        TraceError: the step changes a tensor in place, looks at values, reads across units in a way that kernels
            do not know, or uses an operation on tensors that has no gradient rule here.
    """
    first, second = (_Trace(cell, *sizes).program() for sizes in _SIZES)
    return generalise(first, _SIZES[0], second, _SIZES[1])


def _key(t: Tensor) -> tuple:
    """The same for all tensors that are the same memory read in the same way."""
    shape = tuple(t.shape)
    return t.data_ptr(), t.storage_offset(), shape[1:] if shape[:1] == (1,) else shape, t.dtype


class _Trace(TorchDispatchMode):
    """Writes down the operations below autograd: those of the step, then those of its gradient.

    A tensor (B, H) is a node, and so is (B, 1); one of (B, k H) is a tuple of k nodes.
    """

    def __init__(self, cell: Cell, B: int, H: int) -> None:
        super().__init__()
        self.cell, self.B, self.H = cell, B, H
        self.code: CodeType = inspect.unwrap(type(cell).step).__code__
        self.nodes: dict[tuple, Node | tuple[Node, ...]] = {}
        self.alive: list[Tensor] = []  # so that no memory is used twice
        self.leaves: dict[tuple, Tensor] = {}  # unit values, cut off from what they were made of
        self.recipe: list[tuple[Any, tuple, dict, tuple]] = []
        self.normed: dict[Node, tuple[Node, ...]] = {}  # by 1 / deviation: the values less their mean, times it
        self.inner: dict[int, Node] = {}
        self.inner_grads: dict[int, Node] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch would import its compiler, which takes a second

    def program(self) -> Program:
        cell, B, H = self.cell, self.B, self.H
        generator = torch.Generator().manual_seed(0)

        def draw(name: str, *shape: int) -> Tensor:
            value = (torch.rand(*shape, generator=generator, device="cpu") * 0.5 + 0.25).requires_grad_()
            self._know(value, Node(name, (), "row" if len(shape) == 2 else "unit", name))
            return value

        with (
            _disable_current_modes(),
            torch.inference_mode(False),
            torch.autocast("cpu", enabled=False),
            torch.enable_grad(),
        ):
            gates = [draw(f"x_{gate}", B, H) for gate in cell.input_gates]
            products = [draw(f"h_{gate}", B, H) for gate in cell.hidden_gates]
            inner = [self._inner_product(k) for k in range(len(cell.inner_gates))]
            old = [draw(f"s_{part}", B, H) for part in cell.state]
            vectors = [draw(f"w_{name}", H) for name in cell.weights]
            grads = [draw(f"d_{part}", B, H).detach() for part in cell.state]
            inputs = {n.op: n for n in self.nodes.values() if isinstance(n, Node) and n.kind == "row"}
            self.leaves = {_key(v): v for v in vectors}
            with _Units(self), self:
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
                    tuple(n for n, _ in pairs), tuple(d for _, d in pairs), False, False, tuple(wanted),
                    allow_unreachable=True, accumulate_grad=False,
                )  # fmt: skip
            results = [self._one(n) for n in new]
            nodes = [None if g is None else self._one(g) for g in found]
        met = set(ancestors([*results, *nodes]))
        used = [k for k, leaf in enumerate(leaves) if self.nodes[_key(leaf)] in met]
        counts = (len(gates), len(products), len(old))
        inputs_end, hidden_end = counts[0], counts[0] + counts[1]
        unit_grads = nodes[sum(counts) :]
        keys = [_key(leaves[k]) for k in used]
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
            derive=Derive([_key(v) for v in vectors], list(map(_by_key, self.recipe)), keys),
        )

    def _step(self, arguments: tuple) -> tuple[Tensor, ...]:
        """The new state, checked."""
        try:
            new = self.cell.step(*arguments)
        except TraceError:
            raise
        except Exception as error:  # of the author's own code; where it is no fault, the eager engine runs it
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self.code.co_filename]
            what = f"{type(error).__name__}: {error}"
            if "in-place" in what:
                what = "the step changes a tensor in place; write the value anew"
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
            return _Inner.apply(v, self, k)

        return product

    def _know(self, tensor: Tensor, node: Any) -> Tensor:
        self.alive.append(tensor)
        self.nodes[_key(tensor)] = node
        return tensor

    def _node(self, value: Any) -> Any:
        """The node of a tensor, or nodes; a number for a tensor of one value that is not part of the program."""
        if not isinstance(value, Tensor):
            return value
        node = self.nodes.get(_key(value))
        if node is None:
            if value.numel() != 1 or value.requires_grad:
                raise TraceError(f"{self._where()}: a tensor from outside the step; declare it in weights")
            return value.item()
        return node

    def _one(self, value: Tensor) -> Node:
        node = self._node(value)
        return node if isinstance(node, Node) else Node("fill", (float(node),))

    def _parts(self, value: Tensor, op: str) -> tuple[Node, ...]:
        """The nodes of a tensor (B, k H), k of them."""
        node, count = self._node(value), self._count(value, op)
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
            return f"the gradient of {self.code.co_filename}, line {self.code.co_firstlineno}"
        return f"{frame.f_code.co_filename}, line {frame.f_lineno}"

    def _read_letters(self) -> None:
        """Calls nodes as the author has called them so far."""
        frame = self._frame()
        for letter, value in frame.f_locals.items() if frame else ():
            node = self.nodes.get(_key(value)) if isinstance(value, Tensor) else None
            if isinstance(node, Node) and not node.letter:
                object.__setattr__(node, "letter", letter)

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        self._read_letters()
        op = function._schema.name.removeprefix("aten::")
        if function._schema.is_mutable and self._frame() is None:  # torch's own gradient, on a value of its own
            nodes = self._pointwise(op.removesuffix("_"), tuple(self._node(a) for a in args), args[0])
            return self._know(function(*args, **kwargs), nodes)
        if function._schema.is_mutable:
            raise TraceError(f"{self._where()}: {op} changes a tensor in place; write the value anew")
        if op in ("_local_scalar_dense", "is_nonzero", "equal"):
            raise TraceError(f"{self._where()}: the step looks at a value; choose by torch.where, unit by unit")
        if op in _FILLED or op in ("full", "full_like", "new_full", "scalar_tensor", "lift_fresh", "lift_fresh_copy"):
            result = function(*args, **kwargs)
            if op in ("lift_fresh", "lift_fresh_copy", "scalar_tensor"):
                return result
            fill = _FILLED[op] if op in _FILLED else float(args[2] if op == "new_full" else args[1])
            node, count = Node("fill", (fill,), self._kind(result, op)), self._count(result, op)
            return self._know(result, node if count == 1 else (node,) * count)
        if op not in POINTWISE | _SAME | across.OPERATIONS or (
            op in across.OPERATIONS and not (self.cell.mixes_units or (op == "sum" and self._frame() is None))
        ):
            raise TraceError(f"{self._where()}: {self._unknown(op)}")
        result = function(*args, **kwargs)
        if op in across.OPERATIONS:
            return across.write(self, op, args, kwargs, result)
        if not isinstance(result, Tensor):
            raise TraceError(f"{self._where()}: {op} is not pointwise")
        if op in _SAME:
            return self._know(result, self._renamed(args[0], result, op))
        if other := {k for k, v in kwargs.items() if v is not None} - {"alpha"}:
            raise TraceError(f"{self._where()}: kernels do not know {op} with {', '.join(sorted(other))}")
        arguments = tuple(self._operand(a, k in _TRUTHS.get(op, ())) for k, a in enumerate(args))
        if (scale := kwargs.get("alpha")) is not None:
            arguments = (*arguments, scale)
        if any(isinstance(a, list) for a in arguments):
            raise TraceError(f"{self._where()}: {op} is not pointwise")
        return self._know(result, self._pointwise(op, arguments, result))

    def _unknown(self, op: str) -> str:
        if op in across.OPERATIONS:
            return f"{op} is not pointwise; a step that reads across units declares mixes_units = True"
        known = ", ".join(sorted(name for name in POINTWISE if "_" not in name))
        more = ", and across units mean, sum, cat, chunk and layer_norm" if self.cell.mixes_units else ""
        return f"kernels do not know the operation {op}; they know {known}{more}"

    def _pointwise(self, op: str, arguments: tuple, result: Tensor) -> Node | tuple[Node, ...]:
        """The node of an operation on each unit; for (B, k H), k of them."""
        shape, count = self._kind(result, op), self._count(result, op)

        def node(arguments: tuple) -> Node:
            kinds = {a.kind for a in arguments if isinstance(a, Node)}
            kind = "row" if "row" in kinds or kinds >= {"scalar", "unit"} else "scalar" if "scalar" in kinds else shape
            return Node(op, arguments, kind, where=self._where())

        if count == 1:
            return node(arguments)
        return tuple(node(tuple(a[k] if isinstance(a, tuple) else a for a in arguments)) for k in range(count))

    def _renamed(self, old: Tensor, new: Tensor, op: str) -> Any:
        kind, node = self._kind(new, op), self._operand(old, new.dtype == torch.bool)
        if new.dtype not in (torch.bool, torch.float32, torch.float64) or (
            old.is_floating_point() > new.is_floating_point()
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
        if not isinstance(node, Node) or not isinstance(value, Tensor) or (value.dtype == torch.bool) == truth:
            return node
        return Node("ne", (node, 0.0), node.kind) if truth else Node("where", (node, 1.0, 0.0), node.kind)

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
            return trace._know(torch.full((trace.B, trace.H), 0.5, device="cpu"), node)


def _by_key(step: tuple[Any, tuple, dict, tuple]) -> tuple[Any, tuple, dict, tuple]:
    """A line of the recipe, with keys in place of tensors."""

    def by_key(value: Any) -> Any:
        return _key(value) if isinstance(value, Tensor) else value

    function, arguments, keywords, output = step
    return function, tuple(map(by_key, arguments)), {k: by_key(v) for k, v in keywords.items()}, output


class _Units(TorchFunctionMode):
    """Cuts values (H,) off from what they were made of: `Program.derive` makes them, outside the kernel."""

    def __init__(self, owner: _Trace) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [a for a in [*args, *kwargs.values()] if isinstance(a, Tensor)]
        keys = [_key(t) for t in tensors]
        if not tensors or not all(key in self.owner.leaves for key in keys):
            return function(*args, **kwargs)
        with torch.no_grad():
            result = function(*args, **kwargs)
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        key = _key(result)
        if key in self.owner.leaves:
            return self.owner.leaves[key]
        leaf = result.detach().requires_grad_()
        self.owner._know(leaf, Node("unit", (), "unit"))
        self.owner.leaves[key] = leaf
        self.owner.recipe.append((function, args, kwargs, key))
        return leaf
