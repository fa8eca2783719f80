"""Recognise speech while it is spoken, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from elman.data.sounds import LOUDEST, RATES
from elman.decoding.heard import CTCSearch
from elman.decoding.subtitles import Segment
from elman.decoding.transcribing import step_search
from elman.errors import ElmanError
from elman.media.waves import LogMel, Resampler
from elman.networks.sound_stream import ReaderStream
from elman.networks.transcriber import SteppingTranscriber
from elman.tasks.fusing import fusion_of
from elman.tasks.transcribe.answers import Transcript
from elman.training.model import evaluation

#: A pause may be half as long where the sound has fallen by so many nats of power since the loudest frame: 20 dB.
_QUIET = 20 * math.log(10) / 10


class ListenOptions(CTCSearch):
    """Options of ``elman listen`` and of ``model.listen``."""

    chunk: float = Field(0.3, ge=0.03, le=10, description="Seconds of sound that are read at a time.")
    pause: float = Field(0.8, ge=0.1, le=60, description="Seconds without a word that end a line.")
    longest: float = Field(30.0, ge=2, le=600, description="Seconds of a line at most.")


class Line(NamedTuple):
    """What has been heard so far.

    Attributes:
        segment (Segment): The text with its times.
        final (bool): Whether the line has ended. Otherwise its text can still change.
        answer (Transcript, optional): Of a line that has ended, the same with its score.
    """

    segment: Segment
    final: bool
    answer: Transcript | None = None

    def record(self) -> dict[str, Any]:
        """Return the line for JSON."""
        start, end, text, words = self.segment
        return {"text": text, "start": start, "end": end, "final": self.final, "words": [w._asdict() for w in words]}


class Listening:
    """Recognise speech that arrives in blocks.

    ::

        with model.listen(rate=16000) as listening:
            for block in microphone:
                for line in listening.push(block):
                    print(line.segment.text, line.final)
            for line in listening.finish():
                print(line.segment.text)

    The final lines do not depend on the division into blocks. A line ends after a pause: no token for ``pause``
    seconds, or for half as long where it has become quiet, too. The recurrence then starts anew, as at the beginning
    of a recording of the training. Words are heard with a delay of the model's look-ahead and a chunk.

    Args:
        model (SpeechRecognizer): The model; it must be streaming.
        options (ListenOptions): The options.
        rate (int): The sampling rate of the blocks in Hz.

    Raises:
        ElmanError: The model is not streaming, the rate is wrong, or an option has no effect.
    """

    def __init__(self, model: Any, options: ListenOptions, rate: int) -> None:
        c, network = model.config, model.network
        if not (c.streaming and isinstance(network, SteppingTranscriber)):
            raise ElmanError("the model reads whole recordings (elman predict); to listen, train it with --streaming")
        if options.n_best > 1:
            raise ElmanError("n_best: has no effect here; a line has one answer")
        if rate not in RATES:
            raise ElmanError(f"rate: should be a sampling rate from {RATES[0]:,} to {RATES[-1]:,} Hz, got {rate}")
        model.learnt.medium.warn_of_lower_rates([("the sound to listen to", rate)])
        self._network = network
        self._model, self._options, step = model, options, model.step_seconds
        self._frames = c.stride * max(1, round(options.chunk / step))  # read at a time
        self._pause, self._longest = options.pause / step, options.longest / step
        self._fusion = fusion_of(options, model.target, str(model.device))
        self._resampler = Resampler(rate, model.learnt.medium.rate)
        self._mel = LogMel(model.learnt.medium.rate, c.bands, block=self._frames)
        self._stream = model.learnt.medium.stream()
        self._features = np.zeros((0, c.bands * (2 if c.deltas else 1)), np.float32)  # that wait for a whole chunk
        self._loudness = np.zeros(0, np.float32)  # of their frames
        self._stack, self._first = ExitStack(), 0  # the step at which the line begins
        self._ended = False
        self._begin()

    def __enter__(self) -> Listening:
        self._stack.enter_context(evaluation(self._model.network))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _begin(self) -> None:
        """Begin a line."""
        self._reader = ReaderStream(self._network.reader)
        self._beam = step_search(self._network, self._options, self._fusion)
        self._recent = self._features[:0]  # features of the steps that are not decided yet
        self._decided, self._silent = 0, 0  # steps of the line; those since its text has changed
        self._text = ""
        self._peaks: list[float] = []  # the loudest frame of each chunk

    @torch.inference_mode()
    def push(self, block: np.ndarray) -> Iterator[Line]:
        """Take the next samples (N,) float32; yield what is heard, and the lines that end.

        Raises:
            ElmanError: They are no samples of a sound, or come after `finish`.
        """
        if self._ended:
            raise ElmanError("the sound has ended; listen anew for another one")
        samples = np.asarray(block, np.float32)
        if samples.ndim != 1 or not (np.abs(samples) <= LOUDEST).all():  # NaN compares as false
            raise ElmanError(f"a block is a wave (N,) of finite numbers, not {samples.shape}")
        yield from self._hear(self._mel.push(self._resampler.push(samples)))

    @torch.inference_mode()
    def finish(self) -> Iterator[Line]:
        """Yield the last lines, at the end of the sound."""
        self._ended = True
        rest = self._mel.push(self._resampler.finish())
        yield from self._hear(np.concatenate((rest, self._mel.finish())))
        self._features = np.concatenate((self._features, self._stream.finish()))
        while len(self._features):  # again where a line ends: the steps that it has not decided begin the next one
            yield from self._chunk(len(self._features))
        self._decide(self._reader.finish())
        yield from self._end()

    def _hear(self, frames: np.ndarray) -> Iterator[Line]:
        """Read log-mel frames, a chunk at a time."""
        self._features = np.concatenate((self._features, self._stream.push(frames)))
        self._loudness = np.concatenate((self._loudness, np.logaddexp.reduce(frames, 1)))
        while len(self._features) >= self._frames:
            yield from self._chunk(self._frames)

    def _chunk(self, frames: int) -> Iterator[Line]:
        """Read the first frames that wait; yield the line if its text has changed, or if it has ended."""
        chunk, self._features = self._features[:frames], self._features[frames:]
        self._peaks.append(float(self._loudness[:frames].max()))
        self._loudness = self._loudness[frames:]
        self._recent = np.concatenate((self._recent, chunk))
        changed = self._decide(self._reader.push(torch.from_numpy(chunk).to(self._model.device)))
        if self._silent >= self._needed():
            undecided = self._recent
            yield from self._end()
            self._features = np.concatenate((undecided, self._features))
            self._loudness = np.concatenate((np.full(len(undecided), -np.inf, np.float32), self._loudness))
        elif changed:
            yield Line(Segment(self._seconds(0), self._seconds(self._decided), self._text), False)

    def _decide(self, keys: Tensor) -> bool:
        """Search through the next keys (N, E); return whether the text has changed."""
        if not len(keys):
            return False
        self._beam.push(self._network.scores(keys))
        self._decided += len(keys)
        self._recent = self._recent[len(keys) * self._model.config.stride :]
        text = self._model.text(self._beam.best(aligned=False)[0].ids)
        changed, self._text = text != self._text, text
        self._silent = 0 if changed else self._silent + len(keys)
        return changed

    def _needed(self) -> float:
        """Return the steps without a new token that end the line: fewer where it is quiet, or where it is long."""
        chunks = max(1, math.ceil(self._pause / 2 * self._model.config.stride / self._frames))
        quiet = len(self._peaks) > chunks and max(self._peaks[-chunks:]) < max(self._peaks) - _QUIET
        left = 1 - self._decided / self._longest
        return max(0.0, min(self._pause / 2 if quiet else self._pause, 2 * left * self._pause))

    def _end(self) -> Iterator[Line]:
        """End the line; yield it if something was said."""
        (heard, *_) = self._beam.finish()
        words = self._model.words(heard, self._seconds(0))
        if words:
            text, seconds = self._model.text(heard.ids), self._decided * self._model.step_seconds
            answer = Transcript(text, heard.score, heard.log_probability, words, seconds)
            yield Line(Segment(words[0].start, words[-1].end, text, words), True, answer)
        self._first += self._decided
        self._begin()

    def _seconds(self, step: int) -> float:
        return (self._first + step) * self._model.step_seconds
