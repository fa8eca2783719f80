"""The loop of writing.c: tokens without Python between them."""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Sequence
from ctypes import Structure, c_float, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elman.engines.cpu import inference
from elman.engines.cpu.build import BuildError, load
from elman.engines.cpu.library import Library, Source, source, threads
from elman.engines.scan import Scan
from elman.engines.writing import NO_NUMBERS, Choice, Linear, Writer, Written
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: The connections of layers, by their number in C.
CONNECTIONS = ("plain", "residual", "dense", "highway")
#: What changes in a job from step to step.
_PLACES = ("x", "state0", "y", "state1")


class _Linear(Structure):
    _fields_ = [("N", c_int64), ("K", c_int64), ("weight", c_void_p), ("bias", c_void_p)]


class _Layer(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("forward", "job", "x", "state0", "y", "state1")),
        *((name, c_int64) for name in ("states", "D", "H")),
        ("state", c_void_p * 2),
        ("carry", _Linear),
    ]


class _Job(Structure):
    """The C struct Job of writing.c."""

    _fields_ = [
        *((name, c_int64) for name in ("B", "V", "E", "layers", "linears", "threads", "connection", "width")),
        *((name, c_void_p) for name in ("embedding", "layer", "linear", "banned", "seen", "ended")),
        *((name, c_int64) for name in ("end", "top_k", "greedy")),
        *((name, c_float) for name in ("temperature", "penalty", "top_p")),
        *((name, c_void_p) for name in ("seeds", "last")),
        *((name, c_int64) for name in ("written", "turn")),
        ("features", c_void_p * 2),
        *((name, c_void_p) for name in ("logits", "order")),
        ("source", Source),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled loop; None if it cannot be built, which is logged once."""
    folder = Path(__file__).parent
    text = "\n".join((folder / name).read_text(encoding="utf-8") for name in ("vector.h", "writing.c"))
    try:
        built = load(text, "writing")
    except BuildError as error:
        _log.warning("no fast loop for writing, so it runs slower: %s", error)
        return None
    built.write_tokens.argtypes, built.write_tokens.restype = [c_void_p, c_int64, c_void_p], c_int64
    return built


class Loop(Writer):
    """Writes by writing.c, for networks in float32 whose layers have kernels; see `Writing.writer`."""

    def __init__(
        self, libraries: Sequence[Library], network: Written, choice: Choice, last: Tensor, seen: Tensor | None,
        ended: Tensor, written: int,
    ) -> None:  # fmt: skip
        self._alive: list[Any] = []  # what the jobs point to
        self._rows = B = len(last)
        V, E = network.embedding.shape
        scans, carries = network.layers.scans, [None, *network.layers.carries]
        self._jobs = [inference.job_of(*pair, self._alive) for pair in zip(libraries, scans, strict=True)]
        layers = [
            self._layer(library, scan, job, carries[k] if k < len(carries) else None)
            for k, (library, scan, job) in enumerate(zip(libraries, scans, self._jobs, strict=True))
        ]
        linears = [self._linear(one) for one in network.linears]
        width = max(E, *(layer.D + layer.H for layer in layers), *(linear.N for linear in linears))
        job = self._job = _Job(B=B, V=V, E=E, layers=len(layers), linears=len(linears), threads=threads())
        job.connection, job.width = CONNECTIONS.index(network.layers.connection), width
        job.layer, job.linear = self._array(_Layer, layers), self._array(_Linear, linears)
        job.embedding, job.banned = self._at(network.embedding), self._at(choice.banned)
        if choice.penalty != 1.0:
            assert seen is not None
            job.seen = self._at(seen.clone())
        job.end = -1 if choice.end is None else choice.end
        if choice.end is not None:
            job.ended = self._at(ended.clone())
        job.greedy, job.temperature = choice.temperature == 0, max(choice.temperature, 1e-6)
        job.top_k, job.top_p, job.penalty = choice.top_k, choice.top_p, choice.penalty
        job.seeds = self._at(torch.tensor(list(choice.seeds), dtype=torch.int64))
        job.last, job.written = self._at(last.clone()), written
        job.features = self._at(torch.empty(B, width)), self._at(torch.empty(2, B, width))
        job.logits, job.order = self._at(torch.empty(B, V)), self._at(torch.empty(V, dtype=torch.float64))

    def write(self, count: int) -> Tensor:
        tokens = torch.empty(count, self._rows, dtype=torch.int64)
        for job in (self._job, *self._jobs):
            job.source = source()  # another one in a forked process
        built = library()
        assert built is not None
        done = built.write_tokens(ctypes.addressof(self._job), count, tokens.data_ptr())
        if done == -1:
            raise MemoryError("no memory for the kernels")
        if done < 0:
            raise ElmanError(NO_NUMBERS)
        return tokens[:done]

    def _at(self, t: Tensor) -> int:
        """Return the address of a tensor, which lives as long as the loop."""
        self._alive.append(t := t.contiguous())
        return t.data_ptr()

    def _array(self, kind: type[Structure], items: Sequence[Structure]) -> int:
        """Return the address of structs."""
        array = (kind * len(items))(*items)  # type: ignore[operator]
        self._alive.append(array)
        return ctypes.addressof(array)

    def _linear(self, one: Linear) -> _Linear:
        N, K = one.weight.shape
        return _Linear(N=N, K=K, weight=self._at(one.weight), bias=None if one.bias is None else self._at(one.bias))

    def _layer(self, library: Library, scan: Scan, job: Any, carry: Linear | None) -> _Layer:
        job.x_b = job.x_t = job.D
        job.y_b = job.y_t = job.H
        at = {name: ctypes.addressof(job) + getattr(library.Job, name).offset for name in _PLACES}
        old = torch.stack(scan.state)
        layer = _Layer(job=ctypes.addressof(job), states=len(scan.state), D=job.D, H=job.H, **at)
        layer.forward = ctypes.cast(library.run_forward, c_void_p)
        layer.state = self._at(old), self._at(torch.empty_like(old))
        if carry is not None:
            layer.carry = self._linear(carry)
        return layer
