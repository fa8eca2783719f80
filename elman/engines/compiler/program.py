"""Straight-line programs: what a cell's step, and its gradient, compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor


class TraceError(TypeError):
    """The step cannot be made into a kernel; the message names the operation and the line."""


@dataclass(frozen=True)
class Size:
    """The number ``factor * (H + more) ** power``, where H is the number of units."""

    factor: float
    power: float
    more: float = 0.0


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One value: an operation of torch on earlier values and on numbers.

    ``kind`` row: one for each row and unit, (B, H). unit: one for each unit, (H,). scalar: one for each row, (B, 1).
    ``letter``: what the author of the step called it, if anything. ``where``: the line that made it.

    Beside pointwise operations of torch there are ``index`` (the number of the unit, from 0) and some that read all
    units of a row: ``total``, ``most`` and ``least`` (of the units of all arguments), ``inner`` (the product
    R_k v + b_k of inner gate k) and ``inner_back`` (R_k^T g). A cumulative sum is ``scan`` (over the units that one
    thread has) plus ``before`` (that of the units of the threads before it).
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
    """The node of a pointwise operation; its kind follows from those of its arguments."""
    return Node(op, arguments, kind_of([a for a in arguments if isinstance(a, Node)]))


def kind_of(
    nodes: Sequence[Node], other: Literal["row", "unit", "scalar"] = "unit"
) -> Literal["row", "unit", "scalar"]:
    """The kind of what is computed from these, value by value; ``other`` where that says nothing."""
    kinds = {n.kind for n in nodes if n.op != "fill"}
    if "row" in kinds or kinds >= {"scalar", "unit"}:
        return "row"
    return "scalar" if "scalar" in kinds else other


class Program(NamedTuple):
    """What a kernel needs to know of a cell.

    ============ ===================================================================================
    inputs       by name: ``x_i``, ``h_i``, ``s_c`` (the old state), ``d_h`` (of the new state)
    units        the values (H,) that rows meet, as ``derive`` gives them
    new          the new state
    inner        what each inner gate's matrix is multiplied with
    input_grads  of the gates W x + b; hidden_grads (inner gates last), state_grads, unit_grads likewise; None for zero
    ============ ===================================================================================

    unit_grads are to be summed over rows and time.
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
        """The inputs that the new state depends on."""
        seen = set(ancestors(self.new))
        return {name for name, node in self.inputs.items() if node in seen}

    @property
    def grads(self) -> list[Node | None]:
        return [*self.input_grads, *self.hidden_grads, *self.state_grads, *self.unit_grads]


def ancestors(nodes: Sequence[Node | None]) -> list[Node]:
    """All that the nodes are made of, and the nodes, in an order in which they can be computed."""
    order: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in order:
            for parent in node.parents:
                visit(parent)
            order[node] = None

    for node in nodes:
        if node is not None:
            visit(node)
    return list(order)


def generalise(programs: Sequence[Program], units: Sequence[int]) -> Program:
    """The program for any number of rows and units, from some that were traced with different ones.

    A number that is not the same in all must go with a power of H, or of H and a number more. Nodes that do the same
    with the same become one.

    Raises:
        TraceError: it goes with something else.
    """
    made: dict[tuple[Node, ...], Node] = {}
    alike: dict[tuple, Node] = {}

    def one(values: tuple, where: str) -> Any:
        first = values[0]
        if all(isinstance(v, Node) for v in values):
            if values not in made:
                made[values] = joined(values, where)
            return made[values]
        if all(v == first or (v != v and first != first) for v in values):
            return first
        return _size(values, units, where)

    def joined(nodes: tuple[Node, ...], where: str) -> Node:
        first = nodes[0]
        where = first.where or where
        if len({(n.op, n.kind, len(n.arguments)) for n in nodes}) > 1:
            raise TraceError(f"{where}: the step does something else for another number of units")
        arguments = tuple(one(values, where) for values in zip(*(n.arguments for n in nodes), strict=True))
        if not arguments:  # an input
            return alike.setdefault((first.op,), first) if first.op == "index" else first
        plain = tuple(a if isinstance(a, Node) else (type(a), repr(a)) for a in arguments)
        node = alike.setdefault((first.op, first.kind, plain), Node(first.op, arguments, first.kind, where=first.where))
        if first.letter and not node.letter:
            object.__setattr__(node, "letter", first.letter)
        return node

    def all_of(name: str) -> tuple:
        return tuple(one(values, "the step") for values in zip(*(getattr(p, name) for p in programs), strict=True))

    program = programs[0]
    if any(len(p.units) != len(program.units) or not program.derive.same(p.derive) for p in programs):
        raise TraceError("the step: what it makes of its weights depends on the number of rows or units")
    parts = "units new inner input_grads hidden_grads state_grads unit_grads"
    inputs = {name: one(tuple(p.inputs[name] for p in programs), "the step") for name in program.inputs}
    others: dict[str, Any] = {name: all_of(name) for name in parts.split()}
    return program._replace(inputs=inputs, **others)


def _size(values: Sequence[Any], units: Sequence[int], where: str) -> Size:
    """The number that is values[k] for units[k], wherever that is a power of H, or of H and a number more."""
    if all(isinstance(v, (int, float)) and v != 0 for v in values) and values[0] / values[1] > 0:
        for power in (1.0, -1.0, 0.5, -0.5, 2.0, -2.0):
            ratio = (values[0] / values[1]) ** (1 / power)
            if ratio == 1:
                break
            more = (units[0] - ratio * units[1]) / (ratio - 1)
            more = round(more) + 0.0 if abs(more - round(more)) < 1e-9 else more
            if min(units) + more > 0:
                size = Size(values[0] / (units[0] + more) ** power, power, more)
                made = [size.factor * (H + more) ** power for H in units]
                if all(abs(m - v) <= 1e-9 * abs(v) for m, v in zip(made, values, strict=True)):
                    return size
    raise TraceError(f"{where}: a number that depends on the number of rows or units; kernels know multiples of H, "
                     "1 / H, sqrt(H) and 1 / sqrt(H)")  # fmt: skip


def name_of(function: Any) -> str:
    """A function's name; that of the property for the getter of one."""
    known = function.__self__ if function.__name__ == "__get__" else function
    return str(getattr(known, "__qualname__", known.__name__))


@dataclass(frozen=True)
class Made:
    """Stands for a tensor among the arguments of a function: the key of the vector, or of the line, that made it."""

    key: Any


def mapped(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """An argument with ``function`` of each part of it that is of a kind, in lists, tuples and slices too."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, slice):
        return slice(*(mapped(v, kind, function) for v in (value.start, value.stop, value.step)))
    if type(value) in (list, tuple):
        return type(value)(mapped(v, kind, function) for v in value)
    return value


class Derive:
    """The values (H,) that rows meet, from the cell's vectors; with gradients, as it is plain torch.

    Args:
        vectors: the keys of the cell's vectors.
        recipe: by line: a function, its arguments and keywords, with `Made` for what is known, and the key of what it
            gives.
        wanted: the keys of the values.
    """

    def __init__(self, vectors: list[Any], recipe: list[tuple[Any, tuple, dict, Any]], wanted: list[Any]) -> None:
        self.vectors, self.wanted = vectors, wanted
        self.recipe: list[tuple[Any, tuple, dict, Any]] = []
        needed = set(wanted)
        for line in reversed(recipe):
            if line[3] in needed:
                self.recipe.insert(0, line)
                mapped((line[1], *line[2].values()), Made, lambda made: needed.add(made.key))

    def same(self, other: Derive) -> bool:
        """Whether the other does the same; it may have been traced with another number of units."""
        return list(self._lines()) == list(other._lines())

    @property
    def text(self) -> str:
        """What is done, in the same words in every process."""
        return repr([(function and name_of(function), *rest) for function, *rest in self._lines()])

    def _lines(self) -> Iterator[tuple]:
        places = {key: k for k, key in enumerate([*self.vectors, *(step[3] for step in self.recipe)])}

        def plain(value: Any) -> str:
            return repr(mapped(value, Made, lambda made: Made(places[made.key])))

        for function, arguments, keywords, output in self.recipe:
            yield function, plain(arguments), {key: plain(value) for key, value in keywords.items()}, places[output]
        yield None, [places[key] for key in self.wanted]

    def __call__(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        known: dict[Any, Any] = dict(zip(self.vectors, vectors, strict=True))

        def value(argument: Any) -> Any:
            return mapped(argument, Made, lambda made: known[made.key])

        for function, arguments, keywords, output in self.recipe:
            known[output] = function(*value(arguments), **{k: value(v) for k, v in keywords.items()})
        return [known[key].reshape(-1).expand(vectors[0].shape) for key in self.wanted]  # one number: for every unit
