"""elman.nn's modules in code written for torch.nn's: attributes, changes of parameters, and wrong arguments."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize, prune

import elman.nn as ours
from elman.layers import Recurrent
from tests.conftest import close
from tests.test_nn import flat

T, B, D, H = 4, 3, 5, 6
KINDS = ["RNN", "LSTM", "GRU"]


def pair(kind: str, **options: Any) -> Iterator[torch.nn.Module]:
    """Yield torch's module and ours, initialised with the same seed."""
    for library in (torch.nn, ours):
        torch.manual_seed(1)
        yield getattr(library, kind)(D, H, **options)


def both(kind: str, change: Callable[[torch.nn.Module], Any], **options: Any) -> None:
    """Check that both return the same after the same change."""
    x, results = torch.randn(T, B, D), []
    for module in pair(kind, **options):
        torch.manual_seed(2)
        run = change(module) or module
        results.append(flat(run(x)))
    close(*results, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_modules_are_instances_of_the_base_classes_of_torch(kind: str) -> None:
    theirs, mine = pair(kind, num_layers=2, bidirectional=True)
    assert isinstance(mine, torch.nn.RNNBase)
    for name in ("mode", "_all_weights", "_flat_weights_names", "__constants__"):
        assert getattr(mine, name) == getattr(theirs, name)
    assert list(map(id, mine._flat_weights)) == list(map(id, mine.parameters()))  # type: ignore[arg-type]
    assert [p.shape for p in mine._flat_weights] == [p.shape for p in theirs._flat_weights]  # type: ignore[union-attr]
    assert ours.RNN(D, H, nonlinearity="relu").mode == "RNN_RELU"
    for cell in ("RNNCell", "LSTMCell", "GRUCell"):
        assert isinstance(getattr(ours, cell)(D, H), torch.nn.RNNCellBase)


def weight_norm(module: torch.nn.Module) -> None:
    parametrizations.weight_norm(module, "weight_hh_l0")


def drop_connect(module: torch.nn.Module) -> None:
    """Drop weights as language models after Merity et al. 2018 do."""
    weight = module.weight_hh_l0
    del module._parameters["weight_hh_l0"]
    module.register_parameter("raw", torch.nn.Parameter(weight.data))  # type: ignore[arg-type]
    if isinstance(module, torch.nn.RNNBase):
        module.flatten_parameters = lambda: None  # type: ignore[method-assign]
    module.weight_hh_l0 = torch.nn.functional.dropout(module.raw, 0.5)  # type: ignore[arg-type]


def write_flat_weights(module: torch.nn.Module) -> None:
    module._flat_weights[1] = module._flat_weights[1] * 0.5  # type: ignore[operator, index]


def replace_parameter(module: torch.nn.Module) -> None:
    module._parameters["weight_hh_l0"] = torch.nn.Parameter(torch.full_like(module.weight_hh_l0, 0.1))  # type: ignore[arg-type]


def replace_attribute(module: torch.nn.Module) -> None:
    module.bias_ih_l0 = torch.nn.Parameter(torch.ones_like(module.bias_ih_l0))  # type: ignore[arg-type]


def initialise(module: torch.nn.Module) -> None:
    """Initialise parameters by name, as user code does."""
    if isinstance(module, torch.nn.RNNBase):
        for names in module._all_weights:
            for name in names:
                values = getattr(module, name)
                torch.nn.init.zeros_(values) if "bias" in name else torch.nn.init.orthogonal_(values)


def change_data(module: torch.nn.Module) -> None:
    for layer in module.all_weights:  # type: ignore[union-attr]
        layer[0].data *= 2.0  # type: ignore[index, misc]


def call_functionally(module: torch.nn.Module) -> Callable[[Tensor], Any]:
    other = {name: p.detach() * 0.5 for name, p in module.named_parameters()}
    return lambda x: torch.func.functional_call(module, other, (x,))


def pruned(module: torch.nn.Module) -> None:
    prune.l1_unstructured(module, "weight_hh_l0", 0.5)


CHANGES = [
    weight_norm, drop_connect, write_flat_weights, replace_parameter, replace_attribute, initialise, change_data,
    call_functionally, pruned, copy.deepcopy, torch.nn.Module.eval, lambda m: m.to(torch.float64).to(torch.float32),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_changes_of_parameters_mean_the_same_as_in_torch(kind: str, change: Callable[[torch.nn.Module], Any]) -> None:
    both(kind, change)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(("options", "name"), [({}, "weight_ih_l0"), ({"proj_size": 3}, "weight_hr_l0")])
def test_old_weight_norm_and_back(options: dict[str, int], name: str) -> None:
    module = ours.LSTM(D, H, **options)  # type: ignore[arg-type]
    count = len(module._flat_weights)

    def parameters() -> int:
        return sum(isinstance(p, torch.nn.Parameter) for p in module._flat_weights)

    x = torch.randn(T, B, D)
    before = flat(module(x))
    torch.nn.utils.weight_norm(module, name)
    assert parameters() == count - 1
    close(flat(module(x)), before, 1e-6)
    torch.nn.utils.remove_weight_norm(module, name)
    assert parameters() == count
    assert name in module._parameters
    close(flat(module(x)), before, 1e-6)


def test_a_parametrization_learns() -> None:
    module = ours.GRU(D, H)
    parametrize.register_parametrization(module, "weight_hh_l0", torch.nn.Identity())
    module(torch.randn(T, B, D))[0].sum().backward()
    original = module.parametrizations.weight_hh_l0.original  # type: ignore[union-attr]
    assert original.grad is not None


def test_a_pickled_module_runs() -> None:
    module, x = ours.LSTM(D, H, 2, bidirectional=True), torch.randn(T, B, D)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    close(flat(again(x)), flat(module(x)))
    assert list(map(id, again._flat_weights)) == list(map(id, again.parameters()))


@pytest.mark.parametrize("kind", [*KINDS, "RNNCell", "LSTMCell", "GRUCell"])
def test_replicas_run_with_their_own_parameters(kind: str) -> None:
    """As torch.nn.DataParallel makes them: shallow copies whose parameters are other tensors."""
    results, x = [], torch.randn(B, D) if kind.endswith("Cell") else torch.randn(T, B, D)
    for module in pair(kind):
        replica = module._replicate_for_data_parallel()  # type: ignore[operator]
        for name, parameter in module.named_parameters():
            setattr(replica, name, parameter * 0.5)
        results.append([*flat(replica(x)), *flat(module(x))])
        grads = torch.autograd.grad(sum(part.sum() for part in flat(replica(x))), list(module.parameters()))  # type: ignore[arg-type]
        results[-1] += grads
    close(*results, 1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "RNNCell", "LSTMCell", "GRUCell"])
def test_parameters_are_registered_once(kind: str) -> None:
    theirs, mine = pair(kind)
    for names in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert [name for name, _ in getattr(mine, names)()] == [name for name, _ in getattr(theirs, names)()]
    assert repr(mine) == repr(theirs)
    assert mine.share_memory() is mine and all(p.is_shared() for p in mine.parameters())
    mine.load_state_dict(theirs.state_dict(), assign=True, strict=True)
    assert [p.data_ptr() for p in mine.parameters()] == [p.data_ptr() for p in theirs.parameters()]
    x = torch.randn(B, D) if kind.endswith("Cell") else torch.randn(T, B, D)
    close(flat(mine(x)), flat(theirs(x)), 1e-5)
    for convert in (torch.nn.Module.half, torch.nn.Module.double):
        assert {p.dtype for p in convert(mine).parameters()} == {p.dtype for p in convert(theirs).parameters()}
    close(flat(mine(x.double())), flat(theirs(x.double())))


ARGUMENTS: list[tuple[str, Any]] = [
    ("input_size", 0), ("input_size", -1), ("input_size", 2.0), ("input_size", "5"), ("input_size", True),
    ("hidden_size", 0), ("hidden_size", 2.5), ("hidden_size", None), ("num_layers", 0), ("num_layers", 1.0),
    ("num_layers", True), ("bias", 1), ("bias", "no"), ("batch_first", "no"), ("batch_first", 0), ("batch_first", None),
    ("dropout", -0.1), ("dropout", 1.5), ("dropout", "0.5"), ("dropout", True), ("dropout", float("nan")),
    ("dropout", None), ("bidirectional", 1), ("bidirectional", "yes"), ("dtype", torch.int64),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "value"), ARGUMENTS)
def test_wrong_arguments(kind: str, name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        getattr(ours, kind)(**{"input_size": D, "hidden_size": H, name: value})


@pytest.mark.parametrize("value", [2, 0, -1, True])
@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_only_the_lstm_projects(kind: str, value: int) -> None:
    for library in (torch.nn, ours):
        with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
            getattr(library, kind)(D, H, proj_size=value)


@pytest.mark.parametrize(("name", "value"), [a for a in ARGUMENTS if a[0] in ("bias", "dtype")] + [
    ("input_size", -1), ("hidden_size", -1), ("input_size", 2.0), ("hidden_size", True),
])  # fmt: skip
def test_wrong_arguments_of_cells(name: str, value: Any) -> None:
    for kind in ("RNNCell", "LSTMCell", "GRUCell"):
        with pytest.raises((TypeError, ValueError), match=name):
            getattr(ours, kind)(**{"input_size": D, "hidden_size": H, name: value})


STATES: list[Callable[[Tensor], Any]] = [
    lambda h: torch.stack((h, h)), lambda h: (h,),
    lambda h: (h, h, h), lambda h: (h, None), lambda h: 0, lambda h: "hc",
    lambda h: {"h": h, "c": h}, lambda h: ((h, h), (h, h)), lambda h: (h.numpy(), h.numpy()),
    lambda h: (p for p in (h, h)),
]  # fmt: skip


@pytest.mark.parametrize("wrong", STATES)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_a_state_of_another_structure(kind: str, wrong: Callable[[Tensor], Any]) -> None:
    cell, lstm = kind.endswith("Cell"), kind.startswith("LSTM")
    state = wrong(torch.zeros(B, H) if cell else torch.zeros(1, B, H))
    if isinstance(state, Tensor) and not lstm:
        state = (state[0], state[0])
    message = r"hx must be a pair of tensors \(h, c\)" if lstm else "hx must be one tensor"
    with pytest.raises(ValueError, match=message):
        getattr(ours, kind)(D, H)(torch.zeros(B, D) if cell else torch.zeros(T, B, D), state)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"dtype": torch.float64}, "same dtype"),
        ({"dtype": torch.long}, "same dtype"),
        ({"device": "meta"}, "device"),
    ],
)
def test_a_state_of_another_kind(kind: str, other: dict[str, Any], message: str) -> None:
    cell, lstm = kind.endswith("Cell"), kind.startswith("LSTM")
    h = torch.zeros(B, H, **other) if cell else torch.zeros(1, B, H, **other)
    with pytest.raises(RuntimeError, match=message):
        getattr(ours, kind)(D, H)(torch.zeros(B, D) if cell else torch.zeros(T, B, D), (h, h) if lstm else h)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_may_be_a_list(kind: str) -> None:
    module, x = getattr(ours, kind)(D, H), torch.randn(T, B, D)
    close(flat(module(x, lengths=[4, 2, 1])), flat(module(x, lengths=torch.tensor([4, 2, 1]))))
    with pytest.raises(ValueError, match="lengths must be"):
        module(x, lengths=[4, 2])


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(("inputs", "units"), [(D, 0), (0, H), (0, 0)])
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_without_units_or_inputs(kind: str, inputs: int, units: int, gradients: bool) -> None:
    results = []
    for library in (torch.nn, ours):
        torch.manual_seed(1)
        with torch.set_grad_enabled(gradients):
            cell = getattr(library, kind)(inputs, units)
            result = flat(cell(torch.zeros(B, inputs)))
            assert [part.shape for part in result] == [(B, units)] * len(result)
            results.append(result)
    close(*results, 1e-6)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_without_rows(kind: str, gradients: bool) -> None:
    with torch.set_grad_enabled(gradients):
        assert flat(getattr(ours, kind)(D, H)(torch.zeros(0, D)))[0].shape == (0, H)


BROKEN: dict[str, Callable[[Any], None]] = {
    "rows": lambda m: setattr(m, "weight_hh", torch.nn.Parameter(torch.zeros(2, H))),
    "columns": lambda m: setattr(m, "weight_ih", torch.nn.Parameter(torch.zeros(m.weight_ih.shape[0], D - 1))),
    "bias": lambda m: setattr(m, "bias_ih", torch.nn.Parameter(torch.zeros(1))),
    "other bias": lambda m: setattr(m, "bias_hh", torch.nn.Parameter(torch.zeros(H - 1))),
    "dimension": lambda m: setattr(m, "bias_hh", torch.nn.Parameter(torch.zeros(m.bias_hh.shape[0], 1))),
    "one weight elsewhere": lambda m: setattr(m, "weight_hh", torch.nn.Parameter(m.weight_hh.to("meta"))),
    "all elsewhere": lambda m: m.to("meta"),
}


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize(
    "build",
    [
        lambda: Recurrent("gru", D, H), lambda: Recurrent("lstm", D, H), lambda: ours.GRUCell(D, H),
        lambda: ours.LSTMCell(D, H),
    ],
)  # fmt: skip
def test_replaced_weights_of_a_wrong_size_are_refused(build: Callable[[], Any], broken: str, gradients: bool) -> None:
    module = build()
    BROKEN[broken](module)
    x = torch.zeros(B, D)
    with torch.set_grad_enabled(gradients), pytest.raises((ValueError, RuntimeError)):
        module.step(x) if isinstance(module, Recurrent) else module(x)
    with torch.set_grad_enabled(gradients), pytest.raises((ValueError, RuntimeError)):
        module(x[:, None]) if isinstance(module, Recurrent) else module(x)


def test_replaced_vectors_of_a_wrong_size_are_refused() -> None:
    layer = Recurrent("peephole_lstm", D, H)
    for name in ("p_i", "p_f", "p_o"):
        setattr(layer, name, torch.nn.Parameter(torch.zeros(2)))
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), pytest.raises((ValueError, RuntimeError), match="p_i"):
            layer(torch.zeros(B, T, D))


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
def test_layouts_in_memory(kind: str, gradients: bool) -> None:
    layer = Recurrent(kind, D, H)
    plain = torch.randn(B, T, D)
    one, state = plain[:1, :1], layer.initial_state(plain)
    transposed = plain.transpose(1, 2).contiguous().transpose(1, 2)
    every_other = torch.stack((plain, plain), -1).flatten(2)[..., ::2]
    negative = torch._neg_view(-plain)
    expanded, whole = one.expand(B, T, D), one.repeat(B, T, 1)
    states = tuple(s[:1].expand(B, H) for s in state)
    with torch.set_grad_enabled(gradients):
        for x, same in ((transposed, plain), (every_other, plain), (negative, plain), (expanded, whole)):
            close(layer(x, states), layer(same, state), 1e-6)
            close(layer.step(x[:, 0], states), layer.step(same[:, 0].clone(), state), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_without_a_break(kind: str) -> None:
    module, x = getattr(ours, kind)(D, H, num_layers=2, bidirectional=True), torch.randn(T, B, D)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    close(flat(compiled(x)), flat(module(x)), 1e-6)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("steps", [1, 3, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_short_calls_under_autocast(kind: str, steps: int, gradients: bool) -> None:
    """Also where oneDNN has no LSTM in half precision for this processor."""
    module, x = getattr(ours, kind)(D, H), torch.randn(steps, 2, D)
    with torch.set_grad_enabled(gradients):
        with torch.autocast("cpu", torch.bfloat16):
            y, _ = module(x)
        close(y.float(), module(x)[0], 5e-2)
        if gradients:
            y.float().sum().backward()
            assert all(p.grad is not None for p in module.parameters())
