"""What happens inside recurrent layers, step by step: every value that a cell's equations name."""

from __future__ import annotations

import sys
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from elman import engines
from elman.layers.recurrent import Recurrent


class Recorded(NamedTuple):
    """One layer over one sequence, in the order of the sequence.

    values: by the letter of the cell's equations (i, f, g, o, ...) or the part of the state (h, c), (T, H).
    states: the h of each step, (1, H), with its place in the graph.
    """

    layer: str
    values: dict[str, Tensor]
    states: list[Tensor]

    def gradients(self) -> Tensor:
        """|dLoss/dh_t|, (T,), after ``loss.backward()``: by all ways, also through the steps that follow."""
        return torch.stack([h.new_zeros(()) if h.grad is None else h.grad.norm() for h in self.states])


class Recorder:
    """Runs a network's recurrent layers by their equations and keeps what these name.

    ::

        with Recorder(network) as recorder:
            loss = ...                        # one sequence, batch size 1
            loss.backward()
        for layer in recorder.layers(): layer.values["f"], layer.gradients()

    The names are those of the local variables of ``Cell.step``, read as it returns: nothing has to be said in a cell of
    one's own. Layers are seen that read one sequence at a time.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._names = {module: name for name, module in network.named_modules() if isinstance(module, Recurrent)}
        self._steps: dict[str, list[tuple[dict[str, Tensor], tuple[Tensor, ...]]]] = {}
        self._layer: Recurrent | None = None
        self._depth = 0
        self._seen: dict[str, Tensor] = {}

    def __enter__(self) -> Self:
        self._hooks = [module.register_forward_pre_hook(self._enter) for module in self._names]
        self._engine = engines.engine("eager")
        self._engine.__enter__()
        self._before = sys.getprofile()
        sys.setprofile(self._watch)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.setprofile(self._before)
        self._engine.__exit__(kind, error, trace)
        for hook in self._hooks:
            hook.remove()

    def layers(self) -> list[Recorded]:
        """What was recorded, by layer in the order in which they ran."""
        found = []
        for name, steps in self._steps.items():
            ordered = steps[::-1] if self._backward(name) else steps
            keys = [key for key in ordered[0][0] if all(key in values for values, _ in ordered)]
            values = {key: torch.cat([values[key].detach() for values, _ in ordered]) for key in keys}
            cell = next(module.cell for module, own in self._names.items() if own == name)
            for k, part in enumerate(cell.state):
                values[part] = torch.cat([state[k].detach() for _, state in ordered])
            found.append(Recorded(name or "layer", values, [state[0] for _, state in ordered]))
        return found

    def _backward(self, name: str) -> bool:
        """Whether the layer reads from the end: the second of two directions, or what says so of itself."""
        module, parts = self._network, name.split(".") if name else []
        backward = False
        for part in parts:
            backward |= getattr(module, "reads_backward", None) == part
            module = getattr(module, part)
        return backward or ".directions.1" in f".{name}"

    def _enter(self, module: nn.Module, inputs: tuple) -> None:
        self._layer = module if isinstance(module, Recurrent) and inputs[0].shape[0] == 1 else None
        if self._layer is not None:
            self._steps.pop(self._names[self._layer], None)  # a second run of the same layer: the last one counts

    def _watch(self, frame: FrameType, event: str, value: Any) -> None:
        if self._layer is None or event not in ("call", "return"):
            return
        outermost = frame.f_code is getattr(type(self._layer.cell).step, "__code__", None)
        if event == "call":
            if outermost:
                self._depth, self._seen = 1, {}
            elif self._depth:
                self._depth += 1
        elif self._depth:
            self._depth -= 1
            if frame.f_globals.get("__name__") == type(self._layer.cell).__module__:  # the equations, nothing below
                found = {k: one for k, one in frame.f_locals.items() if isinstance(one, Tensor) and one.dim() == 2}
                self._seen = found | self._seen
            if not self._depth and value is not None:
                state = (value,) if isinstance(value, Tensor) else tuple(value)
                if state[0].requires_grad:
                    state[0].retain_grad()
                self._steps.setdefault(self._names[self._layer], []).append((self._seen, state))
