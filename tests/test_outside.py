"""A cell, a pooling, a medium, a task and an engine, each added by one file from outside the package."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import elman
from elman import cli, engines, media, tasks
from elman.cells import CELLS
from elman.layers import Recurrent
from elman.layers.pooling import POOLINGS

HERE = Path(__file__).parent / "outside"
FAST = ["--steps=30", "--hidden-size=8", "--learning-rate=0.02"]


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    """The registries as they were."""
    registries: list[dict] = [CELLS, POOLINGS, media.MEDIA, tasks.TASKS, engines.ENGINES]
    before = [dict(one) for one in registries]
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


@pytest.fixture
def table(tmp_path: Path) -> str:
    rows = [f"{'good' if k % 2 else 'bad'} film number {k},{'up' if k % 2 else 'down'}" for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]))
    return str(tmp_path / "t.csv")


def test_a_cell_and_a_pooling(tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, imports = str(tmp_path / "run"), [f"--import={HERE / name}.py" for name in ("cell", "pooling")]
    options = ["--cell=outside_leaky", "--pooling=outside_first", *FAST]
    assert run("train", "classify", table, "--out", out, *options) == 2
    assert "outside_first" in capsys.readouterr().err
    assert run("train", "classify", table, "--out", out, *options, *imports) == 0
    assert run("evaluate", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
    layer = Recurrent("outside_leaky", 3, 4)
    x = torch.randn(2, 5, 3)
    with elman.engine("cpu", strict=True):
        fast, _ = layer(x)
    with elman.engine("eager"):
        torch.testing.assert_close(fast, layer(x)[0])


def test_a_medium(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(0)
    for label, sign in (("right", 1), ("left", -1)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(20):
            steps = range(draw.randint(3, 9))
            lines = [f"{sign * t + draw.random()} {draw.random()}" for t in steps]
            (tmp_path / "data" / label / f"{k}.pen").write_text("\n".join(lines))
    out = str(tmp_path / "run")
    data, imported = str(tmp_path / "data"), f"--import={HERE / 'medium'}.py"
    assert run("train", "classify", data, "--out", out, *FAST, "--bands=3", imported) == 2
    assert "bands: has no effect here, it needs sounds" in capsys.readouterr().err
    assert run("train", "classify", data, "--out", out, *FAST) == 0
    assert "pen paths, 2 labels" in capsys.readouterr().err
    (tmp_path / "new.pen").write_text("0 0\n-1 0\n-2 0\n-3 0\n")
    assert run("predict", out, str(tmp_path / "new.pen")) == 0
    assert capsys.readouterr().out == "left\n"
    (tmp_path / "bad.pen").write_text("0 0 1\n")
    assert run("predict", out, str(tmp_path / "bad.pen")) == 2
    assert "bad.pen: a pen path has x and y on each line" in capsys.readouterr().err


def test_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(0)
    words = ["".join(draw.choice("ab") for _ in range(draw.randint(1, 6))) for _ in range(200)]
    (tmp_path / "words.txt").write_text("\n".join(f"{word} {word.count('a')}" for word in words))
    data, out, imported = str(tmp_path / "words.txt"), str(tmp_path / "run"), f"--import={HERE / 'task'}.py"
    assert run("train", "--help", imported) == 0
    assert "Count a letter." in capsys.readouterr().out
    assert run("train", "outside_count", "--help") == 0
    assert "elman train outside_count words.txt" in " ".join(capsys.readouterr().out.split())
    assert run("train", "outside_count", data, "--out", out, "--steps=400", "--learning-rate=0.02") == 0
    assert "elman predict" in capsys.readouterr().err
    assert run("evaluate", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["mae"] < 0.3
    assert run("predict", out, "aab") == 0
    assert capsys.readouterr().out == "2\n"
    for command, problem in (("generate", "does not generate text"), ("predict", "has no attention")):
        flags = ["--show", "attention"] if command == "predict" else []
        assert run(command, out, "aab", *flags) == 2
        assert problem in capsys.readouterr().err
    assert run("evaluate", out, "--baseline") == 2
    assert "a outside_count model has none" in capsys.readouterr().err
    assert run("train", "outside_count", "--out", out, "--resume", "--steps=410") == 0


def test_an_engine() -> None:
    import tests.outside.engine as outside

    layer = Recurrent("lstm", 3, 4)
    x = torch.randn(2, 5, 3)
    with elman.engine("outside_counting", strict=True):
        y, _ = layer(x)
    assert outside.Counting.runs == 1
    with elman.engine("eager"):
        torch.testing.assert_close(y, layer(x)[0])
    with pytest.raises(ValueError, match="outside_counting"):
        engines.register(outside.Counting())
