"""Straight-line programs of a cell's step and of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor


class TraceError(TypeError):
    """The step cannot be made into a kernel. The message names the operation and the line."""


@dataclass(frozen=True)
class Size:
    """The number ``factor * (H + more) ** power``, where H is the number of units."""

    factor: float
    power: float
    more: float = 0.0


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """A value: the result of an operation on earlier values and on numbers.

    In addition to pointwise operations of torch there are

    =========== =======================================================================================
    index       the number of the unit, from 0
    total       the sum over the units of all arguments; likewise ``amax`` and ``amin``
    inner       the product R_k v + b_k of inner gate k
    inner_back  the product R_k^T g with the transposed matrix
    scan        the cumulative sum over the units of one thread
    before      the sum over the units of all preceding threads; scan + before is the cumulative sum
    =========== =======================================================================================

    Attributes:
        op: the operation.
        arguments: nodes and numbers.
        kind: "row" for a value of each row and unit (B, H), "unit" for one of each unit (H,), "scalar" for one of
            each row (B, 1).
        letter: the author's name for the value, or "".
        where: the file and line that computes it, or "".
    """

    op: str
    arguments: tuple[Any, ...] = ()
    kind: Literal["row", "unit", "scalar"] = "row"
    letter: str = ""
    where: str = ""

    @property
    def parents(self) -> list[Node]:
        return [a for a in self.arguments if isinstance(a, Node)]

    def __add__(self, other: Any) -> Node:
        return of("add", self, other)

    def __sub__(self, other: Any) -> Node:
        return of("sub", self, other)

    def __mul__(self, other: Any) -> Node:
        return of("mul", self, other)

    def __truediv__(self, other: Any) -> Node:
        return of("div", self, other)

    def __rsub__(self, other: Any) -> Node:
        return of("rsub", self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return of("div", other, self)

    def __neg__(self) -> Node:
        return of("neg", self)

    def __gt__(self, other: Any) -> Node:
        return of("gt", self, other)

    def __ge__(self, other: Any) -> Node:
        return of("ge", self, other)

    def __lt__(self, other: Any) -> Node:
        return of("lt", self, other)

    def __le__(self, other: Any) -> Node:
        return of("le", self, other)

    def __and__(self, other: Any) -> Node:
        return of("logical_and", self, other)

    def __or__(self, other: Any) -> Node:
        return of("logical_or", self, other)

    __radd__, __rmul__ = __add__, __mul__


def of(op: str, *arguments: Any) -> Node:
    """Return the node of a pointwise operation. Its kind follows from the kinds of its arguments."""
    return Node(op, arguments, kind_of([a for a in arguments if isinstance(a, Node)]))


def kind_of(
    nodes: Sequence[Node], other: Literal["row", "unit", "scalar"] = "unit"
) -> Literal["row", "unit", "scalar"]:
    """Return the kind of a pointwise function of these nodes; ``other`` if they do not determine it."""
    kinds = {n.kind for n in nodes if n.op != "fill"}
    if "row" in kinds or kinds >= {"scalar", "unit"}:
        return "row"
    return "scalar" if "scalar" in kinds else other


class Program(NamedTuple):
    """The computation of a cell's step and of its gradient.

    Attributes:
        inputs: the inputs by name: ``x_i`` and ``h_i`` of gate i, ``s_c`` of the old state, ``d_c`` for the gradient of
            the new state.
        units: the per-unit values (H,), in the order in which ``derive`` returns them.
        new: the new state.
        inner: what the matrix of each inner gate is multiplied with.
        input_grads: the gradients of the gates W x + b. None stands for 0, as in all gradients.
        hidden_grads: the gradients of the gates R h + b, then of the products of inner gates.
        state_grads: the gradients of the old state.
        unit_grads: the gradients of the per-unit values, to be summed over rows and time.
        derive: computes the per-unit values from the vectors of the cell.
    """

    inputs: dict[str, Node]
    units: tuple[Node, ...]
    new: tuple[Node, ...]
    inner: tuple[Node, ...]
    input_grads: tuple[Node | None, ...]
    hidden_grads: tuple[Node | None, ...]
    state_grads: tuple[Node | None, ...]
    unit_grads: tuple[Node | None, ...]
    derive: Derive

    @property
    def used(self) -> set[str]:
        """The names of the inputs that the new state depends on."""
        read = set(ancestors(self.new))
        return {name for name, node in self.inputs.items() if node in read}

    @property
    def gate_grads(self) -> list[Node | None]:
        """The different gradients of gates, each once."""
        return list(dict.fromkeys((*self.input_grads, *self.hidden_grads)))

    @property
    def grads(self) -> list[Node | None]:
        """All gradients."""
        return [*self.input_grads, *self.hidden_grads, *self.state_grads, *self.unit_grads]


def ancestors(nodes: Iterable[Node | None], given: Container[Node] = ()) -> list[Node]:
    """Return the nodes and all values that they depend on, in an order in which they can be computed.

    Args:
        nodes: the nodes; None is skipped.
        given: values that are there already, so that what they depend on does not matter. Default: none.
    """
    order: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in order:
            for parent in () if node in given else node.parents:
                visit(parent)
            order[node] = None

    for node in nodes:
        if node is not None:
            visit(node)
    return list(order)


class Merge:
    """Merges what several traces with different sizes have in common. Equal nodes become one.

    Args:
        units: the number of units H in each trace, which numbers may depend on. Where all are equal, none may.
    """

    def __init__(self, units: Sequence[int]) -> None:
        self._units = units
        self._merged: dict[tuple[Node, ...], Node] = {}
        self._equal: dict[tuple, Node] = {}

    def __call__(self, values: tuple, where: str = "the step") -> Any:
        """Return what the values of all traces have in common: a node, a number, or a `Size`.

        Raises:
            TraceError: they differ in another way.
        """
        first = values[0]
        if all(isinstance(v, Node) for v in values):
            if values not in self._merged:
                self._merged[values] = self._nodes(values, where)
            return self._merged[values]
        if all(v == first or (v != v and first != first) for v in values):
            return first
        return _size(values, self._units, where)

    def _nodes(self, nodes: tuple[Node, ...], where: str) -> Node:
        first = nodes[0]
        where = first.where or where
        if len({(n.op, n.kind, len(n.arguments)) for n in nodes}) > 1:
            raise TraceError(f"{where}: the step computes something else for another number of units")
        arguments = tuple(self(values, where) for values in zip(*(n.arguments for n in nodes), strict=True))
        if not arguments:  # an input
            return self._equal.setdefault((first.op,), first) if first.op == "index" else first
        plain = tuple(a if isinstance(a, Node) else (type(a), repr(a)) for a in arguments)
        node = self._equal.setdefault((first.op, first.kind, plain), Node(first.op, arguments, first.kind, where=where))
        if first.letter and not node.letter:
            object.__setattr__(node, "letter", first.letter)
        return node


def generalise(programs: Sequence[Program], units: Sequence[int]) -> Program:
    """Return the program for any number of rows and units, from programs that were traced with different numbers.

    Equal nodes are merged.

    Args:
        programs: the programs of one step, traced with different numbers of rows and units.
        units: the number of units H of each.

    Raises:
        TraceError: a number differs between the programs and is not a multiple of a power of H, or of H plus a number.
    """
    merge = Merge(units)

    def merge_field(name: str) -> tuple:
        return tuple(merge(values) for values in zip(*(getattr(p, name) for p in programs), strict=True))

    program = programs[0]
    if any(len(p.units) != len(program.units) or not program.derive.same(p.derive) for p in programs):
        raise TraceError("the step: what it computes from its weights depends on the number of rows or units")
    fields = "units new inner input_grads hidden_grads state_grads unit_grads"
    inputs = {name: merge(tuple(p.inputs[name] for p in programs)) for name in program.inputs}
    others: dict[str, Any] = {name: merge_field(name) for name in fields.split()}
    return program._replace(inputs=inputs, **others)


def _size(values: Sequence[Any], units: Sequence[int], where: str) -> Size:
    """Return the multiple of a power of H, or of H plus a number, that is values[k] for H = units[k]."""
    numbers = all(isinstance(v, (int, float)) and v != 0 for v in values) and len(set(units)) > 1
    if numbers and values[0] / values[1] > 0:
        for power in (1.0, -1.0, 0.5, -0.5, 2.0, -2.0):
            ratio = (values[0] / values[1]) ** (1 / power)
            if ratio == 1:
                break
            more = (units[0] - ratio * units[1]) / (ratio - 1)
            more = round(more) + 0.0 if abs(more - round(more)) < 1e-9 else more
            if min(units) + more > 0:
                size = Size(values[0] / (units[0] + more) ** power, power, more)
                fitted = [size.factor * (H + more) ** power for H in units]
                if all(abs(f - v) <= 1e-9 * abs(v) for f, v in zip(fitted, values, strict=True)):
                    return size
    raise TraceError(f"{where}: a number that depends on the number of rows or units; kernels support multiples of H, "
                     "1 / H, sqrt(H) and 1 / sqrt(H) only")  # fmt: skip


def name_of(function: Any) -> str:
    """Return the name of a function, or of the property whose getter it is."""
    named = function.__self__ if function.__name__ == "__get__" else function
    return str(getattr(named, "__qualname__", named.__name__))


@dataclass(frozen=True)
class Made:
    """A placeholder for a tensor among the arguments of a function: the key of a vector or of an earlier result."""

    key: Any


def mapped(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """Return an argument with ``function`` applied to all values of a type, also in lists, tuples and slices."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, slice):
        return slice(*(mapped(v, kind, function) for v in (value.start, value.stop, value.step)))
    if type(value) in (list, tuple):
        return type(value)(mapped(v, kind, function) for v in value)
    return value


class Derive:
    """Computes per-unit values (H,) from the vectors of a cell, with operations of torch and so with gradients.

    Args:
        vectors: the keys of the cell's vectors.
        recipe: the calls in order: a function, its arguments and keywords, with `Made` for tensors, and the key of the
            result.
        wanted: the keys of the per-unit values.
    """

    def __init__(self, vectors: list[Any], recipe: list[tuple[Any, tuple, dict, Any]], wanted: list[Any]) -> None:
        self.vectors, self.wanted = vectors, wanted
        self.recipe: list[tuple[Any, tuple, dict, Any]] = []
        needed = set(wanted)
        for call in reversed(recipe):
            if call[3] in needed:
                self.recipe.insert(0, call)
                mapped((call[1], *call[2].values()), Made, lambda made: needed.add(made.key))

    def same(self, other: Derive) -> bool:
        """Return whether the other computes the same. It may have been traced with another number of units."""
        return list(self._calls()) == list(other._calls())

    @property
    def text(self) -> str:
        """A description of the calls that is the same in every process."""
        return repr([(function and name_of(function), *rest) for function, *rest in self._calls()])

    def _calls(self) -> Iterator[tuple]:
        """Yield the calls with numbers in place of keys."""
        numbers = {key: k for k, key in enumerate([*self.vectors, *(call[3] for call in self.recipe)])}

        def plain(value: Any) -> str:
            return repr(mapped(value, Made, lambda made: Made(numbers[made.key])))

        for function, arguments, keywords, output in self.recipe:
            yield function, plain(arguments), {key: plain(value) for key, value in keywords.items()}, numbers[output]
        yield None, [numbers[key] for key in self.wanted]

    def __call__(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """Return the per-unit values, each (H,), from the vectors, each (H,)."""
        results: dict[Any, Any] = dict(zip(self.vectors, vectors, strict=True))

        def value(argument: Any) -> Any:
            return mapped(argument, Made, lambda made: results[made.key])

        for function, arguments, keywords, output in self.recipe:
            results[output] = function(*value(arguments), **{k: value(v) for k, v in keywords.items()})
        return [results[key].reshape(-1).expand(vectors[0].shape) for key in self.wanted]  # a single number is repeated
