"""Wrong arguments, states and lengths of layers are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from elman.cells import CELLS
from elman.layers import (
    CRF,
    Bidirectional,
    Hierarchical,
    LastPooling,
    MaxPooling,
    MultiRate,
    Recurrent,
    RecurrentLayer,
    SequenceDropout,
    Stack,
    last_step,
    pooling_class,
    reverse,
    stack,
)  # fmt: skip
from elman.layers import state as states
from elman.layers.attention import attention
from elman.layers.encoder_decoder import AttentiveDecoder
from tests.conftest import LAYER_FAMILY, D, H, close, recurrent

B, T = 2, 3
Change = Callable[[Any], Any]

FAMILY: dict[str, Callable[[], RecurrentLayer]] = LAYER_FAMILY | {
    "multi-rate": lambda: MultiRate([recurrent("lstm"), Recurrent("gru", H, 4)], [1, 2]),
    "hierarchical": lambda: Hierarchical(recurrent("gru"), MaxPooling(H), stack("lstm", H, H, 2)),
    "stack of stacks": lambda: Stack([stack("lstm", D, H, 2), stack("gru", H, H, 2)]),
}  # fmt: skip


def first_leaf(state: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return the state with its first tensor changed."""
    return change(state) if isinstance(state, Tensor) else (first_leaf(state[0], change), *state[1:])


WRONG: dict[str, Change] = {
    "a tensor": lambda s: torch.stack([*states.flatten(s).values()][:1] * len(s)),
    "torch's pair": lambda s: (torch.zeros(len(s), B, H), torch.zeros(len(s), B, H)),
    "too few": lambda s: s[:-1],
    "too many": lambda s: (*s, s[-1]),
    "None inside": lambda s: (None, *s[1:]),
    "None at a leaf": lambda s: first_leaf(s, lambda _: None),
    "a number": lambda s: 0,
    "a string": lambda s: "h" * len(s),
    "a dictionary": lambda s: dict(enumerate(s)),
    "a generator": lambda s: (part for part in s),
    "an array": lambda s: first_leaf(s, lambda h: h.numpy()),
    "nested once more": lambda s: (s,) * (1 if len(s) > 1 else 2),
    "a leaf in a tuple": lambda s: first_leaf(s, lambda h: (h,)),
    "another batch": lambda s: states.map_state(s, lambda h: h[:1]),
    "another size": lambda s: first_leaf(s, lambda h: h[:, :0]),
    "one dimension more": lambda s: states.map_state(s, lambda h: h[None]),
    "another dtype": lambda s: states.map_state(s, lambda h: h.double()),
    "integers": lambda s: first_leaf(s, lambda h: h.long()),
    "another device": lambda s: first_leaf(s, lambda h: h.to("meta")),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", FAMILY)
def test_a_state_of_another_structure_is_refused(name: str, wrong: str) -> None:
    layer, x = FAMILY[name](), torch.randn(B, T, D)
    state = WRONG[wrong](layer.initial_state(x))
    calls: list[Callable[[], Any]] = [lambda: layer(x, state)]
    if layer.causal:
        calls.append(lambda: layer.step(x[:, 0], state))
    for gradients in (True, False):
        for call in calls:
            with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match=r"the state .* must .* got: "):
                call()


def test_the_error_shows_the_expected_structure() -> None:
    x = torch.zeros(B, T, D)
    with pytest.raises(ValueError, match=r"the state \(\(h, c\), \(h, c\)\) must have the shapes") as error:
        stack("lstm", D, 4, 2)(x, (torch.zeros(2, B, 4), torch.zeros(2, B, 4)))
    assert "(((2, 4), (2, 4)), ((2, 4), (2, 4))), got: ((2, 2, 4), (2, 2, 4))" in str(error.value)
    with pytest.raises(ValueError, match=r"the state \(h,\) must have the shapes \(\(2, 6\),\), got: \(2, 6\)"):
        Recurrent("gru", D, 6)(x, torch.zeros(B, 6))
    with pytest.raises(ValueError, match=r"must be torch.float32 on cpu, like x, got: torch.float64 on cpu"):
        Recurrent("gru", D, 6)(x, (torch.zeros(B, 6).double(),))
    with pytest.raises(ValueError, match=r"the state \(steps, \(\(\(h,\), y\),\)\) must have the shapes"):
        MultiRate([Recurrent("gru", D, 6)], [1])(x, (torch.zeros(B, 6),))


@pytest.mark.parametrize("name", FAMILY)
def test_a_state_may_be_of_lists(name: str) -> None:
    layer, x = FAMILY[name](), torch.randn(B, T, D)
    _, state = layer(x)

    def listed(part: Any) -> Any:
        return part if isinstance(part, Tensor) else [listed(one) for one in part]

    close(layer(x, listed(state)), layer(x, state), 1e-6)


def test_a_state_returned_under_autocast_is_accepted() -> None:
    layer, x = stack("lstm", D, H, 2), torch.randn(B, T, D)
    with torch.autocast("cpu", torch.bfloat16):
        _, state = layer(x)
        assert layer(x, state)[0].shape == (B, T, H)


def test_a_state_of_a_decoder() -> None:
    decoder = AttentiveDecoder("lstm", D, H, 2, attention("dot", H, H, H), H)
    memory, x = decoder.attention.read(torch.randn(B, T, H)), torch.randn(B, T, D)
    right = decoder.initial_state(x)
    for wrong in (tuple(right), right.layers, x, right._replace(layers=right.layers[:1]), right._replace(fed=(x,))):
        with pytest.raises(ValueError, match="the state must be a DecoderState .* of 2 layers"):
            decoder(x, memory, wrong)
        with pytest.raises(ValueError, match="the state must be a DecoderState .* of 2 layers"):
            decoder.step(x[:, 0], memory, wrong)  # type: ignore[arg-type]


SIZES: list[tuple[Any, type[Exception]]] = [
    (0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError), ("4", TypeError), (None, TypeError),
    (torch.tensor(1.5), TypeError), ([4], TypeError),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (name, *one)
        for name in ("input_size", "hidden_size", "heads")
        for one in SIZES
        if (name, one[0]) != ("heads", None)
    ],
)
def test_sizes_of_a_layer(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        Recurrent(**{"cell": "lstm", "input_size": D, "hidden_size": H, name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("bias", 1, TypeError), ("bias", "no", TypeError), ("bias", None, TypeError),
        ("proj_size", -1, ValueError), ("proj_size", 2.0, TypeError), ("proj_size", False, TypeError),
        ("open_bias", "1", ValueError), ("open_bias", float("nan"), ValueError), ("open_bias", True, ValueError),
        ("weight_drop", "0.5", ValueError), ("weight_drop", float("nan"), ValueError),
        ("weight_drop", True, ValueError),
        ("recurrent_dropout", None, ValueError), ("recurrent_dropout", 1, ValueError),
        ("zoneout", "0.5", ValueError), ("zoneout", {"h": "x"}, ValueError),
        ("dtype", torch.int64, TypeError), ("dtype", "float32", TypeError), ("dtype", torch.complex64, TypeError),
        ("cell", 5, TypeError), ("cell", ["lstm"], TypeError), ("cell", None, TypeError), ("cell", str, TypeError),
    ],
)  # fmt: skip
def test_arguments_of_a_layer(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Recurrent(**{"cell": "lstm", "input_size": D, "hidden_size": H, name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("num_layers", 0, ValueError), ("num_layers", -2, ValueError), ("num_layers", 2.0, TypeError),
        ("num_layers", True, TypeError), ("bidirectional", 1, TypeError), ("bidirectional", "yes", TypeError),
        ("variational", 1, TypeError), ("dropout", "0.5", ValueError), ("dropout", True, ValueError),
        ("connection", None, ValueError), ("hidden_size", [], ValueError), ("hidden_size", [4, 0], ValueError),
        ("input_size", 0, ValueError), ("bias", 1, TypeError),
    ],
)  # fmt: skip
def test_arguments_of_a_stack(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        stack(**{"cell": "lstm", "input_size": D, "hidden_size": H, name: value})


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: Stack([torch.nn.LSTM(D, H)]), TypeError),
        (lambda: Bidirectional(Recurrent("gru", D, H), torch.nn.GRU(D, H)), TypeError),
        (lambda: MultiRate([Recurrent("gru", D, H)], [1.5]), TypeError),
        (lambda: MultiRate([Recurrent("gru", D, H)], [True]), TypeError),
        (lambda: MultiRate([torch.nn.GRU(D, H)], [1]), TypeError),
        (lambda: Hierarchical(Recurrent("gru", D, H), "max", Recurrent("gru", H, H)), TypeError),
        (lambda: MaxPooling(0), ValueError),
        (lambda: LastPooling(4, 5), ValueError),
        (lambda: LastPooling(4, True), TypeError),
        (lambda: pooling_class(None), ValueError),
        (lambda: SequenceDropout(0.5, 1), TypeError),
        (lambda: SequenceDropout(float("nan")), ValueError),
        (lambda: CRF(0), ValueError),
        (lambda: CRF(2.5), TypeError),
    ],
)
def test_arguments_of_other_layers(build: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        build()


def test_numpy_integers_are_sizes() -> None:
    layer = Recurrent("gru", np.int64(D), np.int32(H))
    assert repr(layer) == "Recurrent(GRU, 5, 6)"


GIVEN: list[Callable[[list[int]], Any]] = [
    lambda n: n, tuple, np.array, lambda n: np.array(n, dtype=np.uint16), lambda n: torch.tensor(n, dtype=torch.uint8),
    lambda n: torch.tensor(n, dtype=torch.int32),
]  # fmt: skip


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", FAMILY)
def test_lengths_may_be_a_list_or_an_array(name: str, given: Callable[[list[int]], Any]) -> None:
    layer, x = FAMILY[name](), torch.randn(B, T, D)
    close(layer(x, None, given([3, 1])), layer(x, None, torch.tensor([3, 1])), 1e-6)


def test_lengths_of_other_functions() -> None:
    y, lengths = torch.randn(B, T, 4), torch.tensor([3, 1])
    close(reverse(y, [3, 1]), reverse(y, lengths))
    close(last_step(y, np.array([3, 1])), last_step(y, lengths))
    close(MaxPooling(4)(y, [3, 1]), MaxPooling(4)(y, lengths))


@pytest.mark.parametrize(
    "lengths",
    [
        [3], [3, 4], [3, -1], [3.0, 1.0], [True, False], ["3", "1"], [None, 1], 3, "31", [[3, 1]], [3, 2**70], {3, 1},
    ],
)  # fmt: skip
def test_wrong_lengths(lengths: Any) -> None:
    with pytest.raises(ValueError, match="lengths must be"):
        recurrent("gru")(torch.randn(B, T, D), None, lengths)


def test_no_rows_have_no_lengths() -> None:
    assert recurrent("gru")(torch.randn(0, T, D), None, [])[0].shape == (0, T, H)


def test_x_and_resets_are_tensors() -> None:
    with pytest.raises(TypeError, match="x must be a tensor"):
        recurrent("gru")(np.zeros((B, T, D)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="resets must be a bool tensor"):
        recurrent("gru")(torch.zeros(B, T, D), None, None, [[True] * T] * B)  # type: ignore[arg-type]


def test_every_cell_names_its_state() -> None:
    for name, cell in CELLS.items():
        layer = Recurrent(name, D, H, proj_size=4 if cell.projected else 0)
        shapes = [part.shape[1:] for part in layer.initial_state(torch.zeros(B, D))]
        assert layer.sizes() == tuple(shape if len(shape) > 1 else shape[0] for shape in shapes)
