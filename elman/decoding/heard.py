"""What a recogniser hears: tokens with their places in time, and the options of the search for them."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from elman.config import FileName, Needs, Options
from elman.errors import ElmanError

_LANGUAGE_MODEL = Needs("a language_model", lambda c: c["language_model"] is not None)
_HOTWORDS = Needs("hotwords", lambda c: c["hotwords"] is not None)


class Heard(NamedTuple):
    """One answer of a recogniser.

    Args:
        ids (list[int]): The tokens, without blanks.
        score (float): What ranks the answers: the log probability, and what a language model and hotwords add to it.
        log_probability (float): The log probability of the tokens by the acoustic model alone, in nats.
        frames (list[tuple[int, int]]): The first encoder frame of each token, and the one after its last.
        confidences (list[float]): How sure the acoustic model is of each token, between 0 and 1.
    """

    ids: list[int]
    score: float
    log_probability: float
    frames: list[tuple[int, int]]
    confidences: list[float]


class CTCSearch(Options):
    """Options of the search of a recogniser, accepted by ``elman predict`` and ``model.predict``.

    Args:
        beam (int): K, the number of hypotheses kept at each frame. Default: 8.
        n_best (int): The number of answers returned for each input. Default: 1.
        language_model (str, optional): The run directory of a language model, whose log probability is added to the
            score of a text. Default: none.
        language_weight (float): The factor of the language model's log probability. Default: 0.5.
        word_bonus (float): What each word adds to the score, in nats. It makes up for the cost of a word in the
            language model. Default: 1.0 with a language model.
        hotwords (str, optional): A file with a phrase on each line that is likely to be said. Default: none.
        hotword_weight (float): What each letter of a phrase adds to the score, in nats. Default: 1.0.

    Raises:
        ValidationError: An option is unknown or out of range. `elman.config.parse` raises ElmanError instead.
    """

    beam: int = Field(8, ge=1, le=1000, description="Hypotheses kept at each frame.")
    n_best: int = Field(1, ge=1, le=1000, description="Number of answers to return, best first.")
    language_model: Annotated[str | None, FileName()] = Field(
        None, description="Run directory of a language model of the texts."
    )
    language_weight: Annotated[float, _LANGUAGE_MODEL] = Field(
        0.5, ge=0, le=100, description="Factor of the language model's log probability."
    )
    word_bonus: Annotated[float, _LANGUAGE_MODEL] = Field(
        1.0, ge=-100, le=100, description="What each word adds to the score, in nats; more gives more words."
    )
    hotwords: Annotated[str | None, FileName()] = Field(
        None, description="File with phrases that are likely to be said, one on each line."
    )
    hotword_weight: Annotated[float, _HOTWORDS] = Field(
        1.0, ge=0, le=100, description="What each letter of such a phrase adds to the score, in nats."
    )


def as_array(log_probs: Tensor | np.ndarray) -> np.ndarray:
    """Return log probabilities (T, V) as a NumPy array, float32 unless they are float64.

    Args:
        log_probs (Tensor or ndarray): Log probabilities (T, V), on any device.

    Raises:
        ElmanError: The array is not (T, V).
    """
    if isinstance(log_probs, Tensor):
        log_probs = log_probs.detach().cpu()
        log_probs = (log_probs if log_probs.dtype == torch.float64 else log_probs.float()).numpy()
    if log_probs.ndim != 2:
        raise ElmanError(f"log probabilities must be (T, V), not {tuple(log_probs.shape)}")
    return log_probs if log_probs.dtype == np.float64 else log_probs.astype(np.float32, copy=False)
