"""Writing in C: the same tokens as the loop in Python, which is the law."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import elman
from elman import engines
from elman.decoding import Sampling, tokens
from elman.decoding import stream as decoding
from elman.decoding.sampling import draw
from elman.errors import ElmanError
from elman.layers import quantize
from elman.layers.recorder import Recorder
from elman.networks.language import RecurrentLanguage
from tests.conftest import QUICK_FAMILY

V = 11
#: Every cell that a language network may have and that has kernels of one step.
NAMES = [name for name, cell in QUICK_FAMILY.items() if not cell.raw and not cell.projected]


def network(cell: str = "lstm", **options: Any) -> RecurrentLanguage:
    """A network whose next token is uncertain, and depends on the tokens before."""
    torch.manual_seed(1)
    made = RecurrentLanguage(
        options.pop("vocab_size", V), embedding_size=options.pop("embedding_size", 6), cell=[cell],
        hidden_size=[options.pop("hidden_size", 9)], num_layers=options.pop("num_layers", 2), **options,
    )  # fmt: skip
    for parameter in made.parameters():
        torch.nn.init.uniform_(parameter, -0.8, 0.8)
    return made.eval()


def written(net: RecurrentLanguage, engine: str | None = None, end: int = 0, never: Any = (), **options: Any) -> list:
    """What a network writes after three prompts, the tokens of each row; by the cpu engine, or as the engine says."""
    sampling = Sampling(**({"max_new_tokens": 40, "seed": 7} | options))
    prompts = [[1, 2, 3], [4], [5, 6]]
    with elman.engine(engine or "cpu"):
        steps = list(tokens(net, prompts, sampling, end, never, torch.device("cpu")))
    return torch.stack(steps, 1).tolist()


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The loops in C that have been started."""
    started: list[Any] = []
    start = engines.writer
    monkeypatch.setattr(engines, "writer", lambda *given: started.append(start(*given)) or started[-1])
    return started


@pytest.mark.parametrize("name", NAMES)
def test_every_cell(name: str, loops: list[Any]) -> None:
    net = network(QUICK_FAMILY[name])  # type: ignore[arg-type]
    assert written(net) == written(net, "eager")
    assert loops[0] is not None and loops[1] is None


OPTIONS: list[dict[str, Any]] = [
    {"temperature": 1.3},
    {"temperature": 1e-9},
    {"greedy": True},
    {"temperature": 0},
    {"top_k": 3},
    {"top_k": 99},
    {"top_k": 1},
    {"top_p": 0.4},
    {"top_p": 1e-9},
    {"top_k": 4, "top_p": 0.7, "temperature": 2.0},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.5, "greedy": True},
    {"seed": 2**62 - 1},
    {"max_new_tokens": 0},
    {"max_new_tokens": 1},
    {"max_new_tokens": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("end", ["ends", "never ends"])
def test_every_option(options: dict[str, Any], end: str) -> None:
    net = network()
    never = [1] if end == "ends" else [0, 1]
    if options.get("max_new_tokens") == 0:
        assert not list(tokens(net, [[1]], Sampling(max_new_tokens=0), 0, never, torch.device("cpu")))
        return
    rows = written(net, never=never, **options)
    assert rows == written(net, "eager", never=never, **options)
    assert not any(1 in row or (0 in row and end == "never ends") for row in rows)
    if end == "ends":
        assert all(set(itertools.dropwhile(bool, row)) <= {0} for row in rows)  # nothing follows an end


@pytest.mark.parametrize("connection", ["plain", "residual", "highway", "dense"])
@pytest.mark.parametrize("more", [{}, {"tie": True}, {"zoneout": 0.3}, {"num_layers": 1}, {"dropout": 0.5}], ids=str)
def test_networks(connection: Any, more: dict[str, Any], loops: list[Any]) -> None:
    net = network("gru", **({"num_layers": 3, "connection": connection} | more))
    assert written(net) == written(net, "eager")
    assert loops[0] is not None


def test_a_large_vocabulary_is_shared_by_threads() -> None:
    net = network(vocab_size=5000, hidden_size=64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        shared = [written(net, **options) for options in ({}, {"top_k": 50}, {"top_p": 0.5})]
    finally:
        torch.set_num_threads(before)
    assert shared == [written(net, "eager", **options) for options in ({}, {"top_k": 50}, {"top_p": 0.5})]


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"connection": "highway", "num_layers": 3}, {"tie": True}], ids=str)
def test_rounded_weights(dtype: torch.dtype, options: dict[str, Any], loops: list[Any]) -> None:
    net = network("gru", hidden_size=23, **options)
    quantize(net, dtype)
    assert written(net) == written(net, "eager")
    assert loops[0] is not None


def test_equal_logits_are_chosen_in_the_order_of_tokens() -> None:
    net = network()
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    for options in ({}, {"top_k": 3}, {"top_p": 0.3}, {"greedy": True}):
        assert written(net, **options) == written(net, "eager", **options)


def test_pieces_are_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    net, texts = network(), []
    for most in (1, 2, 7, 64):
        monkeypatch.setattr(decoding, "_MOST", most)
        texts.append(written(net, max_new_tokens=70))
    assert texts[0] == texts[1] == texts[2] == texts[3]


def test_weights_may_change_between_texts() -> None:
    net = network()
    first = written(net)
    with torch.no_grad():
        net.recurrent.layers[0].weight_hh.neg_()
    assert first != written(net) == written(net, "eager")


def test_who_watches_sees_every_step(loops: list[Any]) -> None:
    net, seen = network(), []
    expected = written(net, never=[0])
    handle = net.recurrent.layers[1].register_forward_hook(lambda *_: seen.append(1))
    assert written(net, never=[0]) == expected
    handle.remove()
    assert len(seen) >= 39
    with Recorder(net):
        assert written(net, never=[0]) == expected
    assert [loop is None for loop in loops] == [False]


def test_networks_that_are_written_in_python(loops: list[Any]) -> None:
    projected = network("projected_lstm", proj_size=4)
    assert written(projected) == written(projected, "eager")
    double = network().double()
    assert written(double) == written(double, "eager")
    assert not any(loops)


class Shifted(RecurrentLanguage):
    """A network with logits of its own."""

    def logits(self, y: torch.Tensor) -> torch.Tensor:
        return super().logits(y).flip(-1)


def test_networks_that_compute_something_else(loops: list[Any]) -> None:
    tied = network(tie=True)
    tied.to_embedding = torch.nn.Sequential(tied.to_embedding, torch.nn.Tanh()).eval()
    other = network()
    other.__class__ = Shifted
    patched = network()
    patched.logits = lambda y: -RecurrentLanguage.logits(patched, y)  # type: ignore[method-assign]
    for net in (tied, other, patched):
        assert written(net) == written(net, "eager")
    watched, seen = network(), []
    watched.embedding.register_forward_hook(lambda *_: seen.append(1))
    written(watched, never=[0])
    assert len(seen) >= 40 and not any(loops)


def test_other_defaults_of_torch(loops: list[Any]) -> None:
    net = network()
    expected = written(net)
    torch.set_default_dtype(torch.float64)
    try:
        assert written(net) == expected
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(loops)


def test_a_network_that_changes_while_it_writes() -> None:
    """The text goes on with the weights that it began with."""
    net = network()
    expected = written(net, never=[0])
    found = []
    for step in tokens(net, [[1, 2, 3], [4], [5, 6]], Sampling(max_new_tokens=40, seed=7), 0, [0], torch.device("cpu")):
        found.append(step)
        if len(found) == 3:
            net.bfloat16()
    assert torch.stack(found, 1).tolist() == expected


@pytest.mark.parametrize("engine", ["cpu", "eager"])
def test_outputs_that_are_no_numbers(engine: str) -> None:
    net = network()
    with torch.no_grad():
        net.recurrent.layers[0].bias_ih[0] = torch.nan
    with pytest.raises(ElmanError, match="not numbers"):
        written(net, engine)
    net = network()
    with torch.no_grad():
        net.output[1][3] = torch.nan
    with pytest.raises(ElmanError, match="not numbers"):
        written(net, engine)


def test_draws() -> None:
    """SplitMix64 with the seed's first number as the start; uniform, and different for neighbouring seeds."""
    numbers = torch.tensor([[draw(seed, k) for k in range(200)] for seed in range(50)], dtype=torch.float64)
    assert float(numbers.min()) >= 0 and float(numbers.max()) < 1 and len(numbers.unique()) == 10_000
    shares = torch.histc(numbers, 10, 0, 1) / 10_000
    assert float((shares - 0.1).abs().max()) < 0.015
    centred = numbers - 0.5
    assert float((centred[:, 1:] * centred[:, :-1]).mean().abs()) < 0.003
    assert float((centred[1:] * centred[:-1]).mean().abs()) < 0.003
