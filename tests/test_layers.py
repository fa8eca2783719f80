"""Stacks, their connections, and every kind of dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from elman.layers import Bidirectional, Recurrent, SequenceDropout, Stack, stack
from tests.conftest import D, close

B, T, H = 3, 8, 6


def x() -> torch.Tensor:
    return torch.randn(B, T, D)


def test_plain_stack_is_layer_after_layer() -> None:
    deep = stack(["lstm", "gru"], D, [4, 6], 2)
    data = x()
    below, first = deep.layers[0](data)
    above, second = deep.layers[1](below)
    close(deep(data), (above, (first, second)))


def test_residual_adds_from_the_second_layer_on() -> None:
    deep = stack("gru", D, H, 3, connection="residual")
    data = x()
    y1, _ = deep.layers[0](data)
    y2 = deep.layers[1](y1)[0] + y1
    close(deep(data)[0], deep.layers[2](y2)[0] + y2)


def test_highway_mixes() -> None:
    deep = stack("gru", D, H, 2, connection="highway")
    assert (deep.carry[0].bias == -1).all()
    data = x()
    y1, _ = deep.layers[0](data)
    t = torch.sigmoid(deep.carry[0](y1))
    close(deep(data)[0], t * deep.layers[1](y1)[0] + (1 - t) * y1)


def test_dense_reads_all_below() -> None:
    deep = stack("gru", D, [3, 4, 6], 3, connection="dense")
    data = x()
    y1, _ = deep.layers[0](data)
    both = torch.cat((data, y1), -1)
    y2, _ = deep.layers[1](both)
    close(deep(data)[0], deep.layers[2](torch.cat((both, y2), -1))[0])


def test_bidirectional_stack_with_unequal_sizes() -> None:
    deep = stack("lstm", D, [4, 5], 2, bidirectional=True, backward_size=[3, 2])
    assert deep.layers[1].input_size == 7
    y, (((h, c), (hb, cb)), _) = deep(x())
    assert y.shape == (B, T, 7)
    assert (h.shape, c.shape, hb.shape, cb.shape) == ((B, 4), (B, 4), (B, 3), (B, 3))
    assert not deep.causal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": ["lstm", "gru"], "num_layers": 3}, "cell must have 3 entries, one for each layer, got: 2"),
        ({"hidden_size": [4], "num_layers": 2}, "hidden_size must have 2 entries, one for each layer, got: 1"),
        (
            {"hidden_size": [4, 5], "num_layers": 2, "connection": "residual"},
            "needs output_size 4 in layer 1",
        ),
        ({"connection": "skip"}, "unknown connection 'skip'"),
        ({"dropout": 1.0}, "below 1"),
        ({"backward_size": 3}, "backward_size needs bidirectional=True"),
    ],
)
def test_wrong_stacks(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stack(**{"cell": "lstm", "input_size": D, "hidden_size": H, **options})


def test_layers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="layer 1 must read the 6 features of the layer below, got: 5"):
        Stack([Recurrent("gru", D, H), Recurrent("gru", D, H)])
    with pytest.raises(ValueError, match="must have the same input_size, got: 5 and 4"):
        Bidirectional(Recurrent("gru", 5, H), Recurrent("gru", 4, H))
    with pytest.raises(ValueError, match="at least one"):
        Stack([])


def test_dropout_between_layers_only_in_training() -> None:
    deep = stack("gru", D, H, 2, dropout=0.5)
    data = x()
    assert not torch.equal(deep(data)[0], deep(data)[0])
    close(deep(data)[1][0], deep(data)[1][0])  # nothing is dropped before the first layer
    deep.eval()
    close(deep(data)[0], deep(data)[0])


def test_dropout_keeps_the_mean_and_its_masks() -> None:
    ones = torch.ones(50, 40, 30)
    for variational, p, scale in (
        (False, 0.25, 1 / 0.75),
        (True, 0.25, 1 / 0.75),
        (False, 0.1, 65536 / (65536 - 6554)),
    ):
        y = SequenceDropout(p, variational)(ones)
        assert set(y.unique().tolist()) == {0.0, torch.tensor(scale).item()}
        assert abs(float((y == 0).double().mean()) - p) < (0.05 if variational else 0.01)
        assert bool((y == y[:, :1]).all()) == variational
    assert torch.equal(SequenceDropout(0.25).eval()(ones), ones)


def test_weight_drop_drops_the_recurrent_matrix() -> None:
    layer = Recurrent("gru", D, H, weight_drop=0.99999)
    data, state = x(), (torch.randn(B, H),)
    y, _ = layer(data, state)
    with torch.no_grad():
        layer.weight_hh.zero_()  # type: ignore[union-attr]
    close(y, layer.eval()(data, state)[0])


def test_recurrent_dropout_is_one_mask_through_time() -> None:
    layer = Recurrent("rnn_tanh", D, H, recurrent_dropout=0.5)
    data = x()
    torch.manual_seed(4)
    y, _ = layer(data)
    torch.manual_seed(4)
    mask = torch.nn.functional.dropout(torch.ones(B, H), 0.5)
    h = torch.zeros(B, H)
    for t in range(T):
        h = torch.tanh(data[:, t] @ layer.weight_ih.T + (h * mask) @ layer.weight_hh.T)  # type: ignore[union-attr]
        close(y[:, t], h, 1e-6)
    close(layer.eval()(data)[0], layer(data)[0])


def test_zoneout_keeps_old_values() -> None:
    layer = Recurrent("lstm", D, 200, zoneout={"h": 0.3, "c": 0.0})
    data = x()
    y, _ = layer(data)
    kept = (y[:, 1:] == y[:, :-1]).float().mean()
    assert abs(float(kept) - 0.3) < 0.05

    layer.eval()
    y, _ = layer(data)
    plain = Recurrent("lstm", D, 200)
    plain.load_state_dict(layer.state_dict())
    state = layer.initial_state(data)
    for t in range(T):
        _, (h, c) = plain(data[:, t : t + 1], state)
        state = (h + 0.3 * (state[0] - h), c)
        close(y[:, t], state[0], 1e-6)


def test_zoneout_of_a_projected_cell() -> None:
    layer = Recurrent("projected_lstm", D, H, proj_size=2, zoneout=0.5)
    assert layer(x())[0].shape == (B, T, 2)


def test_repr_shows_the_options() -> None:
    assert repr(Recurrent("gru", 5, 6, weight_drop=0.5)) == "Recurrent(GRU, 5, 6, weight_drop=0.5)"
    assert "zoneout={'h': 0.1, 'c': 0.1}" in repr(Recurrent("lstm", 5, 6, zoneout=0.1))
