"""Sampling and the decoding loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from elman.config import parse
from elman.decoding import Sampling, StopText, choose, penalise, tokens, top_k, top_p
from elman.decoding.sampling import draw
from elman.errors import ElmanError

LOGITS = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.5, 0.1, 0.1, 0.3]]).log()


def draws(sampling: Sampling, count: int = 400, logits: torch.Tensor = LOGITS) -> torch.Tensor:
    seen = torch.zeros_like(logits, dtype=torch.bool)
    drawn = [torch.tensor([draw(row, k) for row in range(len(logits))], dtype=torch.float64) for k in range(count)]
    return torch.stack([choose(logits, sampling, seen, one) for one in drawn])


def test_greedy_and_zero_temperature() -> None:
    for sampling in (Sampling(greedy=True), Sampling(temperature=0)):
        assert draws(sampling, 3).tolist() == [[1, 0]] * 3


def test_temperature_one_draws_the_distribution() -> None:
    drawn = draws(Sampling(temperature=1.0), 4000)
    for row in range(2):
        shares = torch.bincount(drawn[:, row], minlength=4) / 4000
        torch.testing.assert_close(shares, LOGITS[row].exp(), atol=0.03, rtol=0)


def test_low_temperature_sharpens() -> None:
    assert (draws(Sampling(temperature=0.05)) == torch.tensor([1, 0])).float().mean() > 0.95


def test_top_k() -> None:
    assert set(draws(Sampling(temperature=1.0, top_k=2))[:, 0].tolist()) == {1, 3}
    assert torch.isfinite(top_k(LOGITS, 99)).all()


def test_top_p_is_the_smallest_nucleus() -> None:
    kept = [torch.isfinite(top_p(LOGITS, p)[0]).nonzero().flatten().tolist() for p in (0.1, 0.39, 0.41, 0.7, 0.95)]
    assert kept == [[1], [1], [1, 3], [1, 3], [0, 1, 2, 3]]
    assert set(draws(Sampling(temperature=1.0, top_p=0.45))[:, 0].tolist()) == {1, 3}


def test_repetition_penalty() -> None:
    seen = torch.tensor([[True, True, False]])
    torch.testing.assert_close(penalise(torch.tensor([[2.0, -2.0, 1.0]]), seen, 4.0), torch.tensor([[0.5, -8.0, 1.0]]))


class Counter:
    """A network whose next id is the last one plus one, up to 9, and then 0."""

    def __call__(self, ids: torch.Tensor, state: Any, lengths: Any = None) -> tuple[torch.Tensor, int]:
        following = torch.where(ids == 9, 0, ids + 1)
        return torch.nn.functional.one_hot(following, 10).float() * 100, 0 if state is None else state + 1

    def step(self, ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, int]:
        return self(ids, state)


def test_rows_of_unequal_prompts_and_the_end() -> None:
    prompts = [[7], [1, 2, 3], [5, 8]]
    steps = list(tokens(Counter(), prompts, Sampling(max_new_tokens=5, greedy=True), 0, [], torch.device("cpu")))
    assert torch.stack(steps, 1).tolist() == [[8, 9, 0, 0, 0], [4, 5, 6, 7, 8], [9, 0, 0, 0, 0]]


def test_decoding_stops_when_all_rows_have() -> None:
    steps = list(tokens(Counter(), [[8], [9]], Sampling(greedy=True), 0, [], torch.device("cpu")))
    assert torch.stack(steps, 1).tolist() == [[9, 0], [0, 0]]


def test_suppressed_ids() -> None:
    (step,) = tokens(Counter(), [[4]], Sampling(max_new_tokens=1, greedy=True), 0, [5], torch.device("cpu"))
    assert step.tolist() != [5]


def test_a_row_of_a_batch_draws_what_it_draws_alone() -> None:
    class Flat:
        """A network for which all of ten ids are equally probable."""

        def __call__(self, ids: torch.Tensor, state: Any, lengths: Any = None) -> tuple[torch.Tensor, int]:
            return torch.zeros(*ids.shape, 10), 0

        step = __call__

    flat = Flat()
    together = torch.stack(
        list(tokens(flat, [[1], [2]], Sampling(max_new_tokens=9, seed=5), 9, [9], torch.device("cpu"))), 1
    )
    for row in range(2):
        alone = list(tokens(flat, [[1 + row]], Sampling(max_new_tokens=9, seed=5 + row), 9, [9], torch.device("cpu")))
        assert torch.stack(alone, 1)[0].tolist() == together[row].tolist()


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        ([], "one two three"),
        (["two"], "one "),
        (["tree", "thr"], "one two "),
        (["three!"], "one two three"),
        (["o"], ""),
    ],
)
def test_stop_text(stop: list[str], shown: str) -> None:
    for pieces in (list("one two three"), ["one two three"], ["one t", "wo t", "hree"]):
        text = StopText(stop)
        assert "".join([text.push(piece) for piece in pieces]) + text.rest() == shown
        assert text.stopped == (shown != "one two three")


def test_text_is_shown_as_soon_as_it_can_be() -> None:
    text = StopText(["\n\n"])
    assert [text.push(piece) for piece in ("a", "\n", "b", "\n", "\n", "c")] == ["a", "", "\nb", "", "", ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatur": 1.0}, "unknown option 'temperatur': did you mean temperature"),
        ({"temperature": -1.0}, "temperature: should be greater than or equal to 0, not -1.0"),
        ({"top_p": 0.0}, "top_p: should be greater than 0"),
        ({"top_k": 0}, "top_k"),
        ({"max_new_tokens": "many"}, "max_new_tokens: should be a valid integer, not 'many'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        parse(Sampling, options)
