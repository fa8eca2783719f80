"""The cpu engine on whatever machine it finds itself."""

from __future__ import annotations

import copy
import platform
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import elman
from elman import engines
from elman.cells import CELLS
from elman.engines.cpu import build
from elman.layers import Recurrent
from tests.test_cpu import apart, results


def test_wrong_heads() -> None:
    with pytest.raises(ValueError, match="heads must divide hidden_size, 20; 3 does not"):
        Recurrent("gru", 4, 20, heads=3)
    with pytest.raises(ValueError, match="plain recurrent matrix"):
        Recurrent("indrnn", 4, 20, heads=2)


def test_several_models_in_several_threads() -> None:
    layer = Recurrent("lstm", 32, 64)
    x = torch.randn(8, 30, 32)
    law, found = results(layer, x, None, None), []

    def work() -> None:
        for _ in range(5):
            found.append(results(layer, x, None, None))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    assert all(apart(one, [t.double() for t in law]) < 1e-5 for one in found)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86")
@pytest.mark.parametrize("flag", ["-march=x86-64", "-march=x86-64-v3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_narrower_vectors(flag: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same C for processors without AVX-512: vectors of 16 and of 32 bytes, bfloat16 by hand."""
    monkeypatch.setattr(build, "_native", lambda: flag)
    monkeypatch.setattr(build, "_folder", lambda: tmp_path)
    monkeypatch.setattr(engines.cpu, "_programs", {})
    layer = Recurrent(type(CELLS["peephole_lstm"])(), 13, 37).to(dtype)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3)
    x, lengths = torch.randn(9, 11, 13).to(dtype), torch.randint(0, 12, (9,))
    with elman.engine("eager"):
        law = results(copy.deepcopy(layer).double(), x.double(), lengths, None)
    limit = {torch.float32: 3e-6, torch.bfloat16: 2e-2, torch.float64: 1e-13}[dtype]
    with elman.engine("cpu", strict=True):
        assert apart(results(layer, x, lengths, None), law) < limit
    assert len(list(tmp_path.glob("PeepholeLSTM*.so"))) == 1


def test_kernels_are_made_for_what_is_asked() -> None:
    layer = Recurrent("lstm", 4, 6)
    x = torch.randn(2, 3, 4)
    assert (
        engines.ENGINES["cpu"].refusal(layer.recurrence.scan(layer.weights(), x.half(), layer.initial_state(x)))
        == "it has no kernels for torch.float16"
    )
    assert "does not support a batch" in str(
        engines.ENGINES["cpu"].refusal(layer.recurrence.scan(layer.weights(), x[:0], layer.initial_state(x[:0])))
    )


def test_mixed_precision_keeps_weights_and_gradients_in_float32() -> None:
    layer: Any = Recurrent("gru", 8, 16)
    x = torch.randn(4, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y, (h,) = layer(x)
    assert (y.dtype, h.dtype) == (torch.bfloat16, torch.float32)
    y.float().square().sum().backward()
    assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}
