"""The past: a checkpoint of each release keeps its exact output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import elman
from tests.past.make import HERE, answers

RELEASES = sorted(path for path in HERE.iterdir() if (path / "answers.json").exists())


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_release(release: Path, engine_name: str) -> None:
    expected = json.loads((release / "answers.json").read_text())
    said = answers(elman.load(release))
    assert said["greedy"] == expected["greedy"]
    assert said["loss"] == pytest.approx(expected["loss"], abs=1e-5)


def test_there_is_a_past() -> None:
    assert RELEASES
