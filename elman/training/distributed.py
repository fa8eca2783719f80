"""Several processes on one run, as torchrun starts them; one process is a world of its own."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class World:
    """This process's place among those that train together. Rank 0 writes, draws and decides."""

    def __init__(self, device: torch.device) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = device
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over all processes."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)

    def agree(self, *values: float) -> tuple[float, ...]:
        """Rank 0's values, in every process."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, 0)
        return tuple(tensor.tolist())

    def mean(self, value: float) -> float:
        """The mean of every process's value, in every process."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.item() / self.size

    def gather(self, tensor: Tensor) -> Tensor:
        """Every process's tensor (...), all of one shape, as (size, ...)."""
        if self.size == 1:
            return tensor[None]
        moved = tensor.to(self.device).contiguous()
        parts = [torch.empty_like(moved) for _ in range(self.size)]
        dist.all_gather(parts, moved)
        return torch.stack(parts)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()

    def leave(self) -> None:
        """Ends the group."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one that writes, draws and decides; it can be asked before there is a `World`."""
    return os.environ.get("RANK", "0") == "0"


def pick_device(name: str) -> torch.device:
    """The device for ``auto`` or a name such as cpu or cuda:1; under torchrun, this process's own GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return torch.device(name)
