"""The decoding loop: one token a step for every row, and text that stops where it should."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from elman.decoding.sampling import Sampling, choose
from elman.layers.packed import packed

#: Tokens of a prompt that are read at a time, to bound the memory of their logits.
_AT_ONCE = 256


class Network(Protocol):
    """What can go on with ids: whole texts at a time, and token by token."""

    def __call__(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """ids (B, T) to logits (B, T, V) and the state."""
        ...

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """ids (B,) to logits (B, V) and the state."""
        ...


@torch.inference_mode()
def tokens(
    network: Network,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    end_id: int,
    never: Sequence[int],
    device: torch.device,
) -> Iterator[Tensor]:
    """Goes on from each prompt; yields the next ids (B,) at every step, ``end_id`` for a row that ended.

    Prompts may differ in length: none may be empty. The memory is that of the state, however long the
    text. ``never`` holds ids that are not chosen.
    """
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long, device=device)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(list(prompt), device=device)
    rows = torch.arange(len(prompts), device=device)
    logits, state = _read(network, ids, lengths)

    banned = torch.zeros(logits.shape[-1], device=device)
    banned[list(never)] = -torch.inf
    seen = None
    if sampling.repetition_penalty != 1.0:
        seen = torch.zeros_like(logits, dtype=torch.bool)
        for row, prompt in zip(seen, prompts, strict=True):
            row[torch.tensor(list(prompt), device=device)] = True
        seen[:, end_id] = False  # an end is no repetition
    base = secrets.randbits(62) if sampling.seed is None else sampling.seed
    generators = [torch.Generator(device).manual_seed((base + row) % 2**63) for row in range(len(prompts))]
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    chosen: Tensor | None = None
    with packed(network):
        for _ in range(sampling.max_new_tokens):
            if chosen is not None:
                logits, state = network.step(chosen, state)
            chosen = choose(logits + banned, sampling, seen, generators)
            if end_id not in never:
                ended = ended | (chosen == end_id)
                chosen = torch.where(ended, end_id, chosen)
            if seen is not None:
                seen[rows, chosen] = chosen != end_id
            yield chosen
            if end_id not in never and bool(ended.all()):
                return


def _read(network: Network, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
    """The logits (B, V) after each row's last token, and the state; reads so many tokens at a time."""
    state, rows = None, []
    for start, part in enumerate(ids.split(_AT_ONCE, 1)):
        left = (lengths - start * _AT_ONCE).clamp(0, part.shape[1])
        logits, state = network(part, state, left)
        rows.append(logits[torch.arange(len(ids), device=ids.device), (left - 1).clamp(min=0)])
    last = (lengths - 1) // _AT_ONCE
    return torch.stack(rows)[last, torch.arange(len(ids), device=ids.device)], state


class StopText:
    """Text that arrives in pieces, given on as soon as it cannot be part of a stop text any more."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = [text for text in stop if text]
        self.held, self.stopped = "", False

    def push(self, piece: str) -> str:
        """What can be shown now; once a stop text is there, nothing from it on."""
        if self.stopped:
            return ""
        self.held += piece
        found = [at for text in self.stop if (at := self.held.find(text)) >= 0]
        if found:
            self.stopped = True
            shown, self.held = self.held[: min(found)], ""
            return shown
        keep = max((_overlap(self.held, text) for text in self.stop), default=0)
        shown, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return shown

    def rest(self) -> str:
        """What was held back, when no more comes."""
        shown, self.held = self.held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """The length of the longest beginning of ``stop`` that ``text`` ends with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
