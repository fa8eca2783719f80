"""Cuts a step into phases at the operations that read across units.

Within a phase every unit is computed on its own. A phase ends where all units of a row are needed: at a reduction over
the units, or at the product of an inner gate. A pointwise step has one phase.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple, final

from elman.engines.compiler.kept import compared_values
from elman.engines.compiler.operations import ACROSS, CHEAP, PRODUCTS, REDUCTIONS
from elman.engines.compiler.program import Node, Program


class Array(Enum):
    """The arrays that a kernel reads and writes. Arrays of a row have one value for all units of the row."""

    INPUT = auto()  # the gates W x + b, then the raw columns of x
    HIDDEN = auto()  # the products R h + b
    STATE = auto()  # the old state; backward has h alone
    UNIT = auto()  # per-unit values, the same for all rows
    GRADIENT = auto()  # backward: the gradients of the new state
    PRODUCT = auto()  # the products of inner gates, or with their transposed matrices
    NEW = auto()  # forward: the new state
    KEPT = auto()  # values that forward keeps for backward
    KEPT_ROW = auto()  # the same, of a row
    OLD_GRADIENT = auto()  # backward: the gradients of the old state
    GATE_GRADIENT = auto()  # backward: the different gradients of the gates, `Program.gate_grads`
    UNIT_GRADIENT = auto()  # backward: the gradients of per-unit values, to be summed over rows and time
    INNER = auto()  # what the matrices of inner gates are to be multiplied with
    TEMP = auto()  # values that a phase leaves for a later one
    TOTAL = auto()  # reductions over the units of a row, while they are accumulated and at the end of their phase
    SCALAR = auto()  # of a row: values of earlier phases


class Slot(NamedTuple):
    """An element of an array."""

    array: Array
    number: int


class Store(NamedTuple):
    """An instruction: compute a value and store it. The node None stands for 0."""

    slot: Slot
    node: Node | None


class Accumulate(NamedTuple):
    """An instruction: combine all arguments of a reduction ``node``, for the units at hand, with its slot."""

    slot: Slot
    node: Node


class PrefixSum(NamedTuple):
    """An instruction: compute ``node``, the sum of its argument up to each unit at hand, and add the sum to a slot."""

    slot: Slot
    node: Node


Instruction = Store | Accumulate | PrefixSum


class Phase(NamedTuple):
    """The part of a step between two reads across units.

    Attributes:
        available: where the values are that the phase need not compute.
        instructions: what it does, in this order, for each unit or once for a row.
    """

    available: dict[Node, Slot]
    instructions: tuple[Instruction, ...]


@final
class Phases:
    """A step, forward or backward, cut into phases.

    Args:
        program: the step.
        given: where the values are that exist before the first phase.
        transient: those of ``given`` that are available in the first phase only.
        given_rows: where the values of a row are that exist before the first phase.
        outputs: what to store in the last phase.
        early: what to store in the phase that computes it, for a unit (or, in `Array.KEPT_ROW`, for a row).

    Attributes:
        count: the number of phases.
        totals: the reductions, in the order of `Array.TOTAL`.
        scalars: the values of a row, in the order of `Array.SCALAR`.
        temps: the values that wait for a later phase, in the order of `Array.TEMP`.
    """

    def __init__(
        self,
        program: Program,
        given: Mapping[Node, Slot],
        transient: Collection[Node],
        given_rows: Mapping[Node, Slot],
        outputs: Sequence[Store],
        early: Sequence[Store],
    ) -> None:
        self._given, self._transient, self._given_rows = given, transient, given_rows
        self._outputs, self._early = outputs, early
        self._compared = compared_values(program)
        self._levels: dict[Node, int] = dict.fromkeys([*given, *given_rows], 0)
        self._nodes: dict[Node, None] = {}
        for store in (*outputs, *early):
            if store.node is not None:
                self._visit(store.node)
        self.count = max(self._levels.values(), default=0) + 1
        self.totals = [n for n in self._nodes if n.op in REDUCTIONS]
        self.scalars = [n for n in self._nodes if n.kind == "scalar" and n.op != "fill"]
        computed = [n for n in self._nodes if n not in given and n not in given_rows]
        waiting = {a for n in computed for a in n.parents if self._must_wait(a, self._use(n))}
        waiting |= {s.node for s in outputs if s.node and self._must_wait(s.node, self.count - 1)}
        self.temps = [n for n in self._nodes if n in waiting]

    def level(self, node: Node) -> int:
        """Return the number of the phase in which a value becomes available."""
        return self._levels[node]

    @property
    def products(self) -> list[Node]:
        """The products with matrices of inner gates."""
        return [n for n in self._nodes if n.op in PRODUCTS and n not in self._given]

    def units(self) -> list[Phase]:
        """Return what each phase does for one unit."""
        return [self._unit_phase(phase) for phase in range(self.count)]

    def rows(self) -> list[Phase]:
        """Return what each phase does once for a row, before its units."""
        return [self._row_phase(phase) for phase in range(self.count)]

    def _visit(self, node: Node) -> None:
        if node in self._nodes:
            return
        if node not in self._given and node not in self._given_rows:
            for parent in node.parents:
                self._visit(parent)
            level = max((self._levels[p] for p in node.parents), default=0)
            self._levels[node] = level + 1 if node.op in ACROSS else level
        self._nodes[node] = None

    def _use(self, node: Node) -> int:
        """Return the phase in which the arguments of a node are read."""
        return self._levels[node] - (node.op in ACROSS)

    def _in_one_phase(self, node: Node) -> bool:
        """Return whether a value that is not computed is available in one phase only."""
        return node in self._transient if node in self._given else node.op in PRODUCTS

    def _lasting(self, node: Node) -> bool:
        """Return whether a value is available in all later phases as well."""
        if node.kind in ("scalar", "unit") or node.op == "fill":
            return True
        return node in self._given and not self._in_one_phase(node)

    def _recomputed(self, node: Node) -> bool:
        """Return whether a later phase computes a value again rather than read it from `Array.TEMP`."""
        return node.op in CHEAP and node not in self._compared and all(map(self._lasting, node.parents))

    def _must_wait(self, node: Node, phase: int) -> bool:
        """Return whether an earlier phase must leave a value for this one."""
        return self._levels[node] < phase and not self._lasting(node) and not self._recomputed(node)

    def _unit_phase(self, phase: int) -> Phase:
        instructions: list[Instruction] = []
        for k, node in enumerate(self.totals):
            if node.op == "before" and self._use(node) == phase:
                instructions.append(PrefixSum(Slot(Array.TOTAL, k), node.parents[0]))
        for store in self._early:
            if store.slot.array is not Array.KEPT_ROW and phase == (
                0 if store.node is None else self.level(store.node)
            ):
                instructions.append(store)
        for k, node in enumerate(self.totals):
            if node.op != "before" and self._use(node) == phase:
                instructions.append(Accumulate(Slot(Array.TOTAL, k), node))
        for k, node in enumerate(self.temps):
            if self.level(node) == phase:
                instructions.append(Store(Slot(Array.TEMP, k), node))
        if phase == self.count - 1:
            instructions += self._outputs
        return Phase(self._available(phase), tuple(instructions))

    def _available(self, phase: int) -> dict[Node, Slot]:
        available = {n: slot for n, slot in self._given.items() if phase == 0 or not self._in_one_phase(n)}
        available |= {n: Slot(Array.SCALAR, k) for k, n in enumerate(self.scalars)}
        available |= {n: Slot(Array.TEMP, k) for k, n in enumerate(self.temps) if self.level(n) < phase}
        return available | {n: Slot(Array.PRODUCT, gate_of(n)) for n in self.products if self.level(n) == phase}

    def _row_phase(self, phase: int) -> Phase:
        available = {n: Slot(Array.SCALAR, k) for k, n in enumerate(self.scalars) if self.level(n) < phase}
        available |= {n: Slot(Array.TOTAL, k) for k, n in enumerate(self.totals) if self.level(n) == phase}
        available |= self._given_rows if phase == 0 else {}
        stores = [Store(Slot(Array.SCALAR, k), n) for k, n in enumerate(self.scalars)]
        stores += [store for store in self._early if store.slot.array is Array.KEPT_ROW]
        return Phase(available, tuple(s for s in stores if s.node is not None and self.level(s.node) == phase))


def gate_of(product: Node) -> int:
    """Return the number of the inner gate of a node in `operations.PRODUCTS`."""
    return int(product.arguments[1])
