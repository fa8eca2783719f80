"""From features to the loss over a vocabulary, without keeping the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

#: So many logits exist at once.
_LOGITS = 1 << 22
#: Up to so many, torch's own loss is faster.
_FEW = 1 << 19


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


class _LinearCrossEntropy(torch.autograd.Function):
    """Also gives its gradients (empty where none is wanted), which are kept for backward."""

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
        total = torch.zeros((), dtype=torch.promote_types(weight.dtype, torch.float32), device=x.device)
        drows = torch.empty_like(rows) if wanted else None
        dw = torch.zeros_like(weight) if wanted else weight.new_empty(0)
        db = torch.zeros_like(bias) if wanted else bias.new_empty(0)
        at_once = max(1, _LOGITS // V)
        with torch.autocast(kind, enabled=False):
            for start in range(0, N, at_once):
                part, chosen = rows[start : start + at_once], targets[start : start + at_once, None]
                logits = torch.mm(part, w.t()).to(total.dtype).add_(bias)
                target = logits.gather(1, chosen)
                mean = logits.mean(1, keepdim=True) if smoothing else target
                most = logits.amax(1, keepdim=True)
                p = logits.sub_(most).exp_()
                norm = p.sum(1, keepdim=True)
                total += (norm.log() + most - (1 - smoothing) * target - smoothing * mean).sum()
                if drows is None:
                    continue
                p.div_(norm * N)
                if smoothing:
                    p.sub_(smoothing / V / N)
                p.scatter_add_(1, chosen, torch.full_like(target, (smoothing - 1) / N))
                grad = p.to(dtype)
                torch.mm(grad, w, out=drows[start : start + at_once])
                dw += torch.mm(grad.t(), part)
                db += p.sum(0)
        dx = x.new_empty(0)
        if drows is not None:
            dx = drows.to(x.dtype) if every else torch.zeros_like(x).index_copy_(0, real, drows.to(x.dtype))
        ctx.mark_non_differentiable(dx, dw, db)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dx, dw, db)
        return total / max(N, 1), dx, dw, db

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *rest: Any) -> tuple:  # type: ignore[override]
        if grad is None:
            return None, None, None, None, None, None
        grads = [
            g * grad if needed else None for g, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        ]
        return *grads, None, None, None
