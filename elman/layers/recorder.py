"""Record the gates and states of recurrent layers at every step, and the gradients that reach them."""

from __future__ import annotations

import sys
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from elman import engines
from elman.layers.recurrence import Recurrence, recurrences_of


class Recorded(NamedTuple):
    """The record of one layer over one sequence, in the order of the sequence.

    Attributes:
        layer (str): the layer's name in the network; for a direction of an `elman.nn` module, the module's name and
            the suffix of its parameters, such as ``encoder.l1_reverse``.
        values (dict[str, Tensor]): by the names that the cell's equations use for gates (i, f, g, o, ...) and state
            (h, c), each (T, H).
        states (list[Tensor]): the h of each step, (1, H), attached to the graph.
    """

    layer: str
    values: dict[str, Tensor]
    states: list[Tensor]

    def gradients(self) -> Tensor:
        """Return |dLoss/dh_t|, (T,), after ``loss.backward()``, through all paths, including later steps."""
        return torch.stack([h.new_zeros(()) if h.grad is None else h.grad.norm() for h in self.states])


class Recorder:
    """A context manager that runs a network's recurrent layers by their equations and records the values in them.

    The names of the values are those of the local variables of ``Cell.step``, read when it returns, so user-defined
    cells need no changes. Only calls with batch size 1 are recorded. A call that continues from the state that the
    last one returned, as in a loop over single steps, extends the layer's record; any other call starts it anew.

    Args:
        network (nn.Module): a network with recurrent layers of `elman.layers` or `elman.nn`, or modules that implement
            `elman.layers.recurrence.HasRecurrences`.

    Example::

        with Recorder(network) as recorder:
            loss = ...                        # one sequence, batch size 1
            loss.backward()
        for layer in recorder.layers():
            layer.values["f"], layer.gradients()
    """

    def __init__(self, network: nn.Module) -> None:
        self._names: dict[Recurrence, str] = {}
        self._reverse: set[Recurrence] = set()
        for path, bound in recurrences_of(network):
            self._names[bound.recurrence] = ".".join(filter(None, (path, bound.name))) or "layer"
            if bound.reverse != _reads_backward(network, path):
                self._reverse.add(bound.recurrence)
        self._steps: dict[Recurrence, list[tuple[dict[str, Tensor], tuple[Tensor, ...]]]] = {}
        self._final: dict[Recurrence, tuple[Tensor, ...]] = {}
        self._depth = 0
        self._variables: dict[str, Tensor] = {}

    def __enter__(self) -> Self:
        self._observers = {recurrence: recurrence.observer for recurrence in self._names}
        for recurrence in self._names:
            recurrence.observer = self._run
        self._engine = engines.engine("eager")
        self._engine.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._engine.__exit__(kind, error, trace)
        for recurrence, observer in self._observers.items():
            recurrence.observer = observer

    def layers(self) -> list[Recorded]:
        """Return the records, one for each layer, in the order in which the layers ran."""
        records = []
        for recurrence, steps in self._steps.items():
            ordered = steps[::-1] if recurrence in self._reverse else steps
            keys = [key for key in ordered[0][0] if all(key in values for values, _ in ordered)]
            values = {key: torch.cat([_row(values[key]) for values, _ in ordered]) for key in keys}
            for k, part in enumerate(recurrence.cell.parts):
                if part not in recurrence.cell.memory:
                    values[part] = torch.cat([_row(state[k]) for _, state in ordered])
            records.append(Recorded(self._names[recurrence], values, [state[0] for _, state in ordered]))
        return records

    def _run(self, recurrence: Recurrence, scan: engines.Scan) -> tuple[Tensor, engines.State]:
        """Run a scan, and record it if it is of one sequence."""
        if scan.x.shape[0] != 1:
            return engines.run(scan)
        if not self._continues(recurrence, scan.state):
            self._steps.pop(recurrence, None)
        cell, steps = recurrence.cell, self._steps.setdefault(recurrence, [])

        def watch(frame: FrameType, event: str, value: Any) -> None:
            outermost = frame.f_code is getattr(type(cell).step, "__code__", None)
            if event == "call" and outermost:
                self._depth, self._variables = 1, {}
            elif event == "call" and self._depth:
                self._depth += 1
            elif event == "return" and self._depth:
                self._depth -= 1
                if frame.f_globals.get("__name__") == type(cell).__module__:  # the equations, nothing below them
                    local = {k: v for k, v in frame.f_locals.items() if isinstance(v, Tensor) and _is_vector(v)}
                    self._variables = local | self._variables
                if not self._depth and value is not None:
                    state = (value,) if isinstance(value, Tensor) else tuple(value)
                    if state[0].requires_grad:
                        state[0].retain_grad()
                    steps.append((self._variables, state))

        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            y, final = engines.run(scan)
        finally:
            sys.setprofile(before)
            if not steps:
                del self._steps[recurrence]
        self._final[recurrence] = tuple(part.detach().clone() for part in final)
        return y, final

    def _continues(self, recurrence: Recurrence, state: engines.State) -> bool:
        """Return whether a state is the one in which the layer's last call ended; zeros are a fresh start."""
        final = self._final.get(recurrence, ())
        same = len(final) == len(state) and all(map(torch.equal, final, state))
        return same and any(bool(part.any()) for part in state)


def _is_vector(value: Tensor) -> bool:
    """Return whether a value of a step is one of units, of keys or of heads, and not a matrix memory."""
    return value.dim() == 2 or (value.dim() == 3 and 1 in value.shape[1:])


def _row(value: Tensor) -> Tensor:
    """Return a value of a step of one sequence as a row (1, ·); that of a cell with a matrix memory has its heads."""
    return value.detach() if value.dim() == 2 else value.detach().reshape(1, -1)


def _reads_backward(network: nn.Module, path: str) -> bool:
    """Return whether a module reads the sequence from the end.

    That is the second of two directions, or one that its parent names in ``reads_backward``. A backward layer within a
    backward one reads forward.
    """
    module, backward = network, f".{path}.".count(".directions.1.") % 2 == 1
    for name in path.split(".") if path else []:
        backward ^= getattr(module, "reads_backward", None) == name
        module = getattr(module, name)
    return backward
