"""Kernels as operations of torch: ``elman::scan`` and its gradient ``elman::scan_backward``.

Being operations, they go through autograd, torch.compile, checkpointing and distributed training.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from elman.cells import Weights
from elman.engines.cpu.library import Library, in_large_pages, reused
from elman.engines.eager import Eager
from elman.engines.modes import batched, transform, watched
from elman.engines.scan import Scan


@final
class Libraries(dict[str, Library]):
    """The kernels of the operations, by `Library.key`.

    One that is not there, as a program says that was exported by another process, is what ``find`` gives.
    """

    find: Callable[[str], Library]

    def __missing__(self, key: str) -> Library:
        return self.find(key)


LIBRARIES = Libraries()


_operations = torch.library.Library("elman", "DEF")
_operations.define(
    "scan(str kernel, Tensor x, Tensor state, Tensor weight_ih, Tensor? weight_hh, Tensor? bias_ih, Tensor? bias_hh, "
    "Tensor? vectors, Tensor? lengths, Tensor? resets, Tensor? hidden_mask, Tensor[] zones, float[] rates, int heads, "
    "bool keep) -> (Tensor, Tensor, Tensor)"
)
_operations.define(
    "scan_backward(str kernel, Tensor? dy, Tensor dstate, Tensor saved, Tensor y, Tensor x, Tensor state, "
    "Tensor weight_ih, Tensor? weight_hh, Tensor? vectors, Tensor? lengths, Tensor? resets, Tensor? hidden_mask, "
    "Tensor[] zones, float[] rates, int heads, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.impl(_operations, "scan", "CPU")
def scan(
    kernel: str,
    x: Tensor,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor | None,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    vectors: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    hidden_mask: Tensor | None,
    zones: list[Tensor],
    rates: list[float],
    heads: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (B, T, H), the final state (S, B, H), and what backward needs (empty without ``keep``).

    x (B, T, D) is of the kernel's dtype, all else of its real type; state is (S, B, H), vectors (V, H);
    zones holds (B, T, H), or nothing where a number of rates holds for the whole part of the state.
    """
    library = LIBRARIES[kernel]
    y, final, saved = _outputs(library, x, state, False)
    if keep and x.numel():
        saved = reused((x.shape[1], x.shape[0], library.saved(state.shape[-1])), library.dtype)
    call = _Call(library, x, state, weight_ih, weight_hh, vectors, lengths, resets, hidden_mask, zones, rates, heads)
    call.point(b_ih=bias_ih, b_hh=bias_hh, saved=saved if keep else None)
    call.parts(state1=final)
    call.sequence("y", in_large_pages(y))
    library.forward(call.fields)
    return y, final, saved


@torch.library.register_fake("elman::scan", lib=_operations)
def _(
    kernel: str, x: Tensor, state: Tensor, weight_ih: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _outputs(LIBRARIES[kernel], x, state, rest[-1])


def _outputs(library: Library, x: Tensor, state: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    B, T, H = x.shape[0], x.shape[1], state.shape[-1]
    y = x.new_empty_strided((B, T, H), _strides(x, H))
    saved = x.new_empty((T, B, library.saved(H)) if keep else (0,))
    return y, torch.empty_like(state, memory_format=torch.contiguous_format), saved


@torch.library.impl(_operations, "scan_backward", "CPU")
def scan_backward(
    kernel: str,
    dy: Tensor | None,
    dstate: Tensor,
    saved: Tensor,
    y: Tensor,
    x: Tensor,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor | None,
    vectors: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    hidden_mask: Tensor | None,
    zones: list[Tensor],
    rates: list[float],
    heads: int,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, state, weight_ih, weight_hh, of all gates (columns, H) and per-unit values (U, H).

    ``wanted``: whether those of x, of the weights and of the gates are; what is not is empty.
    """
    library = LIBRARIES[kernel]
    dx, dstate0, dw_ih, dw_hh, _, _ = _gradients(library, x, state, weight_ih, weight_hh, wanted)
    H, padded = state.shape[-1], library.padded(state.shape[-1])
    db, dunits = state.new_zeros(library.distinct, padded), state.new_empty(library.sums, padded)
    call = _Call(library, x, state, weight_ih, weight_hh, vectors, lengths, resets, hidden_mask, zones, rates, heads)
    call.point(saved=saved, dunits=dunits)
    call.parts(dstate1=dstate, dstate0=dstate0)
    call.point(dw_ih=dw_ih if wanted[1] else None, dw_hh=dw_hh if wanted[2] else None, db=db if wanted[3] else None)
    call.sequence("y", _rows(y))
    if dy is not None:
        call.sequence("dy", _rows(dy.to(library.dtype)))
    if wanted[0]:
        call.sequence("dx", in_large_pages(dx))
    library.backward(call.fields)
    gates = db[:, :H].contiguous() if wanted[3] else db.new_empty(0)
    return dx, dstate0, dw_ih, dw_hh, gates, dunits[:, :H].contiguous()


@torch.library.register_fake("elman::scan_backward", lib=_operations)
def _(
    kernel: str, dy: Tensor | None, dstate: Tensor, saved: Tensor, y: Tensor, x: Tensor, state: Tensor,
    weight_ih: Tensor, weight_hh: Tensor | None, *rest: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    return _gradients(LIBRARIES[kernel], x, state, weight_ih, weight_hh, rest[-1])


def _strides(x: Tensor, size: int) -> tuple[int, int, int]:
    """Return an empty tensor (B, T, size) with the memory order of x, batch first or time first."""
    B, T = x.shape[:2]
    return (size, B * size, 1) if x.stride(0) < x.stride(1) else (T * size, size, 1)


def _gradients(
    library: Library, x: Tensor, state: Tensor, weight_ih: Tensor, weight_hh: Tensor | None, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    B, T, D = x.shape
    H = state.shape[-1]
    dx = x.new_empty_strided((B, T, D), _strides(x, D))
    nothing = (0,)
    return (
        dx if wanted[0] else x.new_empty(nothing),
        torch.empty_like(state, memory_format=torch.contiguous_format),
        state.new_empty(weight_ih.shape if wanted[1] else nothing),
        state.new_empty(weight_hh.shape if wanted[2] and weight_hh is not None else nothing),
        state.new_empty((library.distinct, H) if wanted[3] else nothing),
        state.new_empty((library.sums, H)),
    )


def _setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    kernel, *tensors, zones, rates, heads, keep = inputs
    y, _, saved = output
    ctx.kernel, ctx.rates, ctx.heads, ctx.zones, ctx.keep = kernel, rates, heads, len(zones), keep
    ctx.save_for_backward(saved, y, *tensors, *zones)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dy: Tensor | None, dstate: Tensor | None, _: Tensor | None) -> tuple:
    if not ctx.keep:
        raise RuntimeError("this output was made without keeping what its gradient needs (grad mode was off)")
    if torch.is_grad_enabled() or transform() or batched(dy, dstate):
        return _eager_backward(ctx, dy, dstate)
    saved, y, x, state, weight_ih, weight_hh, _, _, vectors, lengths, resets, mask, *zones = ctx.saved_tensors
    library = LIBRARIES[ctx.kernel]
    need = ctx.needs_input_grad
    wanted = [need[1], need[3], weight_hh is not None and need[4], need[5] or need[6]]
    dstate = torch.zeros_like(state) if dstate is None else dstate
    backward = torch.ops.elman.scan_backward if watched(x, dy, dstate) else scan_backward
    dx, dstate0, dw_ih, dw_hh, db, dunits = backward(
        ctx.kernel, dy, dstate, saved, y, x, state, weight_ih, weight_hh, vectors, lengths, resets, mask, zones,
        ctx.rates, ctx.heads, wanted,
    )  # fmt: skip
    inputs, hidden = library.columns
    return (
        None, dx if wanted[0] else None, dstate0 if need[2] else None, dw_ih if wanted[1] else None,
        dw_hh if wanted[2] else None, _columns(db, inputs) if need[5] else None,
        _columns(db, hidden) if need[6] else None, library.vector_gradients(vectors, dunits) if need[7] else None,
        None, None, None, [None] * ctx.zones, None, None, None,
    )  # fmt: skip


def _eager_backward(ctx: Any, dy: Tensor | None, dstate: Tensor | None) -> tuple:
    """Return the gradients from the eager engine, for second derivatives and batched gradients."""
    _, _, x, state, weight_ih, weight_hh, bias_ih, bias_hh, vectors, lengths, resets, mask, *zones = ctx.saved_tensors
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        cell = LIBRARIES[ctx.kernel].cell
        rows, columns = len(cell.input_gates) * state.shape[-1], x.shape[-1] - len(cell.raw)
        weights = Weights(  # without what stands for raw columns
            weight_ih[:rows, :columns], weight_hh, None if bias_ih is None else bias_ih[:rows], bias_hh, None,
            () if vectors is None else vectors.unbind(),
        )  # fmt: skip
        zoneout = tuple(zone if zone.numel() else rate for zone, rate in zip(zones, ctx.rates, strict=True))
        y, final = Eager().run(Scan(cell, weights, x.to(state.dtype), state.unbind(), lengths, resets, mask, zoneout))
        given = [(y.to(x.dtype), dy), (torch.stack(final), dstate)]
    inputs = (None, x, state, weight_ih, weight_hh, bias_ih, bias_hh, vectors)
    wanted = {k: t for k, t in enumerate(inputs) if t is not None and ctx.needs_input_grad[k]}
    found = torch.autograd.grad(
        [t for t, grad in given if grad is not None],
        list(wanted.values()),
        [grad for _, grad in given if grad is not None],
        create_graph=torch.is_grad_enabled(),
        allow_unused=True,
        materialize_grads=True,
    )
    grads = dict(zip(wanted, found, strict=True))
    return (*map(grads.get, range(len(inputs))), None, None, None, [None] * ctx.zones, None, None, None)


class _Direct(torch.autograd.Function):
    """The operation as an autograd function, which avoids 0.1 ms in the dispatcher of torch."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        output = scan(*inputs)
        _setup(ctx, inputs, output)
        return output[0], output[1]

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dstate: Tensor | None) -> tuple:  # type: ignore[override]
        return tuple(None if isinstance(g, list) else g for g in _backward(ctx, dy, dstate, None))


def carry(*inputs: Any) -> tuple[Tensor, Tensor]:
    """Return y and the final state with the least overhead; the arguments are those of `scan`."""
    if torch.compiler.is_compiling() or watched(*inputs[1:4]):
        y, final, _ = torch.ops.elman.scan(*inputs)
        return y, final
    return _Direct.apply(*inputs)


def _columns(gates: Tensor, columns: list[int]) -> Tensor:
    return torch.cat([gates[c] for c in columns])


torch.library.register_autograd("elman::scan", _backward, setup_context=_setup, lib=_operations)


def _no_second(ctx: Any, *grads: Any) -> None:
    raise RuntimeError('a compiled program has no second derivatives; use: with elman.engine("eager"): ...')


torch.library.register_autograd("elman::scan_backward", _no_second, lib=_operations)


def _rows(t: Tensor) -> Tensor:
    """Return the tensor with a contiguous last dimension."""
    if t.stride() == (0, 0, 0):  # one number for all, as the gradient of a sum
        return t[:1, :1].contiguous().expand(t.shape)
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


class _Call:
    """The fields of a job, and the tensors that must exist as long as it."""

    def __init__(
        self,
        library: Library,
        x: Tensor,
        state: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor | None,
        vectors: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        mask: Tensor | None,
        zones: list[Tensor],
        rates: list[float],
        heads: int,
    ) -> None:
        B, T, D = x.shape
        self.alive: list[Tensor] = []
        self.fields: dict[str, Any] = {"B": B, "T": T, "D": D, "H": state.shape[-1], "heads": heads}
        self.sequence("x", _rows(x))
        order = None
        if lengths is not None:
            lengths, order = lengths.long().clamp(0, T).sort(descending=True, stable=True)
        self.point(w_ih=weight_ih, w_hh=weight_hh, mask=mask, units=library.units(vectors))
        self.parts(state0=state)
        self.point(lengths=lengths, order=order, resets=resets)
        pointers = [self._pointer(zone) if zone.numel() else None for zone in zones]
        self.fields |= {"zone": tuple(pointers), "rate": tuple(rates)}

    def _pointer(self, t: Tensor) -> int:
        t = t.contiguous()
        self.alive.append(t)
        return t.data_ptr()

    def point(self, **tensors: Tensor | None) -> None:
        self.fields |= {name: self._pointer(t) for name, t in tensors.items() if t is not None}

    def parts(self, **tensors: Tensor) -> None:
        """Set tensors (S, B, H): the address of each part of the state."""
        self.fields |= {name: tuple(map(self._pointer, t.contiguous().unbind())) for name, t in tensors.items()}

    def sequence(self, name: str, t: Tensor) -> None:
        """Set a tensor (B, T, ·): its address and strides."""
        self.alive.append(t)
        self.fields |= {name: t.data_ptr(), f"{name}_b": t.stride(0), f"{name}_t": t.stride(1)}
