"""How parameters start, and that what is loaded is not started first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import elman
from elman.layers import Recurrent, stack
from elman.layers.starting import orthogonal_, unstarted
from tests.conftest import close, some_text


@pytest.mark.parametrize(
    "shape", [(5, 5), (512, 512), (513, 513), (700, 700), (1024, 768), (600, 1100), (1, 9), (0, 4)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_or_columns_are_orthonormal(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = torch.empty(shape, dtype=dtype)
    assert orthogonal_(matrix) is matrix
    fewer = matrix if shape[0] <= shape[1] else matrix.T
    close(fewer @ fewer.T, torch.eye(len(fewer), dtype=dtype), 1e-5 if dtype == torch.float32 else 1e-12)


def test_large_matrices_are_random_all_over() -> None:
    q = orthogonal_(torch.empty(700, 700)) * 700**0.5
    for part in (q[:100], q[:, -100:], q[300:400, 300:400], q.diagonal()):
        assert abs(float(part.mean())) < 0.15  # of numbers of deviation 1
        assert 0.8 < float(part.square().mean()) < 1.2
    assert 2.8 < float((q**4).mean()) < 3.2  # as of normal numbers
    assert not torch.equal(q, orthogonal_(torch.empty(700, 700)))
    torch.manual_seed(3)
    first = orthogonal_(torch.empty(700, 700))
    torch.manual_seed(3)
    assert torch.equal(first, orthogonal_(torch.empty(700, 700)))


def test_small_matrices_are_torchs() -> None:
    torch.manual_seed(3)
    theirs = torch.nn.init.orthogonal_(torch.empty(40, 40))
    torch.manual_seed(3)
    assert torch.equal(orthogonal_(torch.empty(40, 40)), theirs)


def test_other_dtypes_and_devices_start() -> None:
    block = Recurrent("gru", 4, 64, dtype=torch.bfloat16).weight_hh[:64].float()  # type: ignore[index]
    close(block @ block.T, torch.eye(64), 2e-2)
    assert Recurrent("gru", 4, 600, device="meta").weight_hh.is_meta  # type: ignore[union-attr]


def test_nothing_is_drawn_for_what_is_loaded() -> None:
    before = torch.get_rng_state()
    with unstarted():
        layer = stack("lstm", 4, 600, 2, connection="highway")
        torch.nn.Embedding(5, 4), torch.nn.Linear(3, 3), elman.nn.LSTM(3, 4), elman.nn.GRUCell(3, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert (layer.carry[0].bias == -1).all()  # what is no draw is there
    layer.layers[0].reset_parameters()  # type: ignore[operator]
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("network", ["recurrent", "transformer"])
def test_loading_a_model_draws_nothing(network: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(some_text(), encoding="utf-8")
    options = {"model": network, "steps": 2, "hidden_size": 16, "embedding_size": 16, "batch_size": 4}
    model = elman.train("language", text, out=tmp_path / "run", progress=False, **options)
    before = torch.get_rng_state()
    again = elman.load(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name
    for (name, buffer), other in zip(model.network.named_buffers(), again.network.buffers(), strict=True):
        assert torch.equal(buffer, other), name
