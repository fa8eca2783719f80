"""Recurrent layers for the loops in C: the structs of layers.c, bound to kernels and weights."""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Sequence
from ctypes import Structure, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elman.engines.cpu import inference
from elman.engines.cpu.build import BuildError, load
from elman.engines.cpu.library import Library, Source, source, threads
from elman.engines.scan import Scan
from elman.engines.writing import Layers, Linear

_log = logging.getLogger("elman")

#: The connections of layers, by their number in C.
_CONNECTIONS = ("plain", "residual", "dense", "highway")
#: What changes in a job from step to step.
_PLACES = ("x", "state0", "y", "state1")


class LinearStruct(Structure):
    """The C struct Linear."""

    _fields_ = [
        ("N", c_int64),
        ("K", c_int64),
        *((name, c_void_p) for name in ("weight", "bias", "scale")),
        ("bfloat16", c_int64),
    ]


class _LayerStruct(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("forward", "job", "x", "state0", "y", "state1")),
        *((name, c_int64) for name in ("states", "D", "H")),
        ("carry", LinearStruct),
    ]


class LayersStruct(Structure):
    """The C struct Layers."""

    _fields_ = [
        *((name, c_int64) for name in ("B", "D", "layers", "threads", "connection", "width")),
        *((name, c_void_p) for name in ("layer", "x", "y", "gate", "digits")),
        ("source", Source),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled loops; None if they cannot be built, which is logged once."""
    folder = Path(__file__).parent
    parts = ("vector.h", "int8.h", "half.h", "layers.c", "writing.c")
    try:
        built = load("\n".join((folder / name).read_text(encoding="utf-8") for name in parts), "loops")
    except BuildError as error:
        _log.warning("no fast loops over steps, so they run slower: %s", error)
        return None
    built.write_tokens.argtypes, built.write_tokens.restype = [c_void_p, c_int64, c_void_p], c_int64
    built.step_layers.argtypes, built.step_layers.restype = [c_void_p] * 5, c_int
    built.linear_columns.argtypes, built.linear_columns.restype = [c_int64], c_int64
    built.pack_linear_int8.argtypes = [c_void_p] * 3 + [c_int64] * 2
    built.pack_linear_bfloat16.argtypes = [c_void_p] * 2 + [c_int64] * 2
    built.digits_bytes.argtypes, built.digits_bytes.restype = [c_int64], c_int64
    return built


def _built() -> ctypes.CDLL:
    """Return the compiled loops, where the caller has asked before whether there are any."""
    built = library()
    assert built is not None
    return built


class BoundLayers:
    """Layers whose jobs point to their weights.

    Args:
        libraries (Sequence[Library]): the kernel of each layer, in float32.
        layers (Layers): a single step of B rows.
        least_width (int): features for which there has to be room.
        rounded (torch.dtype | None): the dtype as which linear layers are packed, where their matrices have been
            rounded to it. The caller promises that they stay as they are. Default: None, they are not packed

    Attributes:
        struct (LayersStruct): for C.
        jobs (list): of the kernels.
        weights (list[Tensor]): what the jobs point to, which has to live as long as they are used.
    """

    def __init__(
        self, libraries: Sequence[Library], layers: Layers, least_width: int = 0, rounded: torch.dtype | None = None
    ) -> None:
        self._alive: list[Any] = []
        self._rounded = rounded
        scans = layers.scans
        B, _, D = scans[0].x.shape
        self.weights: list[Tensor | None] = []
        self.jobs = [inference.job_of(*pair, self.weights) for pair in zip(libraries, scans, strict=True)]
        carries = [None, *layers.carries] if layers.carries else [None] * len(scans)
        structs = [self._layer(*one) for one in zip(libraries, scans, self.jobs, carries, strict=True)]
        width = max(least_width, *(one.D + one.H for one in structs))
        self.struct = LayersStruct(B=B, D=D, layers=len(structs), connection=_CONNECTIONS.index(layers.connection))
        self.struct.width, self.struct.layer = width, self.array(_LayerStruct, structs)
        rows = torch.empty((3, B, width), dtype=torch.float32, device="cpu")
        self.struct.x, self.struct.y, self.struct.gate = (self.at(row) for row in rows)
        if rounded == torch.int8:
            self.struct.digits = self.at(torch.empty(B * _built().digits_bytes(width), dtype=torch.uint8, device="cpu"))
        self._source: Source | None = None
        self.refresh()

    def refresh(self) -> None:
        """Take over the number of threads, and where they come from: that differs in a forked process."""
        now, number = source(), threads()
        if now is not self._source or number != self.struct.threads:
            self._source = now
            for job in (self.struct, *self.jobs):
                job.source, job.threads = now, number

    def at(self, t: Tensor) -> int:
        """Return the address of a contiguous tensor, whose memory lives as long as this object."""
        assert t.is_contiguous() and t.device.type == "cpu"
        self._alive.append(t.detach())  # parameters can get other memory
        return t.data_ptr()

    def array(self, kind: type[Structure], items: Sequence[Structure]) -> int:
        """Return the address of structs, which live as long as this object."""
        array = (kind * len(items))(*items)  # type: ignore[operator]
        self._alive.append(array)
        return ctypes.addressof(array)

    def keep_weights(self) -> None:
        """Let the memory of the weights live as long as this object, whatever happens to the parameters."""
        self._alive += [t.detach() for t in self.weights if t is not None]

    def linear(self, one: Linear) -> LinearStruct:
        """Return a linear layer for C, whose tensors are contiguous; they are among the weights from now on."""
        N, K = one.weight.shape
        self.weights += one
        bias = None if one.bias is None else one.bias.data_ptr()
        at, to = one.weight.data_ptr(), self._rounded
        if to is not None:
            built = _built()
            columns, empty = built.linear_columns(N), functools.partial(torch.empty, device="cpu")
            if to == torch.int8:
                packed, scales = empty((columns, -(-K // 4) * 4), dtype=to), empty((2, columns), dtype=torch.float32)
                if built.pack_linear_int8(packed.data_ptr(), scales.data_ptr(), at, N, K):
                    return LinearStruct(N=N, K=K, weight=self.at(packed), bias=bias, scale=self.at(scales))
            else:
                packed = empty((columns, -(-K // 2) * 2), dtype=to)
                if built.pack_linear_bfloat16(packed.data_ptr(), at, N, K):
                    return LinearStruct(N=N, K=K, weight=self.at(packed), bias=bias, bfloat16=1)
        return LinearStruct(N=N, K=K, weight=at, bias=bias)

    def _layer(self, library: Library, scan: Scan, job: Any, carry: Linear | None) -> _LayerStruct:
        job.x_b = job.x_t = job.D
        job.y_b = job.y_t = job.H
        at = {name: ctypes.addressof(job) + getattr(library.Job, name).offset for name in _PLACES}
        layer = _LayerStruct(job=ctypes.addressof(job), states=len(scan.state), D=job.D, H=job.H, **at)
        layer.forward = ctypes.cast(library.run_forward, c_void_p)
        if carry is not None:
            layer.carry = self.linear(carry)
        return layer
