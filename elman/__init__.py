"""elman: recurrent sequence models, from the equations of a cell to a trained model.

    model = elman.train("language", "shakespeare.txt")
    print(model.generate("ROMEO:"))
    model.save("runs/shakespeare")

Everything is imported when it is first asked for: ``import elman`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from elman.version import __version__

#: Public name to the module that has it (None: the name is the module).
_HOMES: dict[str, str | None] = {
    "train": "elman.api",
    "load": "elman.api",
    "engine": "elman.engines",
    "detach": "elman.layers",
    "chain": "elman.chains",
    "Chain": "elman.chains",
    "ElmanError": "elman.errors",
    "Cell": "elman.cells",
    "SequenceClassifier": "elman.sklearn",
    "cells": None,
    "chains": None,
    "data": None,
    "decoding": None,
    "engines": None,
    "layers": None,
    "nn": None,
    "reference": None,
    "tasks": None,
    "training": None,
}

if TYPE_CHECKING:
    from elman import cells, chains, data, decoding, engines, layers, nn, reference, tasks, training
    from elman.api import load, train
    from elman.cells import Cell
    from elman.chains import Chain, chain
    from elman.engines import engine
    from elman.errors import ElmanError
    from elman.layers import detach
    from elman.sklearn import SequenceClassifier


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'elman' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    home = _HOMES[name]
    value = importlib.import_module(f"elman.{name}") if home is None else getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


__all__ = [
    "__version__",
    "Cell", "Chain", "ElmanError", "SequenceClassifier", "cells", "chain", "chains", "data", "decoding", "detach",
    "engine", "engines", "layers", "load", "nn", "reference", "tasks", "train", "training",
]  # fmt: skip
