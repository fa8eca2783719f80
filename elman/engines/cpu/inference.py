"""Run kernels without gradients, with little overhead between Python and C.

Nothing about weights outlives a call: the kernel reads the parameters themselves. Only inside a scope that promises
that they stay as they are (`elman.layers.packed`) are they packed once.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from elman.engines.cpu.library import Library, source, threads
from elman.engines.scan import Scan, State


class PackedWeights:
    """The matrices W and R in the order in which the kernel reads them, for `Scan.packed`.

    Attributes:
        library: the kernel that they are for.
        fields: of a job, by name: the tensors that it points to.
        bfloat16: whether the weights are stored in bfloat16.
    """

    def __init__(self, library: Library, fields: dict[str, Tensor], bfloat16: bool) -> None:
        self.library, self.fields, self.bfloat16 = library, fields, bfloat16

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of a layer packs its own


def pack(library: Library, scan: Scan) -> PackedWeights:
    """Return the packed weights of a scan; in float32 with the dtype that they are rounded to, if all of them are."""
    to = scan.rounded if library.dtype == torch.float32 else None
    fields = _packed(library, scan, to)
    if fields is None:  # weights have changed since they were rounded
        to, fields = None, _packed(library, scan, None)
        assert fields is not None
    return PackedWeights(library, fields, to == torch.bfloat16)


def _packed(library: Library, scan: Scan, to: torch.dtype | None) -> dict[str, Tensor] | None:
    """Return W and R packed in a dtype, as fields of a job; None if one of them has not been rounded to it."""
    H = scan.weights.weight_ih.shape[0] // len(library.cell.inputs)
    fields: dict[str, Tensor] = {}
    for name, which, weight in zip(("ih", "hh"), ("input", "recurrent"), scan.weights[:2], strict=True):
        if weight is not None:
            tensors = library.pack(which, _plain(weight, library.real), H, to)
            if tensors is None:
                return None
            fields |= {f"{part}_{name}": tensor for part, tensor in tensors.items()}
    return fields


def job_of(library: Library, scan: Scan, alive: list[Tensor | None]) -> Any:
    """Return a job with the sizes, weights and rates of a scan, without its x, y and state.

    ``alive`` gets the tensors that the job points to, which must exist as long as it.
    """
    real = library.real
    B, T, D = scan.x.shape
    job = library.Job()
    job.B, job.T, job.D, job.H, job.heads = B, T, D, scan.state[0].shape[1], scan.heads
    job.threads, job.amx, job.source = threads(), library.amx(), source()
    weights = [_plain(w, real) for w in scan.weights[:4]]
    alive += weights
    job.w_ih, job.w_hh, job.b_ih, job.b_hh = [None if w is None else w.data_ptr() for w in weights]
    if scan.weights.vectors and (units := library.units(torch.stack(scan.weights.vectors).to(real))) is not None:
        alive.append(units)
        job.units = units.data_ptr()
    if scan.zoneout is not None:
        job.rate = tuple([0.0 if isinstance(k, Tensor) else k for k in scan.zoneout])
    if isinstance(scan.packed, PackedWeights) and scan.packed.library is library:
        for name, tensor in scan.packed.fields.items():
            alive.append(tensor)
            setattr(job, name, tensor.data_ptr())
        job.bfloat16 = scan.packed.bfloat16
    return job


def run(library: Library, scan: Scan) -> tuple[Tensor, State]:
    """Return y (B, T, H) and the final state, without a graph."""
    x, state, real = scan.x, scan.state, library.real
    B, T, _ = x.shape
    H, kind = state[0].shape[1], state[0].dtype
    if x.dtype is not library.dtype:
        x = x.to(library.dtype)
    if x.stride(2) != 1:
        x = x.contiguous()
    along = x.stride(0) < x.stride(1)  # x, and so y, with time as the first dimension in memory
    y = torch.empty((T, B, H) if along else (B, T, H), dtype=library.dtype, device="cpu")
    y = y.transpose(0, 1) if along else y
    old = [_plain(s, real) for s in state]
    new = [torch.empty((B, H), dtype=real, device="cpu") for _ in state]
    alive: list[Tensor | None] = [x, y, *old, *new]

    job = job_of(library, scan, alive)
    job.x_b, job.x_t, _ = x.stride()
    job.y_b, job.y_t, _ = y.stride()
    job.x, job.y = x.data_ptr(), y.data_ptr()
    job.state0 = tuple([s.data_ptr() for s in old])  # type: ignore[union-attr]
    job.state1 = tuple([s.data_ptr() for s in new])

    def point(name: str, tensor: Tensor) -> None:
        alive.append(tensor)
        setattr(job, name, tensor.data_ptr())

    if scan.lengths is not None:
        lengths, order = scan.lengths.long().clamp(0, T).sort(descending=True, stable=True)
        point("lengths", lengths)
        point("order", order)
    if scan.resets is not None:
        point("resets", scan.resets.contiguous())
    if scan.hidden_mask is not None:
        point("mask", _plain(scan.hidden_mask, real))
    if scan.zoneout is not None:
        zones = [_plain(k, real) if isinstance(k, Tensor) else None for k in scan.zoneout]
        alive += zones
        job.zone = tuple([None if k is None else k.data_ptr() for k in zones])
    if library.run_forward(ctypes.addressof(job)):
        raise MemoryError(f"{library.cell}: no memory for the kernel")
    return y, tuple(new) if kind is real else tuple([s.to(kind) for s in new])


def _plain(t: Any, real: torch.dtype) -> Any:
    """Return a contiguous tensor of this dtype; None for None."""
    if t is None or (t.dtype is real and t.is_contiguous()):
        return t
    return t.to(real).contiguous()
