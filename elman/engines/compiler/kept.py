"""The choice of values that the forward pass keeps for the backward pass."""

from __future__ import annotations

from elman.engines.compiler.operations import ACROSS, BOOLEAN, EXPENSIVE
from elman.engines.compiler.program import Node, Program, ancestors


def kept_values(program: Program) -> list[Node]:
    """Return the values of a step that forward keeps: as few as possible without repeating expensive operations.

    Backward recomputes the other values that it needs. The old h need not be kept, because it is in y.
    """
    given = [node for name, node in program.inputs.items() if not name.startswith("d_")]
    products = [n for n in ancestors(program.grads) if n.op == "inner"]  # only a gradient may read a product
    forward = dict.fromkeys(ancestors([*program.new, *program.inner, *given, *products]))
    needed = _read_by_backward(program, forward)
    compared = compared_values(program)
    kept: dict[Node, None] = {}

    def available(node: Node) -> bool:
        if node in kept or node.op in ("s_h", "fill") or node.kind == "unit":
            return True
        if node in compared or node.op in EXPENSIVE | ACROSS | {"scan"}:
            return False
        return node.op == "index" or (bool(node.parents) and all(map(available, node.parents)))

    def keep(node: Node) -> None:
        if available(node):
            return
        if node.op in BOOLEAN:  # keep the compared numbers instead of the truth value
            for parent in node.parents:
                keep(parent)
        else:
            kept[node] = None

    for node in forward:  # a value comes after those that it is computed from
        if node in needed:
            keep(node)
    return list(kept)


def _read_by_backward(program: Program, forward: dict[Node, None]) -> set[Node]:
    """Return the values of the forward pass that the gradients read directly."""
    needed: set[Node] = set()
    seen: set[Node] = set()
    stack = [node for node in (*program.grads, *program.inner) if node]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in forward:
            needed.add(node)
        else:
            stack += node.parents
    return needed


def compared_values(program: Program) -> set[Node]:
    """Return the values that are compared with the maximum or minimum of a row.

    They are stored and never recomputed: a recomputed value may be rounded differently and would not be found.
    """
    compared: set[Node] = set()
    for node in ancestors([*program.new, *program.inner, *program.grads]):
        if node.op in BOOLEAN and any(parent.op in ("amax", "amin") for parent in node.parents):
            for parent in node.parents:
                compared |= {parent, *(parent.parents if parent.op in ("abs", "neg") else ())}
    return compared
