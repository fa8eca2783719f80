"""Single steps of a layer or of a stack, by one call of an engine where nobody watches."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as modules

from elman import engines
from elman.layers.state import Sizes, State, fits

#: Batch sizes for which a step is kept ready, at most.
_KEPT = 32


class HasSteps:
    """A layer whose single steps an engine may run at once."""

    @abstractmethod
    def sizes(self) -> Sizes:
        """Return the sizes of the state."""

    @abstractmethod
    def parts(self) -> list[nn.Module]:
        """Return the modules that a step consists of, with all its weights."""

    @abstractmethod
    def options(self) -> tuple[Any, ...] | None:
        """Return what a step depends on beside weights; None if it is none for an engine, or somebody watches it."""

    @abstractmethod
    def single(self, state: State) -> engines.Layers:
        """Return a single step after a state, whose x is not there yet; `options` is not None."""


def watched(parts: Sequence[nn.Module]) -> bool:
    """Return whether calls of modules do more than their ``forward`` in evaluation."""
    for part in parts:
        if part.training or part._forward_hooks or part._forward_pre_hooks or "forward" in part.__dict__:
            return True
    return bool(modules._global_forward_hooks or modules._global_forward_pre_hooks)


class Steps:
    """Runs single steps without gradients, and keeps what they need from one to the next."""

    def __init__(self) -> None:
        self._kept: dict[int, engines.Stepper] = {}
        self._for: tuple[list[Any], tuple[Any, ...]] | None = None  # parts, by weak references, and options
        self._refused = False

    def __reduce__(self) -> tuple[type[Steps], tuple[()]]:
        return Steps, ()  # a copy of a layer keeps its own

    def run(self, layer: HasSteps, x: Any, state: State, states: Any) -> tuple[Tensor, list[Any]] | None:
        """Return y (B, H) and the new states of all recurrent layers, given the state of the layer, and those.

        None: something is not as in the usual loop of steps without gradients, and the layers have to be called.
        """
        if not engines.undisturbed():
            return None
        parts, options = layer.parts(), layer.options()
        if options is None or watched(parts) or not isinstance(x, Tensor) or x.dim() != 2:
            return None
        if self._for is None or self._for[1] != options or [one() for one in self._for[0]] != parts:
            self._for, self._kept, self._refused = ([weakref.ref(part) for part in parts], options), {}, False
        rows = len(x)
        if self._refused or not rows:
            return None
        kept = self._kept.get(rows)
        if kept is None or not kept.fits():
            if not fits(state, layer.sizes(), x):
                return None
            if kept is not None:
                self._kept = {}
            places = [(part._parameters, name) for part in parts for name in part._parameters]
            kept = engines.stepper(layer.single(state), places)
            if kept is None:
                self._refused = True  # as long as these are the parts and options
                return None
            if len(self._kept) == _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[rows] = kept
        return kept.step(x, states)
