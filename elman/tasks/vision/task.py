"""What the tasks share that write a text about pictures: reading, splitting and encoding."""

from __future__ import annotations

import logging
import os
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from elman.data.pictures import read_pictures
from elman.data.source import sources
from elman.data.split import hold_out_groups
from elman.data.tokenizer import Tokenizer, TokenKind
from elman.errors import ElmanError
from elman.media import Content
from elman.media.encoders import is_pretrained
from elman.media.image import Image, with_augmentation
from elman.media.text import encode_all, spaced
from elman.tasks.vision.examples import Asked, Found, Item, Items, Learned
from elman.tasks.vision.options import VisionConfig
from elman.tasks.writing.examples import Examples, within_limit
from elman.training.recipe import Counts
from elman.training.run import Run
from elman.training.task import Task

_log = logging.getLogger("elman")

#: Words for which a picture must not be mirrored.
_SIDES = re.compile(r"\b(left|right)(most|wards?|hand|-hand)?\b", re.IGNORECASE)


class VisionDefaults(NamedTuple):
    """The default sizes of a model, and how it is trained."""

    hidden_size: int
    dropout: float
    learning_rate: float
    embedding_size: int
    picture_size: int
    batch_size: int
    weight_decay: float = 0.01
    input_feeding: bool = False


class VisionTask(Task):
    """Learn p(text | picture), or p(text | picture, question)."""

    items = "pictures"
    takes_folders = True

    config: VisionConfig

    @property
    @abstractmethod
    def questions(self) -> bool:
        """Whether a text is the answer to a question."""

    @property
    @abstractmethod
    def writes(self) -> TokenKind:
        """The kind of tokens that the model writes."""

    @abstractmethod
    def found(self, data: Sequence[str]) -> list[Found]:
        """Read the texts; their pictures are only named."""

    @abstractmethod
    def defaults(self, pretrained: bool) -> VisionDefaults:
        """Return the defaults of the model for an encoder with or without pretrained weights."""

    @abstractmethod
    def minutes(self, pretrained: bool, texts: int) -> float:
        """Return the default duration of training on so many texts."""

    def read(self, data: Sequence[str], like: Items | None = None) -> Items:
        c = self.config
        found = self.found(data)
        paths = sources(data)
        tables, folders = all(one.in_table for one in found), all(map(os.path.isdir, paths))
        pictures = read_pictures([one.image for one in found], [one.place for one in found], c.skip_broken)
        pairs = [(one, picture) for one, picture in zip(found, pictures, strict=True) if picture is not None]
        sided = {picture.digest for one, picture in pairs if _SIDES.search(f"{one.question} {one.text}")}
        items = [
            Item(
                Asked(picture._replace(mirror=picture.digest not in sided), one.question), one.text, one.place, one.note
            )
            for one, picture in pairs
        ]
        if not items:
            raise ElmanError(f"{found[0].place}: no picture can be read")
        return Items(items if like is None else _without(items, like.items), tables, folders)

    def split(self, data: Items) -> tuple[Items, Items] | None:
        """Hold out some pictures with all their texts; equal files are one picture."""
        groups = [item.asked.picture.digest for item in data.items]
        chosen = hold_out_groups(groups, self.config.valid_fraction)
        if chosen is None:
            return None
        train = [item for item, group in zip(data.items, groups, strict=True) if group not in chosen]
        held = [item for item, group in zip(data.items, groups, strict=True) if group in chosen]
        return data._replace(items=train), data._replace(items=held)

    def contents(self, train: Items, held: Items) -> list[str]:
        items = [*train.items, *held.items]
        texts = [[item.asked.picture.digest, item.asked.question, item.text, repr(item.note)] for item in items]
        return [*(text for item in texts for text in item), str(len(train.items))]

    def facts(self, data: Items) -> Mapping[str, Any]:
        pictures = [item.asked.picture for item in data.items]
        kinds = any(item.note.kind for item in data.items)
        own = {"tables": data.tables, "folders": data.folders, "kinds": kinds, "medium": Image.name}
        return {**own, **Image.facts(Content(pictures))}

    def learn(self, train: Items, held: Items) -> Learned:
        items = train.items
        c = self.config
        if c.picture_size is None:
            c = c.model_copy(update={"picture_size": self.defaults(is_pretrained(c.encoder)).picture_size})
        c = with_augmentation(c, (f"{item.asked.question} {item.text}" for item in items))
        medium = Image.learn(c, Content([item.asked.picture for item in items]))
        target = Tokenizer.train(self.writes, spaced(self.writes, [item.text for item in items]), c.vocab_size)
        seen = [item.asked.picture.digest for item in items]
        if not self.questions:
            return Learned(medium, target, None, seen)
        texts = [item.asked.question for item in items]
        return Learned(medium, target, Tokenizer.train("word", texts, c.vocab_size, lowercase=True, spaces=False), seen)

    def restore(self, run: Run) -> Learned:
        return Learned.load(run, self.config, self.questions)

    def encode(self, learnt: Learned, data: Items, training: bool = False) -> Examples:
        """Encode pictures and texts; in training, texts longer than ``max_tokens`` are skipped or truncated."""
        c, items = self.config, data.items
        known = [] if training else [item for item in items if learnt.has_seen(item.asked.picture)]
        if known:
            count = len({item.asked.picture.digest for item in known})
            _log.warning(
                "%s: the model was trained on this picture; %d pictures are such, and metrics on them say little",
                known[0].place, count,
            )  # fmt: skip
        ids = encode_all(learnt.target, spaced(self.writes, [item.text for item in items]))
        longest = np.array([len(row) + 1 for row in ids])
        places = [item.place for item in items]
        kept = within_limit(longest, c.max_tokens, places, training=training, truncate=c.truncate, unit="text")
        if c.truncate:
            ids = [row[: c.max_tokens - 1] for row in ids]
        items, ids = [items[k] for k in kept], [ids[k] for k in kept]
        rows = learnt.rows([item.asked for item in items], [item.place for item in items], training)
        return Examples(
            [item.asked for item in items], rows, [item.text for item in items], ids, [item.note for item in items]
        )

    def count(self, learnt: Learned, train: Items, examples: Examples) -> Counts:
        return Counts(len(train.items), sum(len(ids) + 1 for ids in examples.target_ids))

    def resolve(self, learnt: Learned, train: Items, examples: Examples) -> Any:
        """Set sizes, duration and the maximum length from the data; docs/log.md says why these."""
        config = learnt.medium.options
        given, pretrained = config.model_fields_set, is_pretrained(config.encoder)
        left: dict[str, Any] = {"num_layers": 1, **self.defaults(pretrained)._asdict()}
        left = {key: value for key, value in left.items() if key not in given or getattr(config, key) is None}
        if config.minutes is None and config.steps is None:
            left["minutes"] = self.minutes(pretrained, len(examples.inputs))
        if config.max_length is None:
            longest = np.quantile([len(ids) for ids in examples.target_ids], 0.999)
            left["max_length"] = min(config.max_tokens, int(1.2 * longest) + 2)
        return config.model_copy(update=left)


def _without(items: list[Item], train: Sequence[Item]) -> list[Item]:
    """Leave out of the validation data the pictures that are also in the training data."""
    place = {item.asked.picture.digest: item.place for item in reversed(train)}
    kept = [item for item in items if item.asked.picture.digest not in place]
    if len(kept) < len(items):
        first = next(item for item in items if item.asked.picture.digest in place)
        both = len({item.asked.picture.digest for item in items} & set(place))
        message = f"{first.place}: this picture is also in the training data ({place[first.asked.picture.digest]})"
        if not kept:
            raise ElmanError(f"{message}, as are all {both:,} pictures to validate on")
        _log.warning("%s; %d pictures are in both and are left out of the validation", message, both)
    return kept
