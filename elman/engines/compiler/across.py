"""Operations that read all units of a row, in terms of totals (and largest, least values) over its units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from elman.engines.compiler.program import Node, TraceError, of

if TYPE_CHECKING:
    from elman.engines.compiler.tracing import _Trace

#: The nodes of a tensor (B, k H), k of them.
Parts = tuple[Node, ...]


def write(trace: _Trace, op: str, args: tuple, kwargs: dict, result: Any) -> Any:
    """Writes an operation down; its result."""
    if kwargs.get("dtype") is not None:
        raise TraceError(f"{trace._where()}: kernels compute in one precision; they do not know {op} with a dtype")
    if op in _REDUCTIONS:
        return _reduced(trace, op, args, kwargs, result)
    return _OTHERS[op](trace, op, args, result)


def _reduced(trace: _Trace, op: str, args: tuple, kwargs: dict, result: Any) -> Any:
    value, others = args[0], list(args[1:])
    power = (others.pop(0) if others else 2) if op == "linalg_vector_norm" else None
    axes = others[0] if others else kwargs.get("dim")
    axes = () if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    if op == "sum" and trace._frame() is None and value.dim() == 2:
        summed = (axes == (0,) and result.numel() == trace.H) or (axes in ((), (0, 1)) and result.numel() == 1)
        if summed:  # the gradient of a weight: the kernel sums it
            return trace._know(result, trace._parts(value, op)[0])
    if value.dim() != 2 or axes not in ((1,), (-1,)):
        raise TraceError(
            f"{trace._where()}: kernels know {op} over the units of a row, (..., dim=-1, keepdim=True), only"
        )
    if value.shape[1] == 1 and op in ("sum", "mean", "amax", "amin"):
        return trace._know(result, trace._parts(value, op)[0])
    more = {"correction": kwargs.get("correction", 1)} if op in ("var", "std", "var_mean", "std_mean") else {}
    more |= {} if power is None else {"power": float(power)}
    nodes = _REDUCTIONS[op](trace._parts(value, op), value.shape[1], **more)
    for tensor, node in zip(result if isinstance(nodes, tuple) else (result,), _several(nodes), strict=True):
        trace._know(tensor, node)
    return result


def _several(nodes: Node | Parts) -> Parts:
    return nodes if isinstance(nodes, tuple) else (nodes,)


def _total(parts: Sequence[Node]) -> Node:
    return Node("total", tuple(parts), "scalar")


def _most(parts: Sequence[Node]) -> Node:
    return Node("most", tuple(parts), "scalar")


def _least(parts: Sequence[Node]) -> Node:
    return Node("least", tuple(parts), "scalar")


def _mean(parts: Sequence[Node], count: int) -> Node:
    return _total(parts) * (1 / count)


def _variance(parts: Parts, count: int, correction: float | None) -> Node:
    mean, rest = _mean(parts, count), count - (1 if correction is None else correction)
    apart = [z - mean for z in parts]
    return _total([a * a for a in apart]) * (1 / rest if rest else math.inf)


def _norm(parts: Parts, count: int, power: float) -> Node:
    if power == 2:
        return of("sqrt", _total([z * z for z in parts]))
    if power == 0:
        return _total([_number(of("ne", z, 0.0)) for z in parts])
    sizes = [of("abs", z) for z in parts]
    if math.isinf(power):
        return _most(sizes) if power > 0 else _least(sizes)
    return _total(sizes) if power == 1 else of("pow", _total([of("pow", z, power) for z in sizes]), 1 / power)


def _number(truth: Node) -> Node:
    return of("where", truth, 1.0, 0.0)


def _logsumexp(parts: Parts, count: int) -> Node:
    most = _most(parts)
    most = of("where", of("eq", of("abs", most), math.inf), 0.0, most)
    return of("log", _total([of("exp", z - most) for z in parts])) + most


def _place(parts: Parts, value: Node, count: int, again: bool = False) -> Node:
    """The first unit that has a value, among those of all parts; ``again``: not the node that was made before."""
    H, found = count // len(parts), []
    for k, z in enumerate(parts):
        index = Node("index", (), "unit") + k * H if k else Node("index", (), "unit")
        found.append(
            of("where", of("ne", z, value), math.inf, index)
            if again
            else of("where", of("eq", z, value), index, math.inf)
        )
    return _least(found)


def _with_place(best: Callable[[Parts], Node]) -> Callable[[Parts, int], Parts]:
    def both(parts: Parts, count: int) -> Parts:
        value = best(parts)
        return value, _place(parts, value, count)

    return both


#: By name: from the parts of (B, k H), and k H, to the node (B, 1), or those of all results.
_REDUCTIONS: dict[str, Callable[..., Node | Parts]] = {
    "sum": lambda parts, count: _total(parts),
    "mean": _mean,
    "amax": lambda parts, count: _most(parts),
    "amin": lambda parts, count: _least(parts),
    "aminmax": lambda parts, count: (_least(parts), _most(parts)),
    "max": _with_place(_most),
    "min": _with_place(_least),
    "any": lambda parts, count: of("ne", _total(parts), 0.0),
    "all": lambda parts, count: of("ne", _least(parts), 0.0),
    "var": _variance,
    "std": lambda parts, count, correction: of("sqrt", _variance(parts, count, correction)),
    "var_mean": lambda parts, count, correction: (_variance(parts, count, correction), _mean(parts, count)),
    "std_mean": lambda parts, count, correction: (
        of("sqrt", _variance(parts, count, correction)), _mean(parts, count)),
    "linalg_vector_norm": _norm,
    "logsumexp": _logsumexp,
    "nansum": lambda parts, count: _total([of("where", of("ne", z, z), 0.0, z) for z in parts]),
}  # fmt: skip


def _over_units(trace: _Trace, op: str, value: Tensor, axis: int) -> Parts:
    """The parts of what is read along its units."""
    if value.dim() != 2 or axis not in (1, -1) or value.shape[1] % trace.H:
        raise TraceError(f"{trace._where()}: kernels know {op.strip('_')} over the units of a row, dim=-1, only")
    return trace._parts(value, op)


def _softmax(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    parts = _over_units(trace, op, args[0], args[1])
    most = _most(parts)
    apart = [z - most for z in parts]
    powers = [of("exp", z) for z in apart]
    total = _total(powers)
    if op == "_softmax":
        return _know(trace, result, tuple(z / total for z in powers))
    log = of("log", total)
    return _know(trace, result, tuple(z - log for z in apart))


def _softmax_backward(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    grads, made = _over_units(trace, op, args[0], args[2]), trace._parts(args[1], op)
    if op == "_softmax_backward_data":
        along = _total([g * y for g, y in zip(grads, made, strict=True)])
        return _know(trace, result, tuple((g - along) * y for g, y in zip(grads, made, strict=True)))
    total = _total(grads)
    return _know(trace, result, tuple(g - of("exp", y) * total for g, y in zip(grads, made, strict=True)))


def _scatter(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    """The gradient of the largest value of a row: to the first unit that has it."""
    base, axis, place, source = args
    parts, node = _over_units(trace, op, base, axis), trace._node(place)
    if not isinstance(node, Node) or node.op != "least" or node.parents[0].op != "where":
        raise TraceError(f"{trace._where()}: kernels do not know {op}")
    seen = [found.parents[0] for found in node.parents]  # eq(z, value)
    place = _place(tuple(s.parents[0] for s in seen), seen[0].parents[1], base.shape[1], again=True)
    grad, indices = trace._node(source), [found.arguments[1] for found in node.parents]
    return _know(trace, result, tuple(
        of("where", of("eq", index, place), grad, old) for index, old in zip(indices, parts, strict=True)
    ))  # fmt: skip


def _cumulated(parts: Parts) -> Parts:
    """By thread, then what the threads before have; a part's units come behind those of the parts before it."""
    made: list[Node] = []
    for k, z in enumerate(parts):
        scan = Node("scan", (z,), "row")
        part = scan + Node("before", (scan,), "scalar")
        made.append(part + _total(parts[:k]) if k else part)
    return tuple(made)


def _cumsum(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    parts = _over_units(trace, op, args[0], args[1])
    if all(z.op != "flip" for z in parts):
        return _know(trace, result, _cumulated(parts))
    forward = tuple(z.parents[0] for z in reversed(parts))  # from the other end: all, less what is before
    total = _total(forward)
    back = [z + (total - c) for z, c in zip(forward, _cumulated(forward), strict=True)]
    return _know(trace, result, tuple(Node("flip", (z,)) for z in reversed(back)))


def _flip(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    parts = _over_units(trace, op, args[0], *args[1])
    back = tuple(z.parents[0] if z.op == "flip" else Node("flip", (z,), where=trace._where()) for z in reversed(parts))
    return _know(trace, result, back)


def _glu(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    parts = _halves(trace, op, args[0], args[1] if len(args) > 1 else -1)
    return _know(trace, result, tuple(a * of("sigmoid", b) for a, b in zip(*parts, strict=True)))


def _glu_backward(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    grads, (a, b) = trace._parts(args[0], op), _halves(trace, op, args[1], args[2])
    gates = [of("sigmoid", z) for z in b]
    left = [g * s for g, s in zip(grads, gates, strict=True)]
    right = [d * z * (1 - s) for d, z, s in zip(left, a, gates, strict=True)]
    return _know(trace, result, (*left, *right))


def _halves(trace: _Trace, op: str, value: Tensor, axis: int) -> tuple[Parts, Parts]:
    parts = _over_units(trace, op, value, axis)
    if len(parts) % 2:
        raise TraceError(f"{trace._where()}: {op} cuts a gate into pieces; glue two gates together with torch.cat")
    return parts[: len(parts) // 2], parts[len(parts) // 2 :]


def _cat(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    if result.dim() != 2 or result.shape[0] != trace.B:
        raise TraceError(f"{trace._where()}: kernels know cat along the units, dim=-1, only")
    return trace._know(result, sum((trace._parts(t, op) for t in args[0] if t.numel()), ()))


def _split(trace: _Trace, op: str, args: tuple, result: list[Tensor]) -> list[Tensor]:
    parts, at = trace._parts(args[0], op), 0
    for piece in result:
        count = _whole(trace, piece.shape[1], op)
        _know(trace, piece, parts[at : at + count])
        at += count
    return result


def _sliced(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
    value = args[0]
    if result.shape == value.shape:
        return trace._know(result, trace._node(value))
    first = _first(trace, value.shape, *args[1:])
    return _know(trace, result, trace._parts(value, op)[first : first + _whole(trace, result.shape[1], op)])


def _slice_backward(trace: _Trace, op: str, args: tuple, result: Tensor) -> Tensor:
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


def _layer_norm(trace: _Trace, op: str, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    value, shape, weight, bias, eps = args
    if tuple(shape) != (value.shape[1],) or (value.shape[1] != trace.H and weight is not None):
        raise TraceError(f"{trace._where()}: kernels know layer_norm over all units, with weights (H,) or none")
    return _normed(trace, value, weight, bias, eps, result)


def _group_norm(trace: _Trace, op: str, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    value, weight, bias, _, _, _, groups, eps = args
    if groups != 1 or value.dim() != 2 or (value.shape[1] != trace.H and weight is not None):
        raise TraceError(f"{trace._where()}: kernels know group_norm of (B, H) in one group, num_groups=1, only")
    return _normed(trace, value, weight, bias, eps, result)


def _normed(
    trace: _Trace, value: Tensor, weight: Any, bias: Any, eps: float, result: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """(z - mean) / sqrt(variance + eps) over all units, times weights and plus biases (H,) if there are any."""
    parts, count = trace._parts(value, "layer_norm"), value.shape[1]
    mean = _mean(parts, count)
    apart = [z - mean for z in parts]
    scale = of("rsqrt", _mean([a * a for a in apart], count) + eps)
    out = normed = tuple(a * scale for a in apart)
    if weight is not None:
        out = tuple(n * trace._node(weight) for n in out)
    if bias is not None:
        out = tuple(n + trace._node(bias) for n in out)
    trace.normed[scale] = normed
    _know(trace, result[0], out)
    trace._know(result[1], mean)
    trace._know(result[2], scale)
    return result


def _layer_norm_backward(trace: _Trace, op: str, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    grad, value, _, _, rstd, weight = args[:6]
    return _normed_backward(trace, grad, value, rstd, weight, result)


def _group_norm_backward(trace: _Trace, op: str, args: tuple, result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    grad, value, _, rstd, weight = args[:5]
    return _normed_backward(trace, grad, value, rstd, weight, result)


def _normed_backward(
    trace: _Trace, grad: Tensor, value: Tensor, rstd: Tensor, weight: Any, result: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """dz = scale (g - mean(g) - n mean(g n)), with n the normed values."""
    grads, scale, count = trace._parts(grad, "layer_norm"), trace._node(rstd), value.shape[1]
    normed = trace.normed[scale]
    if result[1] is not None:  # of the weights: the kernel sums it
        trace._know(result[1], grads[0] * normed[0])
    if result[2] is not None:
        trace._know(result[2], grads[0])
    if result[0] is None:  # nothing that was normed needs a gradient
        return result
    if weight is not None:
        grads = tuple(g * trace._node(weight) for g in grads)
    mean = _mean(grads, count)
    along = _mean([g * n for g, n in zip(grads, normed, strict=True)], count)
    _know(trace, result[0], tuple((g - mean - n * along) * scale for g, n in zip(grads, normed, strict=True)))
    return result


#: By name: what writes an operation down, given its arguments and its result.
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
#: In a step, and in torch's gradient of one.
OPERATIONS = frozenset(_REDUCTIONS.keys() | _OTHERS.keys())


def _know(trace: _Trace, tensor: Tensor, parts: Sequence[Node]) -> Tensor:
    return trace._know(tensor, parts[0] if len(parts) == 1 else tuple(parts))


def _whole(trace: _Trace, units: int, op: str) -> int:
    if units % trace.H:
        raise TraceError(f"{trace._where()}: {op} cuts a gate into pieces")
    return units // trace.H
