"""A speech synthesizer."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.data.padding import pad
from elman.data.split import evenly_spaced
from elman.errors import ElmanError
from elman.layers.lengths import real_steps
from elman.layers.naming import Named, named_rows
from elman.media.vocoder import Vocoder
from elman.metrics.speech import mel_cepstral_distortion
from elman.networks.speaker import Speaker, Utterance
from elman.tasks.abilities import Speaks
from elman.tasks.answers import Attention, Axis, Sounding
from elman.tasks.inputs import inputs_of
from elman.tasks.speak.examples import HOP, WINDOW, Batch, Examples, Spelled, Voice, collate
from elman.tasks.speak.options import SpeakConfig, Speech
from elman.tasks.speak.spelling import pieces
from elman.training.model import Model, evaluation
from elman.training.recipe import file_names
from elman.training.selection import Criterion

_log = logging.getLogger("elman")

#: Padded steps of the decoder that are computed at a time.
_STEPS = 4096
#: Held-out texts that are spoken for the metrics.
_SPOKEN = 40
#: The weight of the loss of where speech ends.
_STOP = 0.2
#: Seconds of silence between two sentences, and between other pieces of a text.
_PAUSE, _SHORT_PAUSE = 0.3, 0.08
#: How much longer than slow speech a text may take, and seconds more.
_SLOWEST, _MORE = 2.0, 2.0


@dataclass(frozen=True)
class Spoken(Sounding):
    """A text that was spoken.

    Attributes:
        text (str): what was spoken: the text without the characters that the model does not know.
        symbols (tuple[str, ...]): the symbols that the model read; "" for the end of a piece.
        wave (ndarray): samples (N,) float32, in [-1, 1].
        rate (int): the sampling rate in Hz.
        ended (bool): whether every piece of the text was spoken to its end, and not cut at the limit.
        weights (Tensor): the attention, (steps, symbols).
        step (float): the seconds of a step.
    """

    text: str
    symbols: tuple[str, ...]
    wave: np.ndarray
    rate: int
    ended: bool
    weights: Tensor
    step: float
    log_probability: None = None

    @property
    def score(self) -> float:  # type: ignore[override]
        """The mean of the largest attention weight of each step; low where the model does not follow the text."""
        return float(self.weights.amax(1).mean())

    @property
    def cell(self) -> str:
        return self.text

    @property
    def attention(self) -> Attention:
        return Attention(self.weights, Axis.of_words(self.symbols), Axis("frames", (len(self.weights),)))

    def record(self) -> dict[str, Any]:
        return {
            "text": self.text, "seconds": round(self.seconds, 3), "rate": self.rate, "ended": self.ended,
            "score": self.score,
        }  # fmt: skip


class _Piece(NamedTuple):
    """A part of a text that is spoken at once: which text, what is spoken of it, and its symbols."""

    number: int
    text: str
    spelled: Spelled


class SpeechSynthesizer(Model, Speaks):
    """Speech for texts: ``model.predict("Good morning.")[0][0].wave``."""

    unit = "frames"
    Options = Speech
    selection = (Criterion("loss"),)
    reads, writes = "text", "sound"

    config: SpeakConfig
    network: Speaker
    learnt: Voice

    def make_network(self) -> Speaker:
        c, known = self.config, self.learnt
        return Speaker(
            known.symbols.vocab_size, c.bands, c.frames_per_step, speakers=len(known.state.speakers), cell=c.cell,
            embedding_size=c.embedding_size, hidden_size=c.hidden_size, num_layers=c.num_layers, dropout=c.dropout,
            feed_frames=c.feed_frames, feed_dropout=c.feed_dropout,
        )  # fmt: skip

    def begin(self, examples: Examples, resumed: bool) -> None:
        if not resumed:
            some = np.unique(np.linspace(0, len(examples.frames) - 1, 1000).astype(int))
            self.network.scale.fit([examples.frames[k].astype(np.float32) for k in some])

    def named(self) -> list[Named]:
        c, known, network = self.config, self.learnt, self.network
        kind = "character" if known.pronouncer is None else "phoneme"
        bands = [(known.state.rate, c.bands, k) for k in range(c.bands)]
        steps = [(c.frames_per_step, j, band) for j in range(c.frames_per_step) for band in bands]
        return [
            *named_rows([(kind, name) for name in known.symbols.names], network.embedding.weight),
            *(named_rows(known.state.speakers, network.speakers.weight) if network.speakers is not None else []),
            *named_rows(bands, network.scale.mean, network.scale.deviation),
            *([Named(network.first_fed, (None, bands))] if network.first_fed is not None else []),
            *named_rows(steps, network.frames.weight, network.frames.bias),
        ]

    def batches(self, examples: Examples, rank: int, world: int) -> BucketBatches:
        c = self.config
        steps = examples.steps(c.frames_per_step)
        buckets = Buckets(steps, c.batch_size * int(steps.max()), c.seed, rank, world, c.batch_size)
        return BucketBatches(buckets, lambda rows, k: collate(examples, rows, c.frames_per_step))

    def size(self, batch: Batch) -> int:
        return int(batch.steps.sum()) * self.config.frames_per_step

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """Return the error of the frames in standard deviations, plus the losses of the end and of the attention."""
        losses = self._losses(batch.to(self.device))[1]
        return losses.frames + _STOP * losses.stop + self.config.guide * losses.guide, None

    def _losses(self, b: Batch) -> tuple[Any, Any]:
        frames = self.network.scale(b.frames)
        predicted = self.network(b.ids, b.lengths, b.speakers, frames, b.steps)
        return predicted, self.network.losses(predicted, frames, b.steps, b.lengths)

    @property
    def validation_size(self) -> int:
        return 6000

    def evaluate(self, examples: Examples, limit: int | None = None) -> dict[str, Any]:
        """Compute metrics of frames that are predicted from the right ones before them.

        loss is that of the training; frame_error the mean absolute error in dB; stop_accuracy the fraction of the
        recordings whose end is found to a step; monotonicity the fraction of steps at which the attention does not move
        back; diagonality the attention that is near the diagonal, 1 for all.

        Without a limit, up to 40 texts are spoken too: ended is the fraction that the model ends by itself; duration
        the mean of their duration divided by that of the recording; mel_cepstral_distortion (dB) see
        `elman.metrics.speech.mel_cepstral_distortion`.
        """
        r, steps = self.config.frames_per_step, examples.steps(self.config.frames_per_step)
        chosen = evenly_spaced(steps, limit)
        sums, total, right, forward, moves = np.zeros(4), 0, 0, 0, 0
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(chosen[np.argsort(steps[chosen], kind="stable")], steps, _STEPS):
                b = collate(examples, rows, r).to(self.device)
                predicted, losses = self._losses(b)
                error = losses.frames + _STOP * losses.stop + self.config.guide * losses.guide
                decibels = self._decibels(predicted.frames - self.network.scale(b.frames), b.steps)
                n = int(b.steps.sum())
                sums += n * np.array([error.item(), decibels, losses.stop.item(), losses.guide.item()])
                total += n
                real = real_steps(b.steps, predicted.stops.shape[1])
                found = ((predicted.stops > 0) & real).long()
                first = torch.where(found.any(1), found.argmax(1), b.steps + 1)
                right += int(((first - b.steps + 1).abs() <= 1).sum())
                at = predicted.weights.argmax(-1)
                forward += int(((at[:, 1:] >= at[:, :-1]) & real[:, 1:]).sum())
                moves += int(real[:, 1:].sum())
        loss, decibels, stop, guide = (sums / total).tolist()
        metrics: dict[str, Any] = {
            "loss": loss, "frame_error": decibels, "stop_loss": stop, "stop_accuracy": right / len(chosen),
            "monotonicity": forward / max(1, moves), "diagonality": 1 - guide,
        }  # fmt: skip
        return metrics if limit is not None else metrics | self._spoken_scores(examples)

    def _decibels(self, errors: Tensor, steps: Tensor) -> float:
        """The mean absolute error in dB of standardised errors (B, T r, M)."""
        real = real_steps(steps * self.config.frames_per_step, errors.shape[1])
        return float((errors.abs() * self.network.scale.deviation)[real].mean() * 10 / math.log(10))

    def _spoken_scores(self, examples: Examples) -> dict[str, Any]:
        """Metrics of held-out texts that the model speaks."""
        some = examples.part(evenly_spaced(np.ones(len(examples.ids)), _SPOKEN))
        found = self._speak(some.ids, some.speakers)
        made = [self.network.raw(one.frames).cpu().numpy() for one in found]
        distortion = [mel_cepstral_distortion(a, b.astype(np.float32)) for a, b in zip(made, some.frames, strict=True)]
        return {
            "ended": float(np.mean([one.ended for one in found])),
            "duration": float(np.mean([len(a) / len(b) for a, b in zip(made, some.frames, strict=True)])),
            "mel_cepstral_distortion": float(np.mean(distortion)),
            "recordings": len(examples.ids),
        }

    def _speak(self, ids: Sequence[np.ndarray], speakers: Sequence[int]) -> list[Utterance]:
        """Speak symbols, in batches of similar length."""
        step = HOP * self.config.frames_per_step
        lengths = np.array([len(row) for row in ids])
        limits = np.ceil((_SLOWEST * self.learnt.state.pace * lengths + _MORE) / step).astype(np.int64)
        found: list[Any] = [None] * len(ids)
        with evaluation(self.network), torch.inference_mode():
            for rows in split_into_batches(np.argsort(limits, kind="stable"), limits, _STEPS):
                texts, who = pad([ids[k] for k in rows]), torch.tensor([speakers[k] for k in rows])
                given = (t.to(self.device) for t in (*texts, who, torch.from_numpy(limits[rows])))
                for k, one in zip(rows, self.network.speak(*given), strict=True):
                    found[k] = one
        return found

    def predict(self, inputs: Any, **options: Any) -> list[list[Spoken]]:
        """Speak texts; long ones are spoken sentence by sentence.

        A warning names the texts with characters that are not in the training texts, which are left out, and those that
        were not spoken to their end.

        Args:
            inputs: a text, or several.
            options: those of `Speech`.

        Returns:
            list[list[Spoken]]: one answer to each text.

        Raises:
            ElmanError: a text is empty or has no known character, or the speaker is unknown.
        """
        speech = parse(Speech, options)
        if speech.phonemes is not None:
            if self.learnt.pronouncer is None:
                raise ElmanError("phonemes: this model reads characters; it has no effect")
            self.learnt.pronouncer.use(speech.phonemes)
        texts = inputs_of(inputs, True)
        speaker = self.learnt.speaker(speech.speaker)
        parts = [piece for k, text in enumerate(texts) for piece in self._pieces(k, text, len(texts))]
        said = self._speak([part.spelled.ids for part in parts], [speaker] * len(parts))
        vocoder = Vocoder(self.learnt.state.rate, self.config.bands, WINDOW, HOP)
        answers = []
        for k in range(len(texts)):
            chosen = [(part, one) for part, one in zip(parts, said, strict=True) if part.number == k]
            if not_ended := [part.text for part, one in chosen if not one.ended]:
                _log.warning(
                    "input %d of %d: the model did not reach the end of %r and was stopped; it may need more training",
                    k + 1, len(texts), not_ended[0][:80],
                )  # fmt: skip
            answers.append([self._joined(chosen, vocoder)])
        return answers

    def _pieces(self, number: int, text: str, count: int) -> list[_Piece]:
        """Return what is spoken of a text, in pieces that are no longer than the training texts."""
        place, given = f"input {number + 1} of {count}", text
        found, unknown = [], {}
        for part in pieces(self.learnt.clean(text), self.learnt.state.longest):
            spelled = self.learnt.encode(part)
            unknown.update(dict.fromkeys(spelled.unknown))
            if any(map(str.isalnum, "".join(spelled.symbols))):
                text = part if self.learnt.pronouncer else "".join(spelled.symbols)
                found.append(_Piece(number, text, spelled))
        shown = ", ".join(map(repr, list(unknown)[:10]))
        if not found:
            none = f"; not in the training texts: {shown}" if shown else ""
            raise ElmanError(f"{place}: there is nothing to speak in {given[:80]!r}{none}")
        if unknown:
            _log.warning("%s: not in the training texts, and left out: %s", place, shown)
        return found

    def _joined(self, said: Sequence[tuple[_Piece, Utterance]], vocoder: Vocoder) -> Spoken:
        """Return the pieces of a text as one answer, with pauses between them."""
        rate, waves = self.learnt.state.rate, []
        for k, (part, one) in enumerate(said):
            waves.append(vocoder.wave(self.network.raw(one.frames).cpu().numpy()))
            if k + 1 < len(said):
                pause = _PAUSE if part.text.rstrip("\"')] ")[-1:] in ".!?;:\u3002\uff01\uff1f" else _SHORT_PAUSE
                waves.append(np.zeros(int(rate * pause), dtype=np.float32))
        weights = torch.block_diag(*(one.weights.cpu() for _, one in said))
        symbols = tuple(symbol for part, _ in said for symbol in (*part.spelled.symbols, ""))
        return Spoken(
            " ".join(part.text for part, _ in said), symbols, np.concatenate(waves), rate,
            all(one.ended for _, one in said), weights, HOP * self.config.frames_per_step,
        )  # fmt: skip

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        return read_column_inputs(argument, column or self.config.text) if is_file_argument(argument) else None

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        (text,) = inputs_of(given, True)
        (part, *_) = self._pieces(0, text, 1)
        (said,) = self._speak([part.spelled.ids], [0])
        frames = self.network.raw(said.frames).cpu().numpy()
        batch = collate(Examples([part.spelled.ids], [frames], [0], [part.text]), [0], self.config.frames_per_step)
        return [*part.spelled.symbols, ""], self.loss(batch, None)[0]

    def summary(self) -> dict[str, str]:
        c, known = self.config, self.learnt.state
        speakers = f", {len(known.speakers)} speakers" if len(known.speakers) > 1 else ""
        return {
            "data": f"{file_names(self.sources)}: {self.sources.examples:,} recordings, "
            f"{self.sources.units / 60:,.0f} minutes{speakers}",
            "model": f"{c.cell}, {c.num_layers} x {c.hidden_size} units, {c.frames_per_step} frames a step, "
            f"{known.rate:,} Hz, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['model.predict("...")[0][0].save("speech.wav")']
