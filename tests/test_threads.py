"""The search for the number of threads that training steps are fastest with. No clock: steps say how long they took."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from elman.training.threads import Threads

#: Seconds of a step, given its number of threads, its units of work and the seconds of training before it.
Cost = Callable[[int, int, float], float]


@pytest.fixture(autouse=True)
def _four() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def train(cost: Cost, until: float, units: Callable[[], int] = lambda: 1000) -> list[tuple[float, float, int]]:
    """Steps until that second: when each began, how long it took, its threads."""
    search, now, steps = Threads(), 0.0, []
    while now < until:
        count, size = torch.get_num_threads(), units()
        seconds = cost(count, size, now)
        steps.append((now, seconds, count))
        search.stepped(seconds, size)
        now += seconds
    search.leave()
    assert torch.get_num_threads() == 4
    return steps


def share(steps: list[tuple[float, float, int]], count: int, since: float, until: float) -> float:
    """The share of the time between two seconds that steps with so many threads took."""
    inside = [(seconds, threads) for began, seconds, threads in steps if since <= began < until]
    return sum(seconds for seconds, threads in inside if threads == count) / sum(seconds for seconds, _ in inside)


def lengths(seed: int = 0) -> Callable[[], int]:
    """Batches of 200 to 4,000 units, in any order."""
    draw = np.random.default_rng(seed)
    return lambda: int(np.exp(draw.uniform(np.log(200), np.log(4000))))


def fixed_and_by_unit(seconds: dict[int, float], draw: np.random.Generator) -> Cost:
    """A step takes its time whatever its size, more for its units, and a fifth more or less by chance."""
    return lambda count, size, _: seconds[count] * (0.3 + size / 1500) * draw.uniform(0.8, 1.2)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 4.0, 2: 2.0, 4: 1.0}, 4),
        ({1: 0.8, 2: 0.5, 4: 1.0}, 2),
        ({1: 0.1, 2: 5.0, 4: 9.0}, 1),
    ],
)
@pytest.mark.parametrize("scale", [0.01, 0.3])
def test_the_fastest_number_is_found(seconds: dict[int, float], best: int, scale: float) -> None:
    steps = train(lambda count, size, now: scale * seconds[count], 400)
    assert share(steps, best, 200, 400) > 0.85  # trials are rare


@pytest.mark.parametrize("seed", range(3))
def test_steps_of_different_shapes_are_compared_by_their_work(seed: int) -> None:
    draw = np.random.default_rng(seed)
    cost = fixed_and_by_unit({1: 0.08, 2: 0.045, 4: 0.05}, draw)
    steps = train(cost, 600, lengths(seed))
    assert share(steps, 2, 200, 600) + share(steps, 4, 200, 600) > 0.9
    assert share(steps, 1, 200, 600) < 0.1


@pytest.mark.parametrize(("slow", "scale", "seed"), [(2.0, 0.1, 0), (2.0, 0.1, 1), (8.0, 0.1, 2), (50.0, 0.01, 0)])
def test_a_neighbour_that_leaves_is_forgotten_and_one_that_comes_is_noticed(
    slow: float, scale: float, seed: int
) -> None:
    """Busy cores make more than one thread slow in the first two minutes, and once more after ten."""
    usual = fixed_and_by_unit({1: scale, 2: 0.55 * scale, 4: 0.3 * scale}, np.random.default_rng(seed))

    def cost(count: int, size: int, now: float) -> float:
        busy = now < 120 or now > 600
        return usual(1 if busy else count, size, now) * (slow if busy and count > 1 else 1.0)

    steps = train(cost, 900, lengths(seed))
    assert share(steps, 4, 240, 600) > 0.7
    assert share(steps, 1, 720, 900) > 0.7


def test_one_thread_is_left_alone() -> None:
    torch.set_num_threads(1)
    search = Threads()
    for _ in range(1000):
        search.stepped(1.0, 10)
        assert torch.get_num_threads() == 1


def test_a_step_without_units_is_no_error() -> None:
    train(lambda count, size, now: 0.1, 60, lambda: 0)
    train(lambda count, size, now: 0.0 if now else 1.0, 0.5)
