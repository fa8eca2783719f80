"""Decoding of CTC networks: the most probable tokens for frames, greedily or with a prefix beam search."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from elman.config import parse
from elman.data.tokenizer import Tokenizer
from elman.decoding.alignment import align
from elman.decoding.fusion import Fusion
from elman.decoding.heard import CTCSearch, Heard, as_array
from elman.errors import ElmanError

#: More than the rounding errors of a score, in nats.
_ROUNDING = 1e-6
#: By how many nats a token may be less probable in a frame than the most probable one; less probable ones are left out.
PRUNED = 9.0


def greedy(
    log_probs: Tensor | np.ndarray, blank: int = 0, suppressed: Sequence[int] = (Tokenizer.unknown_id,)
) -> Heard:
    """Return the tokens of the most probable alignment: the best token of each frame, without repetitions and blanks.

    Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf

    Args:
        log_probs (Tensor or ndarray): Log probabilities (T, V) of a CTC network.
        blank (int): The id of the blank. Default: 0.
        suppressed (Sequence[int]): Ids that are not written. Default: the unknown token.

    Returns:
        Heard: The tokens. Score and log probability are those of this one alignment; confidences are the mean
        probability of a token in its frames.

    Raises:
        ElmanError: A frame has no probabilities: they are NaN.

    Example::

        >>> log_probs = torch.tensor([[0.1, 0.0, 0.9], [0.3, 0.0, 0.7], [0.9, 0.0, 0.1], [0.2, 0.0, 0.8]]).log()
        >>> greedy(log_probs).ids
        [2, 2]
    """
    x = _checked(as_array(log_probs), suppressed)
    if not len(x):
        return Heard([], 0.0, 0.0, [], [])
    best = x.argmax(1)
    top = x[np.arange(len(x)), best]
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.append(starts[1:], len(best))
    runs = [(a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True) if best[a] != blank]
    total = float(top.sum())
    confidences = [min(1.0, float(np.exp(top[a:b]).mean())) for a, b in runs]
    return Heard([int(best[a]) for a, _ in runs], total, total, runs, confidences)


class _Prefix:
    """A hypothesis: the tokens so far, as a node of a tree.

    The probabilities of its alignments that end in a blank and in its last token are relative to a factor that all
    hypotheses share.
    """

    __slots__ = (
        "alive",
        "blank",
        "children",
        "frame",
        "fused",
        "id",
        "new_blank",
        "new_token",
        "parent",
        "state",
        "token",
    )

    def __init__(self, parent: _Prefix | None, token: int, frame: int) -> None:
        self.parent, self.id, self.frame, self.alive = parent, token, frame, False
        self.children: dict[int, _Prefix] = {}
        self.blank = self.token = self.new_blank = self.new_token = 0.0
        self.fused, self.state = 0.0, None  # what the fusion has added to the score, and its state

    def tokens(self) -> tuple[list[int], list[int]]:
        """Return the tokens, and the frame at which each one came up."""
        ids, frames, prefix = [], [], self
        while prefix.parent is not None:
            ids.append(prefix.id)
            frames.append(prefix.frame)
            prefix = prefix.parent
        return ids[::-1], frames[::-1]

    def release(self) -> None:
        """Take the hypothesis out of the tree, and those before it that no other one begins with."""
        self.alive, self.state = False, None
        prefix = self
        while prefix.parent is not None and not prefix.alive and not prefix.children:
            prefix.parent.children.pop(prefix.id, None)
            prefix = prefix.parent


class PrefixBeam:
    """A prefix beam search: frames go in, in pieces of any size, and the most probable texts come out.

    The probability of a text is the sum over all alignments with the frames in which its prefixes were kept. At each
    frame, tokens that are `PRUNED` nats less probable than the most probable one count as impossible. Otherwise, the
    search is exact for a beam that is wide enough. Pieces of any size give the same answers.

    Graves & Jaitly 2014, https://proceedings.mlr.press/v32/graves14.html; Hannun et al. 2014,
    https://arxiv.org/abs/1408.2873

    Args:
        search (CTCSearch, optional): The options; its ``beam`` and ``n_best`` are used here. Default: its defaults.
        fusion (Fusion, optional): What adds to the score of a text: a language model, hotwords. Default: nothing.
        blank (int): The id of the blank. Default: 0.
        suppressed (Sequence[int]): Ids that are not written. Default: the unknown token.
        pruned (float): How many nats less probable than the most probable token of a frame a token may be.
            Default: 9; infinity for an exact search.

    Example::

        >>> beam = PrefixBeam(CTCSearch(beam=4))
        >>> for frame in torch.tensor([[0.1, 0.0, 0.9], [0.3, 0.0, 0.7], [0.9, 0.0, 0.1], [0.2, 0.0, 0.8]]).log():
        ...     beam.push(frame[None])
        >>> beam.finish()[0].ids
        [2, 2]
    """

    def __init__(
        self,
        search: CTCSearch | None = None,
        fusion: Fusion | None = None,
        blank: int = 0,
        suppressed: Sequence[int] = (Tokenizer.unknown_id,),
        pruned: float = PRUNED,
    ) -> None:
        self.search, self.fusion = parse(CTCSearch, {}) if search is None else search, fusion
        self.blank, self.suppressed, self.pruned = blank, suppressed, pruned
        root = _Prefix(None, -1, 0)
        root.alive, root.blank = True, 1.0
        root.state = fusion.start() if fusion else None
        self._beam, self._factor = [root], 0.0  # the log of the factor that all probabilities share
        self._frames: list[np.ndarray] = []
        self._time = 0  # the number of frames read
        self._finished = False

    def push(self, log_probs: Tensor | np.ndarray) -> None:
        """Read frames.

        Args:
            log_probs (Tensor or ndarray): Log probabilities (n, V) of the next frames.

        Raises:
            ElmanError: A frame has no probabilities: they are NaN. Or the search has finished.
        """
        if self._finished:
            raise ElmanError("the search has finished; start another one for more frames")
        x = _checked(as_array(log_probs), self.suppressed)
        if not len(x):
            return
        self._frames.append(x)
        top = x.max(1, keepdims=True)
        kept = x >= top - self.pruned
        kept &= x > -np.inf
        rows, ids = kept.nonzero()
        relative = (x - top)[rows, ids].astype(np.float64)
        order = np.lexsort((-relative, rows))  # in each frame, the most probable token first
        chances, all_ids, start = np.exp(relative[order]).tolist(), ids[order].tolist(), 0
        ends = np.searchsorted(rows, np.arange(len(x)), "right").tolist()
        for end, factor in zip(ends, top[:, 0].tolist(), strict=True):
            self._factor += factor
            if end == start + 1 and all_ids[start] == self.blank:
                for prefix in self._beam:
                    prefix.blank, prefix.token = prefix.blank + prefix.token, 0.0
            else:
                self._step(dict(zip(all_ids[start:end], chances[start:end], strict=True)))
            start = end
            self._time += 1

    def _step(self, chances: dict[int, float]) -> None:
        """Read one frame: the tokens and their probabilities relative to the most probable one, which comes first."""
        beam, size = self._beam, self.search.beam
        blank = chances.pop(self.blank, 0.0)
        for prefix in beam:
            chance, parent = chances.get(prefix.id, 0.0), prefix.parent
            prefix.new_blank = (prefix.blank + prefix.token) * blank
            prefix.new_token = prefix.token * chance
            if chance and parent is not None and parent.alive:
                before = parent.blank if parent.id == prefix.id else parent.blank + parent.token
                prefix.new_token += before * chance
        candidates = [(_score(prefix.new_blank + prefix.new_token, prefix), prefix) for prefix in beam]
        if chances:
            candidates += self._extended(chances, [score for score, _ in candidates])
        candidates.sort(key=lambda item: -item[0])
        kept = [prefix for score, prefix in candidates[:size] if score > -math.inf]
        factor = max(prefix.new_blank + prefix.new_token for prefix in kept)
        for prefix in kept:
            prefix.alive = True
            prefix.blank, prefix.token = prefix.new_blank / factor, prefix.new_token / factor
        for _, prefix in candidates[len(kept) :]:
            prefix.release()
        self._beam, self._factor = kept, self._factor + math.log(factor)

    def _extended(self, chances: dict[int, float], scores: list[float]) -> list[tuple[float, _Prefix]]:
        """Return the new prefixes that may be kept.

        A new prefix has one parent, so that its score is known at once. It is left out if it is below as many other
        scores as prefixes are kept. No text can score more than its parent with the bound of the fusion.

        Args:
            chances (dict[int, float]): The probabilities of the tokens, the most probable one first.
            scores (list[float]): The scores of the prefixes so far.
        """
        fusion, size, found = self.fusion, self.search.beam, []
        bound = fusion.bound if fusion else 0.0
        best = scores + [-math.inf] * (size - len(scores))  # of all prefixes, as many as are kept
        heapq.heapify(best)
        top = next(iter(chances.values()))
        parents = [p for p in self._beam if _score((p.blank + p.token) * top, p) + bound + _ROUNDING >= best[0]]
        if fusion and parents:
            fusion.prepare([prefix.state for prefix in parents], list(chances))
        for prefix in parents:
            total, children = prefix.blank + prefix.token, prefix.children
            for i, chance in chances.items():
                if _score(total * chance, prefix) + bound + _ROUNDING < best[0]:
                    break
                child, mass = children.get(i), (prefix.blank if i == prefix.id else total) * chance
                if mass == 0 or (child is not None and child.alive):
                    continue
                gain, state = fusion.extend(prefix.state, i) if fusion else (0.0, None)
                score = _score(mass, prefix) + gain
                if score < best[0]:
                    continue
                heapq.heapreplace(best, score)
                if child is None:
                    child = children[i] = _Prefix(prefix, i, self._time)
                child.new_blank, child.new_token = 0.0, mass
                child.fused, child.state = prefix.fused + gain, state
                found.append((score, child))
        return found

    def best(self, aligned: bool = True) -> list[Heard]:
        """Return the best answers so far, best first, up to ``n_best``.

        Args:
            aligned (bool): Whether to find the frames and confidences of the tokens; otherwise they are empty, which
                is faster. Default: ``True``.
        """
        return self._answers(aligned, {id(prefix): 0.0 for prefix in self._beam})

    def finish(self) -> list[Heard]:
        """End the search, and return the best answers, best first, up to ``n_best``."""
        self._finished = True
        ends = {id(prefix): self.fusion.end(prefix.state) if self.fusion else 0.0 for prefix in self._beam}
        return self._answers(True, ends)

    def _answers(self, aligned: bool, ends: dict[int, float]) -> list[Heard]:
        found = []
        for prefix in self._beam:
            log_probability = self._factor + math.log(prefix.blank + prefix.token)
            found.append((log_probability + prefix.fused + ends[id(prefix)], log_probability, prefix))
        found.sort(key=lambda item: -item[0])
        x = np.concatenate(self._frames) if self._frames else np.zeros((0, 1))
        self._frames = [x] if self._frames else []
        answers = []
        for score, log_probability, prefix in found[: self.search.n_best]:
            ids, near = prefix.tokens()
            frames, confidences, _ = align(x, ids, self.blank, near) if aligned else ([], [], 0.0)
            answers.append(Heard(ids, score, log_probability, frames, confidences))
        return answers


def _score(mass: float, prefix: _Prefix) -> float:
    """Return the score of a probability, and of what the fusion has added to a hypothesis."""
    return math.log(mass) + prefix.fused if mass > 0 else -math.inf


def _checked(x: np.ndarray, suppressed: Sequence[int]) -> np.ndarray:
    """Return log probabilities without those of suppressed ids."""
    x = x.copy()
    x[:, [i for i in suppressed if i < x.shape[1]]] = -np.inf
    if len(x) and not np.isfinite(x.max(1)).all():
        raise ElmanError("the log probabilities of a frame are not finite: the weights or the input are too large")
    return x


__all__ = ["PRUNED", "CTCSearch", "Heard", "PrefixBeam", "align", "greedy"]
