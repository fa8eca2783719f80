"""Sound as a medium: sound files to waves to log-mel frames."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, final

import numpy as np
from pydantic import BaseModel, Field, field_validator
from torch import Tensor, nn

from elman.config import Needs, Options
from elman.data.archive import without_compression
from elman.data.broken import BrokenFile
from elman.data.clips import Clip, read_clips
from elman.data.inputs import InputFile
from elman.data.padding import pad
from elman.data.sound_formats import SOUNDS, UNREADABLE
from elman.data.sound_inputs import sounds_in
from elman.data.sounds import LOUDEST, Wave, open_sound
from elman.errors import ElmanError
from elman.layers.naming import Named, named_rows
from elman.layers.standardize import Standardize
from elman.media.augment import add_noise_floor, vary_frames
from elman.media.columns import Columns
from elman.media.frames import FrameStream, add_running_floor, frame_features
from elman.media.medium import Content, Files, Medium, Source
from elman.media.pretrained import KnownVectors
from elman.media.sound_rows import SoundRows, frames_of

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
    mean: Literal["sound", "running"] = Field(
        "sound", description="Mean that is subtracted from each band: of the sound; or running, of the frames so far, "
        "which needs no later frames."
    )  # fmt: skip
    deltas: bool = Field(True, description="Append the differences of neighbouring frames.")

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
class Sound(Medium):
    """Sounds: log-mel frames (T, bands) float16, and their differences if wanted, padded, standardised.

    Inputs are clips, or waves in memory. The form of a `Content` says whether sounds that cannot be decoded are left
    out; where it is None, the option ``skip_broken`` of the task does.

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
        return Path(without_compression(path)).suffix.lower() in (*SOUNDS, *UNREADABLE)

    @classmethod
    def read_files(cls, paths: Sequence[str], places: Sequence[str], columns: Columns) -> Content:
        return Content(read_clips(paths, places, columns.channel, None, columns.skip_broken), columns.skip_broken)

    @classmethod
    def join(cls, parts: Sequence[Content], places: Sequence[Sequence[str]]) -> Content:
        return Content([x for part in parts for x in part.inputs], parts[0].form)

    @classmethod
    def digest(cls, x: Clip | Wave) -> str:
        if isinstance(x, Clip):
            return f"{x.digest} {x.start} {x.end}"
        return hashlib.sha256(np.ascontiguousarray(x.samples).tobytes()).hexdigest()

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

    def files(self) -> dict[str, str | bytes]:
        return {}

    def encode(self, content: Content, places: Sequence[str], training: bool = False) -> list[np.ndarray | None]:
        """Compute the frames of sounds, or find them in the cache.

        Args:
            content: `Clip` and `Wave` objects.
            places (Sequence[str]): the origin of each, for messages.
            training (bool): of no effect. Default: False.

        Returns:
            list[ndarray | None]: (T, bands) float16, most of them mapped from files; None where a sound cannot be
            decoded and is left out.
        """
        inputs = content.inputs
        self.warn_of_lower_rates([(place, x.rate) for place, x in zip(places, inputs, strict=True)])
        clips = [k for k, x in enumerate(inputs) if isinstance(x, Clip)]
        skip = getattr(self.options, "skip_broken", None) if content.form is None else content.form
        found = self._rows.read([inputs[k] for k in clips], [places[k] for k in clips], skip) if clips else []
        rows = dict(zip(clips, found, strict=True))
        return [
            rows[k] if k in rows else self._frames_of(x, place)
            for k, (x, place) in enumerate(zip(inputs, places, strict=True))
        ]

    @functools.cached_property
    def _rows(self) -> SoundRows:
        return SoundRows(self.rate, self.options.bands, channel_of(self.options))

    def _frames_of(self, wave: Wave, place: str) -> np.ndarray:
        return frames_of([wave.samples], wave.rate, self.rate, self.options.bands, place)

    def read(self, given: Sequence[Any]) -> list[np.ndarray]:
        """Compute the frames of sounds.

        Args:
            given (Sequence): paths, `Clip` and `Wave` objects, the bytes of files, or waves (N,) at the model's rate.
        """
        return [self._read(x, f"input {k} of {len(given)}") for k, x in enumerate(given, 1)]

    def _read(self, x: Any, place: str) -> np.ndarray:
        bands = self.options.bands
        if isinstance(x, (str, os.PathLike, bytes, bytearray, Clip)):
            source, start, end = (x.source, x.start, x.end) if isinstance(x, Clip) else (x, 0.0, None)
            name = place if isinstance(source, (bytes, bytearray)) else os.fspath(source)
            try:
                with open_sound(source, channel_of(self.options)) as sound:
                    self.warn_of_lower_rates([(name, sound.rate)])
                    return frames_of(sound.blocks(start=start, end=end), sound.rate, self.rate, bands, name)
            except ElmanError as error:
                raise BrokenFile(str(error)) from None
        wave = x if isinstance(x, Wave) else Wave(np.asarray(x, dtype=np.float32), self.rate)
        samples = wave.samples
        if samples.ndim != 1 or not len(samples) or not (np.abs(samples) <= LOUDEST).all():
            raise ElmanError(f"{place}: a sound is a wave (N,) of finite numbers, not {samples.shape}")
        self.warn_of_lower_rates([(place, wave.rate)])
        return self._frames_of(wave, place)

    def warn_of_lower_rates(self, rates: Sequence[tuple[str, int]]) -> None:
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
        """Return what the network reads of frames (T, bands): (T, bands) float32, with deltas (T, 2 bands)."""
        c = self.options
        if c.mean == "running":
            stream = self.stream()
            return np.concatenate((stream.push(frames), stream.finish()))
        x = frames.astype(np.float32)
        return frame_features(x if c.decibels is None else add_noise_floor(x, c.decibels), c.deltas)

    def stream(self) -> FrameStream:
        """Return what computes `features` of frames that arrive in blocks.

        Raises:
            ElmanError: the mean of the whole sound is subtracted.
        """
        c = self.options
        if c.mean != "running":
            raise ElmanError(f"mean: {c.mean} needs the whole sound; train with --mean running")
        return FrameStream(c.bands, c.deltas, c.decibels)

    def vary(self, rows: list[np.ndarray], source: nn.Module, draw: np.random.Generator) -> list[np.ndarray]:
        decibels, floor = self.options.decibels or DECIBELS, None
        if self.options.mean == "running":
            floor = add_running_floor
        return [vary_frames(x.astype(np.float32), decibels, draw, floor=floor) for x in rows]

    def hide(self, inputs: Tensor) -> Tensor:
        return inputs

    def boundaries(self, inputs: Tensor) -> Tensor | None:
        return None

    def pieces(self, given: Any) -> list[str]:
        return []

    def source(self) -> Source:
        module = Standardize(self.options.bands * (2 if self.options.deltas else 1))
        return Source(module, module.size)

    @property
    def feature_names(self) -> list[tuple[str, int, int, int]]:
        """The name of each band, and of its difference: bands of another rate or number are other ones."""
        kinds = ("band", "difference") if self.options.deltas else ("band",)
        return [(kind, self.rate, self.options.bands, k) for kind in kinds for k in range(self.options.bands)]

    def named(self, source: nn.Module) -> list[Named]:
        assert isinstance(source, Standardize)
        return named_rows(self.feature_names, source.mean, source.deviation)

    def begin(self, source: nn.Module, rows: Sequence[np.ndarray]) -> list[KnownVectors]:
        assert isinstance(source, Standardize)
        source.fit(rows, self.features)
        return []

    def amount(self, content: Content) -> float:
        return 100 * sum(x.duration for x in content.inputs)

    def describe(self) -> str:
        return "sounds"


def channel_of(options: Any) -> int | None:
    """Return the number of the channel that is read; None for the mean of all."""
    return None if options.channel == "mix" else int(options.channel)
