"""Which validation is kept, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import elman
from elman.cli.display import Display
from elman.training.events import Ended
from elman.training.selection import Criterion, rank

ACCURACY, LOSS = Criterion("accuracy", higher_is_better=True), Criterion("loss")


def test_the_first_criterion_decides_and_the_next_breaks_ties() -> None:
    better = {"accuracy": 0.8, "loss": 0.9}
    for worse in ({"accuracy": 0.7, "loss": 0.1}, {"accuracy": 0.8, "loss": 1.0}, {"accuracy": 0.8}, {"loss": 0.1}):
        assert rank(better, (ACCURACY, LOSS)) > rank(worse, (ACCURACY, LOSS))
    assert rank(better, (LOSS,)) > rank({"loss": 1.5}, (LOSS,))


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_metrics_of_validations_are_honest(task: str, tmp_path: Path) -> None:
    """Only metrics under their names: accuracy is a share of the words or examples, and there is no mixture of two."""
    if task == "classify":
        data = tmp_path / "data.tsv"
        data.write_text("label\ttext\n" + "".join(f"{'ab'[k % 2]}\tword{k % 2} x{k % 5}\n" for k in range(60)))
    else:
        data = tmp_path / "data.conll"
        data.write_text("".join(f"word{k % 2}\t{'AB'[k % 2]}\nx{k % 5}\tC\n\n" for k in range(60)))
    elman.train(task, data, out=tmp_path / "run", steps=4, validate_every=2)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for line in (line for line in lines if line["event"] == "validation"):
        assert "error" not in line
        assert 0 <= line["accuracy"] <= 1
    end = lines[-1]
    assert end["selected_by"] == "accuracy"
    assert end["best"]["accuracy"] == max(line["accuracy"] for line in lines if line["event"] == "validation")


def test_early_stopping_names_its_metric(capsys: pytest.CaptureFixture[str]) -> None:
    Display()(Ended(10, 5.0, "early", {"loss": 0.5, "accuracy": 0.8125}, "accuracy"))
    said = capsys.readouterr().err
    assert "the validation accuracy no longer improves" in said
    assert "best validation accuracy 0.8125" in said
