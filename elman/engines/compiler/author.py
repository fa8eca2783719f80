"""Follows the calls of torch in a traced step, so that error messages name the author's line and call."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

#: What to use instead of an operation that kernels do not support.
_INSTEAD = {
    "use an inner gate for a product with a matrix: declare it in inner_gates and call h.NAME(value)":
        "addmm addmv baddbmm bmm dot einsum inner linear matmul mm mv permute t transpose",
    "a step must not draw random numbers; dropout and zoneout are options of the layer":
        "alpha_dropout bernoulli dropout exponential native_dropout normal rand rand_like randint_like randn "
        "randn_like rrelu rrelu_with_noise uniform",
    "all units of a row must compute the same; use a per-unit weight to distinguish them":
        "argmax argmin argsort gather index index_select kthvalue median roll scatter_add select sort topk tril triu "
        "unbind",
    "the rows of a batch must not depend on each other":
        "batch_norm instance_norm native_batch_norm _native_batch_norm_legit",
}  # fmt: skip

#: Operators, by the name of their method.
_OPERATORS = {"getitem": "[...]", "setitem": "[...] = ", "matmul": "@"}


class Author(TorchFunctionMode):
    """Follows the calls of torch that a step makes.

    Args:
        location: returns the author's file and line.
    """

    def __init__(self, location: Callable[[], str]) -> None:
        super().__init__()
        self._location = location
        self._arguments: set[int] = set()  # the memory of the arguments of the current call
        self._calls: list[tuple[int, str]] = []  # by number of torch's gradient function: line and name of the call
        self.call = ""

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in ("__get__", "__set__"):
            return function(*args, **kwargs)
        tensors = [a for a in [*args, *kwargs.values()] if isinstance(a, Tensor)]
        self.call, self._arguments = name, {t.untyped_storage().data_ptr() for t in tensors}
        location = self._location()
        try:
            result = function(*args, **kwargs)
        finally:
            self.call, self._arguments = "", set()
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor) and value.grad_fn is not None:
                self._calls.append((value.grad_fn._sequence_nr(), f"{location}: the gradient of {plain(name)}"))
        return result

    def changes(self, tensor: Tensor) -> bool:
        """Return whether a tensor that is about to change is an argument of the author's call, not torch's own."""
        return tensor.untyped_storage().data_ptr() in self._arguments

    def gradient(self, number: int) -> str | None:
        """Return the author's line and call whose gradient function has this number."""
        position = bisect_left(self._calls, (number, ""))
        return self._calls[position][1] if position < len(self._calls) else None

    def named(self, op: str) -> str:
        """Return the name of an operation of torch, as the author called it."""
        call, op = plain(self.call), op.strip("_")
        return op if not call or call == op else f"{_OPERATORS.get(call, call)} (which uses {op})"

    def instead(self, op: str) -> str:
        """Return a hint what to use instead, as the end of a sentence; empty if there is none."""
        names = {op.strip("_"), op, plain(self.call)}
        return next((f"; {hint}" for hint, ops in _INSTEAD.items() if names & set(ops.split())), "")


def plain(name: str) -> str:
    """Return the name of a function without the underscores of operators and in-place operations."""
    return name.strip("_") or name
