"""Finds out whether a step is affine in the state that it carries, so that all steps can be computed in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from elman.cells import Cell
from elman.engines.compiler.program import Node, Program, TraceError, ancestors
from elman.engines.compiler.recording import gradients
from elman.engines.compiler.tracing import trace
from elman.engines.scan import State


class Stage(NamedTuple):
    """Parts of the state that are computed together, for all steps at once.

    Attributes:
        parts: their names.
        carried: whether their new values depend on their own old values. They are then affine in them, with factors
            that depend on x, the weights and the parts of earlier stages only. Otherwise they depend on the latter
            only, in any way.
    """

    parts: tuple[str, ...]
    carried: bool


@dataclass(frozen=True)
class Affine:
    """The answer of `elman.engines.affine`; true if the step is affine.

    Attributes:
        stages: the parts of the state in the order in which they can be computed; empty if the step is not affine.
        reason: why the step is not affine; None if it is.
    """

    stages: tuple[Stage, ...]
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.reason is None

    @property
    def carried(self) -> tuple[str, ...]:
        """The parts of the state that depend on their own past through a linear recurrence."""
        return tuple(part for stage in self.stages if stage.carried for part in stage.parts)


def affinity(cell: Cell) -> Affine:
    """Return whether the step of a cell is affine in the state that it carries; see `elman.engines.affine`."""
    if gates := cell.hidden_gates + cell.inner_gates:
        return Affine((), f"{cell} multiplies h by a matrix, in the gates {', '.join(gates)}")
    if cell.memory:
        return Affine(
            (), f"{cell} has a matrix memory, {', '.join(cell.memory)}, and a scan carries numbers of units only"
        )
    try:
        program = trace(cell, torch.float64)
    except TraceError as error:
        return Affine((), str(error))
    reads = _reads(cell, program)
    if cell.projected and any("h" in parts for parts in reads.values()):
        return Affine((), f"{cell} reads the old h, which is projected")
    stages = _stages(reads)
    for stage in stages:
        if stage.carried and (reason := _nonlinear(cell, program, stage.parts)):
            return Affine((), reason)
    if any(stage.carried and not _confirmed(cell, stage) for stage in stages):
        return Affine((), f"{cell}: the gradient of the step is not that of its equations; it detaches or replaces it")
    return Affine(stages)


def coefficients(step: Callable[[State], State], old: State, parts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return A and b with ``step(old)[parts] = A old[parts] + b``, for a step that is affine in these parts.

    Args:
        step: a function from the old to the new state, each part (..., H). Each unit reads its own state only.
        old: the old state. The values of ``parts`` do not matter.
        parts: the positions of K parts.

    Returns:
        A (K, K, ..., H) and b (K, ..., H).
    """
    zero = torch.zeros_like(old[parts[0]])

    def new(values: Sequence[Tensor]) -> State:
        given = list(old)
        for k, value in zip(parts, values, strict=True):
            given[k] = value
        return step(tuple(given))

    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [zero.clone().requires_grad_() for _ in parts]
        outputs = new(leaves)
        rows = [gradients([outputs[k]], [torch.ones_like(outputs[k])], leaves, True, recorded) for k in parts]
    A = torch.stack([torch.stack([zero if g is None else g for g in row]) for row in rows])
    b = new([zero] * len(parts))
    return A, torch.stack([b[k] for k in parts])


def _reads(cell: Cell, program: Program) -> dict[str, set[str]]:
    """Return for each part of the new state the parts of the old state that it depends on."""
    return {
        part: {other for other in cell.state if program.inputs[f"s_{other}"] in read}
        for part, read in zip(cell.state, (set(ancestors([n])) for n in program.new), strict=True)
    }


def _stages(reads: dict[str, set[str]]) -> tuple[Stage, ...]:
    """Return the strongly connected parts in topological order; parts that are not carried are joined."""
    reach = {part: set(others) for part, others in reads.items()}
    for middle in reads:
        for part in reads:
            if middle in reach[part]:
                reach[part] |= reach[middle]
    left, stages = list(reads), []
    while left:
        ready = [p for p in left if all(q not in left or (q in reach[p] and p in reach[q]) for q in reach[p])]
        direct = tuple(p for p in ready if p not in reach[p])
        if direct:
            stages.append(Stage(direct, False))
        for part in ready:
            group = tuple(p for p in ready if p in reach[part] and part in reach[p])
            if part not in direct and group[0] == part:
                stages.append(Stage(group, True))
        left = [p for p in left if p not in ready]
    return tuple(stages)


def _nonlinear(cell: Cell, program: Program, parts: tuple[str, ...]) -> str | None:
    """Return which operation makes parts of the new state depend on the old ones in a way that is not affine."""
    old = {program.inputs[f"s_{part}"] for part in parts}
    degrees: dict[Node, int] = {}  # 0: free of the old parts, 1: affine in them, 2: anything else
    for node in ancestors([program.new[cell.state.index(part)] for part in parts]):
        degrees[node] = 1 if node in old else _degree(node, degrees)
        if degrees[node] > 1:
            names, where = " and ".join(parts), f"{node.where}: " if node.where else ""
            return f"{where}{node.op} makes the step of {cell} not affine in the old {names}"
    return None


def _degree(node: Node, degrees: dict[Node, int]) -> int:
    """Return the degree of the result of an operation, given those of its arguments."""
    given = [degrees[a] if isinstance(a, Node) else 0 for a in node.arguments]
    if not any(given):
        return 0
    if node.op in ("add", "sub", "rsub", "neg"):
        return max(given)
    if node.op == "mul":
        return sum(given)
    free = {"div": 1, "where": 0, "masked_fill": 1}.get(node.op)  # the argument that must be free of the old state
    return max(given) if free is not None and not given[free] else 2


def _confirmed(cell: Cell, stage: Stage) -> bool:
    """Return whether a step equals its affine form, in values and gradients, for random arguments."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int, *shape: int) -> list[Tensor]:
        drawn = torch.rand(count, *shape, generator=generator, dtype=torch.float64, device="cpu") * 0.5 + 0.25
        return [d.requires_grad_() for d in drawn.unbind()]

    with torch.enable_grad():
        x, old, vectors = draw(len(cell.inputs), 2, 5), draw(len(cell.state), 2, 5), draw(len(cell.weights), 5)

        def step(state: State) -> State:
            new = cell.step(cell.InputGates(*x), cell.HiddenGates(), cell.State(*state), cell.Vectors(*vectors))
            return (new,) if isinstance(new, Tensor) else tuple(new)

        parts = [cell.state.index(part) for part in stage.parts]
        new = step(tuple(old))
        A, b = coefficients(step, tuple(old), parts)
        results = torch.stack([new[k] for k in parts]), (A * torch.stack([old[k] for k in parts])).sum(1) + b
        leaves = [*x, *old, *vectors]
        found = [gradients([r], [r.detach()], leaves, True) for r in results]
    pairs = [results, *((p, q) for p, q in zip(*found, strict=True) if p is not None or q is not None)]
    return all(p is not None and q is not None and torch.allclose(p, q, rtol=1e-8, atol=1e-10) for p, q in pairs)
