"""The trainer: events, schedules, stopping, checkpoints, and going on as if nothing had happened."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import elman
from elman import cli
from elman.training import optimiser
from elman.training.config import TrainConfig
from elman.training.events import Ended, Event, Saved, Started, Stepped, Validated
from elman.training.run import LAST, Run
from tests.conftest import HUNG, Clock

SMALL: dict[str, Any] = {
    "hidden_size": 24, "embedding_size": 8, "batch_size": 4, "window": 16, "dropout": 0.2, "progress": False,
}  # fmt: skip
FLAGS = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items() if key != "progress"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Everything that a run has saved: best weights, last weights, optimiser, carried state, random numbers."""
    from safetensors.torch import load_file

    best = {f"best.{k}": v for k, v in load_file(run / "model.safetensors").items()}
    return best | load_file(run / "last.safetensors")


def same(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_events_in_order(text_file: str, tmp_path: Path) -> None:
    events: list[Event] = []
    elman.train("language", text_file, out=tmp_path / "run", steps=40, listeners=[events.append], **SMALL)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)
    assert events[-1].reason == "finished"
    assert events[-1].step == 40
    validations = [event for event in events if isinstance(event, Validated)]
    assert [event.step for event in validations] == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    assert events[-1].best["loss"] == min(event.metrics["loss"] for event in validations)
    saved = [event for event in events if isinstance(event, Saved)]
    assert saved[-1].step == 40
    steps = [event for event in events if isinstance(event, Stepped)]
    assert steps[-1].step == 40
    assert 0 < steps[-1].gradient_norm < math.inf

    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "validation"] == [event.step for event in validations]
    assert lines[-1]["event"] == "end"


def test_the_best_weights_are_the_answer(text_file: str, tmp_path: Path) -> None:
    """A rate far too high in the end spoils the weights; those of the best validation stay."""
    model = elman.train(
        "language", text_file, out=tmp_path / "run", steps=60, schedule="constant", learning_rate=0.6,
        warmup=0.9, validate_every=10, patience=None, **SMALL,
    )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "validation"]
    assert min(losses) < losses[-1]
    assert model.evaluate(model.held_out())["loss"] == pytest.approx(min(losses), abs=0.02)
    assert elman.load(tmp_path / "run").evaluate(model.held_out()) == model.evaluate(model.held_out())


def test_early_stopping(text_file: str) -> None:
    ends: list[Event] = []
    options = {**SMALL, "dropout": 0.0, "learning_rate": 0.3, "weight_decay": 0.0}
    elman.train("language", text_file, steps=10_000, validate_every=5, patience=2, listeners=[ends.append], **options)
    assert isinstance(ends[-1], Ended)
    assert ends[-1].reason == "early"
    stale = [event.best for event in ends if isinstance(event, Validated)][-2:]
    assert stale == [False, False]


def test_a_time_budget_is_kept(text_file: str, clock: Clock) -> None:
    ends: list[Event] = []
    elman.train("language", text_file, minutes=0.05, patience=None, listeners=[ends.append], **SMALL)
    assert isinstance(ends[-1], Ended)
    assert 3.0 <= ends[-1].seconds < 3.2
    assert 3.0 <= clock.now < 3.2
    rates = [event.learning_rate for event in ends if isinstance(event, Stepped)]
    assert rates[-1] < 0.02 * max(rates)  # the schedule ends with the time
    assert len([event for event in ends if isinstance(event, Validated)]) >= 8


@pytest.mark.parametrize(("schedule", "middle"), [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)])
def test_schedules(schedule: str, middle: float) -> None:
    config = TrainConfig.model_validate({"schedule": schedule, "warmup": 0.2})
    assert optimiser.rate_factor(config, 0.1) == pytest.approx(0.5)
    assert optimiser.rate_factor(config, 0.2) == pytest.approx(1.0)
    assert optimiser.rate_factor(config, 0.6) == pytest.approx(middle)
    assert optimiser.rate_factor(config, 1.0) == pytest.approx(1.0 if schedule == "constant" else 0.0)


def test_only_matrices_decay() -> None:
    network = torch.nn.LSTM(3, 4)
    groups = optimiser.build(network, TrainConfig(weight_decay=0.5)).param_groups
    assert [(group["weight_decay"], {p.dim() for p in group["params"]}) for group in groups] == [(0.5, {2}), (0.0, {1})]


def test_clipping_bounds_the_gradient(text_file: str) -> None:
    """With a step of plain SGD, the change of the weights is the rate times the clipped gradient."""
    for clip, bound in (({"clip_norm": 1e-3}, 1e-3), ({"clip_norm": None, "clip_value": 1e-6}, None)):
        settings = {**SMALL, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0}
        settings |= {"schedule": "constant", "warmup": 0.0, "precision": "float32", "patience": None}
        before = elman.train("language", text_file, steps=0, **settings, **clip).network.state_dict()
        after = elman.train("language", text_file, steps=1, **settings, **clip).network.state_dict()
        change = torch.cat([(after[key] - before[key]).flatten() for key in before])
        if bound:
            assert float(change.norm()) == pytest.approx(bound, rel=1e-2)
        else:
            assert float(change.abs().max()) == pytest.approx(1e-6, rel=0.2)


def test_truncated_bptt_carries_the_state(text_file: str) -> None:
    """The loss of a window is that of a network that has read all windows before it."""
    model = elman.train("language", text_file, steps=0, **SMALL)
    model.network.eval()
    _, corpus, _ = type(model.task)(model.config).prepare([text_file], [])
    windows = model.batches(corpus, 0, 1)
    carry, losses = None, []
    for k in range(3):
        loss, carry = model.loss(windows.batch(k), carry)
        carry = elman.detach(carry)
        losses.append(loss.item())
    ids, targets = (torch.cat([getattr(windows.batch(k), name) for k in range(3)], 1) for name in ("ids", "targets"))
    logits, _ = model.network(ids)
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    assert sum(losses) / 3 == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_going_on_is_never_having_stopped(text_file: str, tmp_path: Path, cell: str) -> None:
    options = {**SMALL, "cell": cell, "num_layers": 2, "validate_every": 10, "steps": 50}
    elman.train("language", text_file, out=tmp_path / "whole", **options)

    def stop(event: Event) -> None:
        if isinstance(event, Saved) and event.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        elman.train("language", text_file, out=tmp_path / "cut", listeners=[stop], **options)
    model = elman.train("language", out=tmp_path / "cut", resume=True, progress=False)
    same(tmp_path / "whole", tmp_path / "cut")
    for key, value in elman.load(tmp_path / "whole").network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value)
    metrics = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    whole, cut = ([json.loads(x)["loss"] for x in lines if '"validation"' in x] for lines in metrics)
    assert whole == cut


def test_killed_at_any_moment(text_file: str, tmp_path: Path) -> None:
    """SIGKILL, three times, wherever it hits; the end is bit for bit that of a run that was never killed."""
    command = [text_file, "--steps=120", "--validate-every=7", *FLAGS]
    assert cli.main(["train", "language", *command, "--out", str(tmp_path / "whole")]) == 0
    arguments = [
        sys.executable,
        "-m",
        "elman",
        "train",
        "language",
        *command,
        "--out",
        str(tmp_path / "cut"),
        "--resume",
    ]
    last = tmp_path / "cut" / "last.safetensors"
    for pause in (0.0, 0.05, 0.11):
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + HUNG
        while process.poll() is None and time.monotonic() < deadline:
            if last.exists() and last.stat().st_mtime_ns != before:
                break
            time.sleep(0.005)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert cli.main(arguments[3:]) == 0
    same(tmp_path / "whole", tmp_path / "cut")


def test_ctrl_c_saves_and_says_how_to_go_on(text_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "elman", "train", "language", text_file, "--steps=1000000", "--out", str(run), *FLAGS],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + HUNG
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=HUNG)
    assert process.returncode == 130
    assert f"resume with: elman train language --out {run} --resume" in said
    assert "Traceback" not in said
    assert cli.main(["generate", str(run), "the", "--max-new-tokens=5"]) == 0
    step = Run(run).read_tensors(LAST)[1]["progress"]["step"]
    assert cli.main(["train", "language", "--out", str(run), "--resume", f"--steps={step + 3}"]) == 0
    assert "resumed at step" in capsys.readouterr().err


def test_two_processes_are_one_with_twice_the_batch(
    text_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [
        "train",
        "language",
        text_file,
        "--steps=12",
        "--hidden-size=16",
        "--window=16",
        "--dropout=0",
        "--precision=float32",
    ]
    assert cli.main([*common, "--batch-size=6", "--out", str(tmp_path / "one")]) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "elman"]
    two = subprocess.run(
        [*launcher, *common, "--batch-size=3", "--out", str(tmp_path / "two")],
        capture_output=True, text=True, timeout=HUNG,
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key in a:
        if key.startswith("network."):
            torch.testing.assert_close(a[key], b[key], atol=2e-4, rtol=2e-3)
    losses = []
    for name in ("one", "two"):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["event"] == "validation"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    capsys.readouterr()
    assert cli.main(["train", "language", "--out", str(tmp_path / "two"), "--resume", "--steps=14"]) == 2
    assert "trained by 2 processes" in capsys.readouterr().err


def test_divergence_stops_and_keeps_the_last_good_checkpoint(text_file: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    elman.train("language", text_file, out=run, steps=10, **SMALL)
    good = weights(run)
    with pytest.raises(elman.ElmanError, match=r"training diverged at step .*lower --learning-rate \(it is 1e\+06\)"):
        elman.train(
            "language", text_file, steps=200, learning_rate=1e6, optimizer="sgd", momentum=0.0, clip_norm=None,
            warmup=0.0, weight_decay=0.0, **SMALL,
        )  # fmt: skip
    resumed = json.loads((run / "config.json").read_text())
    resumed["config"] |= {"learning_rate": 1e9, "optimizer": "adamw", "steps": 500, "schedule": "constant"}
    (run / "config.json").write_text(json.dumps(resumed))
    with pytest.raises(elman.ElmanError, match="the last good checkpoint stays in"):
        elman.train("language", out=run, resume=True, progress=False)
    assert all(torch.isfinite(value.float()).all() for value in weights(run).values())
    assert good.keys() == weights(run).keys()


def test_a_full_disk_loses_nothing(text_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    elman.train("language", text_file, out=run, steps=10, **SMALL)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.suffix == ".safetensors"}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        elman.ElmanError, match="cannot be written: No space left on device; what was saved before is whole"
    ):
        elman.train("language", out=run, resume=True, steps=20, progress=False)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.suffix == ".safetensors"} == before
    assert not list(run.glob(".*"))
    elman.train("language", out=run, resume=True, steps=20, progress=False)


def test_tensorboard(text_file: str, tmp_path: Path) -> None:
    elman.train("language", text_file, out=tmp_path / "run", steps=10, tensorboard=True, **SMALL)
    assert list((tmp_path / "run").glob("events.out.tfevents*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: (run / "last.safetensors").write_bytes(b"\x08\0\0\0"),
            "last.safetensors: not a whole safetensors",
        ),
        (lambda run: (run / "config.json").write_text("{"), "config.json: not valid JSON"),
        (lambda run: (run / "config.json").write_text("[]"), "not a run's config"),
        (lambda run: shutil.copy(run / "model.safetensors", run / "last.safetensors"), "not a checkpoint of this run"),
        (lambda run: Path(run.parent / "text.txt").write_text("other text " * 100), "not the data that the run"),
    ],
)
def test_going_on_with_something_broken(text_file: str, tmp_path: Path, change: Any, message: str) -> None:
    run = tmp_path / "run"
    elman.train("language", text_file, out=run, steps=10, **SMALL)
    change(run)
    with pytest.raises(elman.ElmanError, match=message):
        elman.train("language", out=run, resume=True, steps=20, progress=False)


def test_what_may_not_change_when_going_on(text_file: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    elman.train("language", text_file, out=run, steps=10, **SMALL)
    with pytest.raises(elman.ElmanError, match=r"hidden_size: the run in .* has \[24\]"):
        elman.train("language", out=run, resume=True, hidden_size=25, progress=False)
    with pytest.raises(elman.ElmanError, match="holds a run already"):
        elman.train("language", text_file, out=run, steps=10, **SMALL)
    with pytest.raises(elman.ElmanError, match="give the run directory"):
        elman.train("language", text_file, resume=True)
    ends: list[Event] = []
    elman.train("language", out=run, resume=True, steps=50, listeners=[ends.append], progress=False)
    assert isinstance(ends[-1], Ended)
    assert ends[-1].step == 50
    assert [event.step for event in ends if isinstance(event, Validated)] == [15, 20, 25, 30, 35, 40, 45, 50]


def test_the_first_step_moves_the_weights(text_file: str) -> None:
    before, after = (elman.train("language", text_file, steps=n, **SMALL).network.state_dict() for n in (0, 1))
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_listener_that_generates_changes_nothing(text_file: str, tmp_path: Path) -> None:
    def write(event: Event) -> None:
        if isinstance(event, Started):
            models.append(event.model)
        elif isinstance(event, Validated):
            models[0].generate("the ", max_new_tokens=5)

    models: list[Any] = []
    elman.train("language", text_file, out=tmp_path / "a", steps=20, **SMALL)
    elman.train("language", text_file, out=tmp_path / "b", steps=20, listeners=[write], **SMALL)
    same(tmp_path / "a", tmp_path / "b")
