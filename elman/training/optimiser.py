"""The optimizer, the learning rate schedule, and the state of the optimizer as tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from elman.training.config import TrainConfig


def build(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW or SGD; only parameters with two or more dimensions have weight decay.

    A parameter with an attribute ``rate`` has this multiple of the learning rate: pretrained ones have less.
    """
    trained = [(getattr(p, "rate", 1.0), p) for p in network.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for rate in sorted({1.0, *(rate for rate, _ in trained)}, reverse=True):
        own = [p for factor, p in trained if factor == rate]
        matrices, vectors = [p for p in own if p.dim() >= 2], [p for p in own if p.dim() < 2]
        lr = rate * config.learning_rate
        groups += [{"params": matrices, "weight_decay": config.weight_decay, "lr": lr}]
        groups += [{"params": vectors, "weight_decay": 0.0, "lr": lr}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=nesterov, fused=True)
    betas = (config.momentum, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def rate_factor(config: TrainConfig, progress: float) -> float:
    """Return the factor of the learning rate at ``progress``, the completed fraction of the run.

    Linear from 0 to 1 over the warm-up w, then with q = (progress - w) / (1 - w):
    cosine (1 + cos(pi q)) / 2, linear 1 - q, or 1.
    """
    if progress < config.warmup:
        return progress / config.warmup
    q = min(1.0, (progress - config.warmup) / (1 - config.warmup))
    return {"cosine": (1 + math.cos(math.pi * q)) / 2, "linear": 1 - q, "constant": 1.0}[config.schedule]


def tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of the optimizer by name: "3.exp_avg" is that of the fourth parameter."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }


def restore(optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    """Restore the state that `tensors` returned.

    Raises:
        ValueError: The state belongs to another optimizer or to other parameters.
    """
    adam = isinstance(optimizer, torch.optim.AdamW)
    names = {"step", "exp_avg", "exp_avg_sq"} if adam else {"momentum_buffer"}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    known = {str(index): index for index in range(len(parameters))}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.items():
        number, _, name = key.partition(".")
        if number not in known or name not in names:
            raise ValueError(f"optimizer.{key} does not belong to this optimizer")
        index = known[number]
        form = value.new_zeros(()) if name == "step" else parameters[index]
        if value.shape != form.shape or value.dtype != torch.float32:  # the fused step would write beyond it
            raise ValueError(f"optimizer.{key} is {value.dtype} {tuple(value.shape)}, not float32 {tuple(form.shape)}")
        if name in ("step", "exp_avg_sq") and value.numel() and float(value.min()) < 0:
            raise ValueError(f"optimizer.{key} is negative")
        state.setdefault(index, {})[name] = value
    for index, one in state.items():
        if missing := names - set(one):
            raise ValueError(f"optimizer.{index}.{min(missing)} is missing")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
