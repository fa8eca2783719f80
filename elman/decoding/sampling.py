"""From logits to the next id: small functions on (B, V), and the options that combine them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from elman.config import Options


class Sampling(Options):
    """How the next token is chosen. Option of ``elman generate`` = keyword of ``model.generate``."""

    max_new_tokens: int = Field(500, ge=0, description="Stop after so many tokens.")
    temperature: float = Field(
        0.8, ge=0, description="Logits are divided by it: below 1 safer, above 1 wilder; 0 is greedy."
    )
    greedy: bool = Field(False, description="Always take the most probable token.")
    top_k: int | None = Field(None, ge=1, description="Draw from the k most probable tokens only.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Draw from the fewest tokens whose probabilities sum to p (nucleus sampling)."
    )
    repetition_penalty: float = Field(
        1.0, ge=1e-6, le=1e6, description="Above 1: make tokens that were already there less probable."
    )
    seed: int | None = Field(
        None, ge=0, lt=2**62, description="The same seed draws the same text; row r of a batch takes seed + r."
    )
    stop: list[str] = Field([], description="Stop before this text; may be given more than once.")


def top_k(logits: Tensor, k: int) -> Tensor:
    """Minus infinity for all but the k largest of each row; ties with the k-th stay."""
    k = min(k, logits.shape[-1])
    return logits.masked_fill(logits < logits.topk(k, -1).values[..., -1:], -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Minus infinity outside the nucleus: the fewest tokens of each row whose probabilities reach p.

    Holtzman et al. 2020, https://arxiv.org/abs/1904.09751
    """
    ordered, index = logits.sort(-1, descending=True)
    probabilities = ordered.softmax(-1)
    outside = probabilities.cumsum(-1) - probabilities >= p  # the tokens before it already reach p
    return logits.masked_fill(torch.zeros_like(outside).scatter(-1, index, outside), -math.inf)


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Where seen (B, V) is true, positive logits are divided and negative ones multiplied by penalty.

    Keskar et al. 2019, https://arxiv.org/abs/1909.05858
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def choose(logits: Tensor, sampling: Sampling, seen: Tensor | None, generators: Sequence[torch.Generator]) -> Tensor:
    """The next ids (B,) for logits (B, V); row b draws from its own generator.

    ``seen`` (B, V): what was there already, for the repetition penalty; not needed without one.
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1.0:
        assert seen is not None
        logits = penalise(logits, seen, sampling.repetition_penalty)
    if sampling.greedy or sampling.temperature == 0:
        return logits.argmax(-1)
    if sampling.temperature != 1.0:
        logits = (logits - logits.amax(-1, keepdim=True)) / max(sampling.temperature, 1e-6)
    if sampling.top_k is not None:
        logits = top_k(logits, sampling.top_k)
    if sampling.top_p < 1.0:
        logits = top_p(logits, sampling.top_p)
    probabilities = logits.softmax(-1)
    if len(generators) == 1:
        return torch.multinomial(probabilities, 1, generator=generators[0])[0]
    rows = [torch.multinomial(p, 1, generator=g) for p, g in zip(probabilities, generators, strict=True)]
    return torch.cat(rows)
