"""The interface through which operations are added to a program while a step is traced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elman.engines.compiler.program import Node

#: The nodes of a tensor (B, k H): one for each of its k blocks of H units.
Parts = tuple[Node, ...]


class Recorder(ABC):
    """Associates the tensors of a traced step with nodes of its program.

    A tensor (B, H), (B, 1) or (H,) has one node; a tensor (B, k H) has a tuple of k nodes.

    Attributes:
        B: the number of rows of the traced tensors.
        H: the number of units of the traced tensors.
        normalised: for each node 1 / sqrt(variance + eps) of a norm, the normalised values. The gradient of the
            norm reads them.
    """

    B: int
    H: int
    normalised: dict[Node, Parts]

    @abstractmethod
    def location(self) -> str:
        """Return the file and line of the author's code that is being run, for messages."""

    @abstractmethod
    def in_gradient(self) -> bool:
        """Return whether the operation belongs to the gradient rather than to the author's code."""

    @abstractmethod
    def record(self, tensor: Tensor, node: Any) -> Tensor:
        """Associate a tensor with its node, or with a tuple of nodes, and return the tensor."""

    @abstractmethod
    def recorded(self, key: tuple) -> bool:
        """Return whether a tensor with this key (see `key_of`) has a node."""

    @abstractmethod
    def node(self, value: Any) -> Any:
        """Return the node or nodes of a tensor; a plain number for a tensor of one value without a node.

        Raises:
            TraceError: the tensor comes from outside the step.
        """

    @abstractmethod
    def parts(self, tensor: Tensor, op: str) -> Parts:
        """Return the k nodes of a tensor (B, k H), as numbers rather than truth values."""


def key_of(tensor: Tensor) -> tuple:
    """Return a key that is equal for tensors that read the same memory in the same way."""
    with torch._C.DisableTorchFunction():
        shape = tuple(tensor.shape)
        return tensor.data_ptr(), tensor.storage_offset(), shape[1:] if shape[:1] == (1,) else shape, tensor.dtype


def gradients(
    outputs: Sequence[Tensor],
    grads: Sequence[Tensor],
    inputs: Sequence[Tensor],
    keep_graph: bool = False,
    create_graph: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of inputs, as torch.autograd.grad does; that would import sympy: a third of a second."""
    return torch.autograd.Variable._execution_engine.run_backward(
        tuple(outputs), tuple(grads), keep_graph, create_graph, tuple(inputs), allow_unreachable=True,
        accumulate_grad=False,
    )  # fmt: skip
