"""How parameters start: orthogonal matrices fast enough for thousands of units, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

#: Up to so many rows or columns a matrix is drawn from all orthogonal ones alike, by one QR decomposition.
_WHOLE = 512
#: Above, it is made of products with orthogonal blocks of so many rows.
_BLOCK = 128
#: After two rounds every number depends on blocks from everywhere; the third makes all of one size.
_ROUNDS = 3


@torch.no_grad()
def orthogonal_(matrix: Tensor) -> Tensor:
    """Fills a matrix (N, M), in place, with random orthonormal rows or columns, whichever are fewer.

    Up to 512 rows and columns it is uniformly distributed over the orthogonal matrices (Saxe, McClelland & Ganguli
    2014, https://arxiv.org/abs/1312.6120; torch.nn.init.orthogonal_). One QR decomposition takes N^3, seconds for
    thousands of units: larger matrices start as the identity, and three times their rows are shuffled and each 128
    rows multiplied by an orthogonal matrix of their own. That takes 128 N^2.

    Args:
        matrix (Tensor): of real numbers, on any device.

    Returns:
        Tensor: the matrix.

    Example::

        >>> weight = orthogonal_(torch.empty(1000, 1000))
        >>> torch.allclose(weight @ weight.T, torch.eye(1000), atol=1e-5)
        True
    """
    if has_torch_function_unary(matrix):
        return handle_torch_function(orthogonal_, (matrix,), matrix)
    if matrix.is_meta or not matrix.numel():
        return matrix
    dtype = matrix.dtype if matrix.dtype == torch.float64 else torch.float32  # LAPACK has no shorter ones
    rows, columns = max(matrix.shape), min(matrix.shape)
    if rows <= _WHOLE:
        drawn = nn.init.orthogonal_(torch.empty(matrix.shape, dtype=dtype, device=matrix.device))
        return matrix.copy_(drawn)
    q = torch.eye(rows, columns, dtype=dtype, device=matrix.device)
    for _ in range(_ROUNDS):
        q = q[torch.randperm(rows, device=matrix.device)]
        count = rows // _BLOCK
        most = q[: count * _BLOCK].view(count, _BLOCK, columns)
        most.copy_(_blocks(count, q) @ most)
        if rows % _BLOCK:
            last = q[-_BLOCK:]
            last.copy_(_blocks(1, q)[0] @ last)
    return matrix.copy_(q if matrix.shape[0] == rows else q.T)


def _blocks(count: int, like: Tensor) -> Tensor:
    """So many uniformly distributed orthogonal matrices."""
    q, r = torch.linalg.qr(torch.randn(count, _BLOCK, _BLOCK, dtype=like.dtype, device=like.device))
    return q * r.diagonal(dim1=1, dim2=2).sign()[:, None]


class _Unstarted(TorchFunctionMode):
    """Leaves out what draws parameters."""

    draws = frozenset((
        orthogonal_, Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_,
        nn.init.xavier_uniform_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_,
    ))  # fmt: skip

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.draws:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def unstarted() -> Iterator[None]:
    """Inside this block networks are built with parameters that hold anything: for those that are loaded afterwards.

    No random number is drawn for them.
    """
    with _Unstarted():
        yield
