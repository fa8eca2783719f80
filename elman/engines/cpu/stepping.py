"""Running without gradients: weights packed once, and little else between Python and the kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from elman.engines.cpu.library import Library, source
from elman.engines.int8 import on_grid
from elman.engines.scan import Scan, State, Stepper


class CpuStepper(Stepper):
    """A cell's weights in the order in which the kernel reads them."""

    def __init__(self, library: Library, scan: Scan, parameters: Iterable[Tensor | None], int8: bool) -> None:
        self.library, weights = library, scan.weights
        self._parameters, self.states = [p for p in parameters if p is not None], len(library.cell.state)
        self.seen = {id(p): (_version(p), p.data_ptr()) for p in self._parameters}
        self.H = weights.weight_ih.shape[0] // len(library.cell.inputs)
        self.D = weights.weight_ih.shape[1]
        with torch.no_grad():
            real = [None if p is None else p.detach().to(library.real).contiguous() for p in weights[:4]]
            units = library.units(torch.stack(weights.vectors).to(library.real) if weights.vectors else None)
        w_ih, w_hh, b_ih, b_hh = real
        assert w_ih is not None
        fields: dict[str, Any] = {"w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh, "units": units}
        int8 = int8 and all(w is None or on_grid(w) for w in (w_ih, w_hh))  # training has left it
        for name, which, weight in (("ih", "input", w_ih), ("hh", "recurrent", w_hh)):
            if weight is not None and int8:
                fields[f"packed_{name}"], fields[f"scale_{name}"] = library.pack_int8(which, weight, self.H)
            elif weight is not None:
                fields[f"packed_{name}"] = library.pack(which, weight, self.H)
        self._alive = fields
        given = {name: t.data_ptr() for name, t in fields.items() if t is not None}
        self._job = library.Job(
            H=self.H, heads=scan.heads, T=1, D=self.D, x_b=self.D, y_b=self.H, rate=scan.zoneout or (), **given,
        )  # fmt: skip
        library.watch(self._job, self._parameters)

    def fits(self, parameters: Iterable[Tensor | None]) -> bool:
        given = 0
        for p in parameters:
            if p is not None:
                seen = self.seen.get(id(p))
                if seen is None or _version(p) != seen[0] or p.data_ptr() != seen[1]:
                    return False
                given += 1
        return given == len(self._parameters)

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State] | None:
        library = self.library
        B, D = x.shape
        shape = (B, self.H)
        if D != self.D or not B or [s.shape for s in state] != [shape] * self.states or state[0].device.type != "cpu":
            return None
        if x.dtype is not library.dtype or not x.is_contiguous():
            x = x.to(library.dtype).contiguous()
        kind = state[0].dtype
        for s in state:
            if s.dtype is not library.real or not s.is_contiguous():
                state = tuple([s.to(library.real).contiguous() for s in state])
                break
        y, new = (
            torch.empty(shape, dtype=library.dtype, device="cpu"),
            [torch.empty(shape, dtype=library.real, device="cpu") for _ in state],
        )
        job = library.Job.from_buffer_copy(self._job)
        job.B, job.threads, job.source = B, torch.get_num_threads(), source()
        job.x, job.y = x.data_ptr(), y.data_ptr()
        job.state0 = tuple([s.data_ptr() for s in state])
        job.state1 = tuple([s.data_ptr() for s in new])
        status = library.run_forward(ctypes.addressof(job))
        if status == 3:  # a weight has changed behind torch's back, through .data
            return None
        if status:
            raise MemoryError(f"{library.cell}: no memory for the kernel")
        return y, tuple(new if kind is library.real else [s.to(kind) for s in new])


def _version(parameter: Tensor) -> int:
    """How often it has been changed in place; torch does not count for tensors made in inference mode."""
    return -1 if parameter.is_inference() else parameter._version
