"""`quantize`, `packed` and `Recorder` on elman.nn's modules, as on elman.layers."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import elman
import elman.nn as ours
from elman import engines
from elman.cells import CELLS, Weights
from elman.layers import Recurrent, packed, quantize, stack
from elman.layers.recorder import Recorder
from elman.layers.recurrence import Bound, HasRecurrences, Recurrence, recurrences_of
from tests.conftest import D, H, close
from tests.test_nn import flat

T, B = 6, 3
LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"num_layers": 2, "proj_size": 3}),
    ("GRU", {"num_layers": 2, "bidirectional": True, "bias": False}),
]
CELL_KINDS = ["RNNCell", "LSTMCell", "GRUCell"]


def on_grid(matrix: Tensor) -> bool:
    """Return whether each row lies on its int8 grid."""
    steps = matrix / matrix.abs().amax(1, keepdim=True) * 127
    return bool((steps - steps.round()).abs().max() < 1e-3)


def bounds_of(module: nn.Module) -> list[Bound]:
    """Return the recurrences of a network."""
    return [bound for _, bound in recurrences_of(module)]


@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_quantize_rounds_the_matrices_alone(kind: str, options: dict[str, Any]) -> None:
    module, theirs = getattr(ours, kind)(D, H, **options), getattr(nn, kind)(D, H, **options)
    before = copy.deepcopy(module.state_dict())
    quantize(module)
    for name, after in module.state_dict().items():
        if name.startswith("bias"):
            assert torch.equal(after, before[name])
        else:
            assert on_grid(after) and not on_grid(before[name])
            assert ((after - before[name]).abs() <= before[name].abs().amax(1, keepdim=True) / 254 + 1e-7).all()
    theirs.load_state_dict(module.state_dict())
    for steps in (1, T, 40):
        x = torch.randn(steps, B, D)
        for training in (True, False):
            close(flat(module.train(training)(x)), flat(theirs(x)), 1e-5)
            with torch.no_grad():
                close(flat(module(x)), flat(theirs(x)), 1e-5)


@pytest.mark.parametrize("kind", CELL_KINDS)
def test_quantize_rounds_cells(kind: str) -> None:
    cell, theirs = getattr(ours, kind)(D, H), getattr(nn, kind)(D, H)
    bias = cell.bias_hh.clone()
    quantize(cell)
    assert on_grid(cell.weight_ih) and on_grid(cell.weight_hh) and torch.equal(cell.bias_hh, bias)
    theirs.load_state_dict(cell.state_dict())
    x = torch.randn(B, D)
    close(flat(cell(x)), flat(theirs(x)), 1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize(("kind", "options"), [layer for layer in LAYERS if "proj_size" not in layer[1]])
def test_packed_int8_equals_the_rounded_weights(kind: str, options: dict[str, Any], rows: int, training: bool) -> None:
    module = getattr(ours, kind)(37, 50, **options).train(training)
    quantize(module)
    with torch.no_grad():
        for steps in (1, T):
            x = torch.randn(steps, rows, 37)
            _, state = module(x)
            with elman.engine("eager"):
                expected = flat(module(x, state)) + flat(module(x, lengths=[steps] * rows))
            kept = copy.deepcopy(module.state_dict())
            with packed(module):
                assert all("scale_hh" in bound.recurrence.packed.fields for bound in bounds_of(module))  # type: ignore[union-attr]
                for parameter in module.parameters():
                    if parameter.dim() == 2:
                        parameter.zero_()  # not read inside the block
                close(flat(module(x, state)) + flat(module(x, lengths=[steps] * rows)), expected, 1e-4)
            assert all(bound.recurrence.packed is None for bound in bounds_of(module))
            module.load_state_dict(kept)
            close(flat(module(x, state)), expected[: len(flat(module(x, state)))], 5e-6)


@pytest.mark.parametrize("kind", CELL_KINDS)
def test_packed_cells(kind: str) -> None:
    cell, x = getattr(ours, kind)(37, 50), torch.randn(B, 37)
    quantize(cell)
    with torch.no_grad():
        state = cell(x)
        expected = flat(cell(x, state))
        with packed(cell):
            cell.weight_ih.zero_()
            close(flat(cell(x, state)), expected, 1e-4)
            close(flat(cell(x[0], tuple(s[0] for s in flat(state)) if kind == "LSTMCell" else state[0])),
                  [part[0] for part in expected], 1e-4)  # fmt: skip
        assert cell.recurrences()[0].recurrence.packed is None


def test_projections_are_not_packed() -> None:
    module, x = ours.LSTM(D, H, proj_size=3), torch.randn(T, B, D)
    quantize(module)
    with torch.no_grad():
        expected = flat(module(x))
        with packed(module):
            close(flat(module(x)), expected, 1e-6)


def test_gradients_inside_a_packed_block_are_those_of_the_parameters() -> None:
    module, x = ours.GRU(D, H), torch.randn(1, 1, D)
    quantize(module)
    module(x)[0].sum().backward()
    expected = [p.grad.clone() for p in module.parameters()]  # type: ignore[union-attr]
    module.zero_grad()
    with packed(module):
        module(x)[0].sum().backward()
    close([p.grad for p in module.parameters()], expected, 1e-6)


def test_a_copy_is_quantised_and_packs_for_itself() -> None:
    module, x = ours.LSTM(D, H), torch.randn(T, 1, D)
    quantize(module)
    with torch.no_grad(), packed(module):
        expected = flat(module(x))
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            (bound,) = twin.recurrences()
            assert bound.recurrence.rounded is torch.int8 and bound.recurrence.packed is None
            twin.weight_hh_l0.mul_(0.5)
            twin.weight_hh_l0.mul_(2)
            close(flat(twin(x)), expected, 1e-4)
            twin.weight_hh_l0.zero_()
            assert not torch.allclose(twin(x)[0], expected[0])


def test_parameters_that_are_replaced_are_the_ones_in_use() -> None:
    module, x = ours.GRU(D, H), torch.randn(T, B, D)
    quantize(module)
    other = nn.GRU(D, H)
    module.load_state_dict(other.state_dict(), assign=True)
    close(module(x), other(x), 1e-6)
    with torch.no_grad(), packed(module):  # off the grid: packed, but not as int8
        close(module(x[:1]), other(x[:1]), 1e-6)


def weight_norm(module: nn.Module) -> None:
    parametrizations.weight_norm(module, "weight_hh_l0")


def pruned(module: nn.Module) -> None:
    prune.l1_unstructured(module, "weight_ih_l0", 0.5)


def test_dtypes_of_rounded_weights() -> None:
    module = nn.Sequential(nn.Linear(D, D), ours.GRU(D, H))
    with pytest.raises(ValueError, match=r"dtype must be torch.int8 or torch.bfloat16, got: torch.float16"):
        quantize(module, torch.float16)
    before = copy.deepcopy(module.state_dict())
    quantize(module, torch.bfloat16)
    for name, tensor in module.state_dict().items():
        expected = before[name] if "bias" in name else before[name].bfloat16().float()
        assert torch.equal(tensor, expected)


@pytest.mark.parametrize("change", [weight_norm, pruned])
def test_quantize_refuses_weights_that_are_computed(change: Any) -> None:
    network = nn.Sequential(nn.Linear(D, D), ours.GRU(D, H))
    change(network[1])
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="a matrix of 1.l0 is computed from other parameters"):
        quantize(network)
    assert not any(bound.recurrence.rounded for bound in bounds_of(network))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


class Reader(nn.Module):
    """A network with elman.nn's GRU, or the same network with elman.layers'."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0].sin().sum(-1).square().mean()


def test_recorder_sees_layers_and_directions() -> None:
    module = ours.GRU(D, H, 2, batch_first=True, bidirectional=True).double()
    layers = stack("gru", D, H, 2, bidirectional=True).double()
    places = {"l0": "0", "l0_reverse": "0", "l1": "1", "l1_reverse": "1"}
    for suffix, layer in places.items():
        direction = layers.get_submodule(f"layers.{layer}.directions.{int('reverse' in suffix)}")
        names = [name for name in module.state_dict() if name.endswith(f"_{suffix}")]
        direction.load_state_dict({name.removesuffix(f"_{suffix}"): module.state_dict()[name] for name in names})
    x, records = torch.randn(1, T, D, dtype=torch.float64), []
    for rnn in (module, layers):
        network = Reader(rnn)
        with Recorder(network) as recorder:
            network(x).backward()
        records.append(recorder.layers())
        assert all(bound.recurrence.observer is None for bound in bounds_of(network))
    assert [record.layer for record in records[0]] == [f"rnn.{suffix}" for suffix in places]
    for mine, other in zip(*records, strict=True):
        assert list(mine.values) == list(other.values) == ["r", "z", "n", "h"]
        for name in mine.values:
            close(mine.values[name], other.values[name])
        close(mine.gradients(), other.gradients())
        assert (mine.gradients() > 0).all()
    y = module(x)[0][0].detach()
    close(torch.cat((records[0][2].values["h"], records[0][3].values["h"]), 1), y)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recorder_sees_a_loop_over_steps(kind: str) -> None:
    whole, cell = getattr(ours, kind)(D, H).double(), getattr(ours, f"{kind}Cell")(D, H).double()
    layer = Recurrent({"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}[kind], D, H).double()
    for module in (cell, layer):
        module.load_state_dict({name.removesuffix("_l0"): p for name, p in whole.state_dict().items()})
    x = torch.randn(T, 1, D, dtype=torch.float64)

    def by_cell(state: Any = None) -> Tensor:
        for step in x:
            state = cell(step, state)
        return flat(state)[0]

    def by_step(state: Any = None) -> Tensor:
        for step in x:
            y, state = layer.step(step, state)
        return y

    records = []
    for network, run in ((whole, lambda: whole(x)[0][-1]), (cell, by_cell), (layer, by_step)):
        with Recorder(network) as recorder:
            run().square().sum().backward()
            loss = run().square().sum()  # from zeros: recorded anew
            loss.backward()
        (record,) = recorder.layers()
        records.append((list(record.values.values()), record.gradients()))
        assert record.layer == ("l0" if network is whole else "layer")
    close(records[1], records[0])
    close(records[2], records[0])


@pytest.mark.parametrize("kind", ["GRU", "GRUCell"])
def test_observers_see_calls_that_torch_would_run(kind: str) -> None:
    module, x = getattr(ours, kind)(D, H), torch.randn(1, D) if kind == "GRUCell" else torch.randn(1, 1, D)
    expected, calls = flat(module(x)), []

    def observe(recurrence: Recurrence, scan: engines.Scan) -> tuple[Tensor, engines.State]:
        calls.append(recurrence)
        return engines.run(scan)

    (bound,) = module.recurrences()
    bound.recurrence.observer = observe
    close(flat(module(x)), expected, 1e-6)
    assert calls == [bound.recurrence]


class Shared(nn.Module, HasRecurrences):
    """A module of a user, which runs one cell with parameters under its own names."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D + H, H)
        self.recurrence = Recurrence(CELLS["rnn_tanh"])
        self.w, self.r = nn.Parameter(torch.randn(H, D)), nn.Parameter(torch.randn(H, H))

    def recurrences(self) -> list[Bound]:
        return [Bound("shared", self.recurrence, Weights(self.w, self.r))]

    def forward(self, x: Tensor) -> Tensor:
        weights, state = Weights(self.w, self.r), (x.new_zeros(len(x), H),)
        return self.recurrence.run(self.recurrence.scan(weights, x, state))[0]


def test_modules_of_users_are_seen() -> None:
    network = nn.Sequential(Shared())
    x = torch.randn(1, T, D)
    with Recorder(network) as recorder:
        network(x).sum().backward()
    assert [record.layer for record in recorder.layers()] == ["0.shared"]
    quantize(network)
    assert on_grid(network[0].r)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = network(x)
        with packed(network):
            network[0].r.zero_()  # type: ignore[operator, union-attr]
            close(network(x), expected, 1e-4)
