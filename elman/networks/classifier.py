"""The network of a sequence classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elman.layers.bidirectional import Bidirectional
from elman.layers.dropout import SequenceDropout
from elman.layers.hierarchical import Hierarchical, MultiRate
from elman.layers.pooling import Pooling, pooling_class
from elman.layers.recurrent import Recurrent, RecurrentLayer, features_only
from elman.layers.stack import Stack, stack


def backward_size(layer: RecurrentLayer) -> int:
    """Return how many of the features of a layer, the last ones, come from a backward layer."""
    if isinstance(layer, Stack):
        return backward_size(layer.layers[-1])  # type: ignore[arg-type]
    if isinstance(layer, Bidirectional):
        return layer.directions[1].output_size  # type: ignore[return-value]
    return 0


class SequenceLabeller(nn.Module):
    """Classify sequences: a source module, recurrent layers, pooling over time, and a linear layer.

    ::

        x = network.source(ids or numbers)                      (B, T, ·) to (B, T, D)
        logits, weights = network(x, lengths, begins)           (B, K); (B, T), the pooling weight of each step

    Args:
        source (nn.Module): The module that turns a batch into vectors: an embedding, or a standardisation.
        size (int): D, the size of these vectors.
        labels (int): K, the number of labels.
        cell (str): The cell of the recurrent layers. Default: "gru".
        hidden_size (int): Units of a layer, in each direction. Default: 128.
        num_layers (int): Number of layers. Default: 1.
        bidirectional (bool): Whether the layers read in both directions. Default: True.
        pooling (str): Pooling over time, a name of `elman.layers.POOLINGS`. Default: "max".
        hierarchical (bool): Use one recurrence over the steps of each part, pooled, and one over the parts, which
            start where ``begins`` is true. Default: False.
        periods (list[int], optional): Use forward layers with these update periods instead; see `MultiRate`.
        dropout (float): Dropout of the vectors, between layers, and of the input of the linear layer. Default: 0.
    """

    def __init__(
        self,
        source: nn.Module,
        size: int,
        labels: int,
        *,
        cell: str = "gru",
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str = "max",
        hierarchical: bool = False,
        periods: list[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.source = source

        def layers(D: int) -> RecurrentLayer:
            if periods:
                sizes = [D] + [hidden_size] * (len(periods) - 1)
                rates = [Recurrent(cell, one, hidden_size) for one in sizes]
                features_only(*rates)
                return MultiRate(rates, periods)
            layer = stack(cell, D, hidden_size, num_layers, bidirectional=bidirectional, dropout=dropout)
            features_only(layer)
            return layer

        def pooled(layer: RecurrentLayer) -> Pooling:
            return pooling_class(pooling)(layer.output_size, backward_size(layer))

        lower = layers(size)
        upper = layers(lower.output_size) if hierarchical else lower
        self.encoder: RecurrentLayer = Hierarchical(lower, pooled(lower), upper) if hierarchical else lower
        self.pooling = pooled(upper)
        self.dropout = SequenceDropout(dropout)
        self.head = nn.Linear(upper.output_size, labels)

    def forward(self, x: Tensor, lengths: Tensor, begins: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.dropout(x)
        if isinstance(self.encoder, Hierarchical):
            y, _, found, weights = self.encoder.read(x, None, lengths, begins)
            pooled, above = self.pooling(y, found.counts)
            by_part = torch.cat([row[:n] for row, n in zip(above, found.counts.tolist(), strict=True)])
            weights = weights * found.back(by_part[:, None].expand(found.x.shape[:2]), x.shape[1])
        else:
            y, _ = self.encoder(x, None, lengths)
            pooled, weights = self.pooling(y, lengths)
        return self.head(self.dropout(pooled)), weights
