"""Initialisation of parameters: fast orthogonal matrices, and networks without initialisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

#: Matrices with up to this many rows and columns are drawn uniformly, by one QR decomposition.
_WHOLE = 512
#: Larger matrices are products with orthogonal blocks of this many rows.
_BLOCK = 128
#: After two rounds, each number depends on blocks from all rows; the third makes their magnitudes equal.
_ROUNDS = 3


@torch.no_grad()
def orthogonal_(matrix: Tensor) -> Tensor:
    """Fill a matrix (N, M), in place, with random orthonormal rows or columns, whichever are fewer.

    With up to 512 rows and columns, the matrix is distributed uniformly over the orthogonal matrices, as with
    torch.nn.init.orthogonal_ (Saxe, McClelland & Ganguli 2014, https://arxiv.org/abs/1312.6120). That takes one QR
    decomposition, N^3 operations, which is seconds for thousands of units. A larger matrix starts as the identity;
    three times, its rows are shuffled, and each block of 128 rows is multiplied by a random orthogonal matrix. This
    takes 128 N^2 operations.

    Args:
        matrix (Tensor): A floating-point matrix on any device.

    Returns:
        Tensor: The matrix.

    Example::

        >>> weight = orthogonal_(torch.empty(1000, 1000))
        >>> torch.allclose(weight @ weight.T, torch.eye(1000), atol=1e-5)
        True
    """
    if has_torch_function_unary(matrix):
        return handle_torch_function(orthogonal_, (matrix,), matrix)
    if matrix.is_meta or not matrix.numel():
        return matrix
    dtype = matrix.dtype if matrix.dtype == torch.float64 else torch.float32  # LAPACK has no 16-bit types
    rows, columns = max(matrix.shape), min(matrix.shape)
    if rows <= _WHOLE:
        drawn = nn.init.orthogonal_(torch.empty(matrix.shape, dtype=dtype, device=matrix.device))
        return matrix.copy_(drawn)
    q = torch.eye(rows, columns, dtype=dtype, device=matrix.device)
    for _ in range(_ROUNDS):
        q = q[torch.randperm(rows, device=matrix.device)]
        count = rows // _BLOCK
        blocks = q[: count * _BLOCK].view(count, _BLOCK, columns)
        blocks.copy_(_blocks(count, q) @ blocks)
        if rows % _BLOCK:
            last = q[-_BLOCK:]
            last.copy_(_blocks(1, q)[0] @ last)
    return matrix.copy_(q if matrix.shape[0] == rows else q.T)


def _blocks(count: int, like: Tensor) -> Tensor:
    """Return ``count`` uniformly distributed orthogonal matrices."""
    q, r = torch.linalg.qr(torch.randn(count, _BLOCK, _BLOCK, dtype=like.dtype, device=like.device))
    return q * r.diagonal(dim1=1, dim2=2).sign()[:, None]


class _Unstarted(TorchFunctionMode):
    """Skip functions that initialise parameters with random numbers."""

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
    """Return a context in which networks are constructed with uninitialised parameters, to be loaded afterwards.

    No random numbers are drawn for them.

    Example::

        with unstarted():
            network = elman.layers.stack("lstm", 8, 16)
        network.load_state_dict(state_dict)
    """
    with _Unstarted():
        yield
