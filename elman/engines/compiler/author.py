"""What the author of a step wrote, while it is being traced: for messages that name it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

#: What would do instead of an operation that kernels do not know.
_INSTEAD = {
    "a product with a matrix is an inner gate: name it in inner_gates and call h.NAME(value)":
        "addmm addmv baddbmm bmm dot einsum inner linear matmul mm mv permute t transpose",
    "a step draws nothing at random; dropout and zoneout are options of the layer":
        "alpha_dropout bernoulli dropout exponential native_dropout normal rand rand_like randint_like randn "
        "randn_like rrelu rrelu_with_noise uniform",
    "all units of a row do the same; a weight for each unit tells them apart":
        "argmax argmin argsort gather index index_select kthvalue median roll scatter_add select sort topk tril triu "
        "unbind",
    "a norm over the rows of a batch would make them depend on each other":
        "batch_norm instance_norm native_batch_norm _native_batch_norm_legit",
}  # fmt: skip

#: Operators, by the name of their method.
_OPERATORS = {"getitem": "[...]", "setitem": "[...] = ", "matmul": "@"}


class Author(TorchFunctionMode):
    """Follows the calls of torch that a step makes.

    Args:
        where: gives the author's file and line.
    """

    def __init__(self, where: Callable[[], str]) -> None:
        super().__init__()
        self._where = where
        self._given: set[int] = set()  # the memory of the arguments of the call that is being carried out
        self._made: list[tuple[int, str]] = []  # by number of torch's gradient function: line and name of the call
        self.call = ""

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in ("__get__", "__set__"):
            return function(*args, **kwargs)
        tensors = [a for a in [*args, *kwargs.values()] if isinstance(a, Tensor)]
        self.call, self._given = name, {t.untyped_storage().data_ptr() for t in tensors}
        where = self._where()
        try:
            result = function(*args, **kwargs)
        finally:
            self.call, self._given = "", set()
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor) and value.grad_fn is not None:
                self._made.append((value.grad_fn._sequence_nr(), f"{where}: the gradient of {plain(name)}"))
        return result

    def changes(self, tensor: Tensor) -> bool:
        """Whether a tensor that is about to be changed is the author's, rather than one that torch has just made."""
        return tensor.untyped_storage().data_ptr() in self._given

    def gradient(self, number: int) -> str | None:
        """The author's line and call whose gradient function has this number."""
        at = bisect_left(self._made, (number, ""))
        return self._made[at][1] if at < len(self._made) else None

    def named(self, op: str) -> str:
        """An operation of torch, as the author called it."""
        call, op = plain(self.call), op.strip("_")
        return op if not call or call == op else f"{_OPERATORS.get(call, call)} (which uses {op})"

    def instead(self, op: str) -> str:
        """What would do instead, as the end of a sentence; empty if nothing is known."""
        names = {op.strip("_"), op, plain(self.call)}
        return next((f"; {hint}" for hint, ops in _INSTEAD.items() if names & set(ops.split())), "")


def plain(name: str) -> str:
    """The name of a function without the underscores of an operator or of a change in place."""
    return name.strip("_") or name
