"""A linear-chain conditional random field."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elman.layers.arguments import size
from elman.layers.lengths import real_steps


class CRF(nn.Module):
    """A linear-chain conditional random field: the distribution p(tags | scores) over sequences of K tags.

    ::

        s(tags) = start[y_1] + sum_t scores[t, y_t] + sum_t transitions[y_t, y_{t+1}] + end[y_T]
        p(tags) = exp s(tags) / Z,  Z = sum of exp s over all sequences of tags

    Lafferty, McCallum & Pereira 2001, https://dl.acm.org/doi/10.5555/645530.655813

    Args:
        tags (int): K, the number of tags.

    Shapes:
        - scores: (B, T, K).
        - tags: (B, T), integers in 0..K - 1. Tags beyond a row's length are ignored.
        - lengths: (B,), integers in 1..T.

    Raises:
        TypeError: ``tags`` is not an int.
        ValueError: ``tags`` is below 1.

    Example::

        >>> crf = CRF(tags=3)
        >>> scores, lengths = torch.randn(2, 4, 3), torch.tensor([4, 2])
        >>> best = crf.decode(scores, lengths)
        >>> loss = -crf.log_probability(scores, best, lengths).mean()
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        tags = size("tags", tags)
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.start = nn.Parameter(torch.zeros(tags))
        self.end = nn.Parameter(torch.zeros(tags))

    def log_probability(self, scores: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Return log p(tags), (B,), in nats."""
        return self.score(scores, tags, lengths) - self.log_norm(scores, lengths)

    def score(self, scores: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Return s(tags), (B,)."""
        real = real_steps(lengths, scores.shape[1])
        tags = tags.masked_fill(~real, 0)
        emissions = scores.gather(2, tags[..., None])[..., 0].masked_fill(~real, 0.0).sum(1)
        moves = self.transitions[tags[:, :-1], tags[:, 1:]].masked_fill(~real[:, 1:], 0.0).sum(1)
        last = tags.gather(1, (lengths - 1)[:, None])[:, 0]
        return self.start[tags[:, 0]] + emissions + moves + self.end[last]

    def log_norm(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Return log Z, (B,), by the forward algorithm: alpha_t[k] is the log sum over prefixes that end in k."""
        real = real_steps(lengths, scores.shape[1])
        alpha = self.start + scores[:, 0]
        for t in range(1, scores.shape[1]):
            new = torch.logsumexp(alpha[:, :, None] + self.transitions, 1) + scores[:, t]
            alpha = torch.where(real[:, t, None], new, alpha)
        return torch.logsumexp(alpha + self.end, 1)

    def marginals(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Return p(y_t = k | scores), (B, T, K), as the gradient of log Z; 0 beyond a row's length."""
        with torch.inference_mode(False), torch.enable_grad():
            x = scores.detach().clone().requires_grad_()
            (p,) = torch.autograd.grad(self.log_norm(x, lengths.clone()).sum(), x)
        return p

    @torch.no_grad()
    def decode(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Return the most probable tags, (B, T), 0 beyond a row's length.

        Viterbi 1967, https://doi.org/10.1109/TIT.1967.1054010
        """
        B, T, _ = scores.shape
        real = real_steps(lengths, T)
        best, back = self.start + scores[:, 0], []
        for t in range(1, T):
            value, where = (best[:, :, None] + self.transitions).max(1)
            best = torch.where(real[:, t, None], value + scores[:, t], best)
            back.append(where)
        now = (best + self.end).argmax(1)
        tags = [now]
        for t in range(T - 1, 0, -1):
            before = back[t - 1].gather(1, now[:, None])[:, 0]
            now = torch.where(real[:, t], before, now)
            tags.append(now)
        return torch.stack(tags[::-1], 1).masked_fill(~real, 0) if T else scores.new_zeros(B, 0, dtype=torch.long)
