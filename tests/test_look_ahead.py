"""`LookAhead` reads a few future steps."""

import pytest
import torch

from elman.layers.look_ahead import LookAhead


def layer(size: int, steps: int) -> LookAhead:
    torch.manual_seed(0)
    made = LookAhead(size, steps).double()
    torch.nn.init.normal_(made.weight)
    return made


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("T", [1, 3, 12])
def test_it_is_the_sum_over_future_steps(steps: int, T: int) -> None:
    made, y = layer(4, steps), torch.randn(2, T, 4, dtype=torch.float64)
    expected = torch.zeros_like(y)
    for t in range(T):
        for j in range(min(steps + 1, T - t)):
            expected[:, t] += made.weight[j] * y[:, t + j]
    torch.testing.assert_close(made(y), expected)


def test_it_starts_as_the_identity() -> None:
    y = torch.randn(2, 5, 4)
    torch.testing.assert_close(LookAhead(4, 3)(y), y)


def test_padding_changes_nothing() -> None:
    made, y = layer(4, 3), torch.randn(1, 6, 4, dtype=torch.float64)
    padded = torch.nn.functional.pad(y, (0, 0, 0, 4))
    torch.testing.assert_close(made(padded)[:, :6], made(y))


def test_gradients() -> None:
    made = layer(3, 2)
    assert torch.autograd.gradcheck(made, torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True))


def test_steps_below_0_are_refused() -> None:
    with pytest.raises(ValueError, match="steps"):
        LookAhead(4, -1)
