"""What a step does with vectors (H,), outside the kernel, and the watch that it looks at no value."""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from elman.engines.compiler.program import Made, Node, TraceError, mapped, name_of

if TYPE_CHECKING:
    from elman.engines.compiler.tracing import _Trace

LOOKS = "the step looks at a value; choose by torch.where, unit by unit"
#: What may be asked of a tensor, beside its shape and kind, without a look at its values.
_ABOUT = frozenset(
    """
    __len__ _is_view _version dim dim_order element_size get_device is_complex is_conj is_contiguous is_cpu is_cuda
    is_floating_point is_inference is_leaf is_meta is_mkldnn is_mps is_neg is_nested is_quantized is_same_size is_signed
    is_sparse is_xpu itemsize names nbytes ndim ndimension nelement numel output_nr requires_grad retains_grad size
    storage_offset stride type
    """.split()  # noqa: SIM905
)


def key_of(t: Tensor) -> tuple:
    """The same for all tensors that are the same memory read in the same way."""
    with torch._C.DisableTorchFunction():
        shape = tuple(t.shape)
        return t.data_ptr(), t.storage_offset(), shape[1:] if shape[:1] == (1,) else shape, t.dtype


class Units(TorchFunctionMode):
    """Cuts values (H,) off from what they were made of: `Program.derive` makes them, outside the kernel."""

    def __init__(self, owner: _Trace) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors: list[Tensor] = []
        mapped((*args, *kwargs.values()), Tensor, tensors.append)
        keys = [key_of(t) for t in tensors]
        if not tensors or not all(key in self.owner.leaves for key in keys):
            return self._unread(function, keys, function(*args, **kwargs))
        with torch.no_grad(), _disable_current_modes():  # any operation will do
            result = function(*args, **kwargs)
        if _made(result):
            return self._leaf(result, function, args, kwargs)
        if isinstance(result, (tuple, list)) and any(map(_made, result)):
            several = Made(("several", len(self.owner.recipe)))
            self.owner.recipe.append((function, args, kwargs, several.key))
            parts = [self._leaf(t, getitem, (several, k), {}) if _made(t) else t for k, t in enumerate(result)]
            return type(result)(parts)
        return self._unread(function, keys, function(*args, **kwargs))

    def _leaf(self, result: Tensor, function: Any, args: tuple, kwargs: dict) -> Tensor:
        """What a function gives, as a value of its own."""
        with torch.no_grad(), _disable_current_modes():
            leaf = result.detach().requires_grad_()
        key = key_of(leaf)
        if key in self.owner.leaves:
            return self.owner.leaves[key]
        self.owner._know(leaf, Node("unit", (), "unit"))
        self.owner.leaves[key] = leaf
        self.owner.recipe.append((function, args, kwargs, key))
        return leaf

    def _unread(self, function: Any, keys: list[tuple], result: Any) -> Any:
        """The result, which tells nothing of the values of the tensors with these keys.

        Raises:
            TraceError: it does, or might: a number, an array, an address.
        """
        parts = result if isinstance(result, (tuple, list)) else [result]
        name = name_of(function).split(".")[-1]
        plain = all(part is None or isinstance(part, Tensor) for part in parts)
        about = name in _ABOUT or plain or isinstance(result, (torch.Size, torch.dtype, torch.device, torch.layout))
        if not about and any(key in self.owner.nodes for key in keys):
            raise TraceError(f"{self.owner._where()}: {LOOKS} (it calls {name})")
        return result


def _made(value: Any) -> bool:
    """Whether a value can be one of its own: a tensor of real numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()
