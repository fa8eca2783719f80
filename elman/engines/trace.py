"""A cell's step, and its gradient, as straight-line programs.

The step is run once on small tensors while every operation that torch carries out is written down; then
torch's own backward pass is run and written down too. So nobody derives a gradient by hand, and a cell's
author writes nothing but the equations.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from elman.cells import Cell

#: The traced tensors have so many rows and units. Nothing else in a step may have this size.
_B, _H = 2, 7

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


class TraceError(TypeError):
    """The step cannot be made into a kernel; the message names the operation and the line."""


@dataclass(frozen=True, eq=False)
class Node:
    """One value: an operation of torch on earlier values and on numbers.

    ``kind`` row: one for each row and unit, (B, H). unit: one for each unit, (H,).
    ``letter``: what the author of the step called it, if anything. ``where``: the line that made it.
    """

    op: str
    arguments: tuple[Any, ...] = ()
    kind: Literal["row", "unit"] = "row"
    letter: str = ""
    where: str = ""


class Program(NamedTuple):
    """What a kernel needs to know of a cell.

    ============ ===================================================================================
    inputs       by name: ``x_i``, ``h_i``, ``s_c`` (the old state), ``d_h`` (of the new state)
    units        the values (H,) that rows meet, as ``derive`` gives them
    new          the new state
    input_grads  of the gates W x + b; hidden_grads, state_grads, unit_grads likewise; None for zero
    ============ ===================================================================================

    unit_grads are to be summed over rows and time.
    """

    inputs: dict[str, Node]
    units: tuple[Node, ...]
    new: tuple[Node, ...]
    input_grads: tuple[Node | None, ...]
    hidden_grads: tuple[Node | None, ...]
    state_grads: tuple[Node | None, ...]
    unit_grads: tuple[Node | None, ...]
    derive: Derive

    @property
    def used(self) -> set[str]:
        """The inputs that the new state depends on."""
        seen = _ancestors(self.new)
        return {name for name, node in self.inputs.items() if node in seen}


def trace(cell: Cell) -> Program:
    """The programs of ``cell.step`` and of its gradient.

    Raises:
        TraceError: the step is not pointwise, changes a tensor in place, looks at values, or uses an
            operation on tensors that have no gradient rule here.
    """
    return _Trace(cell).program()


def _key(t: Tensor) -> tuple:
    """The same for all tensors that are the same memory read in the same way."""
    shape = tuple(t.shape)
    shape = (_H,) if shape == (1, _H) else shape
    return t.data_ptr(), t.storage_offset(), shape, t.dtype


class _Trace(TorchDispatchMode):
    """Writes down the operations below autograd: those of the step, then those of its gradient."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell
        self.code: CodeType = inspect.unwrap(type(cell).step).__code__
        self.nodes: dict[tuple, Node] = {}
        self.alive: list[Tensor] = []  # so that no memory is used twice
        self.leaves: dict[tuple, Tensor] = {}  # unit values, cut off from what they were made of
        self.recipe: list[tuple[Any, tuple, dict, tuple]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch would import its compiler, which takes a second

    def program(self) -> Program:
        cell = self.cell
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
            gates = [draw(f"x_{gate}", _B, _H) for gate in cell.input_gates]
            products = [draw(f"h_{gate}", _B, _H) for gate in cell.hidden_gates]
            old = [draw(f"s_{part}", _B, _H) for part in cell.state]
            vectors = [draw(f"w_{name}", _H) for name in cell.weights]
            grads = [draw(f"d_{part}", _B, _H).detach() for part in cell.state]
            inputs = {node.op: node for node in self.nodes.values() if node.kind == "row"}
            self.leaves = {_key(v): v for v in vectors}
            with _Units(self), self:
                arguments = (
                    cell.InputGates(*gates), cell.HiddenGates(*products), cell.State(*old), cell.Vectors(*vectors)
                )  # fmt: skip
                new = self._step(arguments)
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
            results = [self._node(n) for n in new]
            nodes = [None if g is None else self._node(g) for g in found]
        met = _ancestors([*results, *(n for n in nodes if n)])
        used = [k for k, leaf in enumerate(leaves) if self.nodes[_key(leaf)] in met]
        counts = (len(gates), len(products), len(old))
        inputs_end, hidden_end = counts[0], counts[0] + counts[1]
        unit_grads = nodes[sum(counts) :]
        keys = [_key(leaves[k]) for k in used]
        return Program(
            inputs=inputs,
            units=tuple(self.nodes[key] for key in keys),
            new=tuple(results),
            input_grads=tuple(nodes[:inputs_end]),
            hidden_grads=tuple(nodes[inputs_end:hidden_end]),
            state_grads=tuple(nodes[hidden_end : sum(counts)]),
            unit_grads=tuple(unit_grads[k] for k in used),
            derive=Derive([_key(v) for v in vectors], self.recipe, keys),
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
            if part.shape != (_B, _H):
                raise TraceError(f"{self.cell}.step gives {name} of another shape than (B, H)")
        return new

    def _know(self, tensor: Tensor, node: Node) -> Tensor:
        self.alive.append(tensor)
        self.nodes[_key(tensor)] = node
        return tensor

    def _node(self, value: Any) -> Any:
        """The node of a tensor; a number for a tensor of one value that is not part of the program."""
        if not isinstance(value, Tensor):
            return value
        node = self.nodes.get(_key(value))
        if node is None:
            if value.numel() != 1 or value.requires_grad:
                raise TraceError(f"{self._where()}: a tensor from outside the step; declare it in weights")
            return value.item()
        return node

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
            if isinstance(value, Tensor) and (node := self.nodes.get(_key(value))) and not node.letter:
                object.__setattr__(node, "letter", letter)

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        self._read_letters()
        op = function._schema.name.removeprefix("aten::")
        if function._schema.is_mutable and self._frame() is None:  # torch's own gradient, on a value of its own
            arguments = tuple(self._node(a) for a in args)
            return self._know(function(*args, **kwargs), Node(op.removesuffix("_"), arguments, self._kind(args[0], op)))
        if function._schema.is_mutable:
            raise TraceError(f"{self._where()}: {op} changes a tensor in place; write the value anew")
        if op in ("_local_scalar_dense", "is_nonzero", "equal"):
            raise TraceError(f"{self._where()}: the step looks at a value; choose by torch.where, unit by unit")
        if op in _FILLED or op in ("full", "full_like", "new_full", "scalar_tensor", "lift_fresh", "lift_fresh_copy"):
            result = function(*args, **kwargs)
            if op in ("lift_fresh", "lift_fresh_copy", "scalar_tensor"):
                return result
            fill = _FILLED[op] if op in _FILLED else float(args[2] if op == "new_full" else args[1])
            return self._know(result, Node("fill", (fill,), self._kind(result, op)))
        if op not in POINTWISE | _SAME and not (op == "sum" and self._frame() is None):
            known = ", ".join(sorted(name for name in POINTWISE if "_" not in name))
            raise TraceError(f"{self._where()}: kernels do not know the operation {op}; they know {known}")
        result = function(*args, **kwargs)
        if not isinstance(result, Tensor):
            raise TraceError(f"{self._where()}: {op} is not pointwise")
        if op in _SAME:
            return self._know(result, self._renamed(args[0], result, op))
        if other := {k for k, v in kwargs.items() if v is not None} - {"alpha"}:
            raise TraceError(f"{self._where()}: kernels do not know {op} with {', '.join(sorted(other))}")
        if op == "sum" and self._kind(args[0], op) == "row" and result.numel() == _H and tuple(args[1]) == (0,):
            return self._know(result, self._node(args[0]))  # summed by the kernel, over rows and time
        arguments = tuple(self._operand(a, k in _TRUTHS.get(op, ())) for k, a in enumerate(args))
        if (scale := kwargs.get("alpha")) is not None:
            arguments = (*arguments, scale)
        if any(isinstance(a, (list, tuple)) for a in arguments):
            raise TraceError(f"{self._where()}: {op} is not pointwise")
        kind = self._kind(result, op)
        rows = [a for a in arguments if isinstance(a, Node) and a.kind == "row"]
        return self._know(result, Node(op, arguments, "row" if rows else kind, where=self._where()))

    def _renamed(self, old: Tensor, new: Tensor, op: str) -> Node:
        kind, node = self._kind(new, op), self._operand(old, new.dtype == torch.bool)
        if new.dtype not in (torch.bool, torch.float32, torch.float64) or (
            old.is_floating_point() > new.is_floating_point()
        ):
            raise TraceError(
                f"{self._where()}: kernels compute in one precision; they do not know a cast to {new.dtype}"
            )
        return node if isinstance(node, Node) else Node("fill", (float(node),), kind)

    def _operand(self, value: Any, truth: bool) -> Any:
        """The node of an argument: a truth value where one is wanted, else a number."""
        node = self._node(value)
        if not isinstance(node, Node) or not isinstance(value, Tensor) or (value.dtype == torch.bool) == truth:
            return node
        return Node("ne", (node, 0.0), node.kind) if truth else Node("where", (node, 1.0, 0.0), node.kind)

    def _kind(self, t: Tensor, op: str) -> Literal["row", "unit"]:
        shape = tuple(t.shape)
        if shape == (_B, _H):
            return "row"
        if shape in ((_H,), (1, _H), ()):
            return "unit"
        raise TraceError(
            f"{self._where()}: {op} is not pointwise, it gives {_readable(shape)}; a step works on (B, H) tensors, "
            "each unit from its own gates, or declares mixes_units = True"
        )


def _readable(shape: tuple[int, ...]) -> str:
    names = {_B: "B", _H: "H", 4 * _H: "4 H", 3 * _H: "3 H", 2 * _H: "2 H"}
    return f"({', '.join(names.get(n, str(n)) for n in shape)})"


def _ancestors(nodes: Sequence[Node]) -> set[Node]:
    """All that the nodes are made of, and they themselves."""
    todo, seen = list(nodes), set()
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += [a for a in node.arguments if isinstance(a, Node)]
    return seen


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


class Derive:
    """The values (H,) that rows meet, from the cell's vectors; with gradients, as it is plain torch."""

    def __init__(self, vectors: list[tuple], recipe: list[tuple[Any, tuple, dict, tuple]], wanted: list[tuple]) -> None:
        def by_key(value: Any) -> Any:
            return _key(value) if isinstance(value, Tensor) else value

        self.vectors, self.wanted = vectors, wanted
        self.recipe = [
            (f, tuple(map(by_key, a)), {k: by_key(v) for k, v in kw.items()}, out) for f, a, kw, out in recipe
        ]

    @property
    def order(self) -> tuple[int, ...] | None:
        """Which of the vectors these are, where nothing is made of them; None where something is."""
        return None if self.recipe else tuple(map(self.vectors.index, self.wanted))

    def __call__(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        known: dict[Any, Tensor] = dict(zip(self.vectors, vectors, strict=True))

        def value(argument: Any) -> Any:
            return known[argument] if isinstance(argument, tuple) and argument in known else argument

        for function, arguments, keywords, output in self.recipe:
            known[output] = function(*map(value, arguments), **{k: value(v) for k, v in keywords.items()})
        return [known[key] for key in self.wanted]
