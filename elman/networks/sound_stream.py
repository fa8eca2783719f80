"""The encoder of a streaming recogniser, which reads frames as they come."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.layers.state import State
from elman.networks.transcriber import SoundReader


class ReaderStream:
    """Encode features that arrive in blocks: the keys are those of the whole sound, up to rounding.

    Memory does not grow. Blocks of the same sizes give the same keys, bit for bit.

    Args:
        reader (SoundReader): the encoder.

    Raises:
        ValueError: the reader is bidirectional.
    """

    def __init__(self, reader: SoundReader) -> None:
        if not reader.encoder.causal:
            raise ValueError("a bidirectional reader needs the whole sound")
        self._reader = reader
        self._held: Tensor | None = None  # outputs that wait for the future steps
        self._state: State = None

    def push(self, features: Tensor) -> Tensor:
        """Take the next features (T, D); return the keys that can be computed, (N, E).

        T must be a multiple of the stride, except in the last block.
        """
        reader = self._reader
        lengths = torch.tensor([len(features)], device=features.device)
        y, self._state = reader.encoder(reader.stacked(features[None], lengths), self._state)
        if reader.look_ahead is None:
            return y[0]
        held = y[0] if self._held is None else torch.cat((self._held, y[0]))
        ready = max(0, len(held) - reader.look_ahead.steps)
        self._held = held[ready:]
        return reader.look_ahead(held[None])[0, :ready]

    def finish(self) -> Tensor:
        """Return the keys that remain at the end of the sound, (N, E)."""
        reader, held = self._reader, self._held
        if held is None or reader.look_ahead is None:
            return torch.zeros(0, reader.output_size, device=next(reader.parameters()).device)
        self._held = None
        return reader.look_ahead(held[None])[0]
