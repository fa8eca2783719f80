"""The tasks, by name. The module of a task is imported when the task is used for the first time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from elman.errors import unknown_name

if TYPE_CHECKING:
    from elman.training.task import Task


class Entry(NamedTuple):
    """Where a task is defined, and what it is for in one line."""

    module: str
    kind: str
    help: str


#: Name to task. The one list of tasks.
TASKS: dict[str, Entry | type[Task]] = {
    "language": Entry(
        "elman.tasks.language.task",
        "Language",
        "Model text: a language model of characters, words or BPE tokens that continues a text.",
    ),
    "translate": Entry(
        "elman.tasks.translate.task",
        "Translate",
        "Translate texts: languages, pronunciation, spelling; from two aligned files or a table.",
    ),
    "classify": Entry(
        "elman.tasks.classify.task",
        "Classify",
        "Predict labels of texts, series of numbers or sounds, from tables, folders or one file per class.",
    ),
    "tag": Entry(
        "elman.tasks.tag.task",
        "Tag",
        "Tag each word of a sentence, from CoNLL-U, column files or tables.",
    ),
    "punctuate": Entry(
        "elman.tasks.punctuate.task",
        "Punctuate",
        "Restore punctuation and capitals, as of recognised speech; from plain punctuated text.",
    ),
    "fill": Entry(
        "elman.tasks.fill.task",
        "Fill",
        "Predict missing words, and give contextual embeddings; from text with a sentence on each line.",
    ),
    "answer": Entry(
        "elman.tasks.answer.task",
        "Answer",
        "Answer questions about short stories, from bAbI's text format or a table.",
    ),
    "speak": Entry(
        "elman.tasks.speak.task",
        "Speak",
        "Speak texts: speech synthesis in the voices of recordings with their texts.",
    ),
    "caption": Entry(
        "elman.tasks.caption.task",
        "Caption",
        "Describe pictures, from tables, caption files, COCO JSON or a folder, with attention to the picture.",
    ),
    "vqa": Entry(
        "elman.tasks.vqa.task",
        "Vqa",
        "Answer questions about pictures, from a table or VQA's JSON files, with attention to the picture.",
    ),
    "transcribe": Entry(
        "elman.tasks.transcribe.task",
        "Transcribe",
        "Recognise speech, from tables, LJSpeech, Common Voice, LibriSpeech, Kaldi, or sounds with texts beside them.",
    ),
}

#: The task that ``elman demo`` trains.
DEMO = "language"


def get(name: str) -> type[Task]:
    """Return the task of that name.

    Raises:
        ElmanError: it is not known.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    task = TASKS[name]
    return getattr(importlib.import_module(task.module), task.kind) if isinstance(task, Entry) else task


def register(task: type[Task]) -> None:
    """Make a task known by its name, for `elman.train`, saved models and the command line.

    Raises:
        ValueError: a task of that name is already known.
    """
    if task.name in TASKS:
        raise ValueError(f"a task is already called {task.name!r}: {TASKS[task.name]}")
    TASKS[task.name] = task
