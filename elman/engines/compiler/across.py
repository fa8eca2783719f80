"""Records operations that read all units of a row, in terms of sums, maxima and minima over the units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from elman.engines.compiler.program import Node, TraceError, of
from elman.engines.compiler.recording import Parts, Recorder


def record(recorder: Recorder, op: str, args: tuple, kwargs: dict, result: Any) -> Any:
    """Record an operation of `OPERATIONS` and return its result.

    Args:
        recorder: the trace.
        op: the name of the operation.
        args: its arguments.
        kwargs: its keyword arguments.
        result: what torch returned for the traced tensors.

    Raises:
        TraceError: kernels do not support the operation with these arguments.
    """
    if kwargs.get("dtype") is not None:
        raise TraceError(
            f"{recorder.location()}: kernels compute in one precision and do not support {op} with a dtype"
        )
    if op in _REDUCTIONS:
        return _reduced(recorder, op, args, kwargs, result)
    return _OTHERS[op](recorder, op, args, result)


def _reduced(recorder: Recorder, op: str, args: tuple, kwargs: dict, result: Any) -> Any:
    value, others = args[0], list(args[1:])
    power = (others.pop(0) if others else 2) if op == "linalg_vector_norm" else None
    axes: Any = others[0] if others else kwargs.get("dim")
    axes = () if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    if op == "sum" and recorder.in_gradient() and value.dim() == 2:
        summed = (axes == (0,) and result.numel() == recorder.H) or (axes in ((), (0, 1)) and result.numel() == 1)
        if summed:  # the gradient of a weight, which the kernel sums
            return recorder.record(result, recorder.parts(value, op)[0])
    if value.dim() != 2 or axes not in ((1,), (-1,)):
        raise TraceError(
            f"{recorder.location()}: kernels support {op} only over the units of a row, with dim=-1 and keepdim=True"
        )
    if value.shape[1] == 1 and op in ("sum", "mean", "amax", "amin"):
        return recorder.record(result, recorder.parts(value, op)[0])
    options = {"correction": kwargs.get("correction", 1)} if op in ("var", "std", "var_mean", "std_mean") else {}
    options |= {} if power is None else {"power": float(power)}
    nodes = _REDUCTIONS[op](recorder.parts(value, op), value.shape[1], **options)
    if isinstance(nodes, Node):
        return recorder.record(result, nodes)
    for tensor, node in zip(result, nodes, strict=True):
        recorder.record(tensor, node)
    return result


def _total(parts: Sequence[Node]) -> Node:
    return Node("total", tuple(parts), "scalar")


def _maximum(parts: Sequence[Node]) -> Node:
    return Node("amax", tuple(parts), "scalar")


def _minimum(parts: Sequence[Node]) -> Node:
    return Node("amin", tuple(parts), "scalar")


def _mean(parts: Sequence[Node], count: int) -> Node:
    return _total(parts) * (1 / count)


def _variance(parts: Parts, count: int, correction: float | None) -> Node:
    mean, divisor = _mean(parts, count), count - (1 if correction is None else correction)
    centred = [z - mean for z in parts]
    return _total([a * a for a in centred]) * (1 / divisor if divisor else math.inf)


def _norm(parts: Parts, count: int, power: float) -> Node:
    if power == 2:
        return of("sqrt", _total([z * z for z in parts]))
    if power == 0:
        return _total([of("where", of("ne", z, 0.0), 1.0, 0.0) for z in parts])
    absolute = [of("abs", z) for z in parts]
    if math.isinf(power):
        return _maximum(absolute) if power > 0 else _minimum(absolute)
    return _total(absolute) if power == 1 else of("pow", _total([of("pow", z, power) for z in absolute]), 1 / power)


def _logsumexp(parts: Parts, count: int) -> Node:
    largest = _maximum(parts)
    largest = of("where", of("eq", of("abs", largest), math.inf), 0.0, largest)
    return of("log", _total([of("exp", z - largest) for z in parts])) + largest


def _position(parts: Parts, value: Node, count: int, in_gradient: bool = False) -> Node:
    """Return the index of the first unit, over all parts, that has this value.

    With ``in_gradient`` the node differs from that of the step, and its value is the same.
    """
    H, candidates = count // len(parts), []
    for k, z in enumerate(parts):
        index = Node("index", (), "unit") + k * H if k else Node("index", (), "unit")
        candidates.append(
            of("where", of("ne", z, value), math.inf, index)
            if in_gradient
            else of("where", of("eq", z, value), index, math.inf)
        )
    return _minimum(candidates)


def _with_position(extreme: Callable[[Parts], Node]) -> Callable[[Parts, int], Parts]:
    def reduce(parts: Parts, count: int) -> Parts:
        value = extreme(parts)
        return value, _position(parts, value, count)

    return reduce


#: By operation: from the k parts of a tensor (B, k H), and k H, to the node of the result (B, 1) or of all results.
_REDUCTIONS: dict[str, Callable[..., Node | Parts]] = {
    "sum": lambda parts, count: _total(parts),
    "mean": _mean,
    "amax": lambda parts, count: _maximum(parts),
    "amin": lambda parts, count: _minimum(parts),
    "aminmax": lambda parts, count: (_minimum(parts), _maximum(parts)),
    "max": _with_position(_maximum),
    "min": _with_position(_minimum),
    "any": lambda parts, count: of("ne", _total(parts), 0.0),
    "all": lambda parts, count: of("ne", _minimum(parts), 0.0),
    "var": _variance,
    "std": lambda parts, count, correction: of("sqrt", _variance(parts, count, correction)),
    "var_mean": lambda parts, count, correction: (_variance(parts, count, correction), _mean(parts, count)),
    "std_mean": lambda parts, count, correction: (
        of("sqrt", _variance(parts, count, correction)), _mean(parts, count)),
    "linalg_vector_norm": _norm,
    "logsumexp": _logsumexp,
    "nansum": lambda parts, count: _total([of("where", of("ne", z, z), 0.0, z) for z in parts]),
}  # fmt: skip


def _over_units(recorder: Recorder, op: str, value: Tensor, axis: int) -> Parts:
    """Return the parts of a tensor that an operation reads along its units."""
    if value.dim() != 2 or axis not in (1, -1) or value.shape[1] % recorder.H:
        raise TraceError(
            f"{recorder.location()}: kernels support {op.strip('_')} only over the units of a row, with dim=-1"
        )
    return recorder.parts(value, op)


def _softmax(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    parts = _over_units(recorder, op, args[0], args[1])
    largest = _maximum(parts)
    shifted = [z - largest for z in parts]
    powers = [of("exp", z) for z in shifted]
    total = _total(powers)
    if op == "_softmax":
        return _record(recorder, result, tuple(z / total for z in powers))
    log = of("log", total)
    return _record(recorder, result, tuple(z - log for z in shifted))


def _softmax_backward(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    grads, outputs = _over_units(recorder, op, args[0], args[2]), recorder.parts(args[1], op)
    if op == "_softmax_backward_data":
        projection = _total([g * y for g, y in zip(grads, outputs, strict=True)])
        return _record(recorder, result, tuple((g - projection) * y for g, y in zip(grads, outputs, strict=True)))
    total = _total(grads)
    return _record(recorder, result, tuple(g - of("exp", y) * total for g, y in zip(grads, outputs, strict=True)))


def _scatter(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    """The gradient of max and min, which goes to the first unit that has the value."""
    base, axis, index, source = args
    parts, node = _over_units(recorder, op, base, axis), recorder.node(index)
    if not isinstance(node, Node) or node.op != "amin" or node.parents[0].op != "where":
        raise TraceError(f"{recorder.location()}: kernels do not support {op}")
    equal = [where.parents[0] for where in node.parents]  # eq(z, value)
    position = _position(tuple(e.parents[0] for e in equal), equal[0].parents[1], base.shape[1], in_gradient=True)
    grad, indices = recorder.node(source), [where.arguments[1] for where in node.parents]
    return _record(recorder, result, tuple(
        of("where", of("eq", index, position), grad, old) for index, old in zip(indices, parts, strict=True)
    ))  # fmt: skip


def _cumulated(parts: Parts) -> Parts:
    """Return the cumulative sums: within a thread, plus the sums of the threads and of the parts before it."""
    sums: list[Node] = []
    for k, z in enumerate(parts):
        scan = Node("scan", (z,), "row")
        part = scan + Node("before", (scan,), "scalar")
        sums.append(part + _total(parts[:k]) if k else part)
    return tuple(sums)


def _cumsum(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    parts = _over_units(recorder, op, args[0], args[1])
    if all(z.op != "flip" for z in parts):
        return _record(recorder, result, _cumulated(parts))
    forward = tuple(z.parents[0] for z in reversed(parts))  # from the end: the total minus the preceding units
    total = _total(forward)
    backward = [z + (total - c) for z, c in zip(forward, _cumulated(forward), strict=True)]
    return _record(recorder, result, tuple(Node("flip", (z,)) for z in reversed(backward)))


def _flip(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    parts = _over_units(recorder, op, args[0], *args[1])
    location = recorder.location()
    flipped = [z.parents[0] if z.op == "flip" else Node("flip", (z,), where=location) for z in reversed(parts)]
    return _record(recorder, result, flipped)


def _glu(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    parts = _halves(recorder, op, args[0], args[1] if len(args) > 1 else -1)
    return _record(recorder, result, tuple(a * of("sigmoid", b) for a, b in zip(*parts, strict=True)))


def _glu_backward(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    grads, (a, b) = recorder.parts(args[0], op), _halves(recorder, op, args[1], args[2])
    gates = [of("sigmoid", z) for z in b]
    left = [g * s for g, s in zip(grads, gates, strict=True)]
    right = [d * z * (1 - s) for d, z, s in zip(left, a, gates, strict=True)]
    return _record(recorder, result, (*left, *right))


def _halves(recorder: Recorder, op: str, value: Tensor, axis: int) -> tuple[Parts, Parts]:
    parts = _over_units(recorder, op, value, axis)
    if len(parts) % 2:
        raise TraceError(f"{recorder.location()}: {op} splits a gate; join two gates with torch.cat first")
    return parts[: len(parts) // 2], parts[len(parts) // 2 :]


def _cat(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    if result.dim() != 2 or result.shape[0] != recorder.B:
        raise TraceError(f"{recorder.location()}: kernels support cat only along the units, with dim=-1")
    return recorder.record(result, sum((recorder.parts(t, op) for t in args[0] if t.numel()), ()))


def _split(recorder: Recorder, op: str, args: tuple, result: list[Tensor]) -> list[Tensor]:
    parts, first = recorder.parts(args[0], op), 0
    for piece in result:
        count = _whole(recorder, piece.shape[1], op)
        _record(recorder, piece, parts[first : first + count])
        first += count
    return result


def _sliced(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    value = args[0]
    if result.shape == value.shape:
        return recorder.record(result, recorder.node(value))
    first = _first(recorder, value.shape, *args[1:])
    return _record(recorder, result, recorder.parts(value, op)[first : first + _whole(recorder, result.shape[1], op)])


def _slice_backward(recorder: Recorder, op: str, args: tuple, result: Tensor) -> Tensor:
    grad, shape, *bounds = args
    parts, zero = recorder.parts(grad, "slice"), Node("fill", (0.0,))
    first = _first(recorder, shape, *bounds)
    after = shape[1] // recorder.H - first - len(parts)
    return _record(recorder, result, (*(zero,) * first, *parts, *(zero,) * after))


def _first(
    recorder: Recorder, shape: Any, axis: int = 0, start: int | None = None, end: Any = None, step: int = 1
) -> int:
    """Return the number of the gate at which a slice begins."""
    if axis not in (1, -1) or step != 1:
        raise TraceError(f"{recorder.location()}: kernels support slices of whole gates only")
    return _whole(recorder, slice(start, end).indices(shape[1])[0], "slice")


def _layer_norm(recorder: Recorder, op: str, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    value, shape, weight, bias, eps = args
    if tuple(shape) != (value.shape[1],) or (value.shape[1] != recorder.H and weight is not None):
        raise TraceError(
            f"{recorder.location()}: kernels support layer_norm only over all units, with weights (H,) or without"
        )
    return _normalise(recorder, value, weight, bias, eps, result)


def _group_norm(recorder: Recorder, op: str, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    value, weight, bias, _, _, _, groups, eps = args
    if groups != 1 or value.dim() != 2 or (value.shape[1] != recorder.H and weight is not None):
        raise TraceError(f"{recorder.location()}: kernels support group_norm of (B, H) only, with num_groups=1")
    return _normalise(recorder, value, weight, bias, eps, result)


def _normalise(
    recorder: Recorder, value: Tensor, weight: Any, bias: Any, eps: float, result: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Record (z - mean) / sqrt(variance + eps) over all units, with the optional weights and biases (H,)."""
    parts, count = recorder.parts(value, "layer_norm"), value.shape[1]
    mean = _mean(parts, count)
    centred = [z - mean for z in parts]
    scale = of("rsqrt", _mean([a * a for a in centred], count) + eps)
    outputs = normalised = tuple(a * scale for a in centred)
    if weight is not None:
        outputs = tuple(n * recorder.node(weight) for n in outputs)
    if bias is not None:
        outputs = tuple(n + recorder.node(bias) for n in outputs)
    recorder.normalised[scale] = normalised
    _record(recorder, result[0], outputs)
    recorder.record(result[1], mean)
    recorder.record(result[2], scale)
    return result


def _layer_norm_backward(recorder: Recorder, op: str, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    grad, value, _, _, rstd, weight = args[:6]
    return _normalise_backward(recorder, grad, value, rstd, weight, result)


def _group_norm_backward(recorder: Recorder, op: str, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    grad, value, _, rstd, weight = args[:5]
    return _normalise_backward(recorder, grad, value, rstd, weight, result)


def _normalise_backward(
    recorder: Recorder, grad: Tensor, value: Tensor, rstd: Tensor, weight: Any, result: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Record dz = scale (g - mean(g) - n mean(g n)), where n are the normalised values."""
    grads, scale, count = recorder.parts(grad, "layer_norm"), recorder.node(rstd), value.shape[1]
    normalised = recorder.normalised[scale]
    if result[1] is not None:  # the gradient of the weights, which the kernel sums
        recorder.record(result[1], grads[0] * normalised[0])
    if result[2] is not None:
        recorder.record(result[2], grads[0])
    if result[0] is None:  # the normalised tensor needs no gradient
        return result
    if weight is not None:
        grads = tuple(g * recorder.node(weight) for g in grads)
    mean = _mean(grads, count)
    pairs = list(zip(grads, normalised, strict=True))
    projection = _mean([g * n for g, n in pairs], count)
    _record(recorder, result[0], tuple((g - mean - n * projection) * scale for g, n in pairs))
    return result


#: By operation: the function that records it, from its arguments and its result.
_OTHERS: dict[str, Callable[..., Any]] = {
    "_softmax": _softmax,
    "_log_softmax": _softmax,
    "_softmax_backward_data": _softmax_backward,
    "_log_softmax_backward_data": _softmax_backward,
    "scatter": _scatter,
    "cumsum": _cumsum,
    "flip": _flip,
    "glu": _glu,
    "glu_backward": _glu_backward,
    "cat": _cat,
    "split": _split,
    "split_with_sizes": _split,
    "slice": _sliced,
    "slice_backward": _slice_backward,
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
    "native_group_norm": _group_norm,
    "native_group_norm_backward": _group_norm_backward,
}
#: The operations that `record` handles, in a step and in torch's gradient of one.
OPERATIONS = frozenset(_REDUCTIONS.keys() | _OTHERS.keys())


def _record(recorder: Recorder, tensor: Tensor, parts: Sequence[Node]) -> Tensor:
    """Associate a tensor (B, k H) with its k nodes."""
    return recorder.record(tensor, parts[0] if len(parts) == 1 else tuple(parts))


def _whole(recorder: Recorder, units: int, op: str) -> int:
    """Return how many gates so many units are."""
    if units % recorder.H:
        raise TraceError(f"{recorder.location()}: {op} splits a gate")
    return units // recorder.H
