"""Read sound files in blocks, or whole."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, final

import numpy as np

from elman.data.archive import open_unpacked, split_member
from elman.data.members import read_member
from elman.data.sound_formats import cut_short, describe, format_of, mended_length
from elman.data.sound_stream import SoundStream
from elman.data.source import InMemory, printable, sources
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: The sampling rates that are read, in Hz.
RATES = range(200, 1_000_001)
#: The largest absolute value of a sample. Files of floats need not be scaled to 1, but a larger one is no sound.
LOUDEST = 1e9
#: Samples in a block.
_BLOCK = 1 << 16
#: Containers and encodings whose samples all have the same size, so that a seek is exact.
_UNPACKED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST")
_PLAIN = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")


@final
@dataclass(frozen=True, eq=False)
class Wave:
    """A sound in memory. NumPy takes it as the array of its samples.

    Args:
        samples (ndarray): (N,) float32.
        rate (int): The sampling rate in Hz.
        channels (int): The number of channels of the file. Default: 1.
    """

    samples: np.ndarray
    rate: int
    channels: int = 1

    @property
    def duration(self) -> float:
        """The duration in seconds."""
        return len(self.samples) / self.rate

    def __len__(self) -> int:
        return len(self.samples)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.samples, dtype) if copy else np.asarray(self.samples, dtype)


@final
class SoundReader:
    """An open sound file, of which `open_sound` gives one.

    Args:
        file (soundfile.SoundFile): The file.
        stream (SoundStream): Its bytes.
        name (str): Its name, for messages.
        channel (int, optional): The channel to read, numbered from 1. Default: the mean of all.
        missing (str): What is missing at the end of the file. Default: ``""``, nothing.

    Attributes:
        rate (int): The sampling rate in Hz.
        channels (int): The number of channels of the file.
        frames (int, optional): The number of samples of each channel, as the file announces it; None if it does not.
        exact (bool): Whether the file can be read from any place; otherwise all that is before is decoded, too.
    """

    def __init__(
        self, file: Any, stream: SoundStream, name: str, channel: int | None = None, missing: str = ""
    ) -> None:
        self._file, self._stream, self._name, self._channel, self._missing = file, stream, name, channel, missing
        self.rate, self.channels = int(file.samplerate), int(file.channels)
        self.frames = int(file.frames) if file.frames < 1 << 60 else None
        self.exact = file.format in _UNPACKED and file.subtype in _PLAIN
        self._done, self._ended = 0, False
        if self.rate not in RATES:
            raise ElmanError(
                f"{name}: the sampling rate is {self.rate:,} Hz; {RATES[0]:,} to {RATES[-1]:,} Hz are read"
            )
        if channel is not None and channel > self.channels:
            has = "one channel" if self.channels == 1 else f"{self.channels} channels"
            raise ElmanError(f"{name}: has {has}; channel {channel} is asked for (--channel)")

    def digest(self) -> str:
        """Return the SHA-256 hash of the file, without its compression, as hexadecimal digits.

        Raises:
            ElmanError: The file cannot be read.
        """
        try:
            return self._stream.digest()
        except Exception as error:  # each file system raises others
            raise ElmanError(f"{self._name}: cannot be read: {error}") from None

    def blocks(self, size: int = _BLOCK, start: float = 0.0, end: float | None = None) -> Iterator[np.ndarray]:
        """Yield the samples in blocks, (N,) float32.

        A file that was cut short is read as far as it goes, and the log says so. Several parts of a file can be read
        one after the other if each begins where the one before ends, or later.

        Args:
            size (int): Samples in a block; the last one can be shorter. Default: 65,536.
            start (float): Where the part to read begins, in seconds. Default: 0.
            end (float, optional): Where it ends, in seconds. Default: None, the end of the file.

        Raises:
            ElmanError: The file or the part has no samples or is damaged, or a sample is not a finite number. The
                message names the sample and the second.
        """
        first, last = round(start * self.rate), None if end is None else round(end * self.rate)
        self._go_to(first)
        while last is None or self._done < last:
            block = self._read(size if last is None else min(size, last - self._done))
            if not len(block):
                self._finish(first)
                return
            before, self._done = self._done, self._done + len(block)
            yield self._one_channel(block, before)

    def _go_to(self, sample: int) -> None:
        """Go on to a sample; in a file that ends before, to its end."""
        if self.exact and self.frames is not None and self._done != sample <= self.frames:
            self._file.seek(sample)
            self._done = sample
        while self._done < sample:
            block = self._read(min(_BLOCK, sample - self._done))
            self._done += len(block)
            if not len(block):
                break

    def _read(self, size: int) -> np.ndarray:
        """Return the next samples (N, C), fewer than ``size`` at the end only."""
        import soundfile

        block = np.full((0 if self._ended else size, self.channels), np.nan, dtype=np.float32)
        try:
            block = self._file.read(out=block)
        except soundfile.SoundFileError as error:
            block = block[: int((~np.isnan(block[:, 0])).sum())]
            done = self._done + len(block)
            if self._stream.error is None and not self._stream.ends_early(done):
                raise ElmanError(f"{self._name}: damaged at {self._place(done)}: {_reason(error)}") from None
            self._ended = True
        if self._stream.error is not None:
            raise ElmanError(f"{self._name}: cannot be read at {self._place(self._done)}: {self._stream.error}")
        return block

    def _finish(self, first: int) -> None:
        """Report that the end of the file was reached, where more was expected."""
        missing, done = self._missing, self._done
        if not missing and self.frames is not None and done < self.frames:
            missing = f"{done:,} of {self.frames:,} samples can be decoded"
        if done <= first:
            cut = f"; it is cut short, {missing}" if missing else ""
            what = "the file contains no audio" if not first else f"ends at {done / self.rate:.3f} s"
            part = f"; the part from {first / self.rate:.3f} s on is asked for" if first else ""
            raise ElmanError(f"{self._name}: {what}{part}{cut}")
        if missing:
            _log.warning("%s: is cut short, %s; read up to %.3f s", self._name, missing, done / self.rate)

    def _one_channel(self, block: np.ndarray, before: int) -> np.ndarray:
        """Check a block (N, C), and return the samples (N,)."""
        first = 0 if self._channel is None else self._channel - 1
        block = block if self._channel is None else block[:, first : first + 1]
        wrong = ~(np.abs(block) <= LOUDEST)  # NaN compares as false
        if wrong.any():
            k, c = np.argwhere(wrong)[0].tolist()
            which = f", channel {first + c + 1}" if self.channels > 1 else ""
            raise ElmanError(
                f"{self._name}: {self._place(before + k)}{which}: {block[k, c]:g} is not a sample of a sound; finite "
                "numbers are required, usually between -1 and 1"
            )
        return block.mean(1)

    def _place(self, sample: int) -> str:
        return f"sample {sample + 1:,} ({sample / self.rate:.3f} s)"


@contextmanager
def open_sound(source: Any, channel: int | None = None) -> Iterator[SoundReader]:
    """Open a sound file to read it in blocks, with memory that does not grow with its length.

    soundfile decodes it, with libsndfile: WAV (8 to 32 bits, floats, mu-law, A-law, ADPCM; also of pipes), RF64, W64,
    AIFF, AU, CAF, FLAC, MP3, Ogg Vorbis and Opus.

    Args:
        source (str | PathLike | bytes | IO): A path, a URL, ``archive.zip::name``, a named pipe, ``-`` for standard
            input, the bytes of a file, or an open file.
        channel (int, optional): The channel to read, numbered from 1. Default: the mean of all.

    Yields:
        SoundReader: The open file.

    Raises:
        ElmanError: The soundfile package is missing, or the file cannot be read, is no sound, or has no such channel.

    Example::

        >>> with open_sound("speech.flac") as sound:  # doctest: +SKIP
        ...     seconds = sum(map(len, sound.blocks())) / sound.rate
    """
    if isinstance(source, (bytes, bytearray)):
        path: str = InMemory("<sound in memory>", bytes(source))
    else:
        (path,) = sources([source])
    name = printable(path)
    if split_member(path)[1] is not None:
        path = InMemory(path, read_member(path))
    soundfile = _soundfile(name)
    with open_unpacked(path) as (stored, _):
        file = stored if stored.seekable() else io.BytesIO(stored.read())
        missing, stream = cut_short(file), SoundStream(file, mended_length(file))
        file.seek(0)
        try:
            opened = soundfile.SoundFile(stream)
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: files of raw samples, by their name
            raise _undecodable(name, file, missing, error) from None
        opened.seekable = lambda: False  # soundfile would seek after each block, which MP3 and FLAC do not do exactly
        with opened:
            yield SoundReader(opened, stream, name, channel, missing)


def read_sound(source: Any, channel: int | None = None) -> Wave:
    """Read a sound file whole; see `open_sound`.

    Args:
        source (str | PathLike | bytes | IO): A file.
        channel (int, optional): The channel to read, numbered from 1. Default: the mean of all.

    Raises:
        ElmanError: The file cannot be read; see `open_sound` and `SoundReader.blocks`.

    Example::

        >>> wave = read_sound("speech.flac")  # doctest: +SKIP
        >>> wave.samples.shape, wave.rate  # doctest: +SKIP
        ((52480,), 16000)
    """
    with open_sound(source, channel) as sound:
        return Wave(np.concatenate(list(sound.blocks())), sound.rate, sound.channels)


def wav_bytes(wave: Wave) -> bytes:
    """Return a sound as the bytes of a WAV file, whose samples are the same float32 numbers.

    Args:
        wave (Wave): The sound.

    Raises:
        ElmanError: The soundfile package is missing.

    Example::

        >>> read_sound(wav_bytes(Wave(np.zeros(8000), 8000))).rate  # doctest: +SKIP
        8000
    """
    file = io.BytesIO()
    _soundfile("<sound in memory>").write(file, wave.samples, wave.rate, "FLOAT", format="WAV")
    return file.getvalue()


def _soundfile(name: str) -> Any:
    """Return the soundfile package; ``name``: what is read, for messages."""
    try:
        import soundfile
    except ImportError:
        raise ElmanError(f"{name}: sound needs the soundfile package: pip install 'elman[audio]'") from None
    except OSError as error:
        raise ElmanError(f"{name}: soundfile finds no libsndfile ({error}): pip install -U soundfile") from None
    return soundfile


def sound_bytes(name: str, wave: np.ndarray, rate: int) -> bytes:
    """Return a wave as the content of a sound file.

    Args:
        name (str): The name of the file, whose ending sets the format: .wav (16 bits), .flac, .ogg, .mp3, ...
        wave (ndarray): Samples in [-1, 1], (N,).
        rate (int): The sampling rate in Hz.

    Raises:
        ElmanError: The soundfile package is missing, or cannot write the format.
    """
    soundfile = _soundfile(name)
    kind = os.path.splitext(name)[1][1:].upper()
    known = soundfile.available_formats()
    if kind not in known:
        raise ElmanError(f"{name}: unknown sound format; known are .wav, .flac, .ogg and other endings of libsndfile")
    file = io.BytesIO()
    try:
        soundfile.write(file, np.asarray(wave, dtype=np.float32), rate, format=kind)
    except (soundfile.SoundFileError, ValueError) as error:
        raise ElmanError(f"{name}: cannot be written at {rate:,} Hz: {_reason(error)}") from None
    return file.getvalue()


def write_sound(path: str | os.PathLike[str], wave: np.ndarray, rate: int) -> None:
    """Write a wave to a file; see `sound_bytes`.

    Example::

        >>> write_sound("speech.wav", wave, 16_000)  # doctest: +SKIP
    """
    name = os.fspath(path)
    content = sound_bytes(name, wave, rate)
    with open(name, "wb") as file:
        file.write(content)


def _undecodable(name: str, file: IO[bytes], missing: str, error: Exception) -> ElmanError:
    """Return the error for a file that libsndfile does not open."""
    import soundfile

    file.seek(0)
    head = file.read(4096)
    kind = format_of(head)
    codecs = {"MP3": soundfile.available_formats(), "OPUS": soundfile.available_subtypes("OGG")}
    if kind in codecs and kind not in codecs[kind]:
        version = soundfile.__libsndfile_version__
        return ElmanError(f"{name}: libsndfile {version} cannot decode {kind}: pip install -U soundfile")
    what = describe(head, missing)
    return ElmanError(f"{name}: not a sound file that can be decoded: {what} ({_reason(error)})")


def _reason(error: Exception) -> str:
    """Return the reason that libsndfile gives, which is not always one."""
    return " ".join(str(getattr(error, "error_string", error)).split()).rstrip(".:") or "libsndfile gives no reason"
