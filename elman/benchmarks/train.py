"""A training step of a character language model, compared with plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from elman.benchmarks.pairs import Row, side_by_side
from elman.config import parse
from elman.networks.language import RecurrentLanguage
from elman.tasks.language.options import LanguageConfig
from elman.training import optimiser

_VOCABULARY = 65


def train(rounds: int) -> Iterator[Row]:
    """Measure forward, backward, clipping and AdamW for the sizes of the default models.

    Args:
        rounds: number of measurements per row.

    Yields:
        The rows of the table.
    """
    for cell, kind, H, layers in (
        ("lstm", "LSTM", 320, 1),
        ("lstm", "LSTM", 512, 1),
        ("gru", "GRU", 320, 1),
        ("lstm", "LSTM", 256, 2),
    ):
        for bf16 in (True, False):
            config = parse(LanguageConfig, {"cell": [cell], "hidden_size": [H], "num_layers": layers, "dropout": 0.0})
            size = f"{config.batch_size} x {config.window}, {layers} x {H}, {'bf16' if bf16 else 'float32'}"
            pair = side_by_side(_ours(config, bf16), _plain(config, kind, bf16), rounds, min_seconds=0.2)
            yield Row(f"language model, {kind}", size, "plain torch", pair)


def _ours(config: LanguageConfig, bf16: bool) -> Callable[[], None]:
    """Return a training step of elman's model."""
    assert config.hidden_size is not None
    network = RecurrentLanguage(
        _VOCABULARY, cell=config.cell, hidden_size=config.hidden_size, num_layers=config.num_layers
    )

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        return network.loss(network.features(ids)[0], targets)

    return _step(network, loss, optimiser.build(network, config), config, bf16)


def _plain(config: LanguageConfig, kind: str, bf16: bool) -> Callable[[], None]:
    """Return a training step of the same model written with torch only."""
    assert config.hidden_size is not None
    H, layers = config.hidden_size[0], config.num_layers or 1
    embedding, head = nn.Embedding(_VOCABULARY, config.embedding_size), nn.Linear(H, _VOCABULARY)
    recurrent = getattr(nn, kind)(config.embedding_size, H, layers, batch_first=True)
    network = nn.ModuleList([embedding, recurrent, head])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(head(recurrent(embedding(ids))[0]).float().flatten(0, 1), targets.flatten())

    return _step(network, loss, optimizer, config, bf16)


def _step(
    network: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    config: LanguageConfig,
    bf16: bool,
) -> Callable[[], None]:
    """Return a training step on one random batch."""
    ids = torch.randint(_VOCABULARY, (config.batch_size, config.window + 1))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_of(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step
