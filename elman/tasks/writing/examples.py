"""Examples and batches of models that write texts."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from elman.data.padding import pad
from elman.data.tokenizer import Tokenizer
from elman.errors import ElmanError

_log = logging.getLogger("elman")


class Examples(NamedTuple):
    """Inputs, and the texts to write about them.

    Attributes:
        inputs (list[Hashable]): The inputs as people give them. Equal inputs are answered once.
        rows (list[Any]): What the network reads of each input, as the model's ``collate`` takes it.
        targets (list[str]): The texts to write.
        target_ids (list[ndarray]): Their ids, without END.
        notes (list[Any]): What else the scores of a task need of each example, such as the kind of a question.
    """

    inputs: list[Hashable]
    rows: list[Any]
    targets: list[str]
    target_ids: list[np.ndarray]
    notes: list[Any]

    def part(self, numbers: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples with these numbers."""
        columns: list[list[Any]] = [[column[k] for k in numbers] for column in self]
        return Examples(*columns)


class Batch(NamedTuple):
    """What the network reads, and the tokens that it writes.

    Attributes:
        read (tuple[Tensor, ...]): The arguments of the network's ``read``.
        inputs (Tensor): The ids that the decoder reads, (B, T): END and all targets but the last.
        targets (Tensor): The ids that it writes, (B, T), END included; negative beyond a row's length.
        lengths (Tensor): (B,).
    """

    read: tuple[Tensor, ...]
    inputs: Tensor
    targets: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(tuple(t.to(device) for t in self.read), *(t.to(device) for t in self[1:]))


def batch_of(read: tuple[Tensor, ...], target_ids: Sequence[np.ndarray]) -> Batch:
    """Return a batch: the targets end with END, and the inputs begin with it."""
    targets, lengths = pad([np.append(ids, Tokenizer.end_id) for ids in target_ids], -100)
    start = torch.full((len(target_ids), 1), Tokenizer.end_id)
    return Batch(read, torch.cat((start, targets[:, :-1].clamp(min=0)), 1), targets, lengths)


def within_limit(
    longest: np.ndarray, limit: int, places: Sequence[str], *, training: bool, truncate: bool, unit: str
) -> np.ndarray:
    """Return which examples are kept: in training, those of at most ``limit`` tokens; all if they are truncated.

    The number of longer ones, and what happens to them, is logged.

    Args:
        longest (ndarray): The number of tokens of each example, (N,).
        limit (int): The maximum number of tokens.
        places (Sequence[str]): The location of each example.
        training (bool): Whether the examples are for training.
        truncate (bool): Whether longer ones are truncated.
        unit (str): What an example is called.

    Raises:
        ElmanError: none is kept.
    """
    long = np.flatnonzero(longest > limit)
    if not len(long):
        return np.arange(len(longest))
    what = "skipped (--truncate truncates it, a larger --max-tokens keeps it)" if training else ""
    what = "truncated" if truncate else what or "the model was trained on shorter texts"
    _log.warning(
        "%s: %d tokens, more than %d: %s; %d of %d %ss are that long", places[long[0]], longest[long[0]], limit, what,
        len(long), len(longest), unit,
    )  # fmt: skip
    if truncate or not training:
        return np.arange(len(longest))
    if len(long) == len(longest):
        raise ElmanError(f"{places[0]}: every {unit} is longer than --max-tokens {limit}")
    return np.flatnonzero(longest <= limit)
