"""Which engine runs a scan, what is reported when it cannot, and how an engine is added."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import elman
from elman import engines
from tests.conftest import CELL_FAMILY, D, close, recurrent

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
    for name in CELL_FAMILY:
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


def test_a_fallback_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    engines._reported.clear()
    with elman.engine("torch"), caplog.at_level(logging.WARNING, "elman"):
        assert chosen("mgu") == "cpu"
        assert chosen("mgu") == "cpu"
    assert [record.getMessage() for record in caplog.records] == [
        "the engine 'torch' cannot run this: torch has no fused MGU; the engine 'cpu' runs it"
    ]


def test_an_unknown_engine() -> None:
    with pytest.raises(elman.ElmanError, match="choose from cpu, eager, scan, torch"), elman.engine("cuda"):
        pass


class Counting(engines.Engine):
    """An engine from outside the package: the eager engine, which counts its scans."""

    name = "counting"

    def __init__(self) -> None:
        self.eager, self.scans = engines.Eager(), 0

    def refusal(self, scan: engines.Scan) -> str | None:
        return "it does not run projected cells" if scan.cell.projected else self.eager.refusal(scan)

    def run(self, scan: engines.Scan) -> tuple[Tensor, engines.State]:
        self.scans += 1
        return self.eager.run(scan)


@pytest.fixture
def registry() -> Iterator[None]:
    """The registry of engines, as it was before the test."""
    before = dict(engines.ENGINES)
    yield
    engines.ENGINES.clear()
    engines.ENGINES.update(before)


@pytest.mark.usefixtures("registry")
def test_an_engine_from_outside() -> None:
    counting, layer, x = Counting(), recurrent("gru").double(), X.double().requires_grad_()
    engines.register(counting)
    y, state = layer(x)
    assert counting.scans == 0  # it is the last, and the engines before it refuse nothing
    with elman.engine("counting", strict=True):
        ours, our_state = layer(x)
    assert counting.scans == 1
    close((ours, our_state), (y, state))
    close(torch.autograd.grad(ours.sum(), x), torch.autograd.grad(y.sum(), x))
    engines.unregister("counting")
    with pytest.raises(elman.ElmanError, match="unknown engine 'counting'"), elman.engine("counting"):
        pass


@pytest.mark.usefixtures("registry")
def test_an_engine_from_outside_that_is_tried_first() -> None:
    counting = Counting()
    engines.register(counting, before="cpu")
    assert list(engines.ENGINES) == ["counting", "cpu", "torch", "scan", "eager"]
    assert chosen("gru") == "counting"
    assert chosen("projected_lstm") == "torch"
    with elman.engine("counting", strict=True), pytest.raises(elman.ElmanError, match="does not run projected cells"):
        chosen("projected_lstm")


@pytest.mark.usefixtures("registry")
def test_single_training_steps_go_to_the_engine_that_is_fast_at_them() -> None:
    def single() -> str:
        layer = recurrent("gru")
        return engines.choose(layer.recurrence.scan(layer.weights(), X[:, :1], layer.initial_state(X))).name

    assert single() == "torch"
    counting = Counting()
    engines.register(counting, before="cpu")
    assert single() == "torch"
    counting.fast_single_steps = True
    assert single() == "counting"


@pytest.mark.usefixtures("registry")
def test_what_is_not_an_engine() -> None:
    with pytest.raises(TypeError, match=r"must be an instance of elman.engines.Engine, got: <class"):
        engines.register(Counting)  # type: ignore[arg-type]
    engines.register(Counting())
    with pytest.raises(elman.ElmanError, match="'counting' is already registered"):
        engines.register(Counting())
    with pytest.raises(elman.ElmanError, match="unknown engine 'gpu': did you mean cpu.*counting, cpu, eager, scan"):
        engines.register(named("mine"), before="gpu")
    for name in ("", "My engine", "1st"):
        with pytest.raises(elman.ElmanError, match="use lower-case letters, digits and underscores"):
            engines.register(named(name))
    with pytest.raises(elman.ElmanError, match="eager engine cannot be removed"):
        engines.unregister("eager")
    assert list(engines.ENGINES) == ["cpu", "torch", "scan", "eager", "counting"]


def named(name: str) -> Counting:
    """An engine of this name."""
    engine = Counting()
    engine.name = name
    return engine
