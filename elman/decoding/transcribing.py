"""Search for what was said in the encoding of a sound, for every kind of recogniser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from elman.config import parse
from elman.data.tokenizer import Tokenizer
from elman.decoding.alignment import align
from elman.decoding.beam import Hypothesis, Search, beam_search
from elman.decoding.ctc import PrefixBeam, greedy
from elman.decoding.fusion import Fusion
from elman.decoding.heard import CTCSearch, Heard
from elman.decoding.transducer import TransducerBeam
from elman.networks.readers import Encoding
from elman.networks.transcriber import (
    AttentionTranscriber,
    CTCTranscriber,
    SteppingTranscriber,
    Transcriber,
    TransducerTranscriber,
    required_steps,
)


class StepSearch(Protocol):
    """A search that reads the steps of a sound in pieces of any size."""

    def push(self, scores: Tensor) -> None:
        """Read the next steps, as `SteppingTranscriber.scores` gives them."""
        ...

    def best(self, aligned: bool = True) -> list[Heard]:
        """Return the best answers so far."""
        ...

    def finish(self) -> list[Heard]:
        """End the search, and return the best answers."""
        ...


def step_search(network: SteppingTranscriber, search: CTCSearch, fusion: Fusion | None = None) -> StepSearch:
    """Return the search for a network that writes while it listens."""
    if isinstance(network, TransducerTranscriber):
        return TransducerBeam(network.predictor, network.joiner, search, fusion)
    return PrefixBeam(search, fusion)


@torch.inference_mode()
def transcribe(
    network: Transcriber, encoding: Encoding, search: CTCSearch, fusion: Fusion | None = None
) -> list[list[Heard]]:
    """Return what is heard in each row of an encoding, the best first.

    Args:
        network (Transcriber): the recogniser.
        encoding (Encoding): of its reader.
        search (CTCSearch): the options; a beam of 1 without fusion is greedy search.
        fusion (Fusion, optional): scores of texts, such as those of a language model. Default: None
    """
    if isinstance(network, AttentionTranscriber):
        return _by_attention(network, encoding, search, fusion)
    assert isinstance(network, SteppingTranscriber)
    rows = zip(network.scores(encoding.keys), encoding.lengths.tolist(), strict=True)
    if isinstance(network, CTCTranscriber) and search.beam == search.n_best == 1 and fusion is None:
        return [[greedy(row[:steps])] for row, steps in rows]
    found = []
    for row, steps in rows:
        beam = step_search(network, search, fusion)
        beam.push(row[:steps])
        found.append(beam.finish())
    return found


def _by_attention(
    network: AttentionTranscriber, encoding: Encoding, search: CTCSearch, fusion: Fusion | None
) -> list[list[Heard]]:
    """The answers of the decoder are the candidates; their score is the mixture of decoder and CTC, and what the fusion
    adds to the whole text. Their places in time are those of the most probable alignment by CTC. Those with too many
    tokens for any alignment are left out, unless all are such.
    """
    candidates = max(search.beam, search.n_best)
    options = parse(Search, {"beam": candidates, "n_best": candidates})
    memory, state = network.writer.begin(encoding)
    found = beam_search(
        network.writer, memory, state, encoding.lengths + 1, options, Tokenizer.end_id, Tokenizer.end_id,
        [Tokenizer.unknown_id],
    )  # fmt: skip
    scores = network.ctc_scores(encoding.keys).cpu().numpy()
    answers = []
    for hypotheses, row, steps in zip(found, scores, encoding.lengths.tolist(), strict=True):
        possible = [one for one in hypotheses if required_steps(one.ids) <= steps] or hypotheses
        heard = [_heard(one, row[:steps], network.share, fusion) for one in possible]
        answers.append(sorted(heard, key=lambda one: -one.score)[: search.n_best])
    return answers


def _heard(found: Hypothesis, scores: np.ndarray, share: float, fusion: Fusion | None) -> Heard:
    """An answer of the decoder with its scores and its places in time; ``share``: the weight of CTC."""
    ids, steps = found.ids, len(scores)
    fused = _fused(fusion, ids) if fusion else 0.0
    if required_steps(ids) > steps:  # CTC has no alignment: the score is that of the decoder
        alone = found.log_probability
        return Heard(ids, alone + fused, alone, [(0, steps)] * len(ids), [0.0] * len(ids))
    lengths = torch.tensor([steps]), torch.tensor([len(ids)])
    targets = torch.tensor([ids], dtype=torch.int64)
    ctc = -ctc_loss(torch.from_numpy(scores)[:, None], targets, *lengths, reduction="none").item()
    both = (1 - share) * found.log_probability + share * ctc
    frames, confidences, _ = align(scores, ids)
    return Heard(ids, both + fused, both, frames, confidences)


def _fused(fusion: Fusion, ids: Sequence[int]) -> float:
    """What a fusion adds to the score of a whole text."""
    state, total = fusion.start(), 0.0
    for i in ids:
        gain, state = fusion.extend(state, i)
        total += gain
    return total + fusion.end(state)
