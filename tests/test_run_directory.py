"""The run directory: nothing of others is written over, and one process at a time writes to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import elman
from elman import cli
from elman.training.lock import LOCK
from elman.training.run import Run
from tests.conftest import some_text

SMALL: dict[str, Any] = {
    "hidden_size": 8, "embedding_size": 4, "batch_size": 4, "window": 16, "steps": 2, "progress": False,
}  # fmt: skip
FLAGS = ["--hidden-size=8", "--embedding-size=4", "--batch-size=4", "--window=16"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run beside its data."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "text.txt").write_text(some_text())
    elman.train("language", folder / "text.txt", out=folder / "run", **SMALL)
    return folder / "run"


def everything(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_project(folder: Path) -> None:
    (folder / "README.md").write_text("# Mine\n")
    (folder / "metrics.jsonl").write_text('{"mine": 1}\n')


def write_other_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    (folder / "model.safetensors").write_bytes(b"theirs")


def write_broken_run(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    (folder / "README.md").write_text("# Mine\n")


FOREIGN = [write_project, write_other_model, write_broken_run, lambda folder: (folder / ".hidden").write_text("")]


@pytest.mark.parametrize("write", FOREIGN)
@pytest.mark.parametrize("link", [False, True])
def test_a_folder_of_others_is_left_alone(made: Path, tmp_path: Path, write: Any, link: bool) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    write(folder)
    before = everything(tmp_path)
    out = folder
    if link:
        out = tmp_path / "link"
        out.symlink_to(folder)
    text = made.parent / "text.txt"
    for resume in (False, True):
        with pytest.raises(elman.ElmanError, match=r"project|link"):
            elman.train("language", text, out=out, resume=resume, **SMALL)
    with pytest.raises(elman.ElmanError):
        elman.load(made).save(out)
    assert cli.main(["demo", "--minutes", "0.01", "--out", str(out)]) == 2
    assert everything(tmp_path) == before


@pytest.mark.parametrize("out", ["", "  ", "a\0b"])
def test_a_name_that_is_none(
    made: Path, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "language", str(made.parent / "text.txt"), "--out", out, *FLAGS]) == 2
    assert "is not the name of a folder" in capsys.readouterr().err
    assert cli.main(["info", out]) == 2
    with pytest.raises(elman.ElmanError, match="is not the name of a folder"):
        elman.load(made).save(out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", [5, None, os.fsdecode(b"run\xff")])
def test_what_is_no_name(made: Path, out: Any) -> None:
    with pytest.raises(elman.ElmanError, match="is not the name of a folder|must be UTF-8"):
        elman.load(out)
    with pytest.raises(elman.ElmanError, match="is not the name of a folder|must be UTF-8"):
        elman.load(made).save(out)
    assert elman.load(os.fsencode(made)).name == "language"


def test_what_is_no_folder(made: Path, tmp_path: Path) -> None:
    text, link = made.parent / "text.txt", tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(elman.ElmanError, match="this is a file"):
        elman.train("language", text, out=text, **SMALL)
    with pytest.raises(elman.ElmanError, match="this is a link to nothing"):
        elman.train("language", text, out=link, **SMALL)
    with pytest.raises(elman.ElmanError, match="cannot be written"):
        elman.train("language", text, out=text / "run", **SMALL)
    with pytest.raises(elman.ElmanError, match=r"text.txt\): |did not write"):
        elman.train("language", text, out=made.parent, **SMALL)


def test_a_run_is_not_written_into_the_data(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        for k in range(10):
            (tmp_path / name / f"{k}.txt").write_text(f"a {name} film {k}")
    before = everything(tmp_path)
    for out in (tmp_path, tmp_path / "run", tmp_path / "good" / "run"):
        with pytest.raises(elman.ElmanError, match="inside the data"):
            elman.train("classify", tmp_path, out=out, steps=1, progress=False)
    assert everything(tmp_path) == before
    for task in ("language", "tag", "translate"):  # none of which takes folders
        with pytest.raises(elman.ElmanError, match="this is a folder; give the files in it|give two text files"):
            elman.train(task, tmp_path, out=tmp_path / "run", steps=1, progress=False)
    assert everything(tmp_path) == before


def test_empty_and_absent_folders_are_fine(made: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    elman.train("language", made.parent / "text.txt", out=tmp_path / "link", **SMALL)
    elman.load(made).save(tmp_path / "deep" / "er")
    elman.load(tmp_path / "empty").save(tmp_path / "deep" / "er")  # a saved model can be saved again
    assert {path.name for path in (tmp_path / "deep" / "er").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "README.md",
    }  # fmt: skip


def test_nothing_is_left_where_nothing_began(tmp_path: Path) -> None:
    with pytest.raises(elman.ElmanError, match="no such file"):
        elman.train("language", tmp_path / "none.txt", out=tmp_path / "a" / "b", **SMALL)
    assert not list(tmp_path.iterdir())


def test_a_readme_of_the_user_stays(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    (run / "README.md").write_text("# What I found\n")
    elman.train("language", out=run, resume=True, steps=6, progress=False)
    assert (run / "README.md").read_text() == "# What I found\n"


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "elman", "train", "language", *arguments], stderr=subprocess.PIPE, text=True
    )


def until(path: Path, process: subprocess.Popen[str]) -> None:
    """Waits until the file is there."""
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()


def test_two_processes_on_one_run(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, run = str(made.parent / "text.txt"), tmp_path / "run"
    first = start(text, "--out", str(run), "--steps=1000000", *FLAGS)
    try:
        until(run / "metrics.jsonl", first)
        assert json.loads((run / LOCK).read_text())["pid"] == first.pid
        before = (run / "config.json").read_bytes()
        with pytest.raises(elman.ElmanError, match=f"process {first.pid} on "):
            elman.load(made).save(run)
        first.send_signal(signal.SIGSTOP)  # who sleeps holds it too
        for more in (["--resume", "--steps=2000000"], [text, "--steps=1", *FLAGS]):
            capsys.readouterr()
            assert cli.main(["train", "language", "--out", str(run), *more]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert f"process {first.pid} on " in line
        with pytest.raises(elman.ElmanError, match=f"process {first.pid} on "):
            elman.train("language", out=run, resume=True, progress=False)
        assert (run / "config.json").read_bytes() == before
    finally:
        first.kill()
        first.communicate()
    assert (run / LOCK).exists()  # of a process that was killed: the next one takes it over
    steps = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    elman.train("language", out=run, resume=True, steps=steps + 5, progress=False)
    assert not (run / LOCK).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_leaves_no_lock(made: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    process = start(str(made.parent / "text.txt"), "--out", str(run), "--steps=1000000", *FLAGS)
    until(run / "metrics.jsonl", process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGTERM)
    assert not (run / LOCK).exists()


def test_an_error_gives_the_lock_back(made: Path, tmp_path: Path) -> None:
    def fail(event: Any) -> None:
        raise RuntimeError("of the user's own")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="own"):
            elman.train("language", made.parent / "text.txt", out=tmp_path / "run", listeners=[fail], **SMALL)
        assert not (tmp_path / "run" / LOCK).exists()
        shutil.rmtree(tmp_path / "run")


def test_a_run_that_was_killed_before_it_began_can_be_begun(made: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    with run.claim():
        run.write("tokenizer.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {"tokenizer.json", LOCK}
    elman.train("language", made.parent / "text.txt", out=tmp_path, **SMALL)
    assert not (tmp_path / LOCK).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_neither_holds_nor_frees_the_lock(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with run.claim():
        child = os.fork()
        if not child:
            run.release()
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(elman.ElmanError, match=f"process {os.getpid()} on "), Run(tmp_path / "run").claim():
            pass
    with Run(tmp_path / "run").claim():
        pass
