"""Decoding of transducers: a beam search that reads frames one by one."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.config import parse
from elman.data.tokenizer import Tokenizer
from elman.decoding.fusion import Fusion
from elman.decoding.heard import CTCSearch, Heard
from elman.errors import ElmanError
from elman.layers.state import State, join_rows, map_state
from elman.layers.transducer import Joiner, Predictor

#: By how many nats the score of a hypothesis may be below the best one; those below are left out.
PRUNED = 9.0
#: The maximum number of tokens that are written at a frame.
MAX_SYMBOLS = 10


class _Prefix:
    """The tokens so far, as a node of a tree. A prefix that no hypothesis begins with is freed."""

    __slots__ = ("__weakref__", "children", "fused", "gains", "id", "output", "parent", "recurrent", "state")

    def __init__(self, parent: _Prefix | None, token: int, fused: float, state: Any) -> None:
        self.parent, self.id = parent, token
        self.fused, self.state = fused, state  # what the fusion has added to the score, and its state
        self.gains: dict[int, tuple[float, Any]] = {}  # what it adds for a next token, and its state then
        self.children: weakref.WeakValueDictionary[int, _Prefix] = weakref.WeakValueDictionary()
        self.output: Tensor | None = None  # of the predictor, as the joiner reads it, (1, J)
        self.recurrent: State = None

    @property
    def ids(self) -> list[int]:
        """The tokens."""
        ids, prefix = [], self
        while prefix.parent is not None:
            ids.append(prefix.id)
            prefix = prefix.parent
        return ids[::-1]


class _Written(NamedTuple):
    """A token: the frame at which it was written, its confidence, and the token before it."""

    frame: int
    confidence: float
    before: _Written | None


class _Path(NamedTuple):
    """The alignments of a prefix: the log of their total probability, and the tokens of the most probable one.

    The most probable alignment is found approximately, by the larger total wherever two sets of alignments meet.
    """

    log_probability: float
    last: _Written | None

    def merged(self, other: _Path) -> _Path:
        """Return the alignments of both."""
        large, small = (self, other) if self.log_probability >= other.log_probability else (other, self)
        if small.log_probability == -math.inf:
            return large
        difference = small.log_probability - large.log_probability
        return _Path(large.log_probability + math.log1p(math.exp(difference)), large.last)


class TransducerBeam:
    """A beam search: encoder frames go in, in pieces of any size, and the most probable texts come out.

    ::

        beam of frame t -> write 0, 1, ... tokens, and a blank after each -> the K best prefixes are the next beam

    Equal prefixes are merged: the probability of a text is the sum over all alignments in which its prefixes were kept.
    The search is exact for a beam that is wide enough, if ``pruned`` is infinite and no more than ``max_symbols``
    tokens are written at a frame. With a beam of 1 it is greedy: it writes the best token while it is more probable
    than the blank. Pieces of any size give the same answers. A token's frame is the one at which it was written; its
    confidence is its probability there, given that a token was written.

    Graves 2012, https://arxiv.org/abs/1211.3711; Saon, Tüske & Audhkhasi 2020,
    https://doi.org/10.1109/ICASSP40776.2020.9053040

    Args:
        predictor (Predictor): The network over the tokens.
        joiner (Joiner): The joint network.
        search (CTCSearch, optional): The options; its ``beam`` and ``n_best`` are used here. Default: its defaults.
        fusion (Fusion, optional): What adds to the score of a text: a language model, hotwords. Default: nothing.
        blank (int): The id of the blank. Default: 0.
        suppressed (Sequence[int]): Ids that are not written. Default: the unknown token.
        max_symbols (int): The maximum number of tokens written at a frame. Default: 10.
        pruned (float): By how many nats the score of a hypothesis may be below the best one. Default: 9.

    Example::

        >>> predictor, joiner = Predictor(5, 4, 8), Joiner(6, 8, 8, vocab_size=5)
        >>> search = TransducerBeam(predictor, joiner, CTCSearch(beam=4))
        >>> for piece in torch.randn(10, 6).split(3):
        ...     search.push(piece)
        >>> best = search.finish()[0]
        >>> len(best.ids) == len(best.frames)
        True
    """

    def __init__(
        self,
        predictor: Predictor,
        joiner: Joiner,
        search: CTCSearch | None = None,
        fusion: Fusion | None = None,
        blank: int = 0,
        suppressed: Sequence[int] = (Tokenizer.unknown_id,),
        max_symbols: int = MAX_SYMBOLS,
        pruned: float = PRUNED,
    ) -> None:
        self.predictor, self.joiner, self.fusion = predictor, joiner, fusion
        self.search = parse(CTCSearch, {}) if search is None else search
        self.blank, self.max_symbols, self.pruned = blank, max_symbols, pruned
        size = joiner.output.out_features
        self._unwritten = [blank, *(i for i in suppressed if i < size)]
        # A fusion may prefer tokens that are not among the K most probable ones.
        self._candidates = min(size, self.search.beam * (1 if fusion is None else 2) + 4)
        self._root = _Prefix(None, blank, 0.0, fusion.start() if fusion else None)
        self._paths = {self._root: _Path(0.0, None)}
        self._frames = 0
        self._finished = False

    @torch.inference_mode()
    def push(self, encodings: Tensor) -> None:
        """Read frames.

        Args:
            encodings (Tensor): The next outputs of the encoder, (n, E).

        Raises:
            ElmanError: The network gives NaN. Or the search has finished.
        """
        if self._finished:
            raise ElmanError("the search has finished; start another one for more frames")
        if self._root.output is None:
            self._predict([self._root])
        encodings = encodings.to(self.joiner.output.weight.device)
        for n in range(len(encodings)):  # one by one, as products of more rows may be rounded differently
            self._paths = self._step(self.joiner.encoder(encodings[n : n + 1]))
            self._frames += 1

    def best(self, aligned: bool = True) -> list[Heard]:
        """Return the best answers so far, best first, up to ``n_best``.

        Args:
            aligned (bool): Whether to list the frames and confidences of the tokens; otherwise they are empty, as with
                `PrefixBeam`. Default: ``True``.
        """
        answers = self._answers(end=False)
        return answers if aligned else [heard._replace(frames=[], confidences=[]) for heard in answers]

    def finish(self) -> list[Heard]:
        """End the search, and return the best answers, best first, up to ``n_best``."""
        self._finished = True
        return self._answers(end=True)

    def _step(self, encoded: Tensor) -> dict[_Prefix, _Path]:
        """Return the hypotheses after one frame (1, J)."""
        level, done = self._paths, dict[_Prefix, _Path]()
        symbols = 0
        while level:
            log_p = self._log_probabilities(encoded, list(level))
            blanks = log_p[:, self.blank].tolist()
            if self.search.beam == 1:  # the token was more probable than the blank before it
                done.clear()
            for (prefix, path), blank in zip(level.items(), blanks, strict=True):
                if math.isnan(blank):
                    raise ElmanError("the network gives NaN: the weights or the input are too large")
                moved = _Path(path.log_probability + blank, path.last)
                done[prefix] = done[prefix].merged(moved) if prefix in done else moved
            level = self._extended(level, log_p, blanks, done) if symbols < self.max_symbols else {}
            symbols += 1
        scores = {prefix: path.log_probability + prefix.fused for prefix, path in done.items()}
        kept = sorted(done, key=lambda prefix: -scores[prefix])[: self.search.beam]
        return {prefix: done[prefix] for prefix in kept if scores[prefix] >= scores[kept[0]] - self.pruned}

    def _log_probabilities(self, encoded: Tensor, prefixes: list[_Prefix]) -> Tensor:
        """Return log p of each token after each prefix, (n, V)."""
        outputs = torch.cat([prefix.output for prefix in prefixes])  # type: ignore[misc]
        return self.joiner.join(encoded, outputs).float().log_softmax(-1)

    def _extended(
        self, level: dict[_Prefix, _Path], log_p: Tensor, blanks: list[float], done: dict[_Prefix, _Path]
    ) -> dict[_Prefix, _Path]:
        """Return the K best hypotheses with one more token; none that could not be kept at the end of the frame."""
        scores = sorted((path.log_probability + prefix.fused for prefix, path in done.items()), reverse=True)
        least = max(
            scores[0] - self.pruned, scores[self.search.beam - 1] if len(scores) >= self.search.beam else -math.inf
        )
        log_p[:, self._unwritten] = -math.inf
        tops = log_p.topk(self._candidates)
        possible = []
        for (prefix, path), values, ids, blank in zip(
            level.items(), tops.values.tolist(), tops.indices.tolist(), blanks, strict=True
        ):
            needed = least - path.log_probability - prefix.fused - (self.fusion.bound if self.fusion else 0.0)
            possible += [
                (prefix, path, token, value, blank) for value, token in zip(values, ids, strict=True) if value > needed
            ]
        if self.fusion:
            new = [(prefix, token) for prefix, _, token, _, _ in possible if token not in prefix.gains]
            if new:
                prefixes, tokens = zip(*new, strict=True)
                self.fusion.prepare([prefix.state for prefix in dict.fromkeys(prefixes)], list(dict.fromkeys(tokens)))
        candidates = []
        for prefix, path, token, value, blank in possible:
            score = path.log_probability + value + prefix.fused + self._gain(prefix, token)[0]
            if score > least:
                candidates.append((score, prefix, path, token, value, blank))
        candidates.sort(key=lambda candidate: -candidate[0])
        extended = {}
        for _, prefix, path, token, value, blank in candidates[: self.search.beam]:
            chance = math.exp(value)
            written = _Written(self._frames, chance / max(chance, 1 - math.exp(blank)), path.last)
            extended[self._child(prefix, token)] = _Path(path.log_probability + value, written)
        self._predict([prefix for prefix in extended if prefix.output is None])
        return extended

    def _gain(self, prefix: _Prefix, token: int) -> tuple[float, Any]:
        """Return what the fusion adds to the score for a token after a prefix, and its new state."""
        if self.fusion is None:
            return 0.0, None
        if token not in prefix.gains:
            prefix.gains[token] = self.fusion.extend(prefix.state, token)
        return prefix.gains[token]

    def _child(self, prefix: _Prefix, token: int) -> _Prefix:
        """Return a prefix with one more token, always the same object."""
        child = prefix.children.get(token)
        if child is None:
            gain, state = self._gain(prefix, token)
            child = prefix.children[token] = _Prefix(prefix, token, prefix.fused + gain, state)
        return child

    def _predict(self, prefixes: list[_Prefix]) -> None:
        """Run the predictor for new prefixes, in one step."""
        if not prefixes:
            return
        parents = [prefix.parent for prefix in prefixes if prefix.parent is not None]
        state = join_rows([parent.recurrent for parent in parents]) if parents else None
        ids = torch.tensor([prefix.id for prefix in prefixes], device=self.joiner.output.weight.device)
        y, state = self.predictor.step(ids, state)
        for k, output in enumerate(self.joiner.predictor(y).split(1)):
            prefixes[k].output = output
            prefixes[k].recurrent = map_state(state, lambda t, k=k: t[k : k + 1])  # type: ignore[misc]

    def _answers(self, end: bool) -> list[Heard]:
        """Return the best answers; with ``end``, their scores include the end of the text."""
        answers = []
        for prefix, (log_probability, last) in self._paths.items():
            frames, confidences = [], []
            while last is not None:
                frames.append((last.frame, last.frame + 1))
                confidences.append(last.confidence)
                last = last.before
            score = log_probability + prefix.fused
            if end and self.fusion:
                score += self.fusion.end(prefix.state)
            answers.append(Heard(prefix.ids, score, log_probability, frames[::-1], confidences[::-1]))
        answers.sort(key=lambda heard: -heard.score)
        return answers[: self.search.n_best]
