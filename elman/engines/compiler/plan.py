"""All that a backend prints of a cell: phases of the step and of its gradient, and what is kept between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from elman.engines.compiler.kept import kept_values
from elman.engines.compiler.phases import Array, Phases, Slot, Store
from elman.engines.compiler.program import Node, Program

#: The arrays of a program's inputs, by the first letter of an input's name.
_ARRAYS = {"x": Array.INPUT, "h": Array.HIDDEN, "s": Array.STATE, "d": Array.GRADIENT}


@final
class Plan:
    """A program, divided into a forward and a backward pass.

    Args:
        program: as `trace` returns it.

    Attributes:
        kept: the values of each unit that forward keeps for backward, in the order of `Array.KEPT`.
        kept_rows: the values of each row that forward keeps, in the order of `Array.KEPT_ROW`.
        forward: the phases of the step.
        backward: the phases of its gradient.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        kept = kept_values(program)
        self.kept = [node for node in kept if node.kind != "scalar"]
        self.kept_rows = [node for node in kept if node.kind == "scalar"]
        slots = {n: Slot(Array.KEPT, k) for k, n in enumerate(self.kept)}
        row_slots = {n: Slot(Array.KEPT_ROW, k) for k, n in enumerate(self.kept_rows)}
        inner = _stores(Array.INNER, program.inner)

        given = _inputs(program, "xsh")
        self.forward = Phases(
            program, given, _from(given, Array.HIDDEN), {},
            outputs=_stores(Array.NEW, program.new),
            early=[*(Store((slots | row_slots)[n], n) for n in kept), *inner],
        )  # fmt: skip
        given = _inputs(program, "d") | {program.inputs["s_h"]: Slot(Array.STATE, 0)} | slots
        self.backward = Phases(
            program, given, _from(given, Array.GRADIENT), row_slots,
            outputs=_stores(Array.OLD_GRADIENT, program.state_grads),
            early=[*_stores(Array.GATE_GRADIENT, program.gate_grads), *_stores(Array.UNIT_GRADIENT, program.unit_grads),
                   *inner],
        )  # fmt: skip

    @property
    def inner_phases(self) -> list[int]:
        """The forward phase in which the product of each inner gate is available."""
        return [self.forward.level(node) + 1 for node in self.program.inner]

    @property
    def inner_back_phases(self) -> list[int]:
        """The backward phase in which the product with each inner gate's transposed matrix is; -1 for none."""
        phases = {n.arguments[0]: self.backward.level(n) for n in self.backward.products if n.op == "inner_back"}
        grads = self.program.hidden_grads[len(self.program.hidden_grads) - len(self.program.inner) :]
        return [-1 if grad is None else phases.get(grad, -1) for grad in grads]


def _stores(array: Array, nodes: Iterable[Node | None]) -> list[Store]:
    return [Store(Slot(array, k), node) for k, node in enumerate(nodes)]


def _inputs(program: Program, letters: str) -> dict[Node, Slot]:
    """Return where the inputs with these first letters are, and the per-unit values."""
    slots: dict[Node, Slot] = {}
    for letter in letters:
        nodes = [node for name, node in program.inputs.items() if name[0] == letter]
        slots |= {node: Slot(_ARRAYS[letter], k) for k, node in enumerate(nodes)}
    return slots | {node: Slot(Array.UNIT, k) for k, node in enumerate(program.units)}


def _from(given: dict[Node, Slot], array: Array) -> set[Node]:
    """Return the nodes that are in one array."""
    return {node for node, slot in given.items() if slot.array is array}
