"""The output layer over a vocabulary, and its cross-entropy without all logits in memory."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

#: The maximum number of logits in memory at a time, in the precision of the product.
_LOGITS = 1 << 23
#: The number of logits that fit into the CPU cache. Up to this many in total, torch's own loss is faster.
_CACHED = 1 << 19

#: The reused buffers of each thread.
_buffers = threading.local()


class VocabularyHead(nn.Module):
    """A linear output layer over a vocabulary: logits = W x + b.

    Args:
        size (int): E, the number of features.
        vocab_size (int): V, the number of tokens.
        tied (nn.Embedding, optional): An embedding (V, E) whose weight is shared as W (Press & Wolf 2017,
            https://arxiv.org/abs/1608.05859). It stays a part of its own module; the state dict of
            the head does not contain it. Default: ``None``, the head has its own W.

    Shapes:
        - x: (..., E).
        - logits: (..., V).

    Raises:
        ValueError: The embedding has another shape.

    Example::

        >>> embedding = torch.nn.Embedding(100, 8)
        >>> head = VocabularyHead(8, 100, tied=embedding)
        >>> loss = head.loss(torch.randn(4, 10, 8), torch.randint(100, (4, 10)))
    """

    def __init__(self, size: int, vocab_size: int, tied: nn.Embedding | None = None) -> None:
        super().__init__()
        self.own = nn.Linear(size, vocab_size, bias=False) if tied is None else None
        self._tied = (tied,)  # in a tuple, since it is a part of another module
        if tied is not None and tied.weight.shape != (vocab_size, size):
            raise ValueError(f"the tied embedding must be {(vocab_size, size)}, got: {tuple(tied.weight.shape)}")
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    @property
    def weight(self) -> Tensor:
        """The matrix W, (V, E)."""
        module = self.own or self._tied[0]
        assert module is not None
        return module.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (..., V) for features x (..., E)."""
        return linear(x, self.weight, self.bias)

    def loss(self, x: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy for features x (..., E); see `linear_cross_entropy`."""
        return linear_cross_entropy(x, self.weight, self.bias, targets, smoothing)


def linear_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Compute the mean cross-entropy of the logits ``W x + b``, in nats.

    The result is that of ``cross_entropy(linear(x, weight, bias), targets, label_smoothing=smoothing)``. For large
    inputs, the loss and its gradient are computed together, in chunks of rows, so that the logits never exist as a
    whole. Second derivatives are then not available.

    Args:
        x (Tensor): Features, (..., E).
        weight (Tensor): W, (V, E).
        bias (Tensor): b, (V,).
        targets (Tensor): Token ids, (...); negative ones are ignored.
        smoothing (float): The label smoothing. Default: 0.0.

    Returns:
        Tensor: The mean over the targets that are not negative; 0 if there are none.
    """
    if targets.numel() * len(weight) <= _CACHED:
        logits = linear(x, weight, bias).flatten(0, -2)
        targets = targets.flatten()
        total = cross_entropy(
            logits.to(torch.promote_types(logits.dtype, torch.float32)), targets.clamp(min=-1), ignore_index=-1,
            reduction="sum", label_smoothing=smoothing,
        )  # fmt: skip
        return total / (targets >= 0).sum().clamp(min=1)
    with_gradients = torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias))
    loss, _, _, _ = _LinearCrossEntropy.apply(
        x.flatten(0, -2), weight, bias, targets.flatten(), smoothing, with_gradients
    )
    return loss


def _scratch(name: str, rows: int, columns: int, like: Tensor) -> Tensor:
    """Return an uninitialised matrix (rows, columns) of the dtype and device of ``like``.

    On the CPU, each thread reuses its buffer, since new memory pages cost more time than the computation in them.
    """
    size, kind = rows * columns, (like.dtype, like.device)
    kept: Tensor | None = getattr(_buffers, name, None)
    if kept is None or kept.numel() < size or (kept.dtype, kept.device) != kind:
        with torch.inference_mode(False):
            kept = torch.empty(size, dtype=like.dtype, device=like.device)
        if like.device.type == "cpu":
            setattr(_buffers, name, kept)
    return kept[:size].view(rows, columns)


class _LinearCrossEntropy(torch.autograd.Function):
    """The loss and the gradients of its sum; the latter are empty unless requested, and are kept for backward."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float, with_gradients: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        real = (targets >= 0).nonzero()[:, 0]
        all_real = len(real) == len(targets)
        rows, targets = (x, targets) if all_real else (x[real], targets[real])
        rows, w = rows.to(dtype), weight.to(dtype)
        N, V = len(rows), len(weight)
        exact = torch.promote_types(weight.dtype, torch.float32)
        total = torch.zeros((), dtype=exact, device=x.device)
        drows = torch.empty_like(rows) if with_gradients else None
        dw = torch.zeros_like(weight) if with_gradients else weight.new_empty(0)
        db = torch.zeros_like(bias) if with_gradients else bias.new_empty(0)
        chunk = min(max(1, _LOGITS // V), max(1, N))
        cached = max(1, _CACHED // V) if kind == "cpu" else chunk
        buffer = _scratch("logits of a chunk", chunk, V, rows)  # logits, then their gradients
        logits, p = (_scratch(name, cached, V, total) for name in ("logits", "p"))
        with torch.autocast(kind, enabled=False):
            for start in range(0, N, chunk):
                x_chunk, z_chunk = rows[start : start + chunk], buffer[: N - start]
                torch.mm(x_chunk, w.t(), out=z_chunk)
                for first in range(0, len(x_chunk), cached):
                    target = targets[start + first : start + min(first + cached, chunk), None]
                    z, q = logits[: len(target)], p[: len(target)]
                    z.copy_(z_chunk[first : first + cached]).add_(bias)
                    torch.softmax(z, 1, out=q)
                    # log sum exp z, since max q = exp(max z - log sum exp z)
                    norm = z.amax(1, keepdim=True) - q.amax(1, keepdim=True).log()
                    total += norm.sum() - (1 - smoothing) * z.gather(1, target).sum()
                    if smoothing:
                        total -= smoothing * z.mean(1).sum()
                    if with_gradients:
                        q.scatter_add_(1, target, torch.full_like(norm, smoothing - 1))
                        z_chunk[first : first + cached] = q
                        db += q.sum(0)
                if drows is not None:
                    torch.mm(z_chunk, w, out=drows[start : start + chunk])
                    dw += torch.mm(z_chunk.t(), x_chunk)
        dx = x.new_empty(0)
        if drows is not None:
            dx, share = drows.to(x.dtype), smoothing / V
            if smoothing:
                dx = dx - share * w.sum(0, dtype=exact)
                dw -= share * rows.sum(0, dtype=exact)
                db -= share * N
            dx = dx.to(x.dtype) if all_real else torch.zeros_like(x).index_copy_(0, real, dx.to(x.dtype))
        ctx.mark_non_differentiable(dx, dw, db)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dx, dw, db)
        ctx.rows = max(N, 1)
        return total / max(N, 1), dx, dw, db

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *rest: Any) -> tuple:  # type: ignore[override]
        if grad is None:
            return None, None, None, None, None, None
        grads = [
            g * (grad / ctx.rows) if needed else None
            for g, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        ]
        return *grads, None, None, None
