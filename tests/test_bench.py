"""``elman bench`` with made-up measurements, and ``--int8`` and ``--bf16``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import elman
from elman.benchmarks import Pair, Row, report
from elman.cli.app import main
from tests.conftest import some_text

PAGE_TEXT = "before\n<!-- elman bench train -->\nold\n<!-- end of train -->\nafter\n"


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(name: str, rounds: int) -> Iterator[Row]:
        yield Row("work", f"{rounds} rounds", "torch", Pair(0.001, 0.002, 2.0), 0.5)
        yield Row.mean("work", "torch", [2.0, 8.0])

    monkeypatch.setattr(report, "rows", rows)
    monkeypatch.setattr(report, "peak", lambda: 1e9)


def test_json_and_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train", "--rounds", "3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["ratio"] for row in record["rows"]] == [2.0, pytest.approx(4.0)]
    assert record["rows"][0]["size"] == "3 rounds"
    assert "ours_ms" not in record["rows"][1]


def test_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE_TEXT)
    assert main(["bench", "train", "--write", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("<!-- end of train -->\nafter\n")
    assert "| work | 9 rounds | 1 | 2 | torch | 2.00 | 50% |" in text
    assert "old" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["layerss"], "unknown benchmark 'layerss': did you mean layers?"),
        (["layers", "--write", "PAGE"], "are missing; add them"),
        (["train", "--write", "missing.md"], "missing.md: cannot be read"),
    ],
)
def test_invalid_arguments(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.md").write_text(PAGE_TEXT)
    words = [str(tmp_path / "page.md") if a == "PAGE" else a for a in arguments]
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("name", "dtype"), [("int8", torch.int8), ("bf16", torch.bfloat16)])
def test_rounded_weights(name: str, dtype: torch.dtype, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, run = tmp_path / "text.txt", str(tmp_path / "run")
    text.write_text(some_text())
    elman.train("language", text, out=run, steps=5, hidden_size=16, progress=False)
    assert main(["evaluate", run, "--json", f"--{name}"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record[f"{name}_cost"] == pytest.approx(record[f"{name}_loss"] - record["loss"])
    assert 0 < abs(record[f"{name}_cost"]) < 0.05
    assert main(["generate", run, "the ", f"--{name}", "--max-new-tokens", "20", "--seed", "1"]) == 0
    model = elman.load(run)
    model.quantize(dtype)
    assert capsys.readouterr().out == model.generate("the ", max_new_tokens=20, seed=1) + "\n"
    for command in ("evaluate", "generate"):
        assert main([command, run, "--int8", "--bf16"]) == 2
        assert "rounded to one of them" in capsys.readouterr().err
