"""The properties of all recurrent layers: one test per property, over the whole family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import elman
from elman import engines
from elman.layers import Bidirectional, Recurrent, RecurrentLayer, last_step, reverse
from elman.layers import state as states
from tests.conftest import D, H, close, recurrent

B, T = 4, 7
LENGTHS = torch.tensor([7, 3, 1, 0])


def inputs(batch: int = B, steps: int = T) -> Tensor:
    return torch.randn(batch, steps, D, dtype=torch.float64)


def some_state(layer: RecurrentLayer, x: Tensor) -> Any:
    return states.map_state(layer.initial_state(x), lambda s: torch.randn_like(s))


def some_resets() -> Tensor:
    resets = torch.zeros(B, T, dtype=torch.bool)
    resets[0, 3] = resets[1, 0] = resets[0, 5] = resets[1, 2] = True
    resets[1, 3] = resets[1, 5] = resets[3, 0] = True  # with LENGTHS: in the padding
    return resets


def gradients(layer: RecurrentLayer, engine: str, *arguments: Any) -> list[Tensor]:
    """Return output, final state and all gradients, computed by the given engine."""
    x, state, lengths, resets = arguments
    leaves = [x, *states.flatten(state).values(), *layer.parameters()]
    for leaf in leaves:
        leaf.requires_grad_()
    with elman.engine(engine):
        y, final = layer(x, state, lengths, resets)
    parts = [y, *states.flatten(final).values()]
    weighted = [(part * torch.linspace(-1, 1, part.numel(), dtype=part.dtype).view_as(part)).sum() for part in parts]
    return [*parts, *torch.autograd.grad(sum(weighted), leaves, allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
def test_every_engine_equals_eager(cell_name: str, lengths: Tensor | None, resets: bool) -> None:
    layer = recurrent(cell_name).double()
    x = inputs()
    arguments = (x, some_state(layer, x), lengths, some_resets() if resets else None)
    expected = gradients(layer, "eager", *arguments)
    for engine in engines.ENGINES:
        close(gradients(layer, engine, *arguments), expected)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_engines_agree_on_random_sizes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["lstm", "gru", "rnn_tanh", "rnn_relu", "projected_lstm"]))
    batch, steps = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch)))
    resets = torch.tensor(
        data.draw(st.lists(st.lists(st.booleans(), min_size=steps, max_size=steps), min_size=batch, max_size=batch))
    )
    layer = recurrent(name).double()
    x = inputs(batch, steps)
    arguments = (x, some_state(layer, x), lengths, resets)
    close(gradients(layer, "torch", *arguments), gradients(layer, "eager", *arguments))


def test_shapes(layer: RecurrentLayer) -> None:
    y, state = layer(inputs())
    assert y.shape == (B, T, layer.output_size)
    assert states.flatten(state).keys() == states.flatten(layer.initial_state(inputs())).keys()


def test_step_by_step_equals_whole_sequence(layer: RecurrentLayer, engine_name: str) -> None:
    x = inputs()
    if not layer.causal:
        with pytest.raises(ValueError, match="step by step"):
            layer.step(x[:, 0])
        return
    state = some_state(layer, x)
    whole, final = layer(x, state)
    steps = []
    for t in range(T):
        y, state = layer.step(x[:, t], state)
        steps.append(y)
    close((torch.stack(steps, 1), state), (whole, final))


def test_state_goes_in_and_out(layer: RecurrentLayer) -> None:
    if not layer.causal:
        return
    x = inputs()
    whole = layer(x)
    first, state = layer(x[:, :3])
    second, state = layer(x[:, 3:], state)
    close((torch.cat((first, second), 1), state), whole)


def test_no_state_is_zeros(layer: RecurrentLayer) -> None:
    x = inputs()
    close(layer(x), layer(x, layer.initial_state(x)))


def test_padded_equals_unpadded(layer: RecurrentLayer, engine_name: str) -> None:
    x = inputs()
    x[0, 7:], x[1, 3:], x[2, 1:], x[3, 0:] = torch.nan, torch.nan, 1e30, torch.inf
    start = some_state(layer, x)
    y, final = layer(x, start, LENGTHS)
    for row, n in enumerate(LENGTHS.tolist()):
        one = states.map_state(start, lambda s, row=row: s[row : row + 1])
        alone, after = layer(x[row : row + 1, :n], one) if n else (y[row : row + 1, :0], one)
        close((y[row : row + 1, :n], states.map_state(final, lambda s, row=row: s[row : row + 1])), (alone, after))
        assert not y[row, n:].any()


def test_a_reset_in_the_padding_resets_nothing(layer: RecurrentLayer, engine_name: str) -> None:
    x = inputs()
    state, resets = some_state(layer, x), torch.zeros(B, T, dtype=torch.bool)
    plain = layer(x, state, LENGTHS)
    for row, n in enumerate(LENGTHS.tolist()):
        resets[row, n:] = True
    close(layer(x, state, LENGTHS, resets), plain)


def test_padding_gets_no_gradient(layer: RecurrentLayer) -> None:
    x = inputs().requires_grad_()
    y, final = layer(x, None, LENGTHS)
    (y.sum() + sum(part.sum() for part in states.flatten(final).values())).backward()
    assert x.grad is not None
    for row, n in enumerate(LENGTHS.tolist()):
        assert not x.grad[row, n:].any()
        assert x.grad[row, :n].any() == (n > 0)


def test_reset_is_a_fresh_start(layer: RecurrentLayer, engine_name: str) -> None:
    x = inputs()
    resets = torch.zeros(B, T, dtype=torch.bool)
    resets[:, 3] = True
    first, _ = layer(x[:, :3], None)
    second, after = layer(x[:, 3:], None)
    y, final = layer(x, None, None, resets)
    close(y, torch.cat((first, second), 1))
    if layer.causal:
        close(final, after)


def test_batched_equals_single(layer: RecurrentLayer) -> None:
    x = inputs()
    y, _ = layer(x)
    for row in range(B):
        close(layer(x[row : row + 1])[0], y[row : row + 1])


def test_one_step_no_step_no_row(layer: RecurrentLayer, engine_name: str) -> None:
    state = some_state(layer, inputs())
    assert layer(inputs(B, 1), state)[0].shape == (B, 1, layer.output_size)
    y, same = layer(inputs(B, 0), state)
    assert y.shape == (B, 0, layer.output_size)
    close(same, state)
    y, _ = layer(inputs(0, T), None, torch.zeros(0, dtype=torch.long))
    assert y.shape == (0, T, layer.output_size)


def test_bidirectional_is_two_of_which_one_is_flipped() -> None:
    forward, backward = recurrent("lstm").double(), recurrent("gru").double()
    x = inputs()
    y, (before, after) = Bidirectional(forward, backward)(x, None, LENGTHS)
    ahead, ahead_state = forward(x, None, LENGTHS)
    behind, behind_state = backward(reverse(x, LENGTHS), None, LENGTHS)
    close(y, torch.cat((ahead, reverse(behind, LENGTHS)), -1))
    close((before, after), (ahead_state, behind_state))


def test_the_ends_of_a_bidirectional_layer() -> None:
    layer = Bidirectional(recurrent("gru"), recurrent("gru")).double()
    y, ((forward_h,), (backward_h,)) = layer(inputs(), None, LENGTHS)
    ends = torch.cat((forward_h, backward_h), -1)
    close(layer.ends(y, LENGTHS), ends)
    close(last_step(y[..., :H], LENGTHS), forward_h)
    close(last_step(y), y[:, -1])


def test_gradcheck(cell_name: str) -> None:
    layer = recurrent(cell_name).double()
    x = inputs(2, 3).requires_grad_()
    state = states.map_state(some_state(layer, x), Tensor.requires_grad_)
    lengths = torch.tensor([3, 2])
    with elman.engine("eager"):
        run = lambda x, *parts: states.flatten(layer(x, parts, lengths)).values()  # noqa: E731
        assert torch.autograd.gradcheck(lambda *a: tuple(run(*a)), (x, *state))
        if cell_name not in ("rnn_relu", "indrnn"):  # relu has no second derivative
            assert torch.autograd.gradgradcheck(lambda *a: tuple(run(*a)), (x, *state))


def test_torch_func_goes_through(cell_name: str) -> None:
    layer = recurrent(cell_name).double()
    x, tangent = inputs(), inputs()
    out, derivative = torch.func.jvp(lambda x: layer(x)[0], (x,), (tangent,))
    close(out, layer(x)[0])
    small = 1e-6
    close(derivative, (layer(x + small * tangent)[0] - layer(x - small * tangent)[0]) / (2 * small), 1e-6)
    stacked = torch.stack((x, tangent))
    close(torch.vmap(lambda x: layer(x)[0])(stacked), torch.stack((layer(x)[0], layer(tangent)[0])))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtypes(cell_name: str, engine_name: str, dtype: torch.dtype) -> None:
    layer = recurrent(cell_name).to(dtype)
    x = inputs().to(dtype).requires_grad_()
    y, state = layer(x, None, LENGTHS)
    assert {part.dtype for part in [y, *states.flatten(state).values()]} == {dtype}
    y.sum().backward()
    expected, _ = recurrent_like(layer)(x.double(), None, LENGTHS)
    close(y.double(), expected, {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype])


def recurrent_like(layer: Recurrent) -> Recurrent:
    """Return the same layer in float64."""
    double = Recurrent(layer.cell, D, H, proj_size=layer.output_size if layer.cell.projected else 0).double()
    double.load_state_dict(layer.state_dict())
    return double


@pytest.mark.parametrize("zoneout", [0.0, 0.2])
def test_autocast(cell_name: str, engine_name: str, zoneout: float) -> None:
    layer = recurrent(cell_name, zoneout=zoneout)
    x = inputs().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x, None, LENGTHS)
        y, _ = layer(x, states.detach(state), LENGTHS)
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())
    layer.eval()
    with torch.autocast("cpu", torch.bfloat16):
        _, state = layer(x, None, LENGTHS)
        y, _ = layer(x, states.detach(state), LENGTHS)
    with elman.engine("eager"):
        _, state = layer(x, None, LENGTHS)
        close(y.float(), layer(x, state, LENGTHS)[0], 5e-2)


def test_detach_cuts_the_past() -> None:
    layer = recurrent("lstm")
    _, state = layer(inputs().float())
    assert all(part.requires_grad for part in state)
    assert not any(part.requires_grad for part in elman.detach(state))


def test_state_round_trip(layer: RecurrentLayer) -> None:
    state = layer(inputs())[1]
    close(states.unflatten(states.flatten(state)), state)


def test_state_dict_is_that_of_torch() -> None:
    for name, kind in (("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU), ("rnn_tanh", torch.nn.RNN)):
        theirs, ours = kind(D, H, batch_first=True), Recurrent(name, D, H)
        ours.load_state_dict({key.removesuffix("_l0"): value for key, value in theirs.state_dict().items()})
        x = inputs().float()
        close(ours(x)[0], theirs(x)[0], 1e-6)
        theirs.load_state_dict({f"{key}_l0": value for key, value in ours.state_dict().items()})


def test_initial_parameters() -> None:
    layer = Recurrent("lstm", 40, 50)
    i, f, g, o = layer.bias_ih.chunk(4)  # type: ignore[union-attr]
    assert (f == 1).all()
    assert not (i.any() or g.any() or o.any() or layer.bias_hh.any())  # type: ignore[union-attr]
    for block in layer.weight_hh.chunk(4):  # type: ignore[union-attr]
        close(block @ block.T, torch.eye(50), 1e-5)
    u = Recurrent("indrnn", 4, 1000).u.detach()
    assert 0 <= float(u.min()) < 0.1 < 0.9 < float(u.max()) <= 1


def test_deterministic(layer: RecurrentLayer) -> None:
    x = inputs()
    first, second = layer(x)[0], layer(x)[0]
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(2, 3)}, r"x must be \(B, T, 5\)"),
        ({"x": torch.zeros(2, 3, 4)}, r"it is \(2, 3, 4\)"),
        ({"lengths": torch.tensor([1, 2, 3])}, "one per row"),
        ({"lengths": torch.tensor([1.0, 2.0])}, "integers"),
        ({"lengths": torch.tensor([1, 4])}, "between 0 and T = 3"),
        ({"lengths": torch.tensor([-1, 2])}, "between 0 and T = 3"),
        ({"resets": torch.zeros(2, 3)}, "resets must be bool"),
        ({"state": (torch.zeros(2, 6),)}, r"the state \(h, c\) must have the shapes"),
        ({"state": (torch.zeros(2, 6), torch.zeros(3, 6))}, r"got: \(\(2, 6\), \(3, 6\)\)"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recurrent("lstm")(**{"x": torch.zeros(2, 3, D), **arguments})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "lsmt"}, "did you mean lstm"),
        ({"hidden_size": 0}, "must be positive"),
        ({"proj_size": 3}, "projects nothing"),
        ({"cell": "projected_lstm"}, "needs a proj_size"),
        ({"zoneout": 1.0}, "below 1"),
        ({"zoneout": {"n": 0.5}}, "zoneout names"),
        ({"weight_drop": -0.1}, "at least 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recurrent(**{"cell": "lstm", "input_size": D, "hidden_size": H, **options})
