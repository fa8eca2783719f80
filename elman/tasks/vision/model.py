"""What the models share that write a text about pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from elman.data.buckets import BucketBatches, Buckets
from elman.data.inputs import InputFile
from elman.data.picture_inputs import pictures_in
from elman.data.pictures import read_pictures
from elman.data.tokenizer import Tokenizer
from elman.layers.dropout import drop_words
from elman.layers.naming import Named, named_rows
from elman.metrics.pointing import Box, Pointed, pointing_scores
from elman.networks.readers import PictureReader, QuestionReader
from elman.tasks.abilities import Describes
from elman.tasks.answers import Axis
from elman.tasks.vision.examples import Asked, Learned, Row
from elman.tasks.vision.options import VisionConfig
from elman.tasks.vision.task import VisionTask
from elman.tasks.writing.examples import Batch, Examples, batch_of
from elman.tasks.writing.model import Writer, Written
from elman.training.recipe import Recipe
from elman.training.run import Sources


class VisionModel(Writer, Describes):
    """p(text | picture), or p(text | picture, question), by a recurrent decoder with attention to the picture."""

    reads = "pictures"
    min_length = 1  # no caption and no answer of the training data is empty

    config: VisionConfig
    learnt: Learned
    task: VisionTask

    def __init__(self, task: Recipe, learnt: Learned, sources: Sources) -> None:
        super().__init__(task, learnt, sources)
        self.reads_paths = self.reads_pictures = True

    @property
    def target(self) -> Tokenizer:
        return self.learnt.target

    @property
    def copies(self) -> bool:
        return False

    @abstractmethod
    def pairs(self, inputs: Any) -> list[tuple[Any, str]]:
        """Return the pictures and questions that `predict` is given."""

    @property
    @abstractmethod
    def question_column(self) -> str | None:
        """The column of the questions in tables; None for a model without questions."""

    @property
    @abstractmethod
    def caption_column(self) -> str:
        """The column of the captions in tables; "" for a model without captions."""

    def begin(self, examples: Examples, resumed: bool) -> None:
        reader = self.network.reader
        assert isinstance(reader, (PictureReader, QuestionReader))
        if not resumed:
            self.learnt.medium.begin(reader.pictures, [row.picture for row in examples.rows])

    def named(self) -> list[Named]:
        reader, medium = self.network.reader, self.learnt.medium
        assert isinstance(reader, (PictureReader, QuestionReader))
        named = [*self.named_tables(), *medium.named(reader.pictures)]
        if isinstance(reader, QuestionReader) and self.learnt.source is not None:
            named += named_rows(self.learnt.source.names, reader.source.weight)
        return named

    def batches(self, examples: Examples, rank: int, world: int) -> BucketBatches:
        c, reader = self.config, self.network.reader
        numbers: dict[str, int] = {}
        groups = [numbers.setdefault(row.picture.key, len(numbers)) for row in examples.rows]
        lengths = [
            len(ids) + 1 + (0 if row.question is None else len(row.question))
            for row, ids in zip(examples.rows, examples.target_ids, strict=True)
        ]

        def collate(chosen: np.ndarray, k: int) -> Batch:
            rows = [examples.rows[row] for row in chosen]
            if c.augment:
                rows = self.learnt.varied(rows, reader.pictures, np.random.default_rng([c.seed, k, rank]))
            return batch_of(self.collate(rows), [examples.target_ids[row] for row in chosen])

        return BucketBatches(
            Buckets(lengths, c.batch_size, c.seed, rank, world, groups=groups, together=c.per_picture), collate
        )

    def given(self, inputs: Any) -> list[Asked]:
        pairs = self.pairs(inputs)
        places = [f"input {k} of {len(pairs)}" if len(pairs) > 1 else "" for k in range(1, len(pairs) + 1)]
        pictures = read_pictures([picture for picture, _ in pairs], places, None)
        return [Asked(picture, question) for picture, (_, question) in zip(pictures, pairs, strict=True) if picture]

    def rows(self, given: Sequence[Asked]) -> list[Row]:
        return self.learnt.rows(given, [one.picture.path for one in given])

    def lengths(self, rows: Sequence[Row]) -> np.ndarray:
        return np.array([len(row.picture) for row in rows])

    def collate(self, rows: Sequence[Row]) -> tuple[Tensor, ...]:
        return self.learnt.collate(rows)

    def hide(self, read: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        *pictures, question, lengths = read
        p = self.config.word_dropout
        return (*pictures, drop_words(question, p, Tokenizer.unknown_id), lengths) if p and len(read) > 3 else read

    def max_lengths(self, rows: Sequence[Row]) -> np.ndarray:
        return np.full(len(rows), self.config.max_length or self.config.max_tokens)

    def source_axis(self, given: Asked) -> Axis:
        picture = given.picture
        return Axis("grid", self.learnt.medium.grid, picture=picture.path if picture.content is None else picture)

    def pieces(self, given: Asked) -> list[str]:
        source = self.learnt.source
        return [] if source is None else source.token_texts(given.question) or [given.question]

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        c = self.reader.config
        return pictures_in(argument, column or c.image, self.question_column, c.images, self.caption_column, c.skip_bad)

    def describe(self, given: Any) -> str:
        (one,) = self.given(given)
        return self.learnt.medium.describe_input(one.picture)

    @abstractmethod
    def pointed(self, boxes: Sequence[Box], answer: Written) -> Pointed:
        """Return an answer with its attention, for `pointing_scores`."""

    def pointing(self, examples: Examples, answers: Sequence[Written]) -> dict[str, Any]:
        """Return how often the attention lies on the objects that a text is about, where the data have boxes."""
        boxes: dict[Any, dict[Box, None]] = {}
        for given, note in zip(examples.inputs, examples.notes, strict=True):
            boxes.setdefault(given, {}).update(dict.fromkeys(note.boxes))
        answer_of = dict(zip(examples.inputs, answers, strict=True))
        found = [self.pointed(list(some), answer_of[given]) for given, some in boxes.items() if some]
        return pointing_scores(found) if found else {}
