"""Texts about pictures, and what is learnt of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from elman.data.padding import pad
from elman.data.pictures import Picture
from elman.data.tokenizer import Tokenizer
from elman.media import Content
from elman.media.image import Image, PictureRow
from elman.media.text import encode_all
from elman.metrics.pointing import Box
from elman.training.recipe import Learnt
from elman.training.run import Run

IMAGE, SOURCE, TARGET, SEEN = "image.json", "source.json", "target.json", "pictures.txt"
#: Characters of the hash by which a training picture is known again.
_KNOWN = 16


@dataclass(frozen=True)
class Asked:
    """A picture, and the question about it; "" for captions. Equal files are one picture, whatever their names."""

    picture: Picture
    question: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Asked) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return f"{self.picture.path}\t{self.question}" if self.question else self.picture.path

    @property
    def _key(self) -> tuple[str, str]:
        return self.picture.digest, self.question


class Note(NamedTuple):
    """What scores need beside the text.

    Attributes:
        kind (str): The kind of question.
        answers (tuple[str, ...]): The answers of several people.
        boxes (tuple[Box, ...]): Where the objects are that the text is about.
    """

    kind: str = ""
    answers: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()


class Found(NamedTuple):
    """A text about a picture as the data give it: the path of the picture is not opened yet."""

    image: str
    question: str
    text: str
    place: str
    note: Note
    in_table: bool = False


class Item(NamedTuple):
    """A text about a picture: a caption, or the answer to a question."""

    asked: Asked
    text: str
    place: str
    note: Note = Note()


class Items(NamedTuple):
    """Texts about pictures; whether they come from tables, or from folders with texts beside the pictures."""

    items: list[Item]
    tables: bool
    folders: bool = False


class Row(NamedTuple):
    """What the network reads: a picture, and the ids of the question; None for captions."""

    picture: PictureRow
    question: np.ndarray | None = None


class Learned(Learnt):
    """The encoder of the pictures, the vocabulary of what is written, and that of the questions.

    Args:
        medium (Image): reads pictures.
        target (Tokenizer): what is written.
        source (Tokenizer, optional): what questions consist of; None for captions.
        seen (Iterable[str]): the hashes of the training pictures.
    """

    medium: Image

    def __init__(
        self, medium: Image, target: Tokenizer, source: Tokenizer | None = None, seen: Iterable[str] = ()
    ) -> None:
        self.medium, self.target, self.source = medium, target, source
        self.seen = frozenset(digest[:_KNOWN] for digest in seen)

    def has_seen(self, picture: Picture) -> bool:
        """Return whether a picture is one of the training pictures."""
        return picture.digest[:_KNOWN] in self.seen

    def files(self) -> Mapping[str, str | bytes]:
        texts = {IMAGE: self.medium.state().model_dump_json(indent=2) + "\n", TARGET: self.target.to_json()}
        texts[SEEN] = "".join(f"{digest}\n" for digest in sorted(self.seen))
        if self.source is not None:
            texts[SOURCE] = self.source.to_json()
        return {**texts, **self.medium.files()}

    @classmethod
    def load(cls, run: Run, config: Any, questions: bool) -> Learned:
        """Read that of a run; ``questions``: whether it has a vocabulary of questions."""

        def tokenizer(name: str) -> Tokenizer:
            return Tokenizer.from_json(run.read(name), str(run.path / name))

        medium = Image.load(config, run.record(IMAGE, TypeAdapter(Image.State)), run)
        return cls(medium, tokenizer(TARGET), tokenizer(SOURCE) if questions else None, run.read(SEEN).split())

    def rows(self, asked: Sequence[Asked], places: Sequence[str], training: bool = False) -> list[Row]:
        """Return what the network reads; a picture is encoded once, however many questions are about it."""
        first: dict[str, int] = {}
        for k, one in enumerate(asked):
            first.setdefault(one.picture.digest, k)
        pictures = [asked[k].picture for k in first.values()]
        encoded = self.medium.encode(Content(pictures), [places[k] for k in first.values()], training)
        row_of = dict(zip(first, encoded, strict=True))
        chosen = [row_of[one.picture.digest] for one in asked]
        if self.source is None:
            return [Row(picture) for picture in chosen]
        ids = encode_all(self.source, [one.question for one in asked])
        ids = [row if len(row) else np.array([Tokenizer.unknown_id]) for row in ids]
        return [Row(picture, question) for picture, question in zip(chosen, ids, strict=True)]

    def collate(self, rows: Sequence[Row]) -> tuple[Tensor, ...]:
        """Return the different pictures of a batch, their lengths, the picture of each row, and the questions."""
        pictures = {row.picture.key: row.picture for row in rows}
        number = {key: k for k, key in enumerate(pictures)}
        which = torch.tensor([number[row.picture.key] for row in rows])
        read = (*self.medium.batch(list(pictures.values())), which)
        return read if self.source is None else (*read, *pad([row.question for row in rows]))  # type: ignore[misc]

    def varied(self, rows: Sequence[Row], source: Any, draw: np.random.Generator) -> list[Row]:
        """Return the rows with augmented pictures, the same one for all rows of a picture."""
        pictures = {row.picture.key: row.picture for row in rows}
        varied = dict(zip(pictures, self.medium.vary(list(pictures.values()), source, draw), strict=True))
        return [row._replace(picture=varied[row.picture.key]) for row in rows]
