"""Pooling over time: reduce a sequence of features to one vector per row.

A new pooling needs one class: subclass `Pooling`, write `Pooling.pool`, and name it with `register_pooling`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from elman.errors import unknown_name
from elman.layers.arguments import integer
from elman.layers.lengths import Lengths, check_lengths, real_steps


class Pooling(nn.Module, ABC):
    """Base class of poolings: reduce y (B, T, H) to one vector per row, and report the weight of each step.

    A subclass implements `pool`. The base class checks the arguments, masks padding and handles rows of length 0.

    Args:
        size (int): H, the number of features.
        backward_size (int): The number of features, the last ones, that come from a backward layer. Default: 0.

    Shapes:
        - y: (B, T, H).
        - lengths: (B,), integers in 0..T: a tensor, an array or a list. None: every row has T steps.
        - pooled: (B, H). Rows of length 0 are zero.
        - weights: (B, T). The weights of the real steps of a row sum to 1; those of padding are 0.

    Raises:
        TypeError: ``size`` or ``backward_size`` is not an int.
        ValueError: ``size`` is below 1, or ``backward_size`` is not between 0 and ``size``.

    Example::

        >>> class Sum(Pooling):
        ...     '''Add the features of all steps.'''
        ...
        ...     def pool(self, y, lengths, mask):
        ...         return y.sum(1), mask.to(y.dtype) / lengths.clamp(min=1)[:, None]
        >>> register_pooling("sum", Sum)
        >>> pooled, weights = pooling_class("sum")(8)(torch.ones(2, 5, 8), [5, 3])
        >>> pooled[:, 0]
        tensor([5., 3.])
    """

    def __init__(self, size: int, backward_size: int = 0) -> None:
        super().__init__()
        if not 0 <= integer("backward_size", backward_size) <= integer("size", size) or size < 1:
            raise ValueError(f"backward_size must be between 0 and size, not {backward_size} of {size}")
        self.size, self.forward_size = size, size - backward_size

    @abstractmethod
    def pool(self, y: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce a batch over time.

        Args:
            y (Tensor): Features (B, T, H), zero beyond a row's length.
            lengths (Tensor): Lengths (B,) as int64. Rows of length 0 occur; their result is ignored.
            mask (Tensor): Bool (B, T), true on real steps.

        Returns:
            tuple[Tensor, Tensor]: The pooled features (B, H) and the weight of each step (B, T).
        """

    def forward(self, y: Tensor, lengths: Lengths = None) -> tuple[Tensor, Tensor]:
        """Return the pooled features (B, H) and the weight of each step (B, T)."""
        B, T, _ = y.shape
        if lengths is not None and not isinstance(lengths, Tensor):
            lengths = check_lengths(lengths, y)
        n = torch.full((B,), T, device=y.device) if lengths is None else lengths.to(y.device)
        mask = real_steps(n, T)
        pooled, weights = self.pool(y.masked_fill(~mask[..., None], 0.0), n, mask)
        filled = (n > 0)[:, None]
        return pooled.masked_fill(~filled, 0.0), weights * filled.to(weights.dtype)

    def extra_repr(self) -> str:
        """Return the sizes, as ``repr`` prints them."""
        return str(self.size) + (f", backward_size={back}" if (back := self.size - self.forward_size) else "")


class LastPooling(Pooling):
    """Take the features of the last real step.

    Features of a backward layer (``backward_size``) are taken from the first step, where that layer ends.

    Args:
        size (int): H, the number of features.
        backward_size (int): The number of features, the last ones, that come from a backward layer. Default: 0.
    """

    def pool(self, y: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return y at the last step of each row, and weight 1 for that step."""
        B, T, H = y.shape
        end = (lengths - 1).clamp(min=0)
        weights = torch.zeros(B, T, dtype=y.dtype, device=y.device).scatter(1, end[:, None], 1.0)
        last = y.gather(1, end[:, None, None].expand(B, 1, H))[:, 0]
        return torch.cat((last[:, : self.forward_size], y[:, 0, self.forward_size :]), 1), weights


class MaxPooling(Pooling):
    """Take the maximum over time of each feature.

    The weight of a step is the share of the features whose maximum it holds.

    Args:
        size (int): H, the number of features.
        backward_size (int): Has no effect on this pooling. Default: 0.
    """

    def pool(self, y: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maximum of each feature over the real steps."""
        B, T, H = y.shape
        pooled, step = y.masked_fill(~mask[..., None], -torch.inf).max(1)
        weights = torch.zeros(B, T, dtype=y.dtype, device=y.device)
        return pooled, weights.scatter_add(1, step, torch.full_like(pooled, 1 / H))


class MeanPooling(Pooling):
    """Take the mean over time. Every real step of a row has the same weight.

    Args:
        size (int): H, the number of features.
        backward_size (int): Has no effect on this pooling. Default: 0.
    """

    def pool(self, y: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean over the real steps."""
        weights = mask.to(y.dtype) / lengths.clamp(min=1)[:, None].to(y.dtype)
        return torch.einsum("bt,bth->bh", weights, y), weights


class AttentionPooling(Pooling):
    """Take a mean over time with learned weights.

    ::

        a = softmax over t of v . tanh(W y_t + b)        pooled = sum_t a_t y_t

    Yang et al. 2016, https://aclanthology.org/N16-1174

    Args:
        size (int): H, the number of features, and of hidden units of the attention.
        backward_size (int): Has no effect on this pooling. Default: 0.
    """

    def __init__(self, size: int, backward_size: int = 0) -> None:
        super().__init__(size, backward_size)
        self.query = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))

    def pool(self, y: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean weighted by attention."""
        scores = self.query(y)[..., 0].float().masked_fill(~mask, torch.finfo(torch.float32).min)
        weights = scores.softmax(1).to(y.dtype)
        return torch.einsum("bt,bth->bh", weights, y), weights


#: Every pooling by its name, as used in configs, saved models and on the command line.
POOLINGS: dict[str, type[Pooling]] = {
    "last": LastPooling,
    "max": MaxPooling,
    "mean": MeanPooling,
    "attention": AttentionPooling,
}

#: Ends the error message for an unknown name.
_REGISTER = (
    "; register a pooling of your own with elman.layers.register_pooling, on the command line with --import FILE.py"
)


def pooling_class(name: str) -> type[Pooling]:
    """Return the pooling class with the given name.

    Args:
        name (str): A key of `POOLINGS`.

    Returns:
        type[Pooling]: The class. Construct it with ``(size, backward_size)``.

    Raises:
        ElmanError: The name is unknown. The message suggests the nearest known name.

    Example::

        >>> pooling_class("mean")(8)
        MeanPooling(8)
    """
    if name not in POOLINGS:
        raise unknown_name("pooling", name, POOLINGS, _REGISTER)
    return POOLINGS[name]


def register_pooling(name: str, pooling: type[Pooling]) -> None:
    """Add a pooling under a name for use in configs, saved models and on the command line.

    Args:
        name (str): The new name.
        pooling (type[Pooling]): A subclass of `Pooling` whose constructor takes ``(size, backward_size)``.

    Raises:
        TypeError: ``pooling`` is not a subclass of `Pooling`, or does not implement `Pooling.pool`.
        ValueError: The name is taken.
    """
    if not (isinstance(pooling, type) and issubclass(pooling, Pooling)) or inspect.isabstract(pooling):
        raise TypeError(f"a pooling must be a subclass of Pooling that implements pool, got: {pooling!r}")
    if name in POOLINGS:
        raise ValueError(f"the pooling name {name!r} is taken by {POOLINGS[name].__name__}; choose another name")
    POOLINGS[name] = pooling
