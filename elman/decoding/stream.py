"""Generation: predict one token per step for every row of a batch, and stop at given texts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from elman import engines
from elman.decoding.sampling import Sampling, choose, draw
from elman.engines.writing import Choice, Writes
from elman.layers.packed import packed

#: A piece of text that is written at a time should take about so many seconds, and has at most so many tokens.
_MOMENT, _MOST = 0.02, 64
#: Number of prompt tokens read at a time, which bounds the memory of their logits.
_CHUNK = 256


class Network(Protocol):
    """A network that predicts the next token, over whole sequences and step by step."""

    def __call__(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Return logits (B, T, V) and the state for ids (B, T)."""
        ...

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return logits (B, V) and the state for ids (B,)."""
        ...


@torch.inference_mode()
def tokens(
    network: Network,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    end_id: int,
    suppressed: Sequence[int],
    device: torch.device,
) -> Iterator[Tensor]:
    """Generate tokens after each prompt, one step at a time.

    The memory in use does not grow with the number of generated tokens.

    Args:
        network (Network): The network that predicts tokens.
        prompts (Sequence[Sequence[int]]): The ids of each prompt, B of them. Lengths may differ; none may be 0.
        sampling (Sampling): The options.
        end_id (int): The id that ends a text.
        suppressed (Sequence[int]): Ids that are not generated. With ``end_id`` among them, no text ends.
        device (torch.device): The device of the network.

    Yields:
        Tensor: The next id of each row, (B,); ``end_id`` for rows that have ended.

    Example::

        for ids in tokens(network, [[5, 2, 7]], Sampling(greedy=True), end_id=0, suppressed=[1], device=device):
            print(ids.tolist())
    """
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long, device=device)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(list(prompt), device=device)
    rows = torch.arange(len(prompts), device=device)
    logits, state = _read(network, ids, lengths)

    banned = torch.zeros(logits.shape[-1], device=device)
    banned[list(suppressed)] = -torch.inf
    seen = None
    if sampling.repetition_penalty != 1.0:
        seen = torch.zeros_like(logits, dtype=torch.bool)
        for row, prompt in zip(seen, prompts, strict=True):
            row[torch.tensor(list(prompt), device=device)] = True
        seen[:, end_id] = False  # the end token is not penalised
    base = secrets.randbits(62) if sampling.seed is None else sampling.seed
    seeds = [(base + row) % 2**63 for row in range(len(prompts))]
    end = None if end_id in suppressed else end_id
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    chosen: Tensor | None = None
    with packed(network):
        for number in range(sampling.max_new_tokens):
            if chosen is not None:
                logits, state = network.step(chosen, state)
            draws = torch.tensor([draw(seed, number) for seed in seeds], dtype=torch.float64, device=device)
            chosen = choose(logits + banned, sampling, seen, draws)
            if end is not None:
                ended = ended | (chosen == end_id)
                chosen = torch.where(ended, end_id, chosen)
            if seen is not None:
                seen[rows, chosen] = chosen != end_id
            yield chosen
            if end is not None and bool(ended.all()):
                return
            if not number and isinstance(network, Writes) and (written := network.written(state)) is not None:
                choice = Choice(
                    0.0 if sampling.greedy else sampling.temperature, sampling.top_k or 0, sampling.top_p,
                    sampling.repetition_penalty, banned, seeds, end,
                )  # fmt: skip
                if (writer := engines.writer(written, choice, chosen, seen, ended, 1)) is not None:
                    yield from _pieces(writer, sampling.max_new_tokens - 1)
                    return


def _pieces(writer: engines.Writer, count: int) -> Iterator[Tensor]:
    """Yield what a writer writes; it writes as much at a time as takes a moment."""
    size = 1
    while count:
        began = time.perf_counter()
        piece = writer.write(min(size, count))
        yield from piece
        if len(piece) < min(size, count):
            return
        count -= len(piece)
        size = max(1, min(_MOST, 2 * size if time.perf_counter() - began < _MOMENT else size // 2))


def _read(network: Network, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
    """Return the logits (B, V) after the last token of each row, and the state; read the prompts in chunks."""
    state, rows = None, []
    for start, part in enumerate(ids.split(_CHUNK, 1)):
        left = (lengths - start * _CHUNK).clamp(0, part.shape[1])
        logits, state = network(part, state, left)
        rows.append(logits[torch.arange(len(ids), device=ids.device), (left - 1).clamp(min=0)])
    last = (lengths - 1) // _CHUNK
    return torch.stack(rows)[last, torch.arange(len(ids), device=ids.device)], state


class StopText:
    """A filter for streamed text that ends the text before the first stop text.

    Text that may be the start of a stop text is withheld until this is decided.

    Args:
        stop (Sequence[str]): The stop texts. Empty ones are ignored.

    Attributes:
        stopped (bool): Whether a stop text has occurred.

    Example::

        >>> text = StopText(["END"])
        >>> [text.push(piece) for piece in ("one E", "ight", " EN", "D two")]
        ['one ', 'Eight', ' ', '']
        >>> text.stopped
        True
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = [text for text in stop if text]
        self.withheld, self.stopped = "", False

    def push(self, piece: str) -> str:
        """Add a piece of text, and return the text that can be shown now; ``""`` after a stop text."""
        if self.stopped:
            return ""
        self.withheld += piece
        starts = [start for text in self.stop if (start := self.withheld.find(text)) >= 0]
        if starts:
            self.stopped = True
            shown, self.withheld = self.withheld[: min(starts)], ""
            return shown
        keep = max((_overlap(self.withheld, text) for text in self.stop), default=0)
        shown, self.withheld = self.withheld[: len(self.withheld) - keep], self.withheld[len(self.withheld) - keep :]
        return shown

    def rest(self) -> str:
        """Return the withheld text at the end of the stream."""
        shown, self.withheld = self.withheld, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest proper prefix of ``stop`` that ``text`` ends with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
