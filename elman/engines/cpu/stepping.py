"""Running without gradients: weights packed once, and little else between Python and the kernel."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import torch
from torch import Tensor

from elman.cells import Weights
from elman.engines.cpu.library import Library, threads

#: Longer runs pack the weights anew: it costs them little, and no memory in between.
AT_MOST = 64


class Packed:
    """A cell's weights in the order in which the kernel reads them, as long as they do not change."""

    def __init__(self, library: Library, weights: Weights, int8: bool) -> None:
        self.library, self.int8 = library, int8
        self.seen = [(weakref.ref(p), *_state(p)) for p in (*weights[:4], *weights.vectors) if p is not None]
        self.H = weights.weight_ih.shape[0] // len(library.cell.input_gates)
        with torch.no_grad():
            real = [None if p is None else p.detach().to(library.real).contiguous() for p in weights[:4]]
            derived = library.program.derive([v.detach() for v in weights.vectors])
            units = torch.stack(derived).to(library.real) if derived else None
        w_ih, w_hh, b_ih, b_hh = real
        assert w_ih is not None
        fields: dict[str, Any] = {"w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh, "units": units}
        gates = (len(library.cell.input_gates), len(library.cell.hidden_gates))
        for name, weight, count in (("ih", w_ih, gates[0]), ("hh", w_hh, gates[1])):
            if weight is None:
                continue
            if int8:
                fields[f"packed_{name}"], fields[f"scale_{name}"] = library.pack_int8(weight, count, self.H)
            else:
                fields[f"packed_{name}"] = library.pack(weight, count, self.H)
        self.alive = fields
        given = {name: t.data_ptr() for name, t in fields.items() if t is not None}
        self.job = library.Job(H=self.H, T=1, D=w_ih.shape[1], **given, sample=library.sample(w_ih, w_hh, self.H))

    def fits(self, library: Library, weights: Weights, int8: bool) -> bool:
        """Whether nothing has changed."""
        if library is not self.library or int8 != self.int8:
            return False
        given = [p for p in (*weights[:4], *weights.vectors) if p is not None]
        return len(given) == len(self.seen) and all(
            reference() is p and _state(p) == (version, address)
            for p, (reference, version, address) in zip(given, self.seen, strict=True)
        )

    def run(self, x: Tensor, state: tuple[Tensor, ...], rates: tuple[float, ...] | None) -> tuple[Tensor, Tensor] | None:
        """y (B, T, H) and the final state (S, B, H); None if the weights are not what they were."""
        B, T, D = x.shape
        library = self.library
        x = x.to(library.dtype).contiguous()
        old = torch.stack(state)
        if old.dtype != library.real:
            old = old.to(library.real)
        y, new = x.new_empty((B, T, self.H)), torch.empty_like(old)
        job = library.Job.from_buffer_copy(self.job)
        job.B, job.T, job.x_b, job.x_t, job.y_b, job.y_t = B, T, T * D, D, T * self.H, self.H
        job.x, job.state0, job.y, job.state1 = x.data_ptr(), old.data_ptr(), y.data_ptr(), new.data_ptr()
        if rates:
            job.rate[:] = rates
        for name, value in threads().items():
            setattr(job, name, value)
        status = library.run_forward(ctypes.addressof(job))
        if status == 3:
            return None
        if status:
            raise MemoryError(f"{library.cell}: no memory for the kernel")
        return y, new


def _state(parameter: Tensor) -> tuple[int, int]:
    """What an assignment or an operation in place changes."""
    return -1 if parameter.is_inference() else parameter._version, parameter.data_ptr()


_packed: dict[int, tuple[weakref.ref[Tensor], Packed]] = {}


def packed(library: Library, weights: Weights, int8: bool, anew: bool = False) -> Packed:
    """The packed weights; made anew if a parameter has changed since."""
    first = weights.weight_ih
    entry = _packed.get(id(first))
    if not anew and entry is not None and entry[0]() is first and entry[1].fits(library, weights, int8):
        return entry[1]
    made, key = Packed(library, weights, int8), id(first)
    _packed[key] = (weakref.ref(first, lambda _: _packed.pop(key, None)), made)
    return made
