"""The loop of writing.c: tokens without Python between them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import Structure, c_float, c_int64, c_void_p

import torch
from torch import Tensor

from elman.engines.cpu.layers import BoundLayers, LayersStruct, LinearStruct, library
from elman.engines.cpu.library import Library
from elman.engines.writing import NO_NUMBERS, Choice, Writer, Written
from elman.errors import ElmanError


class _Job(Structure):
    """The C struct Job of writing.c."""

    _fields_ = [
        ("net", LayersStruct),
        *((name, c_int64) for name in ("V", "linears")),
        *((name, c_void_p) for name in ("embedding", "linear")),
        ("states", c_void_p * 2),
        *((name, c_void_p) for name in ("banned", "seen", "ended")),
        *((name, c_int64) for name in ("end", "top_k", "greedy")),
        *((name, c_float) for name in ("temperature", "penalty", "top_p")),
        *((name, c_void_p) for name in ("seeds", "last")),
        *((name, c_int64) for name in ("written", "turn")),
        *((name, c_void_p) for name in ("logits", "order")),
    ]


class Loop(Writer):
    """Writes by writing.c, for networks in float32 whose layers have kernels; see `Writing.writer`."""

    def __init__(
        self, libraries: Sequence[Library], network: Written, choice: Choice, last: Tensor, seen: Tensor | None,
        ended: Tensor, written: int,
    ) -> None:  # fmt: skip
        self._rows = B = len(last)
        V, E = network.embedding.shape
        widest = max(E, *(len(linear.weight) for linear in network.linears[:-1]), 0)
        roundings = {scan.rounded for scan in network.layers.scans}
        rounded = roundings.pop() if len(roundings) == 1 else None
        self._bound = bound = BoundLayers(libraries, network.layers, widest, rounded)
        job = self._job = _Job(V=V, linears=len(network.linears), written=written)
        job.linear = bound.array(LinearStruct, [bound.linear(one) for one in network.linears])
        bound.keep_weights()
        job.embedding, job.banned = bound.at(network.embedding), bound.at(choice.banned.float().contiguous())
        old = [
            part.clone(memory_format=torch.contiguous_format) for scan in network.layers.scans for part in scan.state
        ]
        self._states = [self._pointers(old), self._pointers([torch.empty_like(part) for part in old])]
        job.states = tuple(ctypes.addressof(one) for one in self._states)
        if choice.penalty != 1.0:
            assert seen is not None
            job.seen = bound.at(seen.clone())
        job.end = -1 if choice.end is None else choice.end
        if choice.end is not None:
            job.ended = bound.at(ended.clone())
        job.greedy, job.temperature = choice.temperature == 0, max(choice.temperature, 1e-6)
        job.top_k, job.top_p, job.penalty = choice.top_k, choice.top_p, choice.penalty
        job.seeds = bound.at(torch.tensor(list(choice.seeds), dtype=torch.int64, device="cpu"))
        job.last = bound.at(last.clone())
        job.logits = bound.at(torch.empty((B, V), dtype=torch.float32, device="cpu"))
        job.order = bound.at(torch.empty(V, dtype=torch.float64, device="cpu"))

    def write(self, count: int) -> Tensor:
        tokens = torch.empty((count, self._rows), dtype=torch.int64, device="cpu")
        self._bound.refresh()
        self._job.net = self._bound.struct
        built = library()
        assert built is not None
        done = built.write_tokens(ctypes.addressof(self._job), count, tokens.data_ptr())
        if done == -1:
            raise MemoryError("no memory for the kernels")
        if done < 0:
            raise ElmanError(NO_NUMBERS)
        return tokens[:done]

    def _pointers(self, tensors: Sequence[Tensor]) -> ctypes.Array:
        return (c_void_p * len(tensors))(*(self._bound.at(t) for t in tensors))
