"""Sound as a medium: sound files to waves to log-mel frames."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, final

import numpy as np
from pydantic import BaseModel, Field
from torch import Tensor, nn

from elman.config import Needs, Options
from elman.data.inputs import InputFile
from elman.data.padding import pad
from elman.errors import ElmanError
from elman.layers.standardize import Standardize
from elman.media.augment import add_noise_floor, vary_frames
from elman.media.columns import Columns
from elman.media.medium import Content, Files, Source
from elman.media.numeric import Numeric
from elman.media.pretrained import KnownVectors
from elman.media.waves import SOUNDS, log_mel, read_sound, resample

#: The default distance of the noise floor from the loudest frame.
DECIBELS = 26.0


class SoundOptions(Options):
    """Options for inputs that are sounds."""

    heading = "Sound"
    needs = (Needs("sounds", lambda c: c["medium"] == "sound"),)

    bands: int = Field(24, ge=1, description="Bands of the mel scale.")
    decibels: float | None = Field(
        None, gt=0, description="Noise floor: frames are mixed with noise this many decibels below the loudest, as "
        f"rooms and microphones differ there. Default: {DECIBELS:g}."
    )  # fmt: skip


class SoundState(BaseModel):
    """The part of labels.json that is about sounds."""

    rate: Annotated[int, Field(ge=0, le=10**6)] = 0


@final
class Sound(Numeric):
    """Sounds: log-mel frames and their differences (T, 2 bands), padded, standardised.

    Args:
        options (SoundOptions): the options; decibels has its value.
        rate (int): the sampling rate of the training data, in samples a second.
    """

    name, plural = "sound", "sounds"
    positions: ClassVar = "frames"
    dropout = 0.15
    State = SoundState

    def __init__(self, options: Any, rate: int) -> None:
        super().__init__(options)
        self.rate = rate

    @classmethod
    def reads(cls, path: str) -> bool:
        return Path(path).suffix.lower() in SOUNDS

    @classmethod
    def read_files(cls, paths: Sequence[str], places: Sequence[str], columns: Columns) -> Content:
        waves = [read_sound(path) for path in paths]
        rate = Counter(rate for _, rate in waves).most_common(1)[0][0]
        return Content([resample(wave, own, rate) for wave, own in waves], rate)

    @classmethod
    def join(cls, parts: Sequence[Content], places: Sequence[Sequence[str]]) -> Content:
        rate = parts[0].form
        return Content([resample(x, part.form, rate) for part in parts for x in part.inputs], rate)

    @classmethod
    def check(cls, content: Content, places: Sequence[str], columns: Columns) -> None:
        """Sounds are checked as they are read."""

    @classmethod
    def same_columns(cls, columns: Columns, content: Content) -> Columns:
        return columns

    @classmethod
    def facts(cls, content: Content) -> Mapping[str, Any]:
        return {}

    @classmethod
    def learn(cls, options: Any, content: Content) -> Self:
        return cls(options.model_copy(update={"decibels": options.decibels or DECIBELS}), content.form)

    @classmethod
    def load(cls, options: Any, state: SoundState, files: Files) -> Self:
        return cls(options, state.rate)

    def state(self) -> SoundState:
        return SoundState(rate=self.rate)

    def columns(self, columns: Columns) -> Columns:
        return columns

    def encode(self, content: Content, places: Sequence[str], training: bool = False) -> list[np.ndarray]:
        return self._frames(content.inputs, content.form)

    def _frames(self, waves: Sequence[np.ndarray], rate: int) -> list[np.ndarray]:
        """The log-mel frames (T, bands) of waves, at the model's own rate."""
        return [log_mel(resample(wave, rate, self.rate), self.rate, self.options.bands) for wave in waves]

    def read(self, given: Sequence[Any]) -> list[np.ndarray]:
        rows = []
        for k, x in enumerate(given, 1):
            path = os.fspath(x) if isinstance(x, (str, os.PathLike)) else None
            wave, rate = read_sound(path) if path is not None else (np.asarray(x, dtype=np.float32), self.rate)
            if wave.ndim != 1 or not len(wave) or not np.isfinite(wave).all():
                where = path or f"input {k} of {len(given)}"
                raise ElmanError(f"{where}: a sound is a wave (N,) of finite numbers, not {wave.shape}")
            rows += self._frames([wave], rate)
        return rows

    def in_file(self, argument: str, column: str | None, columns: Columns, whole: bool) -> InputFile | None:
        if column is not None:
            raise ElmanError("--column: applies to texts; a sound is a file")
        return None

    def batch(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        return pad([self.features(row) for row in rows])

    def features(self, frames: np.ndarray) -> np.ndarray:
        decibels = self.options.decibels
        return frame_features(frames if decibels is None else add_noise_floor(frames, decibels))

    def vary(self, rows: list[np.ndarray], source: nn.Module, draw: np.random.Generator) -> list[np.ndarray]:
        return [vary_frames(x, self.options.decibels or DECIBELS, draw) for x in rows]

    def source(self) -> Source:
        module = Standardize(2 * self.options.bands)
        return Source(module, module.size)

    def begin(self, source: nn.Module, rows: Sequence[np.ndarray]) -> list[KnownVectors]:
        assert isinstance(source, Standardize)
        source.fit(self.features(x) for x in rows)
        return []

    def amount(self, content: Content) -> float:
        return sum(map(len, content.inputs)) * 100 // content.form

    def describe(self) -> str:
        return "sounds"


def frame_features(frames: np.ndarray) -> np.ndarray:
    """Return log-mel frames (T, bands) without their mean, and their differences in time: (T, 2 bands).

    The mean is that of the voice and the room. Source: Furui 1986, https://doi.org/10.1109/TASSP.1986.1164788, with the
    difference of neighbours.
    """
    x = frames - frames.mean(0)
    change = np.gradient(x, axis=0) if len(x) > 1 else np.zeros_like(x)
    return np.concatenate((x, change), 1).astype(np.float32)
