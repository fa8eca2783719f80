"""Beam search: the best answers that can be found by keeping K beginnings at a time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor

from elman.config import Options
from elman.layers.packed import packed
from elman.layers.state import over


class Search(Options):
    """How an answer is looked for. Option of ``elman predict`` = keyword of ``model.predict``."""

    beam: int = Field(5, ge=1, le=1000, description="Beginnings kept at a time; 1: always the most probable token.")
    n_best: int = Field(1, ge=1, le=1000, description="How many answers to give, the best first.")
    length_penalty: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Scores are divided by ((5 + length) / 6) to this power: above 0, longer answers.",
    )
    coverage_penalty: float = Field(
        0.0, ge=0, description="Prefer answers that have looked at all of the input, by so much."
    )
    max_length: int | None = Field(
        None, ge=1, description="Tokens of an answer at most; by default by the input's length."
    )


class Writer(Protocol):
    """What writes an answer to what was read, token by token."""

    def step(self, ids: Tensor, memory: Any, state: Any) -> tuple[Tensor, Tensor, Any]:
        """ids (R,) to logits (R, V), the weights of what was looked at (R, S), and the state.

        R is a multiple of the rows of the memory: each has so many beams, side by side.
        """
        ...


class Hypothesis(NamedTuple):
    """An answer: its ids without the end; its score; log p of it; for each id (and the end) what was looked at."""

    ids: list[int]
    score: float
    log_probability: float
    weights: Tensor


@torch.inference_mode()
def beam_search(
    writer: Writer, memory: Any, state: Any, most: Tensor, search: Search, start_id: int, end_id: int, never: list[int]
) -> list[list[Hypothesis]]:
    """The answers for each row, best first; ``search.n_best`` of them, or as many as there are.

    score = log p / ((5 + length) / 6)^alpha + beta sum_s log min(1, sum_t a_ts), the end counted in the length
    (Wu et al. 2016, https://arxiv.org/abs/1609.08144). A row is done when none that goes on can become better
    than the n-th best, or when K answers have ended and none that goes on is better so far; then it leaves the
    batch. Answers that do not end count only where
    none has ended, without the id that stands where the end would.

    Shapes:
        memory, state: nested tuples of tensors (B, ...); most (B,): tokens of an answer at most, the end included.
    """
    with packed(writer):
        return _Search(writer, memory, state, most, search, start_id, end_id, never).run()


class _Search:
    """The rows that are still at work, each with K beginnings, side by side: R K rows."""

    def __init__(
        self, writer: Writer, memory: Any, state: Any, most: Tensor, search: Search, start_id: int, end_id: int,
        never: list[int],
    ) -> None:  # fmt: skip
        self.writer, self.search, self.end_id, self.never = writer, search, end_id, never
        device, B, K = most.device, len(most), search.beam
        self.K, self.rows, self.most = K, torch.arange(B, device=device), most
        repeated = self.rows.repeat_interleave(K)
        self.memory, self.state = memory, over(state, lambda t: t[repeated])
        self.ids = torch.full((B * K, 1), start_id, device=device)
        self.sums = torch.full((B, K), -math.inf, device=device)
        self.sums[:, 0] = 0.0  # at first all beginnings are the same: one counts
        self.looked: list[Tensor] = []  # of each step, (R K, S)
        self.seen: Tensor | float = 0.0  # their sum
        self.found: list[list[Hypothesis]] = [[] for _ in range(B)]  # the n best of each row
        self.ends = [0] * B  # how many have ended

    def run(self) -> list[list[Hypothesis]]:
        step = 0
        while len(self.rows):
            step += 1
            self._step(step)
        return self.found

    def _step(self, step: int) -> None:
        K, R = self.K, len(self.rows)
        logits, looked, self.state = self.writer.step(self.ids[:, -1], self.memory, self.state)
        logits = logits.float()
        logits[:, self.never] = -math.inf
        self.looked.append(looked)
        self.seen = self.seen + looked
        V = logits.shape[1]
        # the K best and as many more as may end: of each beginning no more than 2 K matter
        tops = logits.topk(min(2 * K, V), -1)
        sums = self.sums.view(-1, 1) + (tops.values - logits.logsumexp(-1, keepdim=True))
        best, places = sums.view(R, -1).topk(min(2 * K, K * tops.values.shape[1]), -1)
        parents = places // tops.values.shape[1] + torch.arange(R, device=best.device)[:, None] * K
        ids = tops.indices.view(R, -1).gather(1, places)
        ended = ids == self.end_id
        real = best > -math.inf
        self._note(step, ended[:, :K] & real[:, :K], best, parents)

        # those that go on: the first K that did not end
        order = (ended | ~real).to(torch.int8).sort(dim=1, stable=True).indices[:, :K]
        on = ~ended.gather(1, order) & real.gather(1, order)
        self.sums = torch.where(on, best.gather(1, order), -math.inf)
        if order.shape[1] < K:  # fewer tokens than beginnings
            self.sums = torch.nn.functional.pad(self.sums, (0, K - order.shape[1]), value=-math.inf)
            order = torch.nn.functional.pad(order, (0, K - order.shape[1]))
        self._keep(parents.gather(1, order).flatten(), ids.gather(1, order).flatten())
        self._leave(step)

    def _note(self, step: int, ended: Tensor, sums: Tensor, parents: Tensor) -> None:
        """Puts answers that have ended aside."""
        for r, k in ended.nonzero().tolist():
            self._put(r, float(sums[r, k]), int(parents[r, k]), step)

    def _put(self, r: int, log_probability: float, beginning: int, length: int, cut: int = 0) -> None:
        """Puts an answer aside; ``cut``: so many of its last ids have no place left."""
        row = int(self.rows[r])
        self.ends[row] += 1
        score = log_probability / self._norm(length) + float(self._coverage(r, beginning))
        if score > self._worst(row):
            weights = torch.stack([looked[beginning] for looked in self.looked]).cpu()
            ids = self.ids[beginning, 1 : self.ids.shape[1] - cut].tolist()
            found = [*self.found[row], Hypothesis(ids, score, log_probability, weights)]
            self.found[row] = sorted(found, key=lambda h: -h.score)[: self.search.n_best]

    def _worst(self, row: int) -> float:
        """What an answer's score must be above."""
        found = self.found[row]
        return found[-1].score if len(found) == self.search.n_best else -math.inf

    def _norm(self, length: float) -> float:
        return ((5 + length) / 6) ** self.search.length_penalty

    def _coverage(self, r: int, beginnings: int | slice) -> Tensor | float:
        """What is added to the scores of beginnings of row r for what they have looked at."""
        if not self.search.coverage_penalty:
            return 0.0
        assert isinstance(self.seen, Tensor)
        seen = self.seen[beginnings][..., self.memory.mask[r]].float()
        return self.search.coverage_penalty * seen.clamp(1e-6, 1.0).log().sum(-1)

    def _keep(self, parents: Tensor, ids: Tensor) -> None:
        self.state = over(self.state, lambda t: t[parents])
        self.ids = torch.cat((self.ids[parents], ids[:, None]), 1)
        self.looked = [looked[parents] for looked in self.looked]
        self.seen = self.seen[parents]  # type: ignore[index]

    def _leave(self, step: int) -> None:
        """Lets rows go that are done."""
        K, enough = self.K, max(self.K, self.search.n_best)
        best = self.sums.amax(1).tolist()
        stay = []
        for r, (row, most) in enumerate(zip(self.rows.tolist(), self.most.tolist(), strict=True)):
            last = step >= most or best[r] == -math.inf
            if last and not self.found[row]:  # nothing has ended: what there is
                for k in (self.sums[r] > -math.inf).nonzero().flatten().tolist():
                    self._put(r, float(self.sums[r, k]), r * K + k, step, cut=1)
            hope = best[r] / self._norm(most)  # no answer that goes on can have more
            if not last and self.ends[row] >= enough:
                every = slice(r * K, r * K + K)
                hope = float((self.sums[r] / self._norm(step) + self._coverage(r, every)).max())
            if not last and hope > self._worst(row):
                stay.append(r)
        if len(stay) < len(self.rows):
            kept = torch.tensor(stay, dtype=torch.long, device=self.rows.device)
            flat = (kept[:, None] * K + torch.arange(K, device=kept.device)).flatten()
            self.rows, self.most, self.sums = self.rows[kept], self.most[kept], self.sums[kept]
            self.memory = over(self.memory, lambda t: t[kept])
            self._keep_only(flat)

    def _keep_only(self, flat: Tensor) -> None:
        self.state = over(self.state, lambda t: t[flat])
        self.ids = self.ids[flat]
        self.looked = [looked[flat] for looked in self.looked]
        self.seen = self.seen[flat]  # type: ignore[index]
