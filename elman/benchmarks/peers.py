"""The LSTM of ONNX Runtime and of JAX, for comparison where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def onnxruntime_forward(B: int, T: int, H: int, threads: int) -> Callable[[], object]:
    """Build an LSTM operator of ONNX Runtime; requires onnx and onnxruntime.

    Args:
        B: batch size.
        T: number of steps.
        H: number of inputs and of hidden units.
        threads: number of threads.

    Returns:
        A function that runs the forward pass over x (T, B, H).
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    shapes = {"w": (1, 4 * H, H), "r": (1, 4 * H, H), "b": (1, 8 * H)}
    weights = [
        numpy_helper.from_array(draw.uniform(-0.05, 0.05, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=H)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (T, B, H))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (T, 1, B, H))
    graph = helper.make_graph([node], "lstm", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning threads would slow elman
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {"x": draw.standard_normal((T, B, H)).astype(np.float32)}
    return lambda: session.run(None, inputs)


def jax_both(B: int, T: int, H: int) -> Callable[[], object]:
    """Build an LSTM in JAX, a compiled lax.scan over its step; requires jax.

    Args:
        B: batch size.
        T: number of steps.
        H: number of inputs and of hidden units.

    Returns:
        A function that runs the forward and backward pass over x (T, B, H).
    """
    import jax
    import jax.numpy as jnp

    def step(weights: Any, carry: Any, gates: Any) -> tuple[Any, Any]:
        h, c = carry
        i, f, g, o = jnp.split(gates + h @ weights["r"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def total(weights: Any, x: Any) -> Any:
        zeros = jnp.zeros((B, H))
        _, y = jax.lax.scan(lambda c, g: step(weights, c, g), (zeros, zeros), x @ weights["w"] + weights["b"])
        return y.sum()

    draw = np.random.default_rng(0)
    weights = {
        name: jnp.asarray(draw.uniform(-0.05, 0.05, (*shape, 4 * H)).astype(np.float32))
        for name, shape in {"w": (H,), "r": (H,), "b": ()}.items()
    }
    x = jnp.asarray(draw.standard_normal((T, B, H)).astype(np.float32))
    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    return lambda: jax.block_until_ready(gradient(weights, x))
