"""Training with several processes, as torchrun starts them; a single process is a world of size 1."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class World:
    """The rank of this process among those that train together. Rank 0 writes, prints and decides."""

    def __init__(self, device: torch.device) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = device
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def wrap(self, network: nn.Module) -> nn.Module:
        """Wrap the network so that gradients are averaged over all processes."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)

    def agree(self, *values: float) -> tuple[float, ...]:
        """Return the values of rank 0 in every process."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, 0)
        return tuple(tensor.tolist())

    def mean(self, value: float) -> float:
        """Return the mean over all processes in every process."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.item() / self.size

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors (...) of all processes, which have the same shape, as (size, ...)."""
        if self.size == 1:
            return tensor[None]
        moved = tensor.to(self.device).contiguous()
        parts = [torch.empty_like(moved) for _ in range(self.size)]
        dist.all_gather(parts, moved)
        return torch.stack(parts)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def leave(self) -> None:
        """Leave the process group."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def is_first() -> bool:
    """Return whether this process has rank 0; this works before a `World` exists."""
    return os.environ.get("RANK", "0") == "0"


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto`` or a name such as cpu or cuda:1; with torchrun, the GPU of this process."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return torch.device(name)
