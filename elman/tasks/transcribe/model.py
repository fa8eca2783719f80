"""A speech recogniser."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.clips import read_clips
from elman.data.inputs import InputFile
from elman.data.sound_inputs import sounds_in
from elman.data.sound_tables import Part
from elman.data.split import evenly_spaced
from elman.data.tokenizer import Tokenizer
from elman.decoding.fusion import Fusion
from elman.decoding.heard import CTCSearch, Heard
from elman.decoding.subtitles import Word
from elman.decoding.transcribing import transcribe
from elman.layers.naming import Named, named_inputs, named_rows
from elman.media.augment import SPEECH, silence_of, vary_frames
from elman.media.sound import channel_of
from elman.metrics.words import error_counts
from elman.networks.transcriber import (
    AttentionTranscriber,
    CTCTranscriber,
    SoundReader,
    Transcriber,
    TransducerTranscriber,
)
from elman.tasks.abilities import Answered, Answers, Compares, Listens
from elman.tasks.answers import Answer
from elman.tasks.fusing import fusion_of
from elman.tasks.inputs import inputs_of
from elman.tasks.transcribe import listening
from elman.tasks.transcribe.answers import Transcript
from elman.tasks.transcribe.examples import Batch, Examples, Learned, normalize
from elman.tasks.transcribe.options import TranscribeConfig
from elman.training.model import Model, evaluation
from elman.training.recipe import Recipe, file_names
from elman.training.run import Sources
from elman.training.selection import Criterion

_log = logging.getLogger("elman")

#: Padded frames that are read at a time.
_FRAMES = 1 << 14
#: Frames of the longest piece of a long recording, which is cut in pauses: 30 s.
_LONGEST = 3000
#: Seconds of a frame.
_HOP = 0.010


class SpeechRecognizer(Model, Answers, Compares, Listens):
    """p(text | speech): ``model.predict(["speech.wav"])[0][0].text``."""

    unit = "seconds"
    reads, writes = "sound", "text"
    Options = CTCSearch
    ListenOptions = listening.ListenOptions
    selection = (Criterion("cer"), Criterion("loss"))
    common_names: ClassVar = {"writer.reader.": "encoder."}

    config: TranscribeConfig
    network: Transcriber
    learnt: Learned

    def __init__(self, task: Recipe, learnt: Learned, sources: Sources) -> None:
        super().__init__(task, learnt, sources)
        self.reads_paths = True
        self.search = parse(CTCSearch, {})

    @property
    def channel(self) -> int | None:
        return channel_of(self.config)

    @property
    def target(self) -> Tokenizer:
        """The vocabulary of what is written."""
        return self.learnt.target

    @property
    def step_seconds(self) -> float:
        """The duration of a step of the encoder."""
        return _HOP * self.config.stride

    def make_network(self) -> Transcriber:
        c: TranscribeConfig = self.config
        look_ahead = round(c.look_ahead / (_HOP * c.stride)) if c.streaming else 0
        reader = SoundReader(
            *self.learnt.medium.source(), c.cell, c.hidden_size, c.num_layers, stride=c.stride,
            bidirectional=not c.streaming, look_ahead=look_ahead, dropout=c.dropout,
        )  # fmt: skip
        vocab_size = self.learnt.target.vocab_size
        if c.model == "attention":
            return AttentionTranscriber(
                reader, vocab_size, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.decoder_size,
                kind=c.attention, heads=c.heads, dropout=c.dropout,
            )  # fmt: skip
        if c.model == "transducer":
            return TransducerTranscriber(
                reader, vocab_size, cell=c.cell, embedding_size=c.embedding_size, hidden_size=c.decoder_size,
                dropout=c.dropout,
            )  # fmt: skip
        return CTCTranscriber(reader, vocab_size)

    def begin(self, examples: Examples, resumed: bool) -> None:
        if not resumed:
            self.learnt.medium.begin(self.network.reader.source, examples.rows)

    def named(self) -> list[Named]:
        network, reader, medium = self.network, self.network.reader, self.learnt.medium
        frames = [(reader.stride, j, name) for j in range(reader.stride) for name in medium.feature_names]
        return [
            *medium.named(reader.source),
            *named_inputs(frames, reader.encoder),
            *named_rows(self.target.names, *network.of_tokens()),
        ]

    def batches(self, examples: Examples, rank: int, world: int) -> BucketBatches:
        c, lengths = self.config, [len(row) for row in examples.rows]
        buckets = Buckets(lengths, round(c.batch_size / _HOP), c.seed, rank, world)

        def collate(chosen: np.ndarray, k: int) -> Batch:
            draw = np.random.default_rng([c.seed, k, rank])
            pairs = [self._varied(examples.rows[row], examples.target_ids[row], draw) for row in chosen]
            return self.learnt.collate(*zip(*pairs, strict=True))

        return BucketBatches(buckets, collate)

    def _varied(self, row: np.ndarray, ids: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A training recording and its text, changed at random, but so that it does not become too short for its text;
        or silence."""
        c, network = self.config, self.network
        row = np.asarray(row, np.float32)
        if c.silence and draw.random() < c.silence:
            return silence_of(row, draw), ids[:0]
        if not c.augment:
            return row, ids
        varied = vary_frames(row, c.decibels, draw, SPEECH.with_voices(c.variation))
        return (varied if network.reader.steps(len(varied)) >= network.required(ids.tolist()) else row), ids

    def size(self, batch: Batch) -> int:
        return round(int(batch.lengths.sum()) * _HOP)

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """Return the mean of -log p(text | speech) per token, in nats; per step in a batch of silence."""
        b = batch.to(self.device)
        encoding = self.network.reader(b.frames, b.lengths)
        nats = self.network.loss(encoding, b.targets, b.target_lengths)
        tokens = b.target_lengths.sum()
        return nats.sum() / torch.where(tokens > 0, tokens, encoding.lengths.sum()), None

    @property
    def validation_size(self) -> int:
        return 200

    def evaluate(self, examples: Examples, limit: int | None = None) -> dict[str, Any]:
        """Compute loss (mean nats per token) and the word and character error rates, wer and cer.

        With a limit: of the greedy transcripts. Otherwise of those that beam search finds, with the numbers of
        substitutions, deletions and insertions. A recording that is too short for its text counts in the error rates,
        but not in the loss.
        """
        if not isinstance(examples, Examples):
            examples = self.read(examples)
        some = examples.part(evenly_spaced(np.maximum(1, np.ceil(examples.seconds)), limit))
        search = self.search if limit is None else parse(CTCSearch, {"beam": 1})
        heard, loss = self._heard(some, search)
        if limit is not None and any(some.texts) and not any(heard):
            _log.warning("the model still writes only blanks; more training or a smaller learning rate ends this")
        metrics = {"loss": loss, **_error_rates(heard, some.texts)}
        if limit is not None:
            return {name: metrics[name] for name in ("loss", "wer", "cer") if metrics[name] is not None}
        texts = "lower case, no punctuation but apostrophes" if self.config.normalize else "as they are"
        return metrics | {"recordings": len(some.rows), "seconds": sum(some.seconds), "texts": texts}

    def _heard(self, examples: Examples, search: CTCSearch) -> tuple[list[str], float | None]:
        """The text that is heard in each recording, and the mean nats per token."""
        nats, tokens = 0.0, 0
        fusion = fusion_of(search, self.target, str(self.device))
        heard: list[str] = [""] * len(examples.rows)
        with evaluation(self.network), torch.inference_mode():
            for chosen in self._parts(examples.rows):
                ids = [examples.target_ids[k] for k in chosen]
                b = self.learnt.collate([examples.rows[k] for k in chosen], ids).to(self.device)
                encoding = self.network.reader(b.frames, b.lengths)
                lost = self.network.loss(encoding, b.targets, b.target_lengths)
                known = lost.isfinite()
                nats, tokens = nats + lost[known].sum().item(), tokens + int(b.target_lengths[known].sum())
                if b.lengths.max() > _LONGEST:  # as `predict` reads them
                    parts = [self._search(cut_in_pauses(examples.rows[k], _LONGEST), search, fusion) for k in chosen]
                else:
                    parts = [[found] for found in transcribe(self.network, encoding, search, fusion)]
                for k, own in zip(chosen, parts, strict=True):
                    heard[k] = " ".join(filter(None, (self.text(found[0].ids) for found in own)))
        return heard, nats / tokens if tokens else None

    def answered(self, examples: Examples) -> list[Answered]:
        heard, _ = self._heard(examples, self.search)
        return [Answered(*one) for one in zip(examples.places, examples.texts, heard, strict=True)]

    def predict(self, inputs: Any, **options: Any) -> list[list[Transcript]]:
        """Return the transcripts of each recording, the best first.

        A recording longer than 30 s is cut in its pauses, and has one transcript.

        Args:
            inputs: one recording, or several: paths, URLs, bytes of files, or waves (N,) at the model's rate.
            options: those of `CTCSearch`.

        Raises:
            ElmanError: a recording cannot be read, or an option is wrong.
        """
        search = parse(CTCSearch, options)
        given = inputs_of(inputs, False)
        rows = self.learnt.medium.read([self._clip(one) for one in given])
        pieces = [cut_in_pauses(row, _LONGEST) for row in rows]
        fusion = fusion_of(search, self.target, str(self.device))
        several = 3 * search.n_best if search.n_best > 1 else 1
        wider = search.model_copy(update={"n_best": several, "beam": max(search.beam, several)})
        found = self._search([piece for own in pieces for piece in own], wider, fusion)
        answers, at = [], 0
        for row, own in zip(rows, pieces, strict=True):
            parts, at = found[at : at + len(own)], at + len(own)
            starts = np.cumsum([0, *(len(piece) for piece in own[:-1])]) * _HOP
            seconds = len(row) * _HOP
            heard = [[one] for one in parts[0]] if len(own) == 1 else [[part[0] for part in parts]]
            texts: dict[str, Transcript] = {}  # tokens that differ in spaces only are one text
            for one in heard:
                answer = self._transcript(one, starts.tolist(), seconds)
                texts.setdefault(answer.text, answer)
            answers.append(list(texts.values())[: search.n_best])
        return answers

    def _clip(self, given: Any) -> Any:
        """A part of a recording as the medium reads it; anything else as it is."""
        if not isinstance(given, Part):
            return given
        (clip,) = read_clips([given.sound], [""], self.channel, [(given.start, given.end)], None)
        return clip

    def listen(self, rate: int, **options: Any) -> listening.Listening:
        """Return what recognises speech that arrives in blocks.

        Args:
            rate (int): the sampling rate of the blocks in Hz.
            options: those of `elman.tasks.transcribe.listening.ListenOptions`.

        Raises:
            ElmanError: the model is not streaming, or an option is wrong.
        """
        return listening.Listening(self, parse(listening.ListenOptions, options), rate)

    def _parts(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Numbers of rows of similar length, so that a part has about 160 s."""
        lengths = np.array([len(row) for row in rows])
        return split_into_batches(np.argsort(lengths, kind="stable"), lengths, _FRAMES)

    def _search(self, rows: Sequence[np.ndarray], search: CTCSearch, fusion: Fusion | None) -> list[list[Heard]]:
        """What is heard in each row."""
        heard: list[Any] = [None] * len(rows)
        with evaluation(self.network), torch.inference_mode():
            for chosen in self._parts(rows):
                frames, lengths = self.learnt.medium.batch([rows[k] for k in chosen])
                encoding = self.network.reader(frames.to(self.device), lengths.to(self.device))
                for k, found in zip(chosen, transcribe(self.network, encoding, search, fusion), strict=True):
                    heard[k] = found
        return heard

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        return " ".join(self.target.decode(ids).split())

    def _transcript(self, heard: Sequence[Heard], starts: Sequence[float], seconds: float) -> Transcript:
        """The transcript of the pieces of a recording that start at these seconds."""
        pieces = zip(heard, starts, [*starts[1:], seconds], strict=True)
        words = [word for one, start, end in pieces for word in self.words(one, start, end)]
        text = " ".join(text for one in heard if (text := self.text(one.ids)))
        scores = sum(one.score for one in heard), sum(one.log_probability for one in heard)
        return Transcript(text, *scores, words, seconds)

    def words(self, heard: Heard, start: float = 0.0, limit: float = math.inf) -> list[Word]:
        """Return the words of what was heard in a recording that starts at one second and ends at another.

        The last step of the encoder may reach beyond the end.
        """
        write = self.target.stream_decoder()
        pieces, step = [write(i) for i in heard.ids], self.step_seconds
        words, first = [], 0
        for k in range(1, len(pieces) + 1):
            if k < len(pieces) and not pieces[k][:1].isspace():
                continue
            text = "".join(pieces[first:k]).strip()
            spoken = [j for j in range(first, k) if pieces[j].strip()]
            if text:
                begin, end = heard.frames[spoken[0]][0], heard.frames[spoken[-1]][1]
                sure = min(heard.confidences[j] for j in spoken)
                words.append(Word(text, start + begin * step, min(limit, start + end * step), sure))
            first = k
        return words

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        c = self.reader.config
        return sounds_in(argument, column or c.audio, c.start, c.end, c.skip_bad)

    def compare(
        self, inputs: Sequence[Hashable], answers: Sequence[Answer], references: Sequence[str]
    ) -> dict[str, Any]:
        """Return the word and character error rates."""
        return _error_rates([answer.text for answer in answers], [self.as_written(text) for text in references])

    def as_written(self, reference: str) -> str:
        return normalize(reference) if self.config.normalize else reference

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        (row,) = self.learnt.medium.read(inputs_of(given, False))
        frames, lengths = self.learnt.medium.batch([row])
        encoding = self.network.reader(frames.to(self.device), lengths.to(self.device))
        (found,) = transcribe(self.network, encoding, parse(CTCSearch, {"beam": 1}))
        ids = torch.tensor([found[0].ids], dtype=torch.int64, device=self.device)
        loss = self.network.loss(encoding, ids, torch.tensor([ids.shape[1]], device=self.device)).sum()
        return [f"{k * self.step_seconds:.2f} s" for k in range(int(encoding.lengths[0]))], loss

    def summary(self) -> dict[str, str]:
        c = self.config
        direction = f"streaming, {c.look_ahead:g} s look-ahead" if c.streaming else "bidirectional"
        return {
            "data": f"{file_names(self.sources)}: {self.sources.examples:,} recordings, "
            f"{self.sources.units / 3600:.2f} h, {self.target.vocab_size - 2:,} tokens ({c.tokens})",
            "model": f"{c.model}, {c.cell}, {c.num_layers} x {c.hidden_size} units, {direction}, "
            f"{self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["speech.wav"])[0][0].text)']


def _error_rates(heard: Sequence[str], said: Sequence[str]) -> dict[str, Any]:
    """The error rates of words and of characters, and the numbers of the errors of words."""
    words, characters = (error_counts(heard, said, unit) for unit in ("words", "characters"))
    return {"wer": words.pop("rate"), "cer": characters["rate"], **words}


def cut_in_pauses(frames: np.ndarray, longest: int) -> list[np.ndarray]:
    """Cut frames (T, bands) where they are quietest, into pieces of at most ``longest`` frames.

    A piece ends in the quietest 0.2 s of its last two thirds.

    Example::

        >>> [len(piece) for piece in cut_in_pauses(np.zeros((70, 40)), 30)]
        [11, 11, 11, 11, 26]
    """
    pieces, width = [], 20
    loud = np.convolve(np.asarray(frames, np.float32).mean(1), np.ones(width) / width, "same")
    while len(frames) > longest:
        first = longest // 3
        end = first + 1 + int(loud[first + 1 : longest].argmin())
        pieces.append(frames[:end])
        frames, loud = frames[end:], loud[end:]
    return [*pieces, frames]
