"""The command line: what it does, and one line for whatever is wrong."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import elman
from elman import cli
from elman.cli import demo
from tests.conftest import HUNG, Clock, some_text

FLAGS = ["--hidden-size=24", "--embedding-size=8", "--batch-size=4", "--window=16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A trained run, made by the command line itself."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "text.txt").write_text(some_text())
    path = folder / "run"
    assert cli.main(["train", "language", str(folder / "text.txt"), "--out", str(path), "--steps=60", *FLAGS]) == 0
    return str(path)


def test_the_run_directory(run: str) -> None:
    assert {path.name for path in Path(run).iterdir()} == {
        "config.json", "model.safetensors", "last.safetensors", "tokenizer.json", "metrics.jsonl", "README.md",
    }  # fmt: skip
    assert "| loss |" in (Path(run) / "README.md").read_text()


def test_evaluate(run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["evaluate", run, "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics.keys() == {"loss", "bits_per_character", "perplexity", "tokens"}
    assert metrics["tokens"] == len(some_text()) - int(len(some_text()) * 0.9)
    other = tmp_path / "other.txt"
    other.write_text("the cat sees a dog.\n")
    assert cli.main(["evaluate", run, str(other)]) == 0
    assert re.search(r"tokens +20\n", capsys.readouterr().out)


def test_generate(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for _ in range(2):
        assert cli.main(["generate", run, "the cat", "--max-new-tokens", "40", "--seed", "1"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith("the cat")
    assert len(texts[0]) == len("the cat") + 40 + 1
    model = elman.load(run)
    assert texts[0] == model.generate("the cat", max_new_tokens=40, seed=1) + "\n"
    assert cli.main(["generate", run, "the", "a dog", "--greedy", "--max-new-tokens=5", "--stop", "."]) == 0
    shown = capsys.readouterr().out
    assert shown == "\n\n".join(model.generate(["the", "a dog"], greedy=True, max_new_tokens=5, stop=["."])) + "\n"


def test_generated_text_is_streamed(run: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "elman", "generate", run, "the", "--max-new-tokens=1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(200)) == 200
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=HUNG) == 0  # a reader that goes away is no error


def test_info(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", run]) == 0
    shown = capsys.readouterr().out
    for part in (
        "a language model",
        "1 x 24 units",
        "60 steps",
        "validation loss",
        "learning_rate",
        "weight_hh",
        "96 x 24",
    ):
        assert part in shown


def test_config_file_and_precedence(tmp_path: Path, text_file: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text('hidden_size = 20\ncell = ["gru"]\nsteps = 3\nclip_norm = "none"\n')
    out = tmp_path / "run"
    assert (
        cli.main(["train", "language", text_file, "--config", str(config), "--steps=2", "--out", str(out), *FLAGS[1:]])
        == 0
    )
    saved = json.loads((out / "config.json").read_text())["config"]
    assert (saved["hidden_size"], saved["cell"], saved["steps"], saved["clip_norm"]) == ([20], ["gru"], 2, None)


def test_lists_and_the_word_none(tmp_path: Path, text_file: str) -> None:
    out = tmp_path / "run"
    flags = [
        "--cell",
        "lstm,gru",
        "--hidden-size",
        "10,12",
        "--num-layers=2",
        "--patience",
        "none",
        "--steps=1",
        "--window=16",
    ]
    assert cli.main(["train", "language", text_file, "--out", str(out), *flags]) == 0
    saved = json.loads((out / "config.json").read_text())["config"]
    assert (saved["cell"], saved["hidden_size"], saved["patience"]) == (["lstm", "gru"], [10, 12], None)


def test_own_cell_by_import(
    tmp_path: Path, text_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch, elman\n"
        "class Mine(elman.Cell):\n"
        "    '''h' = tanh(W x + R h).'''\n"
        "    input_gates = hidden_gates = ('n',)\n"
        "    def step(self, x, h, state, w):\n"
        "        return torch.tanh(x.n + h.n)\n"
        "elman.cells.register('mine', Mine)\n"
    )
    out, source = str(tmp_path / "run"), str(tmp_path / "mine.py")
    words = ["train", "language", text_file, "--cell=mine", "--steps=3", "--out", out, "--import", source, *FLAGS]
    monkeypatch.setenv("HOME", str(tmp_path))
    try:
        assert cli.main(words) == 0
        for given, status in ([], 2), ([f"--import={source}"], 0), (["--import", "~/mine.py"], 0):
            elman.cells.CELLS.pop("mine", None)
            capsys.readouterr()
            assert cli.main(["generate", out, "the", "--max-new-tokens=5", *given]) == status
            assert ("unknown cell 'mine'" in capsys.readouterr().err) == bool(status)
    finally:
        elman.cells.CELLS.pop("mine", None)


def test_default_out_never_overwrites(tmp_path: Path, text_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert cli.main(["train", "language", text_file, "--steps=1", *FLAGS]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["language-text", "language-text-2"]


def test_demo(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, clock.tick = str(tmp_path / "demo"), 0.05
    assert len(demo.topics) > 50
    monkeypatch.setattr(demo, "topics", {name: demo.topics[name] for name in sorted(demo.topics)[:6]})
    assert cli.main(["demo", "--minutes", "0.1", "--out", out]) == 0
    shown = capsys.readouterr().out
    assert shown.count("a sample after") == 4
    assert re.search(rf"elman generate {re.escape(out)}", shown)
    assert elman.load(out).evaluate(elman.load(out).held_out())["loss"] < 3.5


def test_help_of_a_task_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "language", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in elman.tasks.get("language").Config.model_fields:
        assert "--" + name.replace("_", "-") in shown


@pytest.fixture
def copy(run: str, tmp_path: Path) -> Path:
    """A copy of the run, to be broken."""
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


BAD: list[tuple[list[str], str]] = [
    (
        ["train", "langauge", "{text}"],
        "unknown task 'langauge': did you mean language? choose from answer, ",
    ),
    (["trian"], 'Unknown command "trian". Did you mean "train"?'),
    (["train", "language"], "no data: give one file or more"),
    (["train", "language", "{tmp}/none.txt"], "{tmp}/none.txt: no such file"),
    (["train", "language", "{tmp}"], "this is a folder"),
    (["train", "language", "{empty}"], "{empty}: the file is empty"),
    (["train", "language", "{latin}"], "{latin}: not UTF-8 at byte 5"),
    (["train", "language", "{binary}"], "{binary}: not text: byte 3 is zero"),
    (["train", "language", "{short}"], "fewer than one window of 64"),
    (
        ["train", "language", "{text}", "--valid", "{text}", "--valid-fraction", "0.2"],
        "valid_fraction: nothing is held",
    ),
    (["train", "language", "{text}", "--valid", "{empty}"], "{empty}: the file is empty"),
    (["train", "language", "{text}", "--cell", "lstn"], "unknown cell 'lstn': did you mean lstm?"),
    (
        ["train", "language", "{text}", "--hiden-size", "3"],
        "unknown option '--hiden-size': did you mean --hidden-size? choose from --average, --batch-size, ",
    ),
    (["train", "language", "{text}", "--steps", "many"], "--steps: should be a valid integer"),
    (["train", "language", "{text}", "--schedule", "cosin"], "--schedule: should be 'cosine', 'linear' or 'constant'"),
    (["train", "language", "{text}", "--out", "/proc/nothing/run"], "cannot be written"),
    (["train", "language", "{text}", "--out", "{run}"], "holds a run already; --resume resumes it"),
    (["train", "language", "{text}", "--resume"], "--resume: give the run to resume with --out RUN"),
    (["train", "language", "{text}", "--config", "{tmp}/none.toml"], "{tmp}/none.toml: no such file"),
    (["train", "language", "{text}", "--config", "{text}"], "{text}: not TOML"),
    (
        ["train", "language", "{text}", "--config", "{odd}"],
        "{odd}: unknown option 'hiden_size': did you mean hidden_size?",
    ),
    (["train", "language", "{text}", "--config", "{typed}"], "{typed}: steps: should be a valid integer, not 'many'"),
    (["train", "language", "{text}", "--import", "{tmp}/none.py"], "--import {tmp}/none.py"),
    (
        ["train", "language", "{text}", "--import", "{wrong}"],
        "--import {wrong}: NameError: name 'elmann' is not defined",
    ),
    (["train", "language", "{text}", "--import"], "--import: give a file of Python, or the name of a module"),
    (["train", "language", "{text}", "--import", "{exit}"], "--import {exit}: SystemExit: 3"),
    (["train", "language", "{text}", "--import", "~/no such.py"], "--import ~/no such.py: no such file"),
    (["train", "language", ""], "'' is not the name of a file"),
    (["train", "language", "{text}", "--valid", ""], "'' is not the name of a file"),
    (["train", "language", "{text}", "--valid"], "--valid: give the files to validate on"),
    (["train", "language", "{text}", "--config", ""], "'': no such file"),
    (["train", "language", "--resume", "--out", "{tmp}/none"], "there is no run in {tmp}/none to resume"),
    (["train", "classify", "{table}", "--file", "path"], "{table}: has no column 'path'; it has text, label"),
    (["train", "classify", "{table}", "--vectors", ""], "'': no such file"),
    (
        ["train", "classify", "{table}", "--valid", "{table}", "--valid-fraction", "0.2"],
        "valid_fraction: nothing is held",
    ),
    (
        ["train", "classify", "{table}", "--hierarchical", "--periods", "1,2"],
        "elman: hierarchical and periods exclude each other; give one",
    ),
    (["bench", "layers", "--rounds", "0"], "--rounds: must be at least 1, not 0"),
    (["generate", "{run}", "É"], "prompt: the model has never seen 'É'"),
    (["generate", "{run}", "the", "--top-p", "2"], "--top-p: should be less than or equal to 1"),
    (["train", "language", "{one}"], "1 characters are too few to hold out 10%"),
    (["train", "language", "{packed}"], "{packed}: cannot be read"),
    (["train", "language", "{text}", "--minutes", "inf"], "--minutes: should be a finite number"),
    (["train", "language", "{text}", "--seed", "99999999999999999999"], "--seed: should be less than"),
    (["demo", "--out", "{run}"], "{run}: holds a run already"),
    (["demo", "--out", "/dev/null/run"], "cannot be written"),
    (["generate", "{run}", "\udcff"], "prompt: not UTF-8"),
    (["generate", "{tmp}/none"], "{tmp}/none: no such folder"),
    (["generate", "{text}"], "{text}: this is a file; a run directory"),
    (["generate", "{tmp}"], "not a whole run directory: config.json is missing"),
    (["evaluate", "{run}", "{binary}"], "not text"),
    (["evaluate", "{run}", "--device", "tpu"], "device: 'tpu' cannot be used"),
    (["info"], "RUN"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input(
    run: str, tmp_path: Path, text_file: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"run": run, "text": text_file, "tmp": str(tmp_path)}
    contents = {
        "empty": b"", "latin": b"cafe \xe9 creme", "binary": b"abc\0\1\2", "short": b"too short", "one": b"x",
        "odd": b"hiden_size = 3\n", "typed": b'steps = "many"\n',
        "wrong": b"elmann.Cell", "exit": b"raise SystemExit(3)", "table": b"text,label\n" + b"a b,x\nc d,y\n" * 9,
        "packed": gzip.compress(b"text " * 999)[:20] + b"\xff" * 40,
    }  # fmt: skip
    for name, content in contents.items():
        path = tmp_path / f"{name}{SUFFIXES.get(name, '.x')}"
        path.write_bytes(content)
        names[name] = str(path)
    before = sorted(tmp_path.rglob("*"))
    status = cli.main(
        [argument.format(**names) for argument in arguments]
        + (["--out", str(tmp_path / "new")] if needs_out(arguments) else [])
    )
    captured = capsys.readouterr()
    assert status == 2
    lines = [line for line in captured.err.splitlines() if line.startswith("elman: ")]
    assert len(lines) == 1
    assert message.format(**names).lower() in lines[0].lower()
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before  # nothing half-written stays


SUFFIXES = {"packed": ".gz", "wrong": ".py", "exit": ".py", "table": ".csv"}


def needs_out(arguments: list[str]) -> bool:
    return arguments[0] == "train" and not {"--out", "--resume"} & set(arguments) and len(arguments) > 2


def whole(**changes: Any) -> bytes:
    """A config.json with some things different."""
    sources = {"data": ["a.txt"], "valid": [], "examples": 1, "units": 10, "fingerprint": "0"}
    config = {"elman": "0.1.0", "format": 1, "task": "language", "config": {}, "sources": sources}
    return json.dumps(config | changes).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "config.json",
            b'{"format": 99, "task": "language", "config": {}, "elman": "9.0"}',
            "written in format 99 by elman 9.0",
        ),
        ("config.json", b"{", "config.json: not valid JSON"),
        ("config.json", whole(task="speech"), "unknown task 'speech'"),
        (
            "config.json",
            whole(config={"layers": 3}),
            "config.json: unknown option 'layers'",
        ),
        ("config.json", b"[]", "config.json: not a run's config"),
        ("config.json", whole(sources={}), "config.json: not a run's config: sources.data: is missing"),
        ("config.json", whole(config=3), "config.json: not a run's config: config: should be a valid dictionary"),
        ("tokenizer.json", b"{}", "tokenizer.json: not a tokenizer"),
        ("model.safetensors", b"\0" * 7, "model.safetensors: not a whole safetensors file"),
        ("model.safetensors", b"", "model.safetensors: not a whole safetensors file"),
        ("model.safetensors", pickle.dumps({"weight": print}), "model.safetensors: not a whole safetensors file"),
    ],
)
def test_broken_runs(copy: Path, name: str, content: bytes, message: str) -> None:
    (copy / name).write_bytes(content)
    with pytest.raises(elman.ElmanError, match=re.escape(message)):
        elman.load(copy)
    (copy / name).unlink()
    with pytest.raises(elman.ElmanError, match="not a whole run directory"):
        elman.load(copy)


def test_a_model_without_the_state_to_go_on_from(copy: Path) -> None:
    (copy / "last.safetensors").unlink()
    with pytest.raises(elman.ElmanError, match="a saved model, without the last.safetensors"):
        elman.train("language", out=copy, resume=True, steps=70)
    with pytest.raises(elman.ElmanError, match="no data"):
        elman.train("language", out=copy / "none", resume=True)


def test_saving_does_not_write_over_a_run(run: str) -> None:
    with pytest.raises(elman.ElmanError, match="holds a run that can be resumed"):
        elman.load(run).save(run)


def test_held_out_data_that_have_changed(tmp_path: Path, text_file: str) -> None:
    flags = ["--steps=1", "--out", str(tmp_path / "run"), *FLAGS]
    assert cli.main(["train", "language", text_file, *flags]) == 0
    with open(text_file, "a") as file:
        file.write("more of it")
    with pytest.raises(elman.ElmanError, match="changed since training"):
        elman.load(tmp_path / "run").held_out()


def test_a_truncated_model(copy: Path) -> None:
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(elman.ElmanError, match="not a whole safetensors file"):
        elman.load(copy)


def test_weights_of_another_model(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["config"]["hidden_size"] = [25]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(elman.ElmanError, match="does not fit"):
        elman.load(copy)


class Attack:
    """What a pickle would run when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pickle-was-run",)


@pytest.mark.parametrize("name", ["model.safetensors", "last.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    "write", [lambda path: path.write_bytes(pickle.dumps(Attack())), lambda path: torch.save(Attack(), path)]
)
def test_a_pickle_is_never_run(copy: Path, name: str, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    write(copy / name)
    going_on = ["train", "language", "--out", str(copy), "--resume", "--steps=70"]
    assert cli.main(going_on if name == "last.safetensors" else ["generate", str(copy)]) == 2
    assert not (copy / "pickle-was-run").exists()
