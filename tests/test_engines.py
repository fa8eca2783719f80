"""The door: which engine runs what, and what is said when it cannot."""

from __future__ import annotations

import logging

import pytest
import torch

import elman
from elman import engines
from tests.conftest import D, recurrent

X = torch.randn(2, 3, D)


def chosen(name: str, **options: float) -> str:
    """The engine that a layer of this cell gets."""
    layer, names = recurrent(name, **options), []
    with pytest.MonkeyPatch.context() as patch:
        for kind in map(type, engines.ENGINES.values()):
            patch.setattr(
                kind,
                "run",
                lambda self, scan, original=kind.run: (names.append(self.name), original(self, scan))[1],
            )
        layer(X)
    return names[0]


def test_every_cell_runs_on_the_fastest_engine_that_can() -> None:
    others = {"projected_lstm": "torch"}
    for name in elman.cells.CELLS:
        assert chosen(name) == others.get(name, "cpu")


def test_what_torch_cannot_do_runs_elsewhere() -> None:
    with elman.engine("torch"):
        assert chosen("lstm", zoneout=0.1) == "cpu"
        assert chosen("lstm", recurrent_dropout=0.1) == "cpu"
        assert chosen("lstm", weight_drop=0.1) == "torch"


def test_forcing_an_engine() -> None:
    with elman.engine("eager"):
        assert chosen("lstm") == "eager"
        with elman.engine("torch"):
            assert chosen("lstm") == "torch"
        assert chosen("lstm") == "eager"
    assert chosen("lstm") == "cpu"


def test_forcing_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELMAN_ENGINE", "eager")
    assert chosen("lstm") == "eager"
    with elman.engine("torch"):
        assert chosen("lstm") == "torch"
    monkeypatch.setenv("ELMAN_ENGINE", "eeger")
    with pytest.raises(ValueError, match="unknown engine 'eeger': did you mean eager"):
        chosen("lstm")


def test_falling_back_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    engines._told.clear()
    with elman.engine("torch"), caplog.at_level(logging.WARNING, "elman"):
        assert chosen("mgu") == "cpu"
        assert chosen("mgu") == "cpu"
    assert [record.getMessage() for record in caplog.records] == [
        "the engine 'torch' cannot run this: torch has no fused MGU; the engine 'cpu' does"
    ]


def test_an_unknown_engine() -> None:
    with pytest.raises(elman.ElmanError, match="choose from cpu, eager, torch"), elman.engine("cuda"):
        pass
