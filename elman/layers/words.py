"""Vectors of words, of which only the frequent ones learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding


class WordVectors(nn.Module):
    """ids (B, T) to their vectors (B, T, E), as nn.Embedding; those from id ``tuned`` on stay as they are put.

    What others have trained for a word says more of it than one or two sentences, which would be learnt by heart; and
    words that never occurred in them stay what they are to those that did.

    Arguments:
        words, size: how many, and E.
        tuned: so many learn, the first ones; by default all.
    """

    fixed: Tensor | None

    def __init__(self, words: int, size: int, tuned: int | None = None) -> None:
        super().__init__()
        self.tuned = words if tuned is None else tuned
        self.embedding_dim = size
        self.weight = nn.Parameter(torch.empty(self.tuned, size))
        self.register_buffer("fixed", torch.empty(words - self.tuned, size) if words > self.tuned else None)
        for vectors in (self.weight, *self.buffers()):
            nn.init.normal_(vectors, std=0.5)

    def forward(self, ids: Tensor) -> Tensor:
        y = embedding(ids.clamp(max=self.tuned - 1), self.weight)
        if self.fixed is None:
            return y
        return torch.where((ids < self.tuned)[..., None], y, embedding((ids - self.tuned).clamp(min=0), self.fixed))

    @torch.no_grad()
    def put(self, ids: Tensor, vectors: Tensor) -> None:
        """Gives words (N,) these vectors (N, E)."""
        learns = ids < self.tuned
        self.weight[ids[learns]] = vectors[learns].to(self.weight)
        if self.fixed is not None:
            self.fixed[ids[~learns] - self.tuned] = vectors[~learns].to(self.fixed)

    def extra_repr(self) -> str:
        more = 0 if self.fixed is None else len(self.fixed)
        return f"{self.tuned + more}, {self.embedding_dim}" + (f", tuned={self.tuned}" if more else "")
