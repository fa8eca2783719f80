"""Sound as a medium: sound files to waves to log-mel frames."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, final

import numpy as np
from pydantic import BaseModel, Field, field_validator
from torch import Tensor, nn

from elman.config import Needs, Options
from elman.data.inputs import InputFile
from elman.data.padding import pad
from elman.data.sound_formats import SOUNDS, UNREADABLE
from elman.data.sound_inputs import sounds_in
from elman.data.sounds import LOUDEST, open_sound, read_sound
from elman.errors import ElmanError
from elman.layers.standardize import Standardize
from elman.media.augment import add_noise_floor, vary_frames
from elman.media.columns import Columns
from elman.media.medium import Content, Files, Source
from elman.media.numeric import Numeric
from elman.media.pretrained import KnownVectors
from elman.media.waves import log_mel, log_mel_of, resample

_log = logging.getLogger("elman")

#: The default distance of the noise floor from the loudest frame.
DECIBELS = 26.0


class SoundOptions(Options):
    """Options for inputs that are sounds."""

    heading = "Sound"
    needs = (Needs("sounds", lambda c: c["medium"] == "sound"),)

    channel: Annotated[str, Needs("sounds with several channels", lambda c: c["several_channels"])] = Field(
        "mix", description="Channel of sounds to read: a number from 1, or mix for the mean of all."
    )
    bands: int = Field(24, ge=1, description="Bands of the mel scale.")
    decibels: float | None = Field(
        None, gt=0, description="Noise floor: frames are mixed with noise this many decibels below the loudest, as "
        f"rooms and microphones differ there. Default: {DECIBELS:g}."
    )  # fmt: skip

    @field_validator("channel", mode="before")
    @classmethod
    def channel_number(cls, value: Any) -> Any:
        number = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(number, str) and number != "mix" and not (number.isdecimal() and 0 < int(number) <= 1024):
            raise ValueError("should be mix or the number of a channel, from 1")
        return str(int(number)) if isinstance(number, str) and number != "mix" else number


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

    name, plural, kind = "sound", "sounds", "sound"
    positions: ClassVar = "frames"
    dropout = 0.15
    State = SoundState

    def __init__(self, options: Any, rate: int) -> None:
        super().__init__(options)
        self.rate = rate
        self._warned: set[int] = set()

    @classmethod
    def reads(cls, path: str) -> bool:
        return Path(path).suffix.lower() in (*SOUNDS, *UNREADABLE)

    @classmethod
    def read_files(cls, paths: Sequence[str], places: Sequence[str], columns: Columns) -> Content:
        return Content([read_sound(path, columns.channel) for path in paths])

    @classmethod
    def join(cls, parts: Sequence[Content], places: Sequence[Sequence[str]]) -> Content:
        return Content([x for part in parts for x in part.inputs])

    @classmethod
    def check(cls, content: Content, places: Sequence[str], columns: Columns) -> None:
        """Sounds are checked as they are read."""

    @classmethod
    def same_columns(cls, columns: Columns, content: Content) -> Columns:
        return columns

    @classmethod
    def facts(cls, content: Content) -> Mapping[str, Any]:
        return {"several_channels": any(x.channels > 1 for x in content.inputs)}

    @classmethod
    def learn(cls, options: Any, content: Content) -> Self:
        rate = Counter(x.rate for x in content.inputs).most_common(1)[0][0]
        return cls(options.model_copy(update={"decibels": options.decibels or DECIBELS}), rate)

    @classmethod
    def load(cls, options: Any, state: SoundState, files: Files) -> Self:
        return cls(options, state.rate)

    def state(self) -> SoundState:
        return SoundState(rate=self.rate)

    def columns(self, columns: Columns) -> Columns:
        return columns

    def encode(self, content: Content, places: Sequence[str], training: bool = False) -> list[np.ndarray]:
        self._warn_of_lower_rates([(place, x.rate) for place, x in zip(places, content.inputs, strict=True)])
        return [
            log_mel(resample(x.samples, x.rate, self.rate, place), self.rate, self.options.bands)
            for place, x in zip(places, content.inputs, strict=True)
        ]

    def read(self, given: Sequence[Any]) -> list[np.ndarray]:
        rows, bands = [], self.options.bands
        for k, x in enumerate(given, 1):
            if isinstance(x, (str, os.PathLike)):
                with open_sound(x, channel_of(self.options)) as sound:
                    self._warn_of_lower_rates([(os.fspath(x), sound.rate)])
                    rows.append(log_mel_of(sound.blocks(), sound.rate, self.rate, bands, os.fspath(x)))
                continue
            wave = np.asarray(x, dtype=np.float32)
            if wave.ndim != 1 or not len(wave) or not (np.abs(wave) <= LOUDEST).all():
                raise ElmanError(
                    f"input {k} of {len(given)}: a sound is a wave (N,) of finite numbers, not {wave.shape}"
                )
            rows.append(log_mel(wave, self.rate, bands))
        return rows

    def _warn_of_lower_rates(self, rates: Sequence[tuple[str, int]]) -> None:
        """Log, once for each rate, that sounds lack the high frequencies that the model reads."""
        for rate, count in Counter(rate for _, rate in rates if rate < self.rate).items():
            if rate in self._warned:
                continue
            self._warned.add(rate)
            place = next(place for place, own in rates if own == rate)
            others = f"; so are {count - 1:,} others" if count > 1 else ""
            _log.warning(
                "%s: sampled at %s Hz, below the model's rate of %s Hz: frequencies above %s Hz are missing%s",
                place, f"{rate:,}", f"{self.rate:,}", f"{rate // 2:,}", others,
            )  # fmt: skip

    def in_file(self, argument: str, column: str | None, columns: Columns, whole: bool) -> InputFile | None:
        return sounds_in(argument, column or columns.file, None, None, columns.skip_bad)

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
        return sum(len(x) * 100 / x.rate for x in content.inputs)

    def describe(self) -> str:
        return "sounds"


def channel_of(options: Any) -> int | None:
    """Return the number of the channel that is read; None for the mean of all."""
    return None if options.channel == "mix" else int(options.channel)


def frame_features(frames: np.ndarray) -> np.ndarray:
    """Return log-mel frames (T, bands) without their mean, and their differences in time: (T, 2 bands).

    The mean is that of the voice and the room. Source: Furui 1986, https://doi.org/10.1109/TASSP.1986.1164788, with the
    difference of neighbours.
    """
    x = frames - frames.mean(0)
    change = np.gradient(x, axis=0) if len(x) > 1 else np.zeros_like(x)
    return np.concatenate((x, change), 1).astype(np.float32)
