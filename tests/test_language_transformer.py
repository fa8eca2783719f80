"""A Transformer as a language model: the same face, a window instead of a state."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import elman
from elman.networks.language import TransformerLanguage
from tests.conftest import close, some_text

SIZES = {"embedding_size": 16, "hidden_size": [24], "num_layers": 2, "heads": 2, "dropout": 0.0, "model": "transformer"}


@pytest.fixture
def network() -> TransformerLanguage:
    torch.manual_seed(0)
    return TransformerLanguage(11, embedding_size=16, hidden_size=24, num_layers=2, heads=2, window=8).double().eval()


def test_inside_the_window_all_is_seen(network: TransformerLanguage) -> None:
    """At once, in pieces, step by step, in rows of unequal length: all the same, as long as the window is not full."""
    ids = torch.randint(11, (3, 8))
    with torch.no_grad():
        whole, _ = network(ids)
        first, state = network(ids[:, :3])
        rest, _ = network(ids[:, 3:], state)
        close(torch.cat((first, rest), 1), whole)
        state, steps = None, []
        for t in range(8):
            logits, state = network.step(ids[:, t], state)
            steps.append(logits)
        close(torch.stack(steps, 1), whole)
        lengths = torch.tensor([4, 2, 3])
        _, state = network(ids[:, :4], None, lengths)
        for t in range(3):
            logits, state = network.step(ids[torch.arange(3), lengths + t], state)
            close(logits, whole[torch.arange(3), lengths + t])


def test_beyond_the_window_the_last_half_is_read_again(network: TransformerLanguage) -> None:
    ids = torch.randint(11, (2, 21))
    with torch.no_grad():
        whole, state = network(ids)
        assert state.ids.shape[1] <= 8
        for t in range(21):
            start = 0 if t < 8 else (t - 8) // 4 * 4 + 4  # eight at first, then four more at a time
            alone, _ = network(ids[:, start : t + 1])
            close(whole[:, t], alone[:, -1])
        steps, state = [], None
        for t in range(21):
            logits, state = network.step(ids[:, t], state)
            assert state.ids.shape[1] <= 8
            steps.append(logits)
        assert torch.stack(steps).isfinite().all()
        close(torch.stack(steps, 1)[:, :8], whole[:, :8])


@pytest.mark.parametrize("positions", ["sinusoidal", "learnt"])
def test_it_learns_and_writes(positions: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(some_text())
    settings = {**SIZES, "positions": positions, "window": 32, "batch_size": 8, "progress": False}
    model = elman.train("language", tmp_path / "text.txt", out=tmp_path / "run", steps=150, **settings)
    held = model.held_out()
    loss = model.evaluate(held)["loss"]
    assert loss < 0.75 * math.log(model.tokenizer.vocab_size)
    again = elman.load(tmp_path / "run")
    assert again.evaluate(held)["loss"] == pytest.approx(loss, abs=1e-4)
    text = again.generate("the cat", max_new_tokens=80, greedy=True)
    assert text.startswith("the cat")
    assert len(text) == 87
    alone = [again.generate(p, max_new_tokens=20, greedy=True) for p in ("the cat", "a")]
    assert again.generate(["the cat", "a"], max_new_tokens=20, greedy=True) == alone
