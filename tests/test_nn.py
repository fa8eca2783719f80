"""elman.nn against torch.nn: the same numbers, state dicts, shapes and errors."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import elman.nn as ours
from tests.conftest import close

T, B, D, H = 6, 4, 5, 7
LENGTHS = torch.tensor([6, 1, 3, 3])


def pair(kind: str, **options: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return torch's module and ours, initialised with the same seed."""
    modules = []
    for library in (torch.nn, ours):
        torch.manual_seed(1)
        modules.append(getattr(library, kind)(D, H, dtype=torch.float64, **options))
    return modules[0], modules[1]


def flat(result: Any) -> list[Tensor]:
    """Return all tensors of a result."""
    if isinstance(result, PackedSequence):
        return [result.data]
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in flat(part)]


OPTIONS = [
    {"kind": kind, "num_layers": layers, "bidirectional": both, "batch_first": first, "bias": bias, **more}
    for kind, layers, both, first, bias in itertools.product(
        ("RNN", "LSTM", "GRU"), (1, 2), (False, True), (False, True), (True, False)
    )
    for more in {"RNN": [{}, {"nonlinearity": "relu"}], "LSTM": [{}, {"proj_size": 3}], "GRU": [{}]}[kind]
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
def test_equals_torch(options: dict[str, Any], engine_name: str) -> None:
    theirs, mine = pair(**options)
    assert list(theirs.state_dict()) == list(mine.state_dict())
    close(list(mine.parameters()), list(theirs.parameters()))  # the same draws from the same seed
    assert repr(mine) == repr(theirs)
    theirs.reset_parameters()  # type: ignore[operator]
    mine.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(mine.state_dict())

    x = torch.randn(T, B, D, dtype=torch.float64)
    state = [
        torch.randn(part.shape, dtype=torch.float64)
        for part in flat(theirs(x.transpose(0, 1) if options["batch_first"] else x)[1])
    ]
    hx: Any = tuple(state) if len(state) > 1 else state[0]
    one: Any = tuple(s[:, 0] for s in state) if len(state) > 1 else state[0][:, 0]
    batch = x.transpose(0, 1) if options["batch_first"] else x
    packed = pack_padded_sequence(batch, LENGTHS, options["batch_first"], enforce_sorted=False)
    in_order = pack_sequence([x[:n, row] for row, n in enumerate((6, 6, 3, 1))])
    calls = [(batch,), (batch, hx), (x[:, 0],), (x[:, 0], one), (packed,), (packed, hx), (in_order, hx)]
    for arguments in calls:
        results = [flat(module(*arguments)) for module in (mine, theirs)]
        close(*results)
        grads = [
            torch.autograd.grad(sum((t * t).sum() for t in result), list(module.parameters()))
            for result, module in zip(results, (mine, theirs), strict=True)
        ]
        close(*grads)
    a, b = mine(packed)[0], theirs(packed)[0]
    assert type(a) is PackedSequence
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(a, field), getattr(b, field))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_dropout_draws_as_torch_does(kind: str) -> None:
    theirs, mine = pair(kind, num_layers=3, dropout=0.4, bidirectional=True)
    x = torch.randn(T, B, D, dtype=torch.float64)
    results = []
    for module in (mine, theirs):
        torch.manual_seed(3)
        results.append(flat(module(x)))
    close(*results)
    close(flat(mine.eval()(x)), flat(theirs.eval()(x)))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("both", [False, True])
def test_lengths_equal_packing(kind: str, both: bool, engine_name: str) -> None:
    theirs, mine = pair(kind, num_layers=2, bidirectional=both, batch_first=True)
    x = torch.randn(B, T, D, dtype=torch.float64)
    packed, state = theirs(pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False))
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    y, final = mine(x, lengths=LENGTHS)
    close((y, *flat(final)), (padded, *flat(state)))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RNNCell", {}),
        ("RNNCell", {"nonlinearity": "relu"}),
        ("LSTMCell", {}),
        ("GRUCell", {}),
        ("GRUCell", {"bias": False}),
    ],
)
def test_cells_equal_torch(kind: str, options: dict[str, Any], engine_name: str) -> None:
    theirs, mine = pair(kind, **options)
    assert list(theirs.state_dict()) == list(mine.state_dict())
    close(list(mine.parameters()), list(theirs.parameters()))
    mine.load_state_dict(theirs.state_dict())
    x, h = torch.randn(B, D, dtype=torch.float64), torch.randn(B, H, dtype=torch.float64)
    hx = (h, h * 2) if kind == "LSTMCell" else h
    one = tuple(part[0] for part in hx) if kind == "LSTMCell" else h[0]
    for arguments in [(x,), (x, hx), (x[0],), (x[0], one)]:
        close(flat(mine(*arguments)), flat(theirs(*arguments)))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"hidden_size": 0}),
        ("LSTM", {"hidden_size": 2.5}),
        ("LSTM", {"num_layers": 0}),
        ("LSTM", {"dropout": 1.5}),
        ("LSTM", {"dropout": "much"}),
        ("LSTM", {"proj_size": 7}),
        ("LSTM", {"proj_size": -1}),
        ("RNN", {"nonlinearity": "sine"}),
        ("RNNCell", {"nonlinearity": "sine"}),
    ],
)
def test_wrong_options_are_refused(kind: str, options: dict[str, Any]) -> None:
    arguments = {"input_size": D, "hidden_size": H, **options}
    with pytest.raises((ValueError, TypeError)):
        getattr(ours, kind)(**arguments)
    if kind != "RNNCell":  # torch's cell raises at the first call
        with pytest.raises((ValueError, TypeError)):
            getattr(torch.nn, kind)(**arguments)


def test_dropout_on_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match="between layers"):
        ours.GRU(D, H, dropout=0.5)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(
    ("x", "h"),
    [
        ((D,), None),
        ((1, T, B, D), None),
        ((T, B, D + 1), None),
        ((T, B, D), (1, B, H + 1)),
        ((T, B, D), (2, B, H)),
        ((T, B, D), (B, H)),
        ((T, D), (1, B, H)),
        ((0, B, D), None),
    ],
)
def test_wrong_shapes_are_refused_as_torch_does(kind: str, x: tuple[int, ...], h: tuple[int, ...] | None) -> None:
    hx: Any = None if h is None else torch.zeros(h, dtype=torch.float64)
    if hx is not None and kind == "LSTM":
        hx = (hx, hx)
    errors = []
    for module in pair(kind):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            module(torch.zeros(x, dtype=torch.float64), hx)
        errors.append(caught.value)
    assert type(errors[0]) is type(errors[1])
    assert str(errors[1])


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_padding_may_hold_anything(kind: str, engine_name: str) -> None:
    _, mine = pair(kind, batch_first=True, bidirectional=True)
    x = torch.randn(B, T, D, dtype=torch.float64)
    clean = flat(mine(x, lengths=LENGTHS))
    x[1, 1:] = torch.nan
    y = flat(mine(x, lengths=LENGTHS))
    close(y, clean)
    sum(part.sum() for part in y).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in mine.parameters())


@pytest.mark.parametrize("lengths", [[6, 7, 1, 1], [6, -1, 1, 1], [6, 1], [6.0, 1.0, 1.0, 1.0]])
def test_wrong_lengths_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="lengths must be"):
        pair("GRU", batch_first=True)[1](torch.zeros(B, T, D, dtype=torch.float64), lengths=torch.tensor(lengths))


def test_a_wrong_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="float32, the parameters are torch.float64"):
        pair("GRU")[1](torch.zeros(T, B, D))


def test_double_backward_and_vmap_on_eager() -> None:
    import elman

    _, mine = pair("LSTM")
    x = torch.randn(2, 1, D, dtype=torch.float64, requires_grad=True)
    with elman.engine("eager"):
        assert torch.autograd.gradgradcheck(lambda x: mine(x)[0], x)
    batch = torch.randn(3, T, B, D, dtype=torch.float64)
    close(torch.vmap(lambda x: mine(x)[0])(batch), torch.stack([mine(x)[0] for x in batch]))


def test_attributes_of_torch_modules_exist() -> None:
    theirs, mine = pair("LSTM", num_layers=2, bidirectional=True, proj_size=2)
    mine.flatten_parameters()  # type: ignore[operator]
    assert [[p.shape for p in layer] for layer in mine.all_weights] == [
        [p.shape for p in layer]
        for layer in theirs.all_weights  # type: ignore[union-attr]
    ]
    for name in (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
    ):
        assert getattr(mine, name) == getattr(theirs, name)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(("H", "rows"), [(600, 1), (600, 4), (760, 1), (32, 5)])
def test_one_step_equals_torch_at_any_size(kind: str, gradients: bool, H: int, rows: int) -> None:
    """Sizes, rows and gradients decide which kernel runs."""
    theirs, layer = getattr(torch.nn, kind)(H, H, batch_first=True), getattr(ours, kind)(H, H, batch_first=True)
    theirs_cell, cell = getattr(torch.nn, f"{kind}Cell")(H, H), getattr(ours, f"{kind}Cell")(H, H)
    layer.load_state_dict(theirs.state_dict())
    cell.load_state_dict(theirs_cell.state_dict())
    x, h = torch.randn(rows, 1, H), torch.randn(1, rows, H)
    state = (h, h.flip(2)) if kind == "LSTM" else h
    flat = tuple(part[0] for part in state) if kind == "LSTM" else h[0]
    with torch.set_grad_enabled(gradients):
        close(layer(x, state), theirs(x, state), 1e-5)
        close(cell(x[:, 0], flat), theirs_cell(x[:, 0], flat), 1e-5)
