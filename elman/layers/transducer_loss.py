"""The loss of transducers, for logits and for the hidden units of a joint network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from elman.layers.lengths import real_steps
from elman.layers.transducer_lattice import inside, lattice

#: The maximum number of hidden units or logits in memory at a time; on a CPU, those that stay in its cache.
_PIECE, _CACHED = 1 << 24, 1 << 19
#: The number of frames in a piece of the joint network.
_FRAMES = 16


def transducer_loss(
    logits: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int = 0
) -> Tensor:  # fmt: skip
    """Compute -log p(targets) of a transducer: the sum over all alignments.

    The softmax is part of the loss, so that its backward pass allocates nothing of the size of the logits but their
    gradient. Logits in half precision are converted to float32. Second derivatives are not available.
    `elman.layers.transducer.Joiner.loss` needs no tensor of all logits.

    Graves 2012, https://arxiv.org/abs/1211.3711

    Args:
        logits (Tensor): Unnormalised scores of the tokens at frame t after u targets, (B, T, U + 1, V). Beyond a row's
            lengths they may be anything.
        targets (Tensor): Token ids, (B, U), integers in 0..V - 1 other than ``blank``. Beyond a row's length they may
            be anything.
        lengths (Tensor): The number of frames of each row, (B,), integers in 0..T; at least 1 if the row has targets.
        target_lengths (Tensor): The number of targets of each row, (B,), integers in 0..U.
        blank (int): The id of the blank. Default: 0.

    Returns:
        Tensor: The loss of each row, (B,), in nats, float32 or float64. A row without frames has a loss of 0.

    Raises:
        ValueError: A shape, a length, a target or the blank is wrong.

    Example::

        >>> logits = torch.randn(2, 10, 4, 30, requires_grad=True)
        >>> targets = torch.tensor([[5, 4, 9], [7, 3, 0]])
        >>> loss = transducer_loss(logits, targets, torch.tensor([10, 8]), torch.tensor([3, 2]))
        >>> loss.mean().backward()
    """
    if logits.dim() != 4:
        raise ValueError(f"logits must be (B, T, U + 1, V), got: {tuple(logits.shape)}")
    rows = _rows(tuple(logits.shape), targets, lengths, target_lengths, blank)
    return _TransducerLoss.apply(logits, *rows, blank, torch.is_grad_enabled() and logits.requires_grad)


def joint_loss(
    e: Tensor, p: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor,
    blank: int = 0,
) -> Tensor:  # fmt: skip
    """Compute the loss for the logits W tanh(e_t + p_u) + b, without the tensor of all logits.

    The logits are computed in pieces, twice: for the loss, and for the gradients. The gradients leave out pieces whose
    nodes (t, u) have posterior probabilities below the rounding error of the dtype.

    Args:
        e (Tensor): The part of the encoder, (B, T, J).
        p (Tensor): The part of the predictor, (B, U + 1, J).
        weight (Tensor): W, (V, J).
        bias (Tensor): b, (V,).
        targets, lengths, target_lengths, blank: See `transducer_loss`.

    Returns:
        Tensor: The loss of each row, (B,), in nats, float32 or float64.

    Raises:
        ValueError: See `transducer_loss`.
    """
    B, T, C = len(e), e.shape[1], p.shape[1]
    rows = _rows((B, T, C, len(weight)), targets, lengths, target_lengths, blank)
    # Blocks contain some padding, which must not spread NaN to the gradient of the weights.
    e = e.masked_fill(~real_steps(rows.lengths, T)[..., None], 0.0)
    p = p.masked_fill(~real_steps(rows.target_lengths + 1, C)[..., None], 0.0)
    backward = torch.is_grad_enabled() and any(x.requires_grad for x in (e, p, weight, bias))
    return _JointLoss.apply(e, p, weight, bias, *rows, blank, backward)


class _Rows(NamedTuple):
    """The token that follows u targets, (B, U + 1), any where none does; the lengths (B,)."""

    following: Tensor
    lengths: Tensor
    target_lengths: Tensor


def _rows(shape: tuple[int, ...], targets: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int) -> _Rows:
    """Check the arguments of a loss, for logits of this shape."""
    B, T, C, V = shape
    if tuple(targets.shape) != (B, C - 1):
        raise ValueError(f"targets must be {(B, C - 1)} for logits {shape}, got: {tuple(targets.shape)}")
    if not 0 <= blank < V:
        raise ValueError(f"blank must be in 0..{V - 1}, got: {blank}")
    for name, values, most in (("lengths", lengths, T), ("target_lengths", target_lengths, C - 1)):
        if tuple(values.shape) != (B,):
            raise ValueError(f"{name} must be ({B},), got: {tuple(values.shape)}")
        wrong = [n for n in values.tolist() if not 0 <= n <= most]
        if wrong:
            raise ValueError(f"{name} must be in 0..{most}, got: {wrong[0]}")
    lengths, target_lengths = lengths.to(targets.device), target_lengths.to(targets.device)
    empty = ((lengths == 0) & (target_lengths > 0)).nonzero()
    if len(empty):
        raise ValueError(f"row {int(empty[0])} has targets but no frames")
    real = real_steps(target_lengths, C - 1)
    bad = targets[real & ((targets < 0) | (targets >= V) | (targets == blank))]
    if len(bad):
        raise ValueError(f"targets must be in 0..{V - 1} and not the blank, {blank}, got: {int(bad[0])}")
    return _Rows(pad(targets.long().masked_fill(~real, blank), (0, 1), value=blank), lengths, target_lengths)


def _limit(x: Tensor) -> int:
    """Return the maximum number of logits or hidden units of a piece."""
    return _CACHED if x.device.type == "cpu" else _PIECE


def _log_probabilities(logits: Tensor, following: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logarithm of the norm of the softmax, log p(blank), and log p(following), each (...)."""
    norm = logits.logsumexp(-1)
    return norm, logits[..., blank] - norm, logits.gather(-1, following[..., None])[..., 0] - norm


def _gradient(logits: Tensor, norm: Tensor, arcs: Tensor, following: Tensor, blank: int) -> Tensor:
    """Return the gradient of the loss with respect to logits (..., V), which it overwrites.

    A node that alignments pass with probability q contributes q softmax(logits), less the probabilities that they
    leave it by a blank and by the following token: ``arcs`` (2, ...), whose sum is q.
    """
    gradient = logits.sub_(norm[..., None]).exp_().mul_(arcs.sum(0)[..., None])
    gradient[..., blank] -= arcs[0]
    return gradient.scatter_add_(-1, following[..., None], -arcs[1][..., None])


class _TransducerLoss(torch.autograd.Function):
    """`transducer_loss`, in pieces of frames of one row."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, logits: Tensor, following: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int, backward: bool
    ) -> Tensor:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        scores = logits.new_zeros((3, *logits.shape[:3]), dtype=dtype)  # norms, blanks, tokens
        for b, frames, columns in _pieces(logits, lengths, target_lengths):
            z = logits[b, frames, columns].to(dtype)
            for score, value in zip(
                scores, _log_probabilities(z, _repeat(following[b, columns], z), blank), strict=True
            ):
                score[b, frames, columns] = value
        result = lattice(scores[1], scores[2], lengths, target_lengths, backward)
        if backward:
            arcs = torch.stack((result.blank, result.token))
            ctx.save_for_backward(logits, scores[0].clone(), arcs, following, lengths, target_lengths)
            ctx.blank = blank
        return result.loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:  # type: ignore[override]
        logits, norm, arcs, following, lengths, target_lengths = ctx.saved_tensors
        arcs = arcs * grad[:, None, None]
        gradient = torch.zeros_like(logits)
        for b, frames, columns in _pieces(logits, lengths, target_lengths):
            z = logits[b, frames, columns].to(norm.dtype, copy=True)
            gradient[b, frames, columns] = _gradient(
                z, norm[b, frames, columns], arcs[:, b, frames, columns], _repeat(following[b, columns], z), ctx.blank
            ).to(gradient.dtype)
        return gradient, None, None, None, None, None


def _pieces(logits: Tensor, lengths: Tensor, target_lengths: Tensor) -> Iterator[tuple[int, slice, slice]]:
    """Divide the real nodes into pieces of bounded size: a row, its frames, and its columns."""
    V, limit = logits.shape[3], _limit(logits)
    for b, (T, U) in enumerate(zip(lengths.tolist(), target_lengths.tolist(), strict=True)):
        step = max(1, limit // ((U + 1) * V))
        for start in range(0, T, step):
            yield b, slice(start, min(T, start + step)), slice(U + 1)


def _repeat(following: Tensor, z: Tensor) -> Tensor:
    """Return tokens (C,) for each frame of z (F, C, V)."""
    return following.expand(z.shape[:-1])


class _JointLoss(torch.autograd.Function):
    """`joint_loss`, in blocks of frames and columns of several rows."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, e: Tensor, p: Tensor, weight: Tensor, bias: Tensor, following: Tensor, lengths: Tensor,
        target_lengths: Tensor, blank: int, backward: bool,
    ) -> Tensor:  # fmt: skip
        B, T, C = len(e), e.shape[1], p.shape[1]
        scores = e.new_zeros((3, B, T, C), dtype=torch.promote_types(weight.dtype, torch.float32))
        scores[0].fill_(torch.inf)  # so that nodes of padding, which only some blocks contain, have probabilities of 0
        real = inside(lengths, target_lengths, T, C)
        with torch.autocast(e.device.type, enabled=False):
            for block in _blocks(real, e.shape[2] + len(weight)):
                _, z = block.logits(e, p, weight, bias)
                values = _log_probabilities(z, block.columns_of(following), blank)
                for score, value in zip(scores, values, strict=True):
                    score[block.nodes] = value
        result = lattice(scores[1], scores[2], lengths, target_lengths, backward)
        if backward:
            arcs = torch.stack((result.blank, result.token))
            ctx.save_for_backward(e, p, weight, bias, scores[0].clone(), arcs, following)
            ctx.blank = blank
        return result.loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:  # type: ignore[override]
        e, p, weight, bias, norm, arcs, following = ctx.saved_tensors
        active = ~(arcs.sum(0) <= torch.finfo(norm.dtype).eps)  # NaN is active
        arcs = (arcs * grad[:, None, None]).masked_fill_(~active, 0.0)  # no subnormal numbers, which are slow
        de, dp, dw, db = (torch.zeros_like(x, dtype=norm.dtype) for x in (e, p, weight, bias))
        w = weight.to(e.dtype)
        with torch.autocast(e.device.type, enabled=False):
            for block in _blocks(active, e.shape[2] + len(weight)):
                hidden, z = block.logits(e, p, weight, bias)
                rows, frames, columns = block.nodes
                dz = _gradient(
                    z, norm[block.nodes], arcs[(slice(None), *block.nodes)], block.columns_of(following), ctx.blank
                )
                db += dz.sum((0, 1, 2))
                dz = dz.to(hidden.dtype).flatten(0, 2)
                dw += torch.mm(dz.t(), hidden.flatten(0, 2))
                inner = torch.ops.aten.tanh_backward(torch.mm(dz, w).view_as(hidden), hidden)
                de[rows[:, :, 0], frames[:, :, 0]] += inner.sum(2)
                dp[rows[:, 0], columns[:, 0]] += inner.sum(1)
        return *(g.to(x.dtype) for g, x in ((de, e), (dp, p), (dw, weight), (db, bias))), *(None,) * 5


class _Block(NamedTuple):
    """Nodes of several rows: the same frames, and as many columns of each row."""

    rows: Tensor  # (R,)
    frames: Tensor  # (F,)
    columns: Tensor  # (R, W)

    @property
    def nodes(self) -> tuple[Tensor, Tensor, Tensor]:
        """The indices of the nodes (R, F, W) in a tensor (B, T, U + 1)."""
        return self.rows[:, None, None], self.frames[None, :, None], self.columns[:, None]

    def columns_of(self, following: Tensor) -> Tensor:
        """Return tokens (R, F, W) for tokens (B, U + 1)."""
        tokens = following[self.rows[:, None], self.columns]
        return tokens[:, None].expand(-1, len(self.frames), -1)

    def logits(self, e: Tensor, p: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden units (R, F, W, J) and logits (R, F, W, V), the latter in float32 or float64."""
        frames, columns = e[self.rows[:, None], self.frames], p[self.rows[:, None], self.columns]
        hidden = torch.tanh_(frames[:, :, None] + columns[:, None])
        z = torch.mm(hidden.flatten(0, 2), weight.to(hidden.dtype).t())
        return hidden, z.to(torch.promote_types(weight.dtype, torch.float32)).add_(bias).view(*hidden.shape[:3], -1)


def _blocks(active: Tensor, size: int) -> Iterator[_Block]:
    """Cover the nodes where ``active`` (B, T, U + 1) is true by blocks, with ``size`` numbers for each node.

    In some frames, the active nodes of a row are in a range of columns. Rows with ranges of similar width form a block,
    so that few other nodes are in it; it has at most `_limit` numbers, if one row has.
    """
    (B, T, C), device = active.shape, active.device
    F, limit = _FRAMES, _limit(active)
    some = pad(active, (0, 0, 0, -T % F)).view(B, -(-T // F), F, C).any(2)
    first = some.int().argmax(2)
    width = (C - some.int().flip(2).argmax(2) - first) * some.any(2)
    firsts, widths = first.tolist(), width.tolist()
    for k in range(-(-T // F)):
        frames = torch.arange(k * F, min(T, k * F + F), device=device)
        order = sorted((b for b in range(B) if widths[b][k]), key=lambda b: -widths[b][k])
        while order:
            W = widths[order[0]][k]
            group = order[: max(1, limit // (F * W * size))]
            order = order[len(group) :]
            starts = torch.tensor([min(firsts[b][k], C - W) for b in group], device=device)
            columns = starts[:, None] + torch.arange(W, device=device)
            yield _Block(torch.tensor(group, device=device), frames, columns)
