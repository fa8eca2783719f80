"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
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
