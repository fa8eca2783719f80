"""Finds out which modes of torch are active while a cell runs: transforms, exporters and others."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from elman.engines.scan import constant

Result = TypeVar("Result")


def unwatched(function: Callable[..., Result], *arguments: Any) -> Result:
    """Return ``function(*arguments)``, computed without any mode, hook or transform of torch.

    Nearly all of them belong to one thread: function modes and dispatch modes (fake tensors, export, a default
    device), the tracer of ``torch.jit``, hooks on saved tensors, autocast, inference mode, torch.func. Therefore the
    function runs in a thread of its own. Anomaly detection applies to all threads and is disabled meanwhile.
    """
    context = contextvars.copy_context()
    with _no_anomaly_detection(), ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, function, *arguments).result()


_lock = threading.Lock()
_callers = 0
_anomaly = False, True


@contextmanager
def _no_anomaly_detection() -> Iterator[None]:
    """Disable anomaly detection while any thread is inside, then restore it."""
    global _anomaly, _callers
    with _lock:
        if not _callers:
            _anomaly = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
            torch.autograd.set_detect_anomaly(False)
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if not _callers:
                torch.autograd.set_detect_anomaly(*_anomaly)


def transform() -> str | None:
    """Return the name of an active transform that kernels do not support; None if there is none."""
    if torch._C._functorch.maybe_current_level() is not None:
        return "transforms of torch.func"
    if forward_ad._current_level >= 0:
        return "forward-mode derivatives"
    return None


def batched(*tensors: Tensor | None) -> bool:
    """Return whether a tensor represents a batch of tensors, as gradients with ``is_grads_batched`` do."""
    legacy, wrapped = torch._C._functorch.is_legacy_batchedtensor, torch._C._functorch.is_functorch_wrapped_tensor
    for t in tensors:  # noqa: SIM110 - a generator is slower than the rest of a step
        if t is not None and (legacy(t) or wrapped(t)):
            return True
    return False


@constant
def exporting() -> bool:
    """Return whether a program is being exported: by torch.export, torch.jit.trace or torch.onnx.export."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting() or to_onnx()


@constant
def to_onnx() -> bool:
    """Return whether a program is being exported by torch.onnx.export."""
    return "torch.onnx" in sys.modules and torch.onnx.is_in_onnx_export()


def watched(*tensors: Tensor | None) -> bool:
    """Return whether a mode, a tracer or a subclass of Tensor intercepts every operation."""
    if torch._C._len_torch_dispatch_stack() > 0 or torch._C._get_tracing_state() is not None:
        return True
    for t in tensors:  # noqa: SIM110
        if type(t) is not Tensor and type(t) is not Parameter and t is not None:
            return True
    return False


def readable(t: Tensor) -> bool:
    """Return whether Python code may read the values of t."""
    return not (torch.compiler.is_compiling() or watched(t) or batched(t))


def shape_of(t: Tensor) -> tuple[int, ...]:
    """Return the shape as integers, also inside torch.jit.trace, which makes tensors of them."""
    if not torch.jit.is_tracing():
        return t.shape
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        return t.shape
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
