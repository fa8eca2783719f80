"""What engines share for cells with a matrix memory: the layout of gates and states, and the loop over eager steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from elman.cells import Cell
from elman.engines.modes import shape_of
from elman.engines.scan import Scan, State


class Layout(NamedTuple):
    """The sizes of a cell with a matrix memory.

    Attributes:
        cell: the cell.
        heads: the number of heads.
        U: the units of a head.
        K: the keys of a head.
    """

    cell: Cell
    heads: int
    U: int
    K: int

    @property
    def gates(self) -> list[tuple[int, int]]:
        """The sizes (U or 1, K or 1) of each gate in a head, in the order of the rows of ``weight_ih``."""
        kinds = (self.cell.input_gates, (self.U, 1)), (self.cell.key_gates, (1, self.K)), (self.cell.head_gates, (1, 1))
        return [size for names, size in kinds for _ in names]

    @property
    def parts(self) -> list[tuple[int, int]]:
        """The sizes (U or 1, K or 1) of each part of the state in a head, in the order of ``Cell.parts``."""
        cell = self.cell
        kinds = (cell.state, (self.U, 1)), (cell.memory, (self.U, self.K)), (cell.key_state, (1, self.K))
        return [size for names, size in (*kinds, (cell.head_state, (1, 1))) for _ in names]

    @property
    def rows(self) -> list[int]:
        """The rows of ``weight_ih`` that belong to each gate."""
        return [self.heads * u * k for u, k in self.gates]

    @property
    def shapes(self) -> list[int | torch.Size]:
        """The size of each part of the state without the batch; see `elman.layers.state.Sizes`."""
        shapes: list[int | torch.Size] = []
        for name, (u, k) in zip(self.cell.parts, self.parts, strict=True):
            if name in self.cell.memory:
                shapes.append(torch.Size((self.heads * u, k)))
            else:
                shapes.append(torch.Size((self.heads, k)) if name in self.cell.key_state else self.heads * u)
        return shapes


def layout(scan: Scan) -> Layout:
    """Return the sizes of a scan, by its state.

    Raises:
        ValueError: a part of the state or a parameter has another size.
    """
    cell, H = scan.cell, shape_of(scan.state[0])[-1]
    memory = scan.state[len(cell.state)]
    sizes = Layout(cell, scan.heads, H // scan.heads, shape_of(memory)[-1])
    B = shape_of(scan.x)[0]
    for name, part, size in zip(cell.parts, scan.state, sizes.shapes, strict=True):
        expected = (B, size) if isinstance(size, int) else (B, *size)
        if shape_of(part) != expected:
            raise ValueError(f"the state {name} must have the shape {tuple(expected)}, it has {tuple(part.shape)}")
    rows = sum(sizes.rows)
    for name, tensor, shape in (
        ("weight_ih", scan.weights.weight_ih, (rows, shape_of(scan.x)[-1])), ("bias_ih", scan.weights.bias_ih, (rows,)),
    ):  # fmt: skip
        if tensor is not None and shape_of(tensor) != shape:
            raise ValueError(f"{name} must have the shape {shape}, it has {tuple(tensor.shape)}")
    return sizes


def gates_of(scan: Scan) -> Tensor:
    """Return the gates W x + b of all steps, (B, T, G)."""
    return linear(scan.wiped().x, scan.weights.weight_ih, scan.weights.bias_ih)


def loop(
    sizes: Layout, gates: Tensor, state: Iterable[Tensor], lengths: Tensor | None, resets: Tensor | None
) -> tuple[Tensor, State]:
    """Run the steps of a cell one after another, in operations of torch.

    Args:
        sizes: the sizes.
        gates: the gates of all steps, (B, T, G).
        state: the state before the first step, as in `Scan.state`.
        lengths: the steps of each row, (B,).
        resets: where the state is set to zero before a step, (B, T).

    Returns:
        y (B, T, H) and the final state.
    """
    cell, heads, (B, T, _) = sizes.cell, sizes.heads, shape_of(gates)
    inputs = [  # (T, B heads, U or 1, K or 1); a traced program takes any B
        gate.unflatten(-1, (heads, u, k)).transpose(0, 1).flatten(1, 2)
        for gate, (u, k) in zip(gates.split(sizes.rows, -1), sizes.gates, strict=True)
    ]
    state = tuple(state)
    carried = tuple(s.reshape(-1, u, k) for s, (u, k) in zip(state, sizes.parts, strict=True))
    outputs = []
    for t in range(T):
        if resets is not None:
            zero = resets[:, t].repeat_interleave(heads)[:, None, None]
            carried = tuple(torch.where(zero, 0.0, part) for part in carried)
        x = cell.InputGates(*(gate[t] for gate in inputs))
        new = _checked(cell, cell.step(x, cell.HiddenGates(), cell.State(*carried), cell.Vectors()), carried)
        y = new[0]
        if lengths is not None:
            active = (lengths > t).repeat_interleave(heads)[:, None, None]
            new = tuple(torch.where(active, n, old) for n, old in zip(new, carried, strict=True))
            y = torch.where(active, y, 0.0)
        carried = new
        outputs.append(y.reshape(-1, heads * sizes.U))
    final = tuple(part.reshape(-1, *shape_of(old)[1:]).clone() for part, old in zip(carried, state, strict=True))
    return (torch.stack(outputs, 1) if outputs else gates.new_zeros(B, 0, heads * sizes.U)), final


def _checked(cell: Cell, new: Tensor | tuple[Tensor, ...], old: State) -> State:
    """Return the new state with the dtype of the old one, after checking what a step has returned."""
    parts = (new,) if isinstance(new, Tensor) else tuple(new or ())
    if not all(isinstance(part, Tensor) for part in parts):
        raise TypeError(f"{cell}.step must return tensors, it returned {', '.join(type(p).__name__ for p in parts)}")
    if len(parts) != len(old):
        raise TypeError(f"{cell}.step must return {', '.join(cell.parts)}; it returned {len(parts)} values")
    for name, part, before in zip(cell.parts, parts, old, strict=True):
        if shape_of(part) != shape_of(before):
            raise ValueError(
                f"{cell}.step: the new {name} has the shape {tuple(part.shape)}, expected {tuple(before.shape)}; "
                "sums over keys need keepdim=True"
            )
    return tuple(part.to(before.dtype) for part, before in zip(parts, old, strict=True))
