"""The tasks, by name. A task's module is imported when the task is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from elman.errors import unknown_name

if TYPE_CHECKING:
    from elman.training.task import Task

#: Name to (module, class, what it is for). The one list of tasks.
TASKS: dict[str, tuple[str, str, str]] = {
    "language": (
        "elman.tasks.language",
        "Language",
        "Text that goes on: a language model of characters, words or BPE.",
    ),
}


def get(name: str) -> type[Task]:
    """The task of that name."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    module, kind, _ = TASKS[name]
    return getattr(importlib.import_module(module), kind)
