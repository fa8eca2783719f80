"""The beam search of transducers: against all texts, in pieces, with a fusion, and greedily."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from elman.decoding.heard import CTCSearch, Heard
from elman.decoding.transducer import TransducerBeam, _Prefix
from elman.errors import ElmanError
from elman.layers.transducer import Joiner, Predictor, transducer_loss

V, E = 4, 3


def network(seed: int = 0, scale: float = 2.5) -> tuple[Predictor, Joiner]:
    """A network with weights so large that texts differ in probability."""
    torch.manual_seed(seed)
    predictor, joiner = Predictor(V, 4, 5), Joiner(E, 5, 6, V)
    with torch.no_grad():
        for parameter in joiner.parameters():
            parameter.mul_(scale)
    return predictor, joiner


def frames(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, E, generator=torch.Generator().manual_seed(seed)) * 2


def new(seed: int = 0, beam: int = 1000, n_best: int = 5, **options: Any) -> TransducerBeam:
    options = {"pruned": math.inf, "suppressed": ()} | options
    return TransducerBeam(*network(seed), CTCSearch(beam=beam, n_best=n_best), **options)


def search(encodings: Tensor, seed: int = 0, **options: Any) -> list[Heard]:
    beam = new(seed, **options)
    beam.push(encodings)
    return beam.finish()


@torch.no_grad()
def log_probabilities(encodings: Tensor, longest: int, seed: int = 0) -> dict[tuple[int, ...], float]:
    """log p of every text of up to ``longest`` tokens."""
    predictor, joiner = network(seed)
    found = {}
    for length in range(longest + 1):
        texts = list(itertools.product(range(1, V), repeat=length))
        targets = torch.tensor(texts, dtype=torch.long).view(len(texts), length)
        logits = joiner(encodings.expand(len(texts), -1, -1), predictor(targets))
        lengths = torch.full((2, len(texts)), len(encodings))
        lengths[1] = length
        found |= dict(zip(texts, (-transducer_loss(logits, targets, *lengths)).tolist(), strict=True))
    return found


class Bigrams:
    """A fusion: a score for each pair of adjacent tokens, and one for the last token."""

    bound = 2.0

    def __init__(self) -> None:
        self.scores = torch.randn(V, V, generator=torch.Generator().manual_seed(3)).clamp(-2, 2).tolist()
        self.prepared: list[tuple[int, int]] = []

    def start(self) -> int:
        return 0

    def prepare(self, states: Sequence[int], ids: Sequence[int]) -> None:
        self.prepared.append((len(states), len(ids)))

    def extend(self, state: int, token: int) -> tuple[float, int]:
        return self.scores[state][token], token

    def end(self, state: int) -> float:
        return self.scores[state][0]

    def total(self, ids: tuple[int, ...]) -> float:
        return sum(self.scores[a][b] for a, b in itertools.pairwise((0, *ids, 0)))


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_is_exact(seed: int) -> None:
    encodings = frames(3, seed)
    every = log_probabilities(encodings, longest=5, seed=seed)
    best = sorted(every, key=lambda ids: -every[ids])[:3]
    found = search(encodings, seed, n_best=3, max_symbols=5)
    assert [tuple(heard.ids) for heard in found] == best
    for heard in found:
        assert heard.log_probability == heard.score == pytest.approx(every[tuple(heard.ids)], abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_with_a_fusion_is_exact(seed: int) -> None:
    encodings, fusion = frames(3, seed), Bigrams()
    every = log_probabilities(encodings, longest=5, seed=seed)
    score = {ids: log_p + fusion.total(ids) for ids, log_p in every.items()}
    best = sorted(score, key=lambda ids: -score[ids])[:3]
    found = search(encodings, seed, n_best=3, max_symbols=5, fusion=fusion)
    assert [tuple(heard.ids) for heard in found] == best
    assert found[0].score == pytest.approx(score[best[0]], abs=1e-4)
    assert found[0].log_probability == pytest.approx(every[best[0]], abs=1e-4)
    assert max(states for states, _ in fusion.prepared) > 1


@pytest.mark.parametrize("options", [{}, {"beam": 1}, {"beam": 3}, {"beam": 3, "pruned": 2.0}, {"fusion": Bigrams()}])
def test_pieces_of_any_size_give_exactly_the_same(options: dict) -> None:
    encodings = frames(23)
    options = {"beam": 4, "n_best": 4} | options
    whole = search(encodings, **options)
    for sizes in ([1] * 23, [5, 0, 18], [22, 1]):
        beam = new(**options)
        for piece in encodings.split(sizes):
            beam.push(piece)
            assert [heard.ids for heard in beam.best(aligned=False)] == [heard.ids for heard in beam.best()]
        assert beam.finish() == whole


def test_a_narrow_beam_is_no_better_than_a_wide_one() -> None:
    encodings = frames(12)
    scores = [search(encodings, beam=beam, max_symbols=3)[0].score for beam in (2, 8, 300)]
    assert scores == sorted(scores)


@torch.no_grad()
def test_a_beam_of_one_is_greedy() -> None:
    predictor, joiner = network()
    encodings = frames(15)
    g, state = predictor.step(torch.zeros(1, dtype=torch.long))
    ids, places, total = [], [], 0.0
    for t, frame in enumerate(encodings):
        for symbols in range(4):
            log_p = joiner(frame[None, None], g[:, None])[0, 0, 0].log_softmax(-1)
            token = int(log_p.argmax()) if symbols < 3 else 0
            total += float(log_p[token])
            if token == 0:
                break
            ids.append(token)
            places.append((t, t + 1))
            g, state = predictor.step(torch.tensor([token]), state)
    (heard,) = search(encodings, beam=1, max_symbols=3)
    assert len(ids) > 3 and heard.ids == ids and heard.frames == places
    assert heard.log_probability == pytest.approx(total, abs=1e-4)


def test_frames_and_confidences() -> None:
    for heard in search(frames(20), beam=6):
        assert len(heard.ids) == len(heard.frames) == len(heard.confidences)
        assert heard.frames == sorted(heard.frames) and all(0 <= a < b <= 20 for a, b in heard.frames)
        assert all(0 < confidence <= 1 for confidence in heard.confidences)


def test_suppressed_tokens_are_not_written() -> None:
    assert any(1 in heard.ids for heard in search(frames(20), beam=6))
    assert not any(1 in heard.ids for heard in search(frames(20), beam=6, suppressed=(1, 99)))


def test_no_frames_give_the_empty_text() -> None:
    assert search(frames(0)) == [Heard([], 0.0, 0.0, [], [])]


def test_prefixes_that_nothing_begins_with_are_freed() -> None:
    beam = new(beam=3, pruned=9.0)
    gc.collect()
    before = sum(type(thing) is _Prefix for thing in gc.get_objects())
    for piece in frames(200).split(10):
        beam.push(piece)
    gc.collect()
    alive = sum(type(thing) is _Prefix for thing in gc.get_objects()) - before
    assert alive < 3 + 3 * max(len(heard.ids) for heard in beam.best())
    assert len(beam._paths) <= 3


def test_errors() -> None:
    beam = TransducerBeam(*network())
    with pytest.raises(ElmanError, match="NaN"):
        beam.push(torch.full((1, E), math.nan))
    beam.finish()
    with pytest.raises(ElmanError, match="finished"):
        beam.push(frames(1))
