"""Decoding of CTC networks: the prefix beam search, greedy decoding and forced alignment."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from elman.config import check_applicable, parse
from elman.decoding.alignment import align
from elman.decoding.ctc import PrefixBeam, greedy
from elman.decoding.heard import CTCSearch, Heard
from elman.errors import ElmanError


def random_frames(T: int, V: int, seed: int, spread: float = 2.0) -> Tensor:
    """Log probabilities (T, V), float64."""
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(T, V, generator=generator, dtype=torch.float64)).log_softmax(-1)


def collapsed(path: Sequence[int]) -> tuple[int, ...]:
    return tuple(i for i, _ in itertools.groupby(path) if i)


def paths_of(log_probs: Tensor) -> dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]]:
    """All alignments by their text, with their log probabilities."""
    T, V = log_probs.shape
    table, found = log_probs.tolist(), defaultdict(list)
    for path in itertools.product(range(V), repeat=T):
        found[collapsed(path)].append((sum(table[t][i] for t, i in enumerate(path)), path))
    return found


def totals_of(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """The log probability of every text, by enumeration."""
    return {
        text: math.log(sum(math.exp(p) for p, _ in paths))
        for text, paths in paths_of(log_probs).items()
        if any(p > -math.inf for p, _ in paths)
    }


class Liking:
    """A fusion by a table: what each pair of tokens adds, and what the last one does."""

    def __init__(self, V: int, seed: int) -> None:
        self.table = torch.randn(V, V, generator=torch.Generator().manual_seed(seed)).tolist()
        self.bound = max(map(max, self.table))
        self.prepared: set[tuple[int, ...]] = set()

    def start(self) -> tuple[int, ...]:
        return ()

    def prepare(self, states: Sequence[tuple[int, ...]], ids: Sequence[int]) -> None:
        self.prepared |= set(states)

    def extend(self, state: tuple[int, ...], token: int) -> tuple[float, tuple[int, ...]]:
        assert state in self.prepared
        return self.table[state[-1] if state else 0][token], (*state, token)

    def end(self, state: tuple[int, ...]) -> float:
        return self.table[state[-1] if state else 0][0]

    def of(self, text: Sequence[int]) -> float:
        pairs = itertools.pairwise([0, *text, 0])
        return sum(self.table[a][b] for a, b in pairs)


def search(log_probs: Tensor, piece: int = 1000, fusion: Any = None, **options: Any) -> list[Heard]:
    pruned = options.pop("pruned", math.inf)
    beam = PrefixBeam(CTCSearch(**options), fusion, suppressed=(), pruned=pruned)
    for part in log_probs.split(piece):
        beam.push(part)
    return beam.finish()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("fused", [False, True])
def test_a_wide_beam_is_exact(seed: int, fused: bool) -> None:
    """Against all V^T alignments; some probabilities are 0."""
    log_probs = random_frames(5, 4, seed)
    if seed % 2:
        impossible = torch.rand(5, 4, generator=torch.Generator().manual_seed(seed)) < 0.4
        impossible[:, seed % 4] = False
        log_probs = log_probs.masked_fill(impossible, -math.inf).log_softmax(-1)
    fusion = Liking(4, seed) if fused else None
    wanted = totals_of(log_probs)
    score = {text: p + (fusion.of(text) if fusion else 0.0) for text, p in wanted.items()}
    found = search(log_probs, fusion=fusion, beam=1000, n_best=1000)
    assert [tuple(one.ids) for one in found] == sorted(score, key=lambda text: -score[text])
    for one in found:
        assert one.log_probability == pytest.approx(wanted[tuple(one.ids)], abs=1e-9)
        assert one.score == pytest.approx(score[tuple(one.ids)], abs=1e-9)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("beam", [1, 2, 5])
def test_a_narrow_beam_keeps_the_best_of_each_frame(beam: int, fused: bool) -> None:
    """Against a plain search that extends every prefix by every token."""
    for seed in range(20):
        log_probs = random_frames(12, 5, 100 + seed, 1.5)
        fusion = Liking(5, seed) if fused else None
        state = {(): (1.0, 0.0)}
        for frame in log_probs.exp().tolist():
            new: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
            for text, (blank, token) in state.items():
                new[text][0] += (blank + token) * frame[0]
                for i in range(1, 5):
                    if text and text[-1] == i:
                        new[text][1] += token * frame[i]
                        new[(*text, i)][1] += blank * frame[i]
                    else:
                        new[(*text, i)][1] += (blank + token) * frame[i]

            def rank(text: tuple[int, ...], new: Any = new, fusion: Any = fusion) -> float:
                total = sum(new[text])
                unended = fusion.of(text) - fusion.end(text) if fusion else 0.0
                return math.log(total) + unended if total else -math.inf

            state = {text: (new[text][0], new[text][1]) for text in sorted(new, key=rank, reverse=True)[:beam]}
        ends = {text: math.log(sum(p)) + (fusion.of(text) if fusion else 0.0) for text, p in state.items()}
        found = search(log_probs, fusion=fusion, beam=beam, n_best=beam)
        assert [tuple(one.ids) for one in found] == sorted(ends, key=lambda text: -ends[text])
        assert [one.score for one in found] == pytest.approx(sorted(ends.values(), reverse=True), abs=1e-9)


@pytest.mark.parametrize("piece", [1, 3, 7])
def test_pieces_of_any_size_give_the_same(piece: int) -> None:
    log_probs = random_frames(40, 12, 5, 4.0).float()
    log_probs[10:25] = torch.tensor([20.0] + [0.0] * 11).log_softmax(0)  # surely blank
    whole = search(log_probs, beam=6, n_best=6, pruned=9.0)
    assert search(log_probs, piece, beam=6, n_best=6, pruned=9.0) == whole
    fused = search(log_probs, fusion=Liking(12, 0), beam=6, n_best=6, pruned=9.0)
    assert search(log_probs, piece, Liking(12, 0), beam=6, n_best=6, pruned=9.0) == fused != whole


def test_pruning_changes_little_and_is_relative() -> None:
    log_probs = random_frames(30, 8, 1, 3.0)
    exact, pruned = (search(log_probs, beam=8, pruned=most)[0] for most in (math.inf, 9.0))
    assert exact.ids == pruned.ids and exact.log_probability == pytest.approx(pruned.log_probability, abs=0.01)
    flat = torch.full((4, 3000), -math.log(3000))  # every token is improbable
    assert len(search(flat, beam=2, pruned=9.0)[0].ids) <= 4


def test_partial_answers() -> None:
    log_probs = random_frames(9, 5, 3)
    beam = PrefixBeam(CTCSearch(beam=4, n_best=2), suppressed=())
    assert [one.ids for one in beam.best()] == [[]]
    for end in range(1, 10):
        beam.push(log_probs[end - 1 : end])
        assert beam.best() == search(log_probs[:end], beam=4, n_best=2, pruned=9.0)
        assert all(one.frames == [] and one.confidences == [] for one in beam.best(aligned=False))
    beam.finish()
    with pytest.raises(ElmanError, match="has finished"):
        beam.push(log_probs)


def test_the_tree_of_prefixes_does_not_grow() -> None:
    """Only prefixes of hypotheses are kept."""
    beam = PrefixBeam(CTCSearch(beam=4), suppressed=())
    beam.push(random_frames(300, 6, 0, 0.5))
    root = beam._beam[0]
    while root.parent is not None:
        root = root.parent
    inside, leaves = [root], []
    while inside:
        prefix = inside.pop()
        inside += prefix.children.values()
        leaves += [] if prefix.children else [prefix]
    assert all(leaf.alive for leaf in leaves) and len(leaves) <= 4


def test_silence_and_nothing_give_an_empty_text() -> None:
    silence = torch.tensor([[0.98, 0.01, 0.01]]).log().expand(50, 3)
    for log_probs in (silence, silence[:0]):
        (found,) = search(log_probs)
        for one in (found, greedy(log_probs)):
            assert one.ids == one.frames == one.confidences == []
        assert align(log_probs, []).frames == []
    assert greedy(silence).log_probability == pytest.approx(50 * math.log(0.98), rel=1e-4)


def test_the_unknown_token_is_never_written() -> None:
    log_probs = torch.tensor([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.4, 0.5, 0.1]]).log()
    beam = PrefixBeam(CTCSearch(n_best=8))
    beam.push(log_probs)
    assert all(1 not in one.ids for one in beam.finish())
    assert 1 not in greedy(log_probs).ids


@pytest.mark.parametrize("seed", range(5))
def test_alignment_is_the_best_of_all(seed: int) -> None:
    log_probs = random_frames(6, 3, seed)
    for text, paths in paths_of(log_probs).items():
        best, path = max(paths)
        found = align(log_probs, text)
        assert found.log_probability == pytest.approx(best)
        runs, t = [], 0
        for i, run in itertools.groupby(path):
            n = len(list(run))
            runs += [(t, t + n)] if i else []
            t += n
        assert found.frames == runs
        means = [log_probs[a:b, i].exp().mean().item() for (a, b), i in zip(runs, text, strict=True)]
        assert found.confidences == pytest.approx(means)


def test_alignment_of_a_long_sequence_needs_only_a_window() -> None:
    """With the frames of the search, as without them."""
    log_probs = random_frames(500, 6, 0, 3.0)
    found = search(log_probs, beam=4)[0]
    assert len(found.ids) > 300
    whole = align(log_probs, found.ids)
    assert (found.frames, found.confidences) == (whole.frames, pytest.approx(whole.confidences))


def test_greedy_is_the_best_alignment() -> None:
    for seed in range(20):
        log_probs = random_frames(20, 5, seed)
        found = greedy(log_probs, suppressed=())
        assert tuple(found.ids) == collapsed(log_probs.argmax(-1).tolist())
        aligned = align(log_probs, found.ids)
        assert found.log_probability == found.score == pytest.approx(aligned.log_probability)
        assert (found.frames, found.confidences) == (aligned.frames, pytest.approx(aligned.confidences))


def test_what_cannot_be_aligned_is_refused() -> None:
    log_probs = torch.tensor([[0.5, 0.5, 0.0]] * 3).log()
    with pytest.raises(ElmanError, match="2 tokens need at least 3 frames, there are 2"):
        align(log_probs[:2], [1, 1])
    with pytest.raises(ElmanError, match="cannot be aligned"):
        align(log_probs, [2])
    with pytest.raises(ElmanError, match=r"must be \(T, V\), not \(1, 3, 3\)"):
        align(log_probs[None], [1])
    for wrong in (log_probs * math.nan, torch.full((2, 3), -math.inf)):
        with pytest.raises(ElmanError, match="not finite"):
            greedy(wrong)
        with pytest.raises(ElmanError, match="not finite"):
            search(wrong)


def test_options_without_effect_are_refused() -> None:
    for name in ("language_weight", "word_bonus", "hotword_weight"):
        options = parse(CTCSearch, {name: 2.0})
        with pytest.raises(ElmanError, match=f"{name}: has no effect here, it needs"):
            check_applicable(options, options.model_fields_set, {})
