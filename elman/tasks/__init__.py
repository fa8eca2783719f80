"""The tasks, by name. A task's module is imported when the task is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from elman.errors import unknown_name

if TYPE_CHECKING:
    from elman.training.task import Task


class Entry(NamedTuple):
    """Where a task is defined, what it is for, and the command that uses its models."""

    module: str
    kind: str
    help: str
    verb: str


#: The one list of tasks.
TASKS: dict[str, Entry] = {
    "language": Entry(
        "elman.tasks.language.model",
        "Language",
        "Text that goes on: a language model of characters, words or BPE.",
        "generate",
    ),
    "translate": Entry(
        "elman.tasks.translate.model",
        "Translate",
        "A text for each text: translation, pronunciation, spelling; from two aligned files or a table.",
        "predict",
    ),
    "classify": Entry(
        "elman.tasks.classify.model",
        "Classify",
        "A label for a text, a series of numbers or a sound; from tables, folders, a file a class.",
        "predict",
    ),
    "tag": Entry(
        "elman.tasks.tag.model",
        "Tag",
        "A tag for each word, from CoNLL-U, files of two columns, or tables.",
        "predict",
    ),
    "fill": Entry(
        "elman.tasks.fill.model",
        "Fill",
        "The word that is missing, and vectors of words in their context; from text, a sentence a line.",
        "predict",
    ),
    "answer": Entry(
        "elman.tasks.answer.model",
        "Answer",
        "Questions about short stories, from bAbI's text format or a table.",
        "predict",
    ),
}


def get(name: str) -> type[Task]:
    """The task of that name."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return getattr(importlib.import_module(TASKS[name].module), TASKS[name].kind)
