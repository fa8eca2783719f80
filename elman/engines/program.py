"""Straight-line programs: what a cell's step, and its gradient, compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from torch import Tensor


class TraceError(TypeError):
    """The step cannot be made into a kernel; the message names the operation and the line."""


@dataclass(frozen=True)
class Size:
    """The number ``factor * H ** power``, where H is the number of units."""

    factor: float
    power: float


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One value: an operation of torch on earlier values and on numbers.

    ``kind`` row: one for each row and unit, (B, H). unit: one for each unit, (H,). scalar: one for each row, (B, 1).
    ``letter``: what the author of the step called it, if anything. ``where``: the line that made it.

    Beside torch's pointwise operations there are ``total`` (of all units of its arguments), ``inner`` (the product
    R_k v + b_k of inner gate k) and ``inner_back`` (R_k^T g); these read all units of a row.
    """

    op: str
    arguments: tuple[Any, ...] = ()
    kind: Literal["row", "unit", "scalar"] = "row"
    letter: str = ""
    where: str = ""

    @property
    def parents(self) -> list[Node]:
        return [a for a in self.arguments if isinstance(a, Node)]


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


def generalise(program: Program, sizes: tuple[int, int], other: Program, other_sizes: tuple[int, int]) -> Program:
    """The program for any number of rows and units, from two that were traced with different ones, (B, H) each.

    A number that is not the same in both must go with a power of H.

    Raises:
        TraceError: it goes with something else.
    """
    made: dict[tuple[Node, Node], Node] = {}

    def both(a: Any, b: Any, where: str) -> Any:
        if isinstance(a, Node) and isinstance(b, Node):
            if (a, b) not in made:
                if (a.op, a.kind, len(a.arguments)) != (b.op, b.kind, len(b.arguments)):
                    raise TraceError(f"{a.where or where}: the step does something else for another number of units")
                pairs = zip(a.arguments, b.arguments, strict=True)
                arguments = tuple(both(x, y, a.where or where) for x, y in pairs)
                made[a, b] = a if arguments == a.arguments else replace(a, arguments=arguments)
            return made[a, b]
        if a == b or (a != a and b != b):
            return a
        return _size(a, sizes[1], b, other_sizes[1], where)

    def all_of(a: Sequence[Node | None], b: Sequence[Node | None]) -> tuple:
        return tuple(both(x, y, "the step") for x, y in zip(a, b, strict=True))

    if len(program.units) != len(other.units) or not program.derive.same(other.derive):
        raise TraceError("the step: what it makes of its weights depends on the number of rows or units")
    return program._replace(
        inputs={name: both(node, other.inputs[name], "the step") for name, node in program.inputs.items()},
        units=all_of(program.units, other.units),
        new=all_of(program.new, other.new),
        inner=all_of(program.inner, other.inner),
        input_grads=all_of(program.input_grads, other.input_grads),
        hidden_grads=all_of(program.hidden_grads, other.hidden_grads),
        state_grads=all_of(program.state_grads, other.state_grads),
        unit_grads=all_of(program.unit_grads, other.unit_grads),
    )


def _size(a: Any, H: int, b: Any, other_H: int, where: str) -> Size:
    if all(isinstance(n, (int, float)) and n != 0 for n in (a, b)):
        for power in (1.0, -1.0, 0.5, -0.5, 2.0, -2.0):
            factor, same = a / H**power, b / other_H**power
            if abs(factor - same) <= 1e-9 * abs(factor):
                return Size(factor, power)
    raise TraceError(f"{where}: a number that depends on the number of rows or units; kernels know multiples of H, "
                     "1 / H, sqrt(H) and 1 / sqrt(H)")  # fmt: skip


class Derive:
    """The values (H,) that rows meet, from the cell's vectors; with gradients, as it is plain torch."""

    def __init__(self, vectors: list[tuple], recipe: list[tuple[Any, tuple, dict, tuple]], wanted: list[tuple]) -> None:
        self.vectors, self.wanted, self.recipe = vectors, wanted, recipe

    @property
    def order(self) -> tuple[int, ...] | None:
        """Which of the vectors these are, where nothing is made of them; None where something is."""
        return None if self.recipe else tuple(map(self.vectors.index, self.wanted))

    def same(self, other: Derive) -> bool:
        """Whether the other does the same, traced with another number of units."""

        def shape(derive: Derive) -> Iterator[Any]:
            places = {key: k for k, key in enumerate([*derive.vectors, *(step[3] for step in derive.recipe)])}

            def plain(value: Any) -> Any:
                return ("value", places[value]) if isinstance(value, tuple) and value in places else repr(value)

            for function, arguments, keywords, output in derive.recipe:
                named = {key: plain(value) for key, value in keywords.items()}
                yield function, [plain(a) for a in arguments], named, places[output]
            yield [places[key] for key in derive.wanted]

        return list(shape(self)) == list(shape(other))

    def __call__(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        known: dict[Any, Tensor] = dict(zip(self.vectors, vectors, strict=True))

        def value(argument: Any) -> Any:
            return known[argument] if isinstance(argument, tuple) and argument in known else argument

        for function, arguments, keywords, output in self.recipe:
            known[output] = function(*map(value, arguments), **{k: value(v) for k, v in keywords.items()})
        return [known[key] for key in self.wanted]
