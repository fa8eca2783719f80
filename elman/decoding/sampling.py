"""Sampling: choose the next token from logits (B, V)."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from elman.config import Options
from elman.engines.writing import NO_NUMBERS
from elman.errors import ElmanError


class Sampling(Options):
    """Options of text generation, accepted by ``elman generate`` and ``model.generate``.

    Args:
        max_new_tokens (int): The maximum number of generated tokens. Default: 500.
        temperature (float): The divisor of the logits. Values below 1 make likely tokens likelier, values above 1 make
            them less likely; 0 is greedy decoding. Default: 0.8.
        greedy (bool): Whether the most probable token is always chosen. Default: ``False``.
        top_k (int, optional): Sample from the k most probable tokens only. Default: ``None``, from all tokens.
        top_p (float): Sample from the smallest set of tokens with a total probability of at least p. Default: 1.0.
        repetition_penalty (float): The factor that makes tokens of the text so far less probable (above 1) or more
            probable (below 1). Default: 1.0.
        seed (int, optional): The seed of the first row; row r of a batch has the seed ``seed + r``.
            Default: ``None``, a random seed.
        stop (list[str]): Generation stops before any of these texts. Default: ``[]``.

    Raises:
        ValidationError: An option is unknown or out of range. `elman.config.parse` raises ElmanError instead.
    """

    max_new_tokens: int = Field(500, ge=0, description="Maximum number of generated tokens.")
    temperature: float = Field(
        0.8,
        ge=0,
        description="Divisor of the logits: below 1 favours likely tokens, above 1 unlikely ones; 0 is greedy.",
    )
    greedy: bool = Field(False, description="Always choose the most probable token.")
    top_k: int | None = Field(None, ge=1, description="Sample from the k most probable tokens only.")
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Sample from the smallest set of tokens with a total probability of at least p (nucleus sampling).",
    )
    repetition_penalty: float = Field(
        1.0, ge=1e-6, le=1e6, description="Above 1, make tokens of the text so far less probable."
    )
    seed: int | None = Field(
        None, ge=0, lt=2**62, description="Seed of the random draws; row r of a batch has the seed + r."
    )
    stop: list[str] = Field([], description="Stop before this text; may be given several times.")


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits of each row, and those equal to the k-th; set the others to minus infinity.

    Args:
        logits (Tensor): Logits (B, V).
        k (int): The number of tokens, at least 1; V if it is larger.

    Returns:
        Tensor: Logits (B, V).

    Example::

        >>> top_k(torch.tensor([[1.0, 3.0, 2.0]]), 2)
        tensor([[-inf, 3., 2.]])
    """
    k = min(k, logits.shape[-1])
    return logits.masked_fill(logits < logits.topk(k, -1).values[..., -1:], -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the nucleus: the smallest set of tokens of each row with a total probability of at least p.

    Holtzman et al. 2020, https://arxiv.org/abs/1904.09751

    Args:
        logits (Tensor): Logits (B, V).
        p (float): The probability, above 0 and at most 1.

    Returns:
        Tensor: Logits (B, V), minus infinity outside the nucleus.
    """
    ordered, index = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.double().softmax(-1)
    outside = probabilities.cumsum(-1) - probabilities >= p  # the more probable tokens already reach p
    return logits.masked_fill(torch.zeros_like(outside).scatter(-1, index, outside), -math.inf)


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens less probable: divide their logits by the penalty if positive, multiply them by it if negative.

    Keskar et al. 2019, https://arxiv.org/abs/1909.05858

    Args:
        logits (Tensor): Logits (B, V).
        seen (Tensor): Bool (B, V), true for the tokens to penalise.
        penalty (float): The penalty; 1 has no effect, values below 1 make the tokens more probable.

    Returns:
        Tensor: Logits (B, V).
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def choose(logits: Tensor, sampling: Sampling, seen: Tensor | None, draws: Tensor) -> Tensor:
    """Choose the next token of each row: the first one up to which the probabilities add up to more than the draw.

    Args:
        logits (Tensor): Logits (B, V).
        sampling (Sampling): The options.
        seen (Tensor, optional): Bool (B, V), true for the tokens of the text so far. Required with a repetition
            penalty, otherwise unused.
        draws (Tensor): A number from 0 to below 1 for each row, (B,) float64; see `draw`.

    Returns:
        Tensor: Ids (B,).

    Raises:
        ElmanError: A logit is no number.
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1.0:
        assert seen is not None
        logits = penalise(logits, seen, sampling.repetition_penalty)
    if not bool(torch.isfinite(logits.amax(-1)).all()):
        raise ElmanError(NO_NUMBERS)
    if sampling.greedy or sampling.temperature == 0:
        return logits.argmax(-1)
    logits = (logits - logits.amax(-1, keepdim=True)) / max(sampling.temperature, 1e-6)
    if sampling.top_k is not None:
        logits = top_k(logits, sampling.top_k)
    if sampling.top_p < 1.0:
        logits = top_p(logits, sampling.top_p)
    sums = logits.exp().cumsum(-1, dtype=torch.float64)
    total = sums[:, -1:]
    reached = torch.minimum(draws[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return (sums <= reached).sum(-1)


def draw(seed: int, number: int) -> float:
    """Return one of a sequence of random numbers, uniform from 0 to below 1.

    SplitMix64, Steele et al. 2014, https://doi.org/10.1145/2660193.2660195: a function of the seed and the place in
    the sequence, so that a text goes on as it would have, wherever and by whatever code it is continued.

    Args:
        seed (int): The seed, 0 to 2^64 - 1.
        number (int): The place in the sequence, from 0.

    Example::

        >>> draw(1, 0) == draw(1, 0) != draw(1, 1)
        True
    """
    return (_mixed(_mixed(seed + _STEP) + (number + 1) * _STEP) >> 11) * 2.0**-53


#: 2^64 divided by the golden ratio.
_STEP = 0x9E3779B97F4A7C15


def _mixed(z: int) -> int:
    """Return a number of 64 bits all of which depend on all of another's."""
    z &= (1 << 64) - 1
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    z = (z ^ z >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
    return z ^ z >> 31
