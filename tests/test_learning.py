"""The learning: small tasks with a known answer, learnt to a stated score from a free seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from elman.layers import Recurrent, RecurrentLayer, last_step, stack
from tests.conftest import CELL_FAMILY


class Reader(nn.Module):
    """A recurrent layer and a linear one."""

    def __init__(self, layer: RecurrentLayer, answers: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.output_size, answers)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.head(self.layer(x, None, lengths)[0])


def learn(model: Reader, make: object, steps: int, rate: float = 1e-2) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        x, target, lengths = make(64)  # type: ignore[operator]
        logits = model(x, lengths)
        loss = nn.functional.cross_entropy(logits[target >= 0], target[target >= 0])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def accuracy(model: Reader, make: object) -> float:
    x, target, lengths = make(256)  # type: ignore[operator]
    real = target >= 0
    return float((model(x, lengths).argmax(-1) == target)[real].float().mean())


def echo(batch: int) -> tuple[Tensor, Tensor, None]:
    """Say what was said two steps ago."""
    ids = torch.randint(4, (batch, 10))
    target = torch.full_like(ids, -1)
    target[:, 2:] = ids[:, :-2]
    return nn.functional.one_hot(ids, 4).float(), target, None


def test_every_cell_learns_to_echo(cell_name: str) -> None:
    cell = CELL_FAMILY[cell_name]
    model = Reader(Recurrent(cell, 4, 24, proj_size=16 if cell.projected else 0), 4)
    # A unit of IndRNN sees no other unit: three layers remember what was two steps ago.
    if cell_name == "indrnn":
        model = Reader(stack(cell, 4, 64, 3), 4)
        learn(model, echo, 500, 5e-3)
    else:
        learn(model, echo, 250)
    assert accuracy(model, echo) > 0.98


def parity(batch: int, most: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Whether the number of ones so far is odd, in sequences of different lengths."""
    bits = torch.randint(2, (batch, most))
    lengths = torch.randint(1, most + 1, (batch,))
    target = torch.where(torch.arange(most) < lengths[:, None], bits.cumsum(1) % 2, -1)
    return bits[..., None].float(), target, lengths


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "peephole_lstm"])
def test_parity_holds_on_sequences_three_times_as_long(cell: str) -> None:
    model = Reader(Recurrent(cell, 1, 16), 2)
    learn(model, parity, 600, 2e-2)
    assert accuracy(model, parity) > 0.99
    assert accuracy(model, lambda batch: parity(batch, 24)) > 0.97


def test_a_bidirectional_layer_sees_the_future() -> None:
    """Was the last real symbol a one? Only a backward direction can say so from the first step on."""

    def ends(batch: int) -> tuple[Tensor, Tensor, Tensor]:
        bits, lengths = torch.randint(2, (batch, 9)), torch.randint(1, 10, (batch,))
        last = last_step(bits[..., None], lengths).squeeze(1).long()
        return bits[..., None].float(), torch.where(torch.arange(9) < lengths[:, None], last[:, None], -1), lengths

    model = Reader(stack("gru", 1, 12, bidirectional=True), 2)
    learn(model, ends, 150)
    assert accuracy(model, ends) > 0.99
