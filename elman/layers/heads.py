"""From features to the loss over a vocabulary, without keeping the logits."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

#: So many logits exist at once, in the precision of the product.
_LOGITS = 1 << 23
#: So many of them stay in the cache. Up to so many in all, torch's own loss is faster.
_FEW = 1 << 19


_own = threading.local()


class VocabularyHead(nn.Module):
    """logits = W x + b over V words, and their loss.

    With ``tied``, an embedding (V, E), its vectors are W, and the head has no matrix of its own (Press & Wolf 2017,
    https://arxiv.org/abs/1608.05859).
    """

    def __init__(self, size: int, vocab_size: int, tied: nn.Embedding | None = None) -> None:
        super().__init__()
        self.own = nn.Linear(size, vocab_size, bias=False) if tied is None else None
        self._tied = (tied,)  # in a tuple: it is a part of another module
        if tied is not None and tied.weight.shape != (vocab_size, size):
            raise ValueError(f"tied vectors must be {(vocab_size, size)}, they are {tuple(tied.weight.shape)}")
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    @property
    def weight(self) -> Tensor:
        """W (V, E)."""
        module = self.own or self._tied[0]
        assert module is not None
        return module.weight

    def forward(self, x: Tensor) -> Tensor:
        """x (..., E) to logits (..., V)."""
        return linear(x, self.weight, self.bias)

    def loss(self, x: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """The mean of -log p(target) over the targets that are not negative; see `linear_cross_entropy`."""
        return linear_cross_entropy(x, self.weight, self.bias, targets, smoothing)


def linear_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy of ``W x + b`` against targets, in nats.

    As ``cross_entropy(linear(x, weight, bias), targets, label_smoothing=smoothing)``, but with the gradient made
    beside the loss, from a part of the rows at a time: more than a few (N, V) logits never exist as a whole. No second
    derivatives then.

    Shapes:
        x (..., E), weight (V, E), bias (V,), targets (...) integers; negative ones count for nothing.
    """
    if targets.numel() * len(weight) <= _FEW:
        logits = linear(x, weight, bias).flatten(0, -2)
        targets = targets.flatten()
        total = cross_entropy(
            logits.to(torch.promote_types(logits.dtype, torch.float32)), targets.clamp(min=-1), ignore_index=-1,
            reduction="sum", label_smoothing=smoothing,
        )  # fmt: skip
        return total / (targets >= 0).sum().clamp(min=1)
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias))
    loss, _, _, _ = _LinearCrossEntropy.apply(x.flatten(0, -2), weight, bias, targets.flatten(), smoothing, wanted)
    return loss


def _scratch(name: str, rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows, columns) to write into; on the CPU the same again and again: fresh pages cost more than the work in them.

    Each thread keeps its own.
    """
    size, kind = rows * columns, (like.dtype, like.device)
    kept: Tensor | None = getattr(_own, name, None)
    if kept is None or kept.numel() < size or (kept.dtype, kept.device) != kind:
        with torch.inference_mode(False):
            kept = torch.empty(size, dtype=like.dtype, device=like.device)
        if like.device.type == "cpu":
            setattr(_own, name, kept)
    return kept[:size].view(rows, columns)


class _LinearCrossEntropy(torch.autograd.Function):
    """Also gives the gradients of the sum (empty where none is wanted), which are kept for backward."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float, wanted: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        real = (targets >= 0).nonzero()[:, 0]
        every = len(real) == len(targets)
        rows, targets = (x, targets) if every else (x[real], targets[real])
        rows, w = rows.to(dtype), weight.to(dtype)
        N, V = len(rows), len(weight)
        exact = torch.promote_types(weight.dtype, torch.float32)
        total = torch.zeros((), dtype=exact, device=x.device)
        drows = torch.empty_like(rows) if wanted else None
        dw = torch.zeros_like(weight) if wanted else weight.new_empty(0)
        db = torch.zeros_like(bias) if wanted else bias.new_empty(0)
        at_once = min(max(1, _LOGITS // V), max(1, N))
        few = max(1, _FEW // V) if kind == "cpu" else at_once
        made = _scratch("made", at_once, V, rows)  # logits, and then their gradients
        logits, p = (_scratch(name, few, V, total) for name in ("logits", "p"))
        with torch.autocast(kind, enabled=False):
            for start in range(0, N, at_once):
                part, some = rows[start : start + at_once], made[: N - start]
                torch.mm(part, w.t(), out=some)
                for first in range(0, len(part), few):
                    chosen = targets[start + first : start + min(first + few, at_once), None]
                    z, q = logits[: len(chosen)], p[: len(chosen)]
                    z.copy_(some[first : first + few]).add_(bias)
                    torch.softmax(z, 1, out=q)
                    # log sum exp z, as max q = exp(max z - log sum exp z)
                    norm = z.amax(1, keepdim=True) - q.amax(1, keepdim=True).log()
                    total += norm.sum() - (1 - smoothing) * z.gather(1, chosen).sum()
                    if smoothing:
                        total -= smoothing * z.mean(1).sum()
                    if wanted:
                        q.scatter_add_(1, chosen, torch.full_like(norm, smoothing - 1))
                        some[first : first + few] = q
                        db += q.sum(0)
                if drows is not None:
                    torch.mm(some, w, out=drows[start : start + at_once])
                    dw += torch.mm(some.t(), part)
        dx = x.new_empty(0)
        if drows is not None:
            dx, even = drows.to(x.dtype), smoothing / V
            if smoothing:
                dx = dx - even * w.sum(0, dtype=exact)
                dw -= even * rows.sum(0, dtype=exact)
                db -= even * N
            dx = dx.to(x.dtype) if every else torch.zeros_like(x).index_copy_(0, real, dx.to(x.dtype))
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
