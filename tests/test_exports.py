"""Programs for others, and derivatives of derivatives: what modes of torch make of a layer."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
import elman.nn
from elman import engines
from elman.layers import Recurrent, stack
from tests.conftest import QUICK_FAMILY, close
from tests.own_cells import cell_of
from tests.test_modes import MODES, B, D, H, T, _compiled, fresh, gradients, some_input

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, of compilers and exporters
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning"),
]


@pytest.mark.parametrize("mode", ["vmap", "fake tensors", "jit trace"])
def test_steps_without_gradients(mode: str) -> None:
    layer = fresh("lstm")

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> tuple[Tensor]:
            y, state = layer.step(x[:, 0])
            return (torch.stack((y, layer.step(x[:, 1], state)[0]), 1),)

    x = some_input()
    with torch.no_grad():
        y = MODES[mode](Steps(), x)
        close(y, layer(x[:, :2])[0], 1e-6)


# Programs for others

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: (lambda name=name: fresh(name)) for name in QUICK_FAMILY},
    "mlstm": lambda: Recurrent("mlstm", D, H, heads=2, key_size=3),
    "bidirectional": lambda: stack(["lstm", "gru"], D, H, bidirectional=True),
    "residual": lambda: stack("mgu", D, D, 2, connection="residual"),
    "nn.LSTM": lambda: elman.nn.LSTM(D, H, 2, batch_first=True, bidirectional=True),
    "nn.GRU": lambda: elman.nn.GRU(D, H, batch_first=True),
    "nn.RNN": lambda: elman.nn.RNN(D, H, batch_first=True, nonlinearity="relu"),
}


def flat(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [t for part in output for t in flat(part)]


@pytest.mark.parametrize("network", NETWORKS)
def test_jit_trace(network: str, tmp_path: Path) -> None:
    model, x = NETWORKS[network](), some_input()
    traced = torch.jit.trace(model, (x,))
    traced.save(tmp_path / "model.pt")
    loaded = torch.jit.load(tmp_path / "model.pt")
    assert "elman::" not in str(loaded.inlined_graph)
    for other in (x, torch.randn(7, T, D)):  # another number of rows
        close(flat(loaded(other)), flat(model(other)), 1e-5)


@pytest.mark.parametrize("network", ["leaky", "bidirectional"])
@pytest.mark.parametrize("how", ["jit", "export", "compiled"])
def test_lengths_and_resets_are_inputs_of_a_program(network: str, how: str) -> None:
    model, x = NETWORKS[network](), some_input()

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor, lengths: Tensor, resets: Tensor) -> Tensor:
            return self.model(x, None, lengths, resets)[0]

    whole, lengths, resets = Whole(), torch.tensor([5, 2, 0]), torch.zeros(B, T, dtype=torch.bool)
    arguments = x, lengths, resets
    torch._dynamo.reset()
    program = {
        "jit": lambda: torch.jit.trace(whole, arguments),
        "export": lambda: torch.export.export(whole, arguments).module(),
        "compiled": lambda: torch.compile(whole, backend="aot_eager", fullgraph=True),
    }[how]()
    others = torch.tensor([1, 5, 3]), torch.rand(B, T) < 0.3
    for given in ((lengths, resets), others):
        close(program(x, *given), whole(x, *given), 1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("network", ["leaky", "layer_norm_lstm", "projected_lstm", "bidirectional", "nn.GRU"])
def test_onnx(network: str, dynamo: bool, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model, x, path = NETWORKS[network]().eval(), some_input()[:, :3], tmp_path / "model.onnx"
    torch.onnx.export(model, (x,), path, dynamo=dynamo, verbose=False)
    session = runtime.InferenceSession(path)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    close([torch.from_numpy(t) for t in found], [t.detach() for t in flat(model(x))], 1e-5)


def in_a_process(code: str, *arguments: str) -> str:
    """What the code prints in a Python of its own."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


LOAD = """
    import sys
    import torch
    for name in sys.argv[1:]:
        if name == "elman":
            print("elman" in sys.modules)
            import elman.engines
            continue
        program = torch.export.load(name + ".pt2").module()
        x, y = torch.load(name + ".pt")
        try:
            torch.testing.assert_close(program(x)[0], y)
            print("same")
        except ValueError as error:
            print(error)
"""


def save(model: nn.Module, x: Tensor, path: Path, **options: Any) -> None:
    with torch.no_grad():
        program = torch.export.export(model.eval(), (x,), **options)
        other = torch.randn(B, x.shape[1] + (4 if options else 0), D)
        torch.save((other, model(other)[0]), f"{path}.pt")
        torch.export.save(program, f"{path}.pt2")


def test_exported_programs_in_another_process(tmp_path: Path) -> None:
    """They need torch alone; but with a number of steps that is left open there is the kernel's own operation, which
    needs elman."""
    alone, open_steps = ["leaky", "bidirectional", "nn.LSTM"], ["lstm", "peephole_lstm", "leaky"]
    for name in alone:
        save(NETWORKS[name](), some_input(), tmp_path / name)
    steps = {"dynamic_shapes": {"x": {1: torch.export.Dim("T", min=2, max=100)}}}
    for name in open_steps:
        save(fresh(name), some_input(), tmp_path / f"open {name}", **steps)
    programs = [*alone, *(f"open {name}" for name in open_steps)]
    paths = [str(tmp_path / name) for name in programs]
    *results, unknown = in_a_process(LOAD, *paths[:3], "elman", *paths[3:]).splitlines()
    assert results == ["same"] * 3 + ["False"] + ["same"] * 2
    assert "which no registered cell has: register its cell with elman.cells.register" in unknown


def test_cells_that_are_alike_share_a_kernel() -> None:
    layers = [Recurrent(cell_of(lambda self, x, h, s, w: torch.tanh(x.a + h.b) * 0.123), D, H) for _ in range(2)]
    before = len(engines.cpu.operation.LIBRARIES)
    for layer in layers:
        layer(some_input())
    assert len(engines.cpu.operation.LIBRARIES) == before + 1


def test_training_an_lstm_in_a_compiled_program_without_a_compiler() -> None:
    with elman.engine("torch"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engines.ENGINES["cpu"]), "refusal", lambda self, scan: "no C compiler")
        for cell in ("lstm", "projected_lstm"):
            layer, x = fresh(cell), some_input().requires_grad_()
            leaves = [x, *layer.parameters()]
            y, law = _compiled(layer, x), layer(x)[0]
            close(y, law, 1e-6)
            close(gradients(y, leaves), gradients(law, leaves), 1e-5)


def test_no_warning_comes_of_tracing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.jit.trace(stack(["lstm", "mgu"], D, H, bidirectional=True), (some_input(),))


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("H", [8, 700])  # of 700 units, elman's kernel takes the step where nothing is exported
def test_a_cell_for_any_number_of_rows(kind: str, H: int) -> None:
    cell = getattr(elman.nn, kind)(H, H).eval()
    x, h = torch.randn(6, H), torch.randn(6, H)
    state, rows = ((h, h), ({0: torch.export.Dim("B")},) * 2) if kind == "LSTMCell" else (h, {0: torch.export.Dim("B")})
    few = (h[:3], h[:3]) if kind == "LSTMCell" else h[:3]
    with torch.no_grad(), warnings.catch_warnings():
        exported = torch.export.export(cell, (x, state), dynamic_shapes=({0: torch.export.Dim("B")}, rows)).module()
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of the sizes of biases, which are constant
        traced = torch.jit.trace(cell, (x, state), check_trace=False)
        for program in (exported, traced):
            close(program(x[:3], few), cell(x[:3], few), 1e-5)
