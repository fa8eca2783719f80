"""Operations that read all units of a row, in terms of totals over its units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from elman.engines.program import Node, TraceError

if TYPE_CHECKING:
    from elman.engines.trace import _Trace

#: In a step, and in torch's gradient of one.
_NAMES = "sum mean cat split split_with_sizes slice slice_backward native_layer_norm native_layer_norm_backward"
OPERATIONS = frozenset(_NAMES.split())


def write(trace: _Trace, op: str, args: tuple, kwargs: dict, result: Any) -> Any:
    """Writes an operation down; its result."""
    if kwargs.get("dtype") is not None:
        raise TraceError(f"{trace._where()}: kernels compute in one precision; they do not know {op} with a dtype")
    if op in ("sum", "mean"):
        return _reduced(trace, op, args, result)
    if op == "cat":
        return trace._know(result, sum((trace._parts(t, op) for t in args[0] if t.numel()), ()))
    if op in ("split", "split_with_sizes"):
        return _split(trace, op, args, result)
    if op == "slice":
        return _sliced(trace, args, result)
    if op == "slice_backward":
        return _slice_backward(trace, args, result)
    if op == "native_layer_norm":
        return _normed(trace, args, result)
    return _normed_backward(trace, args, result)


def _reduced(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    value, axes = args[0], tuple(args[1]) if len(args) > 1 and args[1] is not None else ()
    if axes == (0,) and op == "sum" and trace._frame() is None and result.numel() == trace.H:
        return trace._know(result, trace._node(value))  # the gradient of a value (H,): the kernel sums it
    if value.dim() == 2 and axes in ((1,), (-1,)):
        if value.shape[1] == 1:
            return trace._know(result, trace._node(value))
        total = _total(trace._parts(value, op))
        return trace._know(result, total if op == "sum" else _times(total, 1 / value.shape[1]))
    raise TraceError(f"{trace._where()}: kernels know {op} over the units of a row, (..., dim=-1, keepdim=True), only")


def _split(trace: _Trace, op: str, args: tuple, result: list[Tensor]) -> list[Tensor]:
    parts, at = trace._parts(args[0], op), 0
    for piece in result:
        count = _whole(trace, piece.shape[1], op)
        _know(trace, piece, parts[at : at + count])
        at += count
    return result


def _sliced(trace: _Trace, args: tuple, result: Tensor) -> Tensor:
    value = args[0]
    if result.shape == value.shape:
        return trace._know(result, trace._node(value))
    first = _first(trace, value.shape, *args[1:])
    return _know(trace, result, trace._parts(value, "slice")[first : first + _whole(trace, result.shape[1], "slice")])


def _slice_backward(trace: _Trace, args: tuple, result: Tensor) -> Tensor:
    grad, shape, *where = args
    parts, zero = trace._parts(grad, "slice"), Node("fill", (0.0,))
    first = _first(trace, shape, *where)
    after = shape[1] // trace.H - first - len(parts)
    return _know(trace, result, (*(zero,) * first, *parts, *(zero,) * after))


def _first(trace: _Trace, shape: Any, axis: int = 0, start: int | None = None, end: Any = None, step: int = 1) -> int:
    """The gate at which a slice begins."""
    if axis not in (1, -1) or step != 1:
        raise TraceError(f"{trace._where()}: kernels know a part of a tensor that is whole gates, only")
    return _whole(trace, slice(start, end).indices(shape[1])[0], "slice")


def _normed(trace: _Trace, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(z - mean) / sqrt(variance + eps) over all units, times weights and plus biases (H,) if there are any."""
    value, shape, weight, bias, eps = args
    if tuple(shape) != (value.shape[1],) or (value.shape[1] != trace.H and weight is not None):
        raise TraceError(f"{trace._where()}: kernels know layer_norm over all units, with weights (H,) or none")
    parts, share = trace._parts(value, "layer_norm"), 1 / value.shape[1]
    mean = _times(_total(parts), share)
    apart = [Node("sub", (z, mean)) for z in parts]
    variance = _times(_total(tuple(Node("mul", (a, a)) for a in apart)), share)
    scale = Node("rsqrt", (Node("add", (variance, eps), "scalar"),), "scalar")
    out = normed = tuple(Node("mul", (a, scale)) for a in apart)
    if weight is not None:
        out = tuple(Node("mul", (n, trace._node(weight))) for n in out)
    if bias is not None:
        out = tuple(Node("add", (n, trace._node(bias))) for n in out)
    trace.normed[scale] = normed
    _know(trace, result[0], out)
    trace._know(result[1], mean)
    trace._know(result[2], scale)
    return result


def _normed_backward(trace: _Trace, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """dz = scale (g - mean(g) - n mean(g n)), with n the normed values."""
    grad, value, _, _, rstd, weight = args[:6]
    grads, scale, share = trace._parts(grad, "layer_norm"), trace._node(rstd), 1 / value.shape[1]
    normed = trace.normed[scale]
    if result[1] is not None:  # of the weights: the kernel sums it
        trace._know(result[1], Node("mul", (grads[0], normed[0])))
    if result[2] is not None:
        trace._know(result[2], grads[0])
    if weight is not None:
        grads = tuple(Node("mul", (g, trace._node(weight))) for g in grads)
    mean = _times(_total(grads), share)
    along = _times(_total(tuple(Node("mul", (g, n)) for g, n in zip(grads, normed, strict=True))), share)
    _know(trace, result[0], tuple(
        Node("mul", (Node("sub", (Node("sub", (g, mean)), Node("mul", (n, along)))), scale))
        for g, n in zip(grads, normed, strict=True)
    ))  # fmt: skip
    return result


def _know(trace: _Trace, tensor: Tensor, parts: tuple[Node, ...]) -> Tensor:
    return trace._know(tensor, parts[0] if len(parts) == 1 else parts)


def _whole(trace: _Trace, units: int, op: str) -> int:
    if units % trace.H:
        raise TraceError(f"{trace._where()}: {op} cuts a gate into pieces")
    return units // trace.H


def _total(parts: tuple[Node, ...]) -> Node:
    return Node("total", parts, "scalar")


def _times(node: Node, number: float) -> Node:
    return Node("mul", (node, number), "scalar")
