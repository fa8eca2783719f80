"""The examples in docstrings run, and classes document the parameters of their constructors."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

import elman
import elman.cells
import elman.data
import elman.decoding
import elman.layers
import elman.metrics
import elman.nn

PACKAGES = (elman.cells, elman.data, elman.decoding, elman.layers, elman.metrics, elman.nn)
MODULES = ["elman.errors", "elman.cells"] + [
    f"{package.__name__}.{module.name}" for package in PACKAGES for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.layers.pooling.POOLINGS", elman.layers.POOLINGS.copy())
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"elman": elman, "torch": torch}, optionflags=doctest.ELLIPSIS)
    assert found.failed == 0


def classes() -> list[type]:
    """The public classes of cells, data, decoding and layers that have a constructor of their own."""
    packages = ("elman.cells.", "elman.data.", "elman.decoding.", "elman.layers.")
    names = [name for name in MODULES if name.startswith(packages)]
    members = [value for name in names for value in vars(importlib.import_module(name)).values()]
    public = {c for c in members if inspect.isclass(c) and c.__module__ in names and not c.__name__.startswith("_")}
    written = [c for c in public if getattr(vars(c).get("__init__"), "__module__", None) == c.__module__]
    return sorted(written, key=lambda c: c.__qualname__)


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__qualname__)
def test_classes_document_their_parameters(cls: type) -> None:
    parameters = list(inspect.signature(vars(cls)["__init__"]).parameters)[1:]
    documentation = inspect.getdoc(cls) or ""
    assert not [name for name in parameters if f"{name} (" not in documentation]
