"""The classification task: examples with labels, from tables, folders or a file per class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter

from elman import media
from elman.data.labels import label_key
from elman.data.split import hold_out
from elman.errors import ElmanError
from elman.media.image import with_augmentation
from elman.media.labelled import Labelled, read_labelled
from elman.tasks.classify.examples import LABELS, Examples, Labels
from elman.tasks.classify.model import Classifier
from elman.tasks.classify.options import ClassifyConfig
from elman.training.recipe import Counts
from elman.training.run import Names, Run
from elman.training.task import Task

_log = logging.getLogger("elman")


class _Known(BaseModel):
    """The part of labels.json that every medium has."""

    labels: Names
    several: bool
    medium: str


class Classify(Task):
    """Learn p(label | input) for texts, series, sounds, pictures and other media."""

    name = "classify"
    Config = ClassifyConfig
    model_class = Classifier
    usage = "elman train classify reviews.csv --text review --label stars"
    takes_folders = True

    config: ClassifyConfig

    def read(self, data: Sequence[str], like: Labelled | None = None) -> Labelled:
        columns = self.config.columns()
        if like is not None:
            columns = media.get(like.medium).same_columns(columns, like.content)
        return read_labelled(data, columns)

    def split(self, data: Labelled) -> tuple[Labelled, Labelled] | None:
        """Hold out a share of each label, or whole groups."""
        train, held = hold_out(len(data.inputs), self.config.valid_fraction, data.labels, data.groups)
        return (data.part(train), data.part(held)) if train and held else None

    def contents(self, train: Labelled, held: Labelled) -> list[str]:
        digest = media.get(train.medium).digest
        pairs = [(x, label) for part in (train, held) for x, label in zip(part.inputs, part.labels, strict=True)]
        return [t for x, label in pairs for t in (digest(x), *label)] + [str(len(train.inputs))]

    def facts(self, data: Labelled) -> Mapping[str, Any]:
        own = {"medium": data.medium, "tables": data.tables, "groups": any(data.groups)}
        return {**own, **media.get(data.medium).facts(data.content)}

    def learn(self, train: Labelled, held: Labelled) -> Labels:
        several = self.config.label_separator is not None or any(len(label) > 1 for label in train.labels)
        names = sorted({name for label in train.labels for name in label})
        if len(names) < (1 if several else 2):
            raise ElmanError(f"{train.places[0]}: all {len(train.labels)} examples have one label, {names[0]!r}")
        held_names = {label_key(name) for label in held.labels for name in label}
        if held_names and not held_names & set(map(label_key, names)):
            raise ElmanError(f"{held.places[0]}: no held-out example has a label that is learnt")
        config = with_augmentation(self.config, names)
        return Labels(names, several, media.get(train.medium).learn(config, train.content))

    def restore(self, run: Run) -> Labels:
        known = run.record(LABELS, TypeAdapter(_Known))
        medium = media.get(known.medium)
        state = run.record(LABELS, TypeAdapter(medium.State))
        return Labels(known.labels, known.several, medium.load(self.config, state, run))

    def resolve(self, learnt: Labels, train: Labelled, examples: Examples) -> ClassifyConfig:
        """Set medium options, dropout and duration from the data; docs/log.md says why these."""
        config: ClassifyConfig = learnt.medium.options
        chosen: dict[str, Any] = {}
        if config.dropout is None:
            chosen["dropout"] = learnt.medium.dropout
        if config.minutes is None and config.steps is None:
            chosen["minutes"] = min(10.0, max(1.0, learnt.medium.amount(train.content) / 150_000))
        return config.model_copy(update=chosen)

    def encode(self, learnt: Labels, data: Labelled, training: bool = False) -> Examples:
        """Encode inputs and labels; the log reports labels that the model does not know.

        Raises:
            ElmanError: the inputs are of another medium.
        """
        medium, known = learnt.medium, learnt.names
        if data.medium != medium.name:
            raise ElmanError(f"{data.places[0]}: {data.medium}; the model reads {medium.name}")
        rows = medium.encode(data.content, data.places, training and self.config.augment)
        there = [k for k, row in enumerate(rows) if row is not None]
        if len(there) < len(rows):
            data, rows = data.part(there), [rows[k] for k in there]
        index = {label_key(name): k for k, name in enumerate(known)}
        unseen: list[str] = []
        for name in sorted({name for label in data.labels for name in label}):
            if label_key(name) not in index:
                index[label_key(name)] = len(index)
                unseen.append(name)
        labels = np.zeros((len(data.labels), len(index)), dtype=np.int8)
        for k, label in enumerate(data.labels):
            labels[k, [index[label_key(name)] for name in label]] = 1
        if unseen:
            wrong = np.flatnonzero(labels[:, len(known) :].any(1))
            shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            _log.warning(
                "%s: the label %r is not one that the model learnt (%s); %d of %d examples have such labels, which "
                "count as errors", data.places[wrong[0]], unseen[int(labels[wrong[0], len(known) :].argmax())], shown,
                len(wrong), len(labels),
            )  # fmt: skip
        texts = data.inputs if medium.positions == "words" else []
        return Examples(rows, labels, unseen, texts, data.places)

    def count(self, learnt: Labels, train: Labelled, examples: Examples) -> Counts:
        sizes = train.inputs if learnt.medium.positions == "words" else examples.rows
        return Counts(len(examples.rows), sum(map(len, sizes)))
