"""Recorder and `elman inspect`: the values in the equations, and the gradients that reach each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import elman
from elman import cli
from elman.cli.inspect import record
from elman.layers import Recurrent, stack
from elman.layers.recorder import Recorder
from tests.conftest import Leaky, close
from tests.test_classify import SMALL, reviews, series
from tests.test_tagging import sentences


def test_values_and_gradients() -> None:
    layer = stack("lstm", 3, 4, 2).double()
    x = torch.randn(1, 6, 3, dtype=torch.float64)
    with Recorder(layer) as recorder:
        y, _ = layer(x)
        y[0, -1].square().sum().backward()
    first, second = recorder.layers()
    assert list(first.values) == ["i", "f", "g", "o", "c", "h"]
    assert (first.layer, second.layer) == ("layers.0", "layers.1")
    close(second.values["h"], y[0].detach())
    c = torch.zeros(4, dtype=torch.float64)
    for t in range(6):
        v = {name: values[t] for name, values in first.values.items()}
        c = v["f"] * c + v["i"] * v["g"]
        close(c, v["c"])
        close(v["o"] * torch.tanh(c), v["h"])
    gru_layer = Recurrent("gru", 3, 4).double()
    with Recorder(gru_layer) as gru:
        gru_layer(x)
    assert list(gru.layers()[0].values) == ["r", "z", "n", "h"]
    h = second.values["h"].clone().requires_grad_()
    assert second.gradients()[-1].item() == pytest.approx(2 * h[-1].norm().item())
    assert second.gradients()[0] < second.gradients()[-1]


def test_a_backward_direction_and_a_user_defined_cell() -> None:
    layer = stack(Leaky(), 3, 4, bidirectional=True)
    x = torch.randn(1, 5, 3)
    with Recorder(layer) as recorder:
        y, _ = layer(x)
        y.sum().backward()
    forward, backward = recorder.layers()
    assert list(forward.values) == ["h"]
    close(torch.cat((forward.values["h"], backward.values["h"]), 1), y[0].detach())
    assert "a" not in forward.values  # one number for each unit, not a value a step
    assert len(backward.gradients()) == 5
    with Recorder(layer) as recorder:
        layer(x.expand(2, -1, -1))
    assert recorder.layers() == []
    with Recorder(nn.Linear(2, 2)) as recorder:
        pass
    assert recorder.layers() == []


def test_gradients_vanish_in_an_rnn_and_not_in_an_lstm() -> None:
    norms = {}
    for name in ("rnn_tanh", "lstm"):
        torch.manual_seed(0)
        layer = Recurrent(name, 3, 16, open_bias=3.0)
        with torch.no_grad():
            layer.weight_hh.mul_(0.6)
        with Recorder(layer) as recorder:
            y, _ = layer(torch.randn(1, 40, 3))
            y[0, -1].sum().backward()
        (found,) = recorder.layers()
        norms[name] = float(found.gradients()[0] / found.gradients()[-1])
    assert norms["rnn_tanh"] < 1e-6 < 1e-3 < norms["lstm"]


def test_inspect_works_for_every_task(tmp_path: Path, capsys: pytest.CaptureFixture[str], text_file: str) -> None:
    reviews(tmp_path / "t.csv", 40)
    series(tmp_path / "s.ts")
    sentences(tmp_path / "w.txt", 30, 0)
    (tmp_path / "a.de").write_text("ab cd\nef gh\n" * 30)
    (tmp_path / "a.en").write_text("cd ab\ngh ef\n" * 30)
    (tmp_path / "one.csv").write_text("1,2\n0,1000\n1,1000\n2,1000\n")
    (tmp_path / "q.txt").write_text("1 Mary went home.\n2 Where is Mary?\thome\n" * 10)
    units = {"embedding_size": 8, "hidden_size": 8, "progress": False}
    for task, data, text, options in (
        ("language", text_file, "the cat", {"window": 16}),
        ("classify", tmp_path / "t.csv", "It was dull.", units),
        ("classify", tmp_path / "s.ts", str(tmp_path / "one.csv"), {"hidden_size": 8}),
        ("tag", tmp_path / "w.txt", "the poked nul", units),
        ("fill", tmp_path / "w.txt", "the ___ nul", units),
        ("translate", [tmp_path / "a.de", tmp_path / "a.en"], "ab cd", units | {"vocab_size": 300}),
        ("answer", tmp_path / "q.txt", "Mary went home. Where is Mary?", units),
    ):
        settings: dict[str, Any] = {"steps": 1, "progress": False, **options}
        model = elman.train(task, data, out=tmp_path / "run" / f"{task}{len(text)}", **settings)
        before = [p.clone() for p in model.network.parameters()]
        pieces, layers = record(model, text)
        assert layers and all(torch.isfinite(one.gradients()).all() for one in layers)
        assert any(len(pieces) == len(one.states) for one in layers) or not pieces or task in ("answer",)
        assert all(
            p.grad is None and torch.equal(p, b) for p, b in zip(model.network.parameters(), before, strict=True)
        )
    run = str(tmp_path / "run" / "classify12")
    assert cli.main(["inspect", run, "It was dull.", "--out", str(tmp_path / "i.png")]) == 0
    shown = capsys.readouterr().out
    assert "dull" in shown and "|dLoss/dh|" in shown
    assert (tmp_path / "i.png").stat().st_size > 10_000
    assert cli.main(["inspect", run, "It was dull.", "--layer", "x"]) == 2
    assert "--layer: 'x' is not one of encoder.layers.0.directions.0" in capsys.readouterr().err
    units = SMALL | {"steps": 1}
    transformer = elman.train("language", text_file, model="transformer", steps=1, window=16, progress=False)
    with pytest.raises(elman.ElmanError, match="has no recurrent layer"):
        record(transformer, "the cat")
