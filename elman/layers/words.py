"""An embedding of which only the first rows are trained, for pretrained embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding


class WordVectors(nn.Module):
    """An embedding like torch.nn.Embedding, of which only the first ``tuned`` rows are trained.

    Use it for pretrained embeddings. Those of rare words stay fixed, so that the network does not memorise the few
    texts in which they occur, and that they remain consistent with those of words outside the training data.

    Args:
        words (int): V, the number of embeddings.
        size (int): E, the size of an embedding.
        tuned (int, optional): The number of embeddings that are trained. Default: ``None``, all.

    Shapes:
        - ids: (B, T), integers in 0..V - 1.
        - y: (B, T, E).

    Example::

        >>> embedding = WordVectors(words=100, size=8, tuned=20)
        >>> embedding.put(torch.tensor([5, 50]), torch.ones(2, 8))
        >>> embedding(torch.tensor([[50, 5, 7]])).shape
        torch.Size([1, 3, 8])
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
        """Return the embeddings (B, T, E) of ids (B, T)."""
        y = embedding(ids.clamp(max=self.tuned - 1), self.weight)
        if self.fixed is None:
            return y
        return torch.where((ids < self.tuned)[..., None], y, embedding((ids - self.tuned).clamp(min=0), self.fixed))

    @torch.no_grad()
    def put(self, ids: Tensor, vectors: Tensor) -> None:
        """Set the embeddings of ids (N,) to vectors (N, E)."""
        is_tuned = ids < self.tuned
        self.weight[ids[is_tuned]] = vectors[is_tuned].to(self.weight)
        if self.fixed is not None:
            self.fixed[ids[~is_tuned] - self.tuned] = vectors[~is_tuned].to(self.fixed)

    def extra_repr(self) -> str:
        """Return the options, as ``repr`` prints them."""
        fixed = 0 if self.fixed is None else len(self.fixed)
        return f"{self.tuned + fixed}, {self.embedding_dim}" + (f", tuned={self.tuned}" if fixed else "")
