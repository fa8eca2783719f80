"""Handles what a step computes from per-unit vectors (H,) alone, and refuses steps that read the value of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from elman.engines.compiler.program import Derive, Made, Node, TraceError, mapped, name_of
from elman.engines.compiler.recording import Recorder, key_of

READS_VALUE = "the step reads the value of a tensor; use torch.where to choose for each unit"
#: Attributes and methods of a tensor that do not depend on its values.
_METADATA = frozenset(
    """
    __len__ _is_view _version dim dim_order element_size get_device is_complex is_conj is_contiguous is_cpu is_cuda
    is_floating_point is_inference is_leaf is_meta is_mkldnn is_mps is_neg is_nested is_quantized is_same_size is_signed
    is_sparse is_xpu itemsize names nbytes ndim ndimension nelement numel output_nr requires_grad retains_grad size
    storage_offset stride type
    """.split()  # noqa: SIM905
)


class Units(TorchFunctionMode):
    """Detaches values that a step computes from the vectors of a cell alone.

    Each such value becomes an input of the program. `Program.derive` computes it outside the kernel, once a call, with
    any operation of torch.

    Args:
        recorder: the trace.
        vectors: the vectors of the cell.

    Attributes:
        leaves: the detached values by `key_of`, the vectors first.
    """

    def __init__(self, recorder: Recorder, vectors: Sequence[Tensor]) -> None:
        super().__init__()
        self.leaves = {key_of(v): v for v in vectors}
        self._recorder = recorder
        self._vectors = [key_of(v) for v in vectors]
        self._recipe: list[tuple[Any, tuple, dict, Any]] = []  # a function, its arguments and keywords, its result

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors: list[Tensor] = []
        mapped((*args, *kwargs.values()), Tensor, tensors.append)
        keys = [key_of(t) for t in tensors]
        if not tensors or not all(key in self.leaves for key in keys):
            return self._checked(function, keys, function(*args, **kwargs))
        with torch.no_grad(), _disable_current_modes():  # every operation is allowed here
            result = function(*args, **kwargs)
        if _is_real(result):
            return self._leaf(result, function, args, kwargs)
        if isinstance(result, (tuple, list)) and any(map(_is_real, result)):
            several = Made(("several", len(self._recipe)))
            self._recipe.append((function, args, kwargs, several.key))
            parts = [self._leaf(t, getitem, (several, k), {}) if _is_real(t) else t for k, t in enumerate(result)]
            return type(result)(parts)
        return self._checked(function, keys, function(*args, **kwargs))

    def derive(self, wanted: Sequence[Tensor]) -> Derive:
        """Return the function that computes these leaves from the vectors."""

        def by_key(value: Any) -> Any:
            return mapped(value, Tensor, lambda t: Made(key_of(t)))

        recipe = [
            (function, by_key(arguments), {name: by_key(v) for name, v in keywords.items()}, output)
            for function, arguments, keywords, output in self._recipe
        ]
        return Derive(self._vectors, recipe, [key_of(leaf) for leaf in wanted])

    def _leaf(self, result: Tensor, function: Any, args: tuple, kwargs: dict) -> Tensor:
        """Return the result of a function as a detached value."""
        with torch.no_grad(), _disable_current_modes():
            leaf = result.detach().requires_grad_()
        key = key_of(leaf)
        if key in self.leaves:
            return self.leaves[key]
        self._recorder.record(leaf, Node("unit", (), "unit"))
        self.leaves[key] = leaf
        self._recipe.append((function, args, kwargs, key))
        return leaf

    def _checked(self, function: Any, keys: list[tuple], result: Any) -> Any:
        """Return the result of a function, if it does not depend on the values of the tensors with these keys.

        Raises:
            TraceError: it does, or might: it is a number, an array or an address.
        """
        parts = result if isinstance(result, (tuple, list)) else [result]
        name = name_of(function).split(".")[-1]
        plain = all(part is None or isinstance(part, Tensor) for part in parts)
        metadata = name in _METADATA or isinstance(result, (torch.Size, torch.dtype, torch.device, torch.layout))
        if not plain and not metadata and any(map(self._recorder.recorded, keys)):
            raise TraceError(f"{self._recorder.location()}: {READS_VALUE} (it calls {name})")
        return result


def _is_real(value: Any) -> bool:
    """Return whether a value is a tensor of real numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()
