"""Beam search: find high-scoring outputs by keeping the K best hypotheses at every step."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor

from elman.config import Options
from elman.layers.packed import packed
from elman.layers.state import map_state


class Search(Options):
    """Options of beam search, accepted by ``elman predict`` and ``model.predict``.

    Args:
        beam (int): K, the number of hypotheses kept at each step; 1 is greedy search. Default: 5.
        n_best (int): The number of answers returned for each input. Default: 1.
        length_penalty (float): The exponent of the length normalisation ((5 + length) / 6); larger values favour
            longer answers. Default: 1.0.
        coverage_penalty (float): The weight of the coverage term, which favours answers that attend to all of the
            input. Default: 0.0.
        max_length (int, optional): The maximum length of an answer in tokens. Default: derived from the input length.

    Raises:
        ValidationError: An option is unknown or out of range. `elman.config.parse` raises ElmanError instead.
    """

    beam: int = Field(5, ge=1, le=1000, description="Hypotheses kept at each step; 1 is greedy search.")
    n_best: int = Field(1, ge=1, le=1000, description="Number of answers to return, best first.")
    length_penalty: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Exponent of the length normalisation ((5 + length) / 6); larger values favour longer answers.",
    )
    coverage_penalty: float = Field(
        0.0, ge=0, description="Weight of the coverage term, which favours answers that attend to all of the input."
    )
    max_length: int | None = Field(
        None, ge=1, description="Maximum length of an answer in tokens; by default it depends on the input length."
    )


class Decoder(Protocol):
    """A network that predicts the next token from the tokens so far and a memory of the input."""

    def step(self, ids: Tensor, memory: Any, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Advance every hypothesis by one token.

        Args:
            ids (Tensor): The last token of each hypothesis, (R,). R is a multiple of the rows of ``memory``, whose
                hypotheses are adjacent.
            memory: The encoded inputs.
            state: The decoder state.

        Returns:
            tuple[Tensor, Tensor, Any]: Logits (R, V), attention weights (R, S), and the new state.
        """
        ...


class Hypothesis(NamedTuple):
    """One answer of a beam search.

    Args:
        ids (list[int]): The token ids, without the end token.
        score (float): The score that ranks the answer; see `beam_search`.
        log_probability (float): The log probability of the ids and the end token, in nats.
        weights (Tensor): Attention weights (T, S), one row for each id and one for the end token.
    """

    ids: list[int]
    score: float
    log_probability: float
    weights: Tensor


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    memory: Any,
    state: Any,
    max_lengths: Tensor,
    search: Search,
    start_id: int,
    end_id: int,
    suppressed: list[int],
    min_length: int = 0,
) -> list[list[Hypothesis]]:
    """Find the highest-scoring outputs for each row of a batch.

    ::

        score = log p / ((5 + length) / 6)^length_penalty + coverage_penalty * sum_s log min(1, sum_t a_ts)

    The length includes the end token, and a_ts are the attention weights. A row is finished when no open hypothesis
    can exceed its n-th best answer. It is also finished when K answers (``n_best`` if that is more) have ended and no
    open hypothesis has a higher score at its present length. Finished rows leave the batch. If no answer of a row
    ends in time, its unfinished hypotheses are returned, without their last token.

    Wu et al. 2016, https://arxiv.org/abs/1609.08144

    Args:
        decoder (Decoder): The network that predicts tokens.
        memory: The encoded inputs: nested tuples of tensors (B, ...).
        state: The initial decoder state: nested tuples of tensors (B, ...).
        max_lengths (Tensor): The maximum number of tokens for each row, end token included, (B,).
        search (Search): The options.
        start_id (int): The id that starts an output.
        end_id (int): The id that ends an output.
        suppressed (list[int]): Ids that are not generated.
        min_length (int): The minimum number of tokens before the end token. The end is not generated earlier, unless
            every other id is suppressed. Default: 0.

    Returns:
        list[list[Hypothesis]]: For each row, up to ``search.n_best`` answers, best first.

    Example::

        memory, state = network.read(source, lengths)
        answers = beam_search(network, memory, state, 2 * lengths, Search(beam=4), start_id=0, end_id=0, suppressed=[1])
        best = [hypotheses[0].ids for hypotheses in answers]
    """
    with packed(decoder):
        return _Search(decoder, memory, state, max_lengths, search, start_id, end_id, suppressed, min_length).run()


class _Search:
    """The unfinished rows, R of them, each with K adjacent hypotheses: tensors have R K rows."""

    def __init__(
        self, decoder: Decoder, memory: Any, state: Any, max_lengths: Tensor, search: Search, start_id: int,
        end_id: int, suppressed: list[int], min_length: int,
    ) -> None:  # fmt: skip
        self.decoder, self.search, self.end_id, self.suppressed = decoder, search, end_id, suppressed
        self.min_length = min_length
        device, B, K = max_lengths.device, len(max_lengths), search.beam
        self.K, self.rows, self.max_lengths = K, torch.arange(B, device=device), max_lengths
        repeated = self.rows.repeat_interleave(K)
        self.memory, self.state = memory, map_state(state, lambda t: t[repeated])
        self.ids = torch.full((B * K, 1), start_id, device=device)
        self.sums = torch.full((B, K), -math.inf, device=device)
        self.sums[:, 0] = 0.0  # all hypotheses of a row start equal: only the first counts
        self.weights: list[Tensor] = []  # attention weights of each step, (R K, S)
        self.coverage: Tensor | float = 0.0  # their sum over steps
        self.answers: list[list[Hypothesis]] = [[] for _ in range(B)]  # the n best of each row
        self.ended = [0] * B  # number of answers that have ended

    def run(self) -> list[list[Hypothesis]]:
        """Search until every row is finished."""
        step = 0
        while len(self.rows):
            step += 1
            self._step(step)
        return self.answers

    def _step(self, step: int) -> None:
        """Extend the hypotheses by one token."""
        K, R = self.K, len(self.rows)
        logits, weights, self.state = self.decoder.step(self.ids[:, -1], self.memory, self.state)
        logits = logits.float()
        logits[:, self.suppressed] = -math.inf
        if step <= self.min_length and logits.shape[1] > len({*self.suppressed, self.end_id}):
            logits[:, self.end_id] = -math.inf
        self.weights.append(weights)
        self.coverage = self.coverage + weights
        V = logits.shape[1]
        # Up to K candidates end here, so 2 K candidates of a row suffice to leave K open ones.
        tops = logits.topk(min(2 * K, V), -1)
        sums = self.sums.view(-1, 1) + (tops.values - logits.logsumexp(-1, keepdim=True))
        best, positions = sums.view(R, -1).topk(min(2 * K, K * tops.values.shape[1]), -1)
        parents = positions // tops.values.shape[1] + torch.arange(R, device=best.device)[:, None] * K
        ids = tops.indices.view(R, -1).gather(1, positions)
        ended = ids == self.end_id
        real = best > -math.inf
        self._collect(step, ended[:, :K] & real[:, :K], best, parents)

        # The first K candidates that have not ended are continued.
        order = (ended | ~real).to(torch.int8).sort(dim=1, stable=True).indices[:, :K]
        is_open = ~ended.gather(1, order) & real.gather(1, order)
        self.sums = torch.where(is_open, best.gather(1, order), -math.inf)
        if order.shape[1] < K:  # fewer candidates than hypotheses
            self.sums = torch.nn.functional.pad(self.sums, (0, K - order.shape[1]), value=-math.inf)
            order = torch.nn.functional.pad(order, (0, K - order.shape[1]))
        self._continue(parents.gather(1, order).flatten(), ids.gather(1, order).flatten())
        self._remove_finished(step)

    def _collect(self, step: int, ended: Tensor, sums: Tensor, parents: Tensor) -> None:
        """Add the candidates that have ended to the answers of their rows."""
        for r, k in ended.nonzero().tolist():
            self._add(r, float(sums[r, k]), int(parents[r, k]), step)

    def _add(self, r: int, log_probability: float, hypothesis: int, length: int, cut: int = 0) -> None:
        """Add an answer if it is among the n best; leave out its last ``cut`` ids, which exceed the maximum length."""
        row = int(self.rows[r])
        self.ended[row] += 1
        score = log_probability / self._normalisation(length) + float(self._coverage_term(r, hypothesis))
        if score > self._threshold(row):
            weights = torch.stack([weights[hypothesis] for weights in self.weights]).cpu()
            ids = self.ids[hypothesis, 1 : self.ids.shape[1] - cut].tolist()
            answers = [*self.answers[row], Hypothesis(ids, score, log_probability, weights)]
            self.answers[row] = sorted(answers, key=lambda h: -h.score)[: self.search.n_best]

    def _threshold(self, row: int) -> float:
        """Return the score that a further answer must exceed."""
        answers = self.answers[row]
        return answers[-1].score if len(answers) == self.search.n_best else -math.inf

    def _normalisation(self, length: float) -> float:
        """Return the divisor of the log probability of an answer of this length."""
        return ((5 + length) / 6) ** self.search.length_penalty

    def _coverage_term(self, r: int, hypotheses: int | slice) -> Tensor | float:
        """Return the coverage term of the scores of hypotheses of row r."""
        if not self.search.coverage_penalty:
            return 0.0
        assert isinstance(self.coverage, Tensor)
        coverage = self.coverage[hypotheses][..., self.memory.mask[r]].float()
        return self.search.coverage_penalty * coverage.clamp(1e-6, 1.0).log().sum(-1)

    def _continue(self, parents: Tensor, ids: Tensor) -> None:
        """Replace the hypotheses by their parents, each extended by an id."""
        self.state = map_state(self.state, lambda t: t[parents])
        self.ids = torch.cat((self.ids[parents], ids[:, None]), 1)
        self.weights = [weights[parents] for weights in self.weights]
        self.coverage = self.coverage[parents]  # type: ignore[index]

    def _remove_finished(self, step: int) -> None:
        """Remove the rows that are finished."""
        K, enough = self.K, max(self.K, self.search.n_best)
        best = self.sums.amax(1).tolist()
        unfinished = []
        for r, (row, max_length) in enumerate(zip(self.rows.tolist(), self.max_lengths.tolist(), strict=True)):
            last = step >= max_length or best[r] == -math.inf
            if last and not self.answers[row]:  # none has ended: return the open hypotheses
                for k in (self.sums[r] > -math.inf).nonzero().flatten().tolist():
                    self._add(r, float(self.sums[r, k]), r * K + k, step, cut=1)
            bound = best[r] / self._normalisation(max_length)  # no continuation can score higher
            if not last and self.ended[row] >= enough:
                hypotheses = slice(r * K, r * K + K)
                scores = self.sums[r] / self._normalisation(step) + self._coverage_term(r, hypotheses)
                bound = float(scores.max())
            if not last and bound > self._threshold(row):
                unfinished.append(r)
        if len(unfinished) < len(self.rows):
            kept = torch.tensor(unfinished, dtype=torch.long, device=self.rows.device)
            flat = (kept[:, None] * K + torch.arange(K, device=kept.device)).flatten()
            self.rows, self.max_lengths, self.sums = self.rows[kept], self.max_lengths[kept], self.sums[kept]
            self.memory = map_state(self.memory, lambda t: t[kept])
            self._select(flat)

    def _select(self, flat: Tensor) -> None:
        """Keep the hypotheses with these indices."""
        self.state = map_state(self.state, lambda t: t[flat])
        self.ids = self.ids[flat]
        self.weights = [weights[flat] for weights in self.weights]
        self.coverage = self.coverage[flat]  # type: ignore[index]
