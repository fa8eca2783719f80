"""What media of numbers have in common."""

from __future__ import annotations

import hashlib
from abc import ABC
from typing import Any, final

import numpy as np
from torch import Tensor

from elman.media.medium import Medium


class Numeric(Medium, ABC):
    """A medium whose inputs are numbers: without text, hidden tokens, sentences, and further files in a run."""

    @final
    @classmethod
    def digest(cls, x: np.ndarray) -> str:
        return hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()

    @final
    def files(self) -> dict[str, str | bytes]:
        return {}

    @final
    def hide(self, inputs: Tensor) -> Tensor:
        return inputs

    @final
    def boundaries(self, inputs: Tensor) -> Tensor | None:
        return None

    @final
    def pieces(self, given: Any) -> list[str]:
        return []
