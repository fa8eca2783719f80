"""The operator test vectors of ONNX for RNN, LSTM (with peepholes) and GRU, as shipped with the onnx package."""

from __future__ import annotations

import importlib
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
import torch

from elman.layers import Bidirectional, Recurrent, RecurrentLayer
from elman.layers import state as states

#: ONNX's order of the gates, in our names.
ORDER = {"RNN": ("a",), "GRU": ("z", "r", "n"), "LSTM": ("i", "o", "f", "g")}

vectors = importlib.import_module("onnx.backend.test.case.node")
for op in ORDER:
    importlib.import_module(f"{vectors.__name__}.{op.lower()}")
with mock.patch.object(vectors, "import_recursive"):  # those of all other operators take many seconds
    CASES = [case for case in vectors.collect_testcases("") if case.model.graph.node[0].op_type in ORDER]


def layer_for(op: str, attributes: dict[str, Any], values: dict[str, np.ndarray], way: int) -> Recurrent:
    """The layer with the weights of one direction."""
    name = {"RNN": "rnn_tanh", "LSTM": "peephole_lstm" if "P" in values else "lstm"}.get(op)
    if op == "GRU":
        name = "gru" if attributes.get("linear_before_reset", 0) else "original_gru"
    assert name is not None
    H = attributes["hidden_size"]
    layer = Recurrent(name, values["W"].shape[-1], H)

    def ordered(array: np.ndarray) -> torch.Tensor:
        parts = dict(zip(ORDER[op], np.split(array, len(ORDER[op])), strict=True))
        return torch.tensor(np.concatenate([parts[gate] for gate in layer.cell.input_gates]))

    zero = np.zeros(2 * len(ORDER[op]) * H, dtype=np.float32)
    b_ih, b_hh = np.split(values["B"][way] if "B" in values else zero, 2)
    weights = {
        "weight_ih": ordered(values["W"][way]),
        "weight_hh": ordered(values["R"][way]),
        "bias_ih": ordered(b_ih),
        "bias_hh": ordered(b_hh),
    }
    if "P" in values:
        weights |= dict(zip(("p_i", "p_o", "p_f"), torch.tensor(values["P"][way]).chunk(3), strict=True))
    layer.load_state_dict(weights)
    return layer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_vector(case: Any, engine_name: str) -> None:
    (node,) = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert set(attributes) <= {"hidden_size", "direction", "layout", "linear_before_reset"}
    ((given, wanted),) = case.data_sets
    roles = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
    inputs = [name for name in node.input if name]
    roles_given = [role for role, name in zip(roles, node.input, strict=False) if name]
    assert len(given) == len(inputs)
    values = {role: np.asarray(array) for role, array in zip(roles_given, given, strict=True)}
    shown = [name for name in node.output if name]
    expected = {name: torch.tensor(np.asarray(array)) for name, array in zip(shown, wanted, strict=True)}

    direction = attributes.get("direction", b"forward").decode()
    layers = [layer_for(node.op_type, attributes, values, way) for way in range(values["W"].shape[0])]
    batch_first = attributes.get("layout", 0) == 1
    x = torch.tensor(values["X"])
    x = x if batch_first else x.transpose(0, 1)
    if direction == "reverse":
        x = x.flip(1)
    layer: RecurrentLayer = layers[0] if len(layers) == 1 else Bidirectional(*layers)
    state: Any = None
    if "initial_h" in values:
        parts = [torch.tensor(values[name]) for name in ("initial_h", "initial_c") if name in values]
        parts = [part.transpose(0, 1) if batch_first else part for part in parts]
        state = [tuple(part[way] for part in parts) for way in range(len(layers))]
        state = state[0] if len(layers) == 1 else state
    lengths = torch.tensor(values["sequence_lens"]).long() if "sequence_lens" in values else None
    y, final = layer(x, state, lengths)
    if direction == "reverse":
        y = y.flip(1)

    B, T = x.shape[:2]
    ways = y.view(B, T, len(layers), -1)  # ONNX: (T, ways, B, H), with layout 1 (B, T, ways, H)
    y = ways if batch_first else ways.permute(1, 2, 0, 3)
    finals = final if len(layers) > 1 else (final,)
    outputs = {node.output[0]: y}
    for name, index in zip(node.output[1:], (0, 1), strict=False):
        if name and index < len(next(iter(finals))):
            stacked = torch.stack([one[index] for one in finals])
            outputs[name] = stacked.transpose(0, 1) if batch_first else stacked
    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value, atol=1e-5, rtol=1e-4)
    assert states.flatten(final)


def test_the_vectors_are_there() -> None:
    assert len(CASES) >= 15
    assert any("P" in case.model.graph.node[0].input for case in CASES)  # peepholes
