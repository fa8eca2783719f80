"""Poolings over time: the built-in ones, and one that is added from outside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from elman.layers import POOLINGS, MeanPooling, Pooling, pooling_class, register_pooling, stack
from elman.networks.classifier import SequenceLabeller, backward_size
from tests.conftest import close


class GatedPooling(Pooling):
    """A mean over time of features that pass a learned gate."""

    def __init__(self, size: int, backward_size: int = 0) -> None:
        super().__init__(size, backward_size)
        self.gate = nn.Linear(size, size)

    def pool(self, y: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = mask.to(y.dtype) / lengths.clamp(min=1)[:, None].to(y.dtype)
        return torch.einsum("bt,bth->bh", weights, y * torch.sigmoid(self.gate(y))), weights


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of `GatedPooling`, registered for one test."""
    monkeypatch.setattr("elman.layers.pooling.POOLINGS", POOLINGS.copy())
    register_pooling("gated", GatedPooling)
    return "gated"


def layer_and_pooling(kind: str) -> tuple[nn.Module, Pooling]:
    layer = stack("gru", 3, 4, bidirectional=True).double()
    return layer, pooling_class(kind)(layer.output_size, backward_size(layer)).double()


@pytest.mark.parametrize("kind", [*POOLINGS, "gated"])
@pytest.mark.usefixtures("gated")
def test_padding_has_no_effect(kind: str) -> None:
    layer, pooling = layer_and_pooling(kind)
    x, lengths = torch.randn(3, 6, 3, dtype=torch.float64), torch.tensor([6, 2, 0])
    y, _ = layer(x, None, lengths)
    pooled, weights = pooling(y, lengths)
    alone, _ = pooling(layer(x[1:2, :2])[0])
    close(pooled[1:2], alone)
    assert not pooled[2].any()
    assert not weights[1, 2:].any()
    assert weights.sum(1).tolist() == pytest.approx([1, 1, 0])
    noise = y.masked_fill(torch.arange(6)[:, None] >= lengths[:, None, None], torch.nan)
    close(pooling(noise, lengths)[0], pooled)


def test_last_is_the_final_state_of_both_directions() -> None:
    layer, pooling = layer_and_pooling("last")
    x, lengths = torch.randn(2, 5, 3, dtype=torch.float64), torch.tensor([5, 3])
    y, state = layer(x, None, lengths)
    ((forward,), (backward,)) = state[0]
    close(pooling(y, lengths)[0], torch.cat((forward, backward), 1))


def test_state_dict_names_of_saved_models() -> None:
    parameters = {"attention": ["query.0.weight", "query.0.bias", "query.2.weight"], "last": [], "max": [], "mean": []}
    assert {name: list(pooling(4).state_dict()) for name, pooling in POOLINGS.items()} == parameters


@pytest.mark.parametrize("hierarchical", [False, True])
def test_a_labeller_uses_a_pooling_from_outside(gated: str, hierarchical: bool, tmp_path: Path) -> None:
    def network() -> SequenceLabeller:
        return SequenceLabeller(nn.Identity(), 3, 2, hidden_size=4, pooling=gated, hierarchical=hierarchical)

    labeller = network()
    assert isinstance(labeller.pooling, GatedPooling)
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 3])
    begins = torch.tensor([[1, 0, 1, 0, 0], [1, 1, 0, 0, 0]], dtype=torch.bool)
    logits, weights = labeller(x, lengths, begins)
    assert weights.sum(1).tolist() == pytest.approx([1, 1])
    logits.sum().backward()
    assert labeller.pooling.gate.weight.grad.any()  # type: ignore[union-attr]
    save_file(labeller.state_dict(), tmp_path / "model.safetensors")
    other = network()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    close(other(x, lengths, begins)[0], logits)


@pytest.mark.usefixtures("gated")
def test_registration_refuses() -> None:
    with pytest.raises(ValueError, match="unknown pooling 'men': did you mean mean"):
        pooling_class("men")
    with pytest.raises(ValueError, match="the pooling name 'gated' is taken by GatedPooling"):
        register_pooling("gated", MeanPooling)
    for wrong in (nn.Linear, Pooling, MeanPooling(3)):
        with pytest.raises(TypeError, match="must be a subclass of Pooling that implements pool"):
            register_pooling("wrong", wrong)  # type: ignore[arg-type]
    assert "wrong" not in POOLINGS
