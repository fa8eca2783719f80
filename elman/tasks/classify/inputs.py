"""What a classifier reads of texts, series and sounds."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, TypeAdapter
from torch import Tensor

from elman.data import Tokenizer
from elman.data.inputs import InputFile, InputLines, InputTable
from elman.data.labels import label_key
from elman.data.series import as_numbers, check_series, fill_missing, reorder_channels
from elman.data.source import sources
from elman.data.timestamps import DateOrder
from elman.data.tokenizer import SPECIAL
from elman.data.vectors import first_words
from elman.errors import ElmanError
from elman.media.augment import drowned, vary_frames, vary_series
from elman.media.labelled import Columns, Labelled, Medium, frames, read_series
from elman.media.waves import read_sound
from elman.tasks.classify.options import DECIBELS, ClassifyConfig
from elman.tasks.text_to_text.model import encode_all, pad, spaced
from elman.training.run import MOST, Names, Run

_log = logging.getLogger("elman")

TOKENIZER, LABELS = "tokenizer.json", "labels.json"

#: Where a sentence ends: what comes next begins another.
_ENDS = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]['\"\u201d\u2019)\]]*\s*$|\n")
#: Where none ends for so many tokens, one is cut.
_LONGEST = 200


class Known(NamedTuple):
    """What the data say: labels, whether an example can have several; channels and rate of what is read; how many of
    the tokens' vectors learn, if not all do; the columns of tables that are no channels; the order of dates."""

    labels: Names
    several: bool
    medium: Medium
    channels: list[str]
    rate: Annotated[int, Field(ge=0, le=10**6)]
    tuned: Annotated[int, Field(ge=0, le=MOST)] | None = None
    left_out: list[str] = []
    date_order: DateOrder | None = None


_KNOWN = TypeAdapter(Known)


class Examples(NamedTuple):
    """Rows, ids (T,) or numbers (T, C); labels (N, K + U) of 0 and 1, those that the model does not know last; their
    U names; texts, where there are."""

    rows: list[np.ndarray]
    labels: np.ndarray
    unseen: list[str]
    texts: list[str]


class Inputs:
    """From raw inputs to rows, ids (T,) of texts, numbers (T, C) of series and sounds, and to what is read of them."""

    def __init__(self, config: ClassifyConfig, known: Known, tokenizer: Tokenizer | None) -> None:
        self.config, self.known, self.tokenizer = config, known, tokenizer

    @classmethod
    def of(cls, config: ClassifyConfig, data: Labelled, run: Run | None) -> Inputs:
        """What the training data say of inputs and labels; the tokenizer from ``run`` if there is one."""
        several = config.label_separator is not None or any(len(label) > 1 for label in data.labels)
        names = sorted({one for label in data.labels for one in label})
        if len(names) < (1 if several else 2):
            raise ElmanError(f"{data.places[0]}: all {len(data.labels)} examples have one label, {names[0]!r}")
        left_out, order = list(data.reading.left_out or ()), data.reading.date_order
        known = Known(names, several, data.medium, data.channels, data.rate, None, left_out, order)
        if data.medium != "text":
            return cls(config, known, None)
        assert config.tokens is not None
        if run is not None:
            return cls(config, known._replace(tuned=cls.load(config, run).known.tuned), _tokenizer(run))
        texts = spaced(config.tokens, data.inputs)
        tokenizer = Tokenizer.train(config.tokens, texts, config.vocab_size, bool(config.lowercase), spaces=False)
        if config.vectors is not None and config.tokens == "word":
            counts = np.bincount(np.concatenate(encode_all(tokenizer, texts)), minlength=tokenizer.vocab_size)
            frequent = len(SPECIAL) + int((counts[len(SPECIAL) :] >= config.rare).sum())  # they come first
            known = known._replace(tuned=frequent)
            tokenizer = tokenizer.with_words(first_words(config.vectors, config.extra_words))
        return cls(config, known, tokenizer)

    @classmethod
    def load(cls, config: ClassifyConfig, run: Run) -> Inputs:
        """Those of a run directory."""
        known = run.record(LABELS, _KNOWN)
        return cls(config, known, _tokenizer(run) if known.medium == "text" else None)

    def files(self) -> dict[str, str]:
        files = {LABELS: json.dumps(self.known._asdict(), ensure_ascii=False, indent=1) + "\n"}
        return files if self.tokenizer is None else files | {TOKENIZER: self.tokenizer.to_json()}

    @property
    def size(self) -> int:
        """C: the numbers of a step."""
        return 2 * self.config.bands if self.known.medium == "sound" else len(self.known.channels)

    @property
    def columns(self) -> Columns:
        """Which column of tables holds what, as the training data had them."""
        c, known = self.config.columns(), self.known
        if known.medium != "series":
            return c
        return c._replace(
            reading=c.reading._replace(
                channels=tuple(known.channels), left_out=tuple(known.left_out), date_order=known.date_order
            )
        )

    def examples(self, data: Labelled) -> Examples:
        """The examples as the network reads them; the log says which labels the model does not know.

        Raises:
            ElmanError: the inputs are not of the model's kind.
        """
        known = self.known
        if data.medium != known.medium:
            raise ElmanError(f"{data.places[0]}: {data.medium}; the model reads {known.medium}")
        if data.medium == "series":
            pairs = zip(data.inputs, data.places, strict=True)
            data = data._replace(
                inputs=[reorder_channels(x, data.channels, known.channels, place) for x, place in pairs]
            )
        index = {label_key(name): k for k, name in enumerate(known.labels)}
        unseen: list[str] = []
        for one in sorted({one for label in data.labels for one in label}):
            if label_key(one) not in index:
                index[label_key(one)] = len(index)
                unseen.append(one)
        labels = np.zeros((len(data.labels), len(index)), dtype=np.int8)
        for k, label in enumerate(data.labels):
            labels[k, [index[label_key(one)] for one in label]] = 1
        if unseen:
            rows = np.flatnonzero(labels[:, len(known.labels) :].any(1))
            shown = ", ".join(known.labels[:20]) + (", ..." if len(known.labels) > 20 else "")
            _log.warning(
                "%s: the label %r is not one that the model learnt (%s); %d of %d examples have such: they are errors",
                data.places[rows[0]], unseen[int(labels[rows[0], len(known.labels) :].argmax())], shown, len(rows),
                len(labels),
            )  # fmt: skip
        texts = data.inputs if data.medium == "text" else []
        return Examples(self.rows(data.inputs, data.rate), labels, unseen, texts)

    def rows(self, inputs: Sequence[Any], rate: int) -> list[np.ndarray]:
        """Rows of texts (ids), series, or waves at that rate (log-mel frames)."""
        if self.tokenizer is not None:
            assert self.config.tokens is not None
            return encode_all(self.tokenizer, spaced(self.config.tokens, inputs))
        if self.known.medium == "series":
            return [fill_missing(np.asarray(x, dtype=np.float64), self.config.missing) for x in inputs]
        return [frames(wave, rate, self.known.rate, self.config.bands) for wave in inputs]

    def varied(self, x: np.ndarray, deviation: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """A row of a series or a sound, changed a little."""
        if self.known.medium == "series":
            return vary_series(x, deviation, draw)
        return vary_frames(x, self.config.decibels or DECIBELS, draw)

    def seen(self, x: np.ndarray) -> np.ndarray:
        """What the network reads of a row."""
        if self.known.medium != "sound":
            return x
        return spoken(x if self.config.decibels is None else drowned(x, self.config.decibels))

    def batch(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """What the network reads of rows: inputs (B, T) or (B, T, C), 0 beyond each row's end, and lengths (B,)."""
        return padded([self.seen(row) for row in rows])

    def read(self, given: Sequence[Any]) -> list[np.ndarray]:
        """Rows of texts, paths or arrays; a file of several series has several."""
        if self.tokenizer is not None:
            return self.rows(given, 0)
        return [row for k, x in enumerate(given, 1) for row in self._rows(x, f"input {k} of {len(given)}")]

    def in_file(self, path: str) -> InputFile | None:
        """The series in a file; a sound is one input as it is. Each is called by its path, or its place where the
        file has several."""
        if self.known.medium != "series":
            return None
        found = read_series(path, self.columns)
        names = found.places if len(found.places) > 1 else [path]
        if found.table is not None:
            return InputTable(path, found.table, list(found.values), names)
        return InputLines(list(found.values), found.places, names)

    def _rows(self, x: Any, place: str) -> list[np.ndarray]:
        """The rows of a path, a data frame or an array."""
        known, path = self.known, os.fspath(x) if isinstance(x, (str, os.PathLike)) else None
        if known.medium == "sound":
            wave, rate = read_sound(path) if path is not None else (np.asarray(x, dtype=np.float32), known.rate)
            if wave.ndim != 1 or not len(wave) or not np.isfinite(wave).all():
                raise ElmanError(f"{path or place}: a sound is a wave (N,) of numbers, not {wave.shape}")
            return self.rows([wave], rate)
        if hasattr(x, "columns"):  # a data frame
            (path,) = sources(x)
        if path is not None:
            found, places, _ = read_series(path, self.columns)
        else:
            try:
                values = as_numbers(x)
            except (TypeError, ValueError, OverflowError) as error:
                raise ElmanError(f"{place}: not a series of numbers: {error}") from None
            values = values[:, None] if values.ndim == 1 else values
            if values.ndim != 2:
                raise ElmanError(f"{place}: of shape {values.shape}; a series is (T, C)")
            found, places = [reorder_channels(values, [], known.channels, place)], [place]
        for values, where in zip(found, places, strict=True):
            check_series(values, where, known.channels, self.config.missing != "refuse")
        return self.rows(found, 0)

    def pieces(self, text: str) -> list[str]:
        """The text of each token."""
        if self.tokenizer is None:
            return []
        assert self.config.tokens is not None
        return self.tokenizer.token_texts(*spaced(self.config.tokens, [text]))

    def begins(self, ids: Tensor) -> Tensor:
        """Where sentences begin, (B, T)."""
        ends = self._ends.to(ids.device)[ids]
        begins = torch.cat((torch.ones_like(ends[:, :1]), ends[:, :-1] & ~ends[:, 1:]), 1)
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        since = places - torch.where(begins, places, 0).cummax(1).values
        return begins | (since % _LONGEST == 0)

    @functools.cached_property
    def _ends(self) -> Tensor:
        """Whether a token ends a sentence, (V,)."""
        assert self.tokenizer is not None
        words = (self.tokenizer.decode([i]) for i in range(self.tokenizer.vocab_size))
        return torch.tensor([_ENDS.search(word) is not None for word in words])


def spoken(frames: np.ndarray) -> np.ndarray:
    """Log-mel frames (T, bands) less their mean, the voice's and the room's, and how they change: (T, 2 bands).

    Furui 1986, https://doi.org/10.1109/TASSP.1986.1164788 (with the plain difference of neighbours)
    """
    x = frames - frames.mean(0)
    change = np.gradient(x, axis=0) if len(x) > 1 else np.zeros_like(x)
    return np.concatenate((x, change), 1).astype(np.float32)


def padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """inputs (B, T) or (B, T, C) of the rows' type, 0 beyond each row's end, and lengths (B,)."""
    if rows[0].ndim == 1:
        return pad(rows, 0)
    lengths = np.array([len(row) for row in rows])
    x = np.zeros((len(rows), int(lengths.max()), rows[0].shape[1]), dtype=rows[0].dtype)
    for to, row in zip(x, rows, strict=True):
        to[: len(row)] = row
    return torch.from_numpy(x), torch.from_numpy(lengths)


def _tokenizer(run: Run) -> Tokenizer:
    return Tokenizer.from_json(run.read(TOKENIZER), str(run.path / TOKENIZER))
