"""A pooling from outside the package."""

from __future__ import annotations

from torch import Tensor

from elman.layers.pooling import Pooling, register_pooling


class FirstPooling(Pooling):
    """The first step."""

    def pool(self, y: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = mask.to(y.dtype).clone()
        weights[:, 1:] = 0
        return y[:, 0], weights


register_pooling("outside_first", FirstPooling)
