"""Runs and options are validated, and errors are a single line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

import elman
from elman import cli
from elman.data.output import check_finite, check_writable, json_line
from elman.errors import unknown_name
from tests.conftest import some_text
from tests.test_tagging import sentences

SMALL: dict[str, Any] = {"hidden_size": 8, "embedding_size": 4, "steps": 2, "progress": False}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model and a tagger, in a folder whose name contains markup."""
    folder = tmp_path_factory.mktemp("runs") / "a [b] :x: c"
    folder.mkdir()
    (folder / "text.txt").write_text(some_text())
    elman.train("language", folder / "text.txt", out=folder / "language", batch_size=4, window=16, **SMALL)
    sentences(folder / "tags.txt", 40, 0)
    elman.train("tag", folder / "tags.txt", out=folder / "tag", character_size=4, **SMALL)
    return folder


def change_json(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def act(run: Path) -> None:
        value = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(change(value)))

    return act


def change_tensors(name: str, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Callable[[Path], None]:
    def act(run: Path) -> None:
        with safetensors.safe_open(run / name, framework="pt") as file:
            about = json.loads(file.metadata()["elman"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        change(tensors, about)
        (run / name).write_bytes(safetensors.torch.save(tensors, {"elman": json.dumps(about)}))

    return act


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(content if isinstance(content, bytes) else content.encode()) and None


def spoil(value: float) -> Callable[[dict[str, Any], dict[str, Any]], Any]:
    return lambda tensors, about: next(iter(tensors.values())).flatten()[0].fill_(value)


def bigger(vocabulary: dict[str, Any]) -> dict[str, Any]:
    """Give a token an id beyond the vocabulary."""
    vocabulary["model"]["vocab"]["e"] = 10**6
    return vocabulary


def longer(vocabulary: dict[str, Any]) -> dict[str, Any]:
    """Add a token for which there are no weights."""
    vocabulary["model"]["vocab"]["\u00e9"] = len(vocabulary["model"]["vocab"])
    return vocabulary


LOADED: list[tuple[str, Callable[[Path], None], str]] = [
    ("language", change_tensors("model.safetensors", spoil(float("nan"))), "are NaN or infinite"),
    ("language", change_tensors("model.safetensors", spoil(float("inf"))), "are NaN or infinite"),
    ("language", change_tensors("model.safetensors", lambda t, a: t.popitem()), "is missing"),
    ("language", change_tensors("model.safetensors", lambda t, a: t.update(x=torch.ones(1))), "x is not a weight"),
    (
        "language",
        change_tensors("model.safetensors", lambda t, a: t.update({k: v.double() for k, v in t.items()})),
        "expected F32",
    ),
    ("language", change_json("config.json", lambda c: c | {"config": c["config"] | {"hidden_size": [10**8]}}), "fit"),
    ("language", change_json("config.json", lambda c: c | {"config": c["config"] | {"hidden_size": [10**20]}}), "most"),
    ("language", change_json("config.json", lambda c: c | {"format": "1"}), "format: should be a valid integer"),
    ("language", text("config.json", "[" * 100_000), "config.json: not valid JSON"),
    ("language", text("config.json", '{"format": NaN}'), "config.json: not valid JSON"),
    ("language", text("config.json", '{"format": 1, "format": 1}'), "the key 'format' occurs twice"),
    ("language", text("config.json", '{"elman": "\\ud800"}'), "config.json: not valid JSON"),
    ("language", text("config.json", '{"format": ' + "9" * 5000 + "}"), "config.json: "),
    ("language", text("config.json", b"\xff{}"), "config.json: cannot be read"),
    ("language", change_json("tokenizer.json", bigger), "without gaps"),
    ("language", change_json("tokenizer.json", longer), "does not fit"),
    ("language", change_json("tokenizer.json", lambda t: t | {"truncation": {"max_length": 2}}), "not a tokenizer"),
    ("tag", change_json("tags.json", lambda tags: ["x", *tags]), "does not fit"),
    ("tag", change_json("tags.json", lambda tags: [*tags, tags[0]]), "tags.json: options: should have no name twice"),
    (
        "tag",
        change_json("tags.json", lambda tags: dict.fromkeys(tags, 1)),
        "tags.json: options: should be a valid list",
    ),
    ("tag", change_json("tags.json", lambda tags: []), "tags.json: "),
    ("tag", change_json("tags.json", lambda tags: list(range(len(tags)))), "tags.json: "),
]


@pytest.mark.parametrize(("name", "change", "message"), LOADED)
def test_damaged_runs_are_refused(
    runs: Path, tmp_path: Path, name: str, change: Callable[[Path], None], message: str
) -> None:
    shutil.copytree(runs / name, tmp_path / "run")
    change(tmp_path / "run")
    with pytest.raises(elman.ElmanError) as caught:
        elman.load(tmp_path / "run")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000


def drop(name: str) -> Callable[[dict[str, Any], dict[str, Any]], Any]:
    return lambda tensors, about: tensors.pop(name)


def put(name: str, of: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any], dict[str, Any]], Any]:
    return lambda tensors, about: tensors.update({name: of(tensors[name]).contiguous()})


RESUMED: list[tuple[Callable[[Path], None], str]] = [
    (change_tensors("last.safetensors", drop("optimizer.0.exp_avg")), "tensors, expected"),
    (change_tensors("last.safetensors", put("optimizer.0.exp_avg", torch.t)), "optimizer.0.exp_avg is"),
    (change_tensors("last.safetensors", put("optimizer.0.exp_avg", torch.Tensor.int)), "optimizer.0.exp_avg is"),
    (change_tensors("last.safetensors", put("optimizer.0.exp_avg_sq", lambda t: t - 1)), "is negative"),
    (change_tensors("last.safetensors", put("optimizer.0.step", lambda t: t[None])), "optimizer.0.step is"),
    (change_tensors("last.safetensors", put("random.cpu", lambda t: t[:, :9])), "random.cpu is not the state"),
    (change_tensors("last.safetensors", put("carry.0.0", lambda t: t[:, :2])), "carry.0.0 is"),
    (change_tensors("last.safetensors", put("carry.0.0", lambda t: t * torch.nan)), "NaN or infinite"),
    (change_tensors("last.safetensors", put("network.head.weight", torch.t)), "network.head.weight is"),
    (
        change_tensors("last.safetensors", lambda t, a: a["progress"].update(step="2")),
        "step: should be a valid integer",
    ),
    (change_tensors("last.safetensors", lambda t, a: a["progress"].update(step=-1)), "step: should be greater"),
    (
        change_tensors("last.safetensors", lambda t, a: a["progress"].update(best={"x": "1"})),
        "best.x: should be a finite",
    ),
    (change_tensors("last.safetensors", lambda t, a: a["progress"].update(best={"x": 10**400})), "finite"),
    (change_tensors("last.safetensors", lambda t, a: a["progress"].update(best=[])), "best: should be"),
    (change_tensors("last.safetensors", lambda t, a: a.pop("progress")), "progress: is missing"),
    (text("metrics.jsonl", b'{"step": 1, "x": "\xff"}\n{"step": 2}\n'), "metrics.jsonl, line 1: not valid JSON"),
    (text("metrics.jsonl", b'{"step": "1"}\n{"step": 2}\n'), "metrics.jsonl, line 1: step: should be"),
]


@pytest.mark.parametrize(("change", "message"), RESUMED)
def test_damaged_runs_are_not_resumed(runs: Path, tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    shutil.copytree(runs / "language", tmp_path / "run")
    change(tmp_path / "run")
    with pytest.raises(elman.ElmanError) as caught:
        elman.train("language", out=tmp_path / "run", resume=True, steps=3, progress=False)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_truncated_line_is_written_again(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "language", tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"event": "st')
    elman.train("language", out=tmp_path / "run", resume=True, steps=3, progress=False)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines][-1] == 3


BAD: list[tuple[list[str], str]] = [
    (["--hidden-size=1e20"], "--hidden-size: "),
    (["--hidden-size=100000000000000000000"], "--hidden-size: should be at most"),
    (["--hidden-size=100000000"], "the model cannot be built: "),
    (["--num-layers=100000"], "--num-layers: should be less than or equal to 1000"),
    (["--learning-rate=1e30"], "--learning-rate: should be at most"),
    (["--device=meta"], "device: 'meta' cannot be used"),
    (["--cell=leaky"], "--import FILE.py"),
    (["--cell=LSTM"], "unknown cell 'LSTM': did you mean lstm?"),
    (["--lr=1"], "unknown option '--lr': did you mean --learning-rate?"),
    (["--Hidden_Size=1"], "did you mean --hidden-size?"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words[0] for words, _ in BAD])
def test_options(
    runs: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(runs / "text.txt")
    assert cli.main(["train", "language", data, "--steps=1", "--out", str(tmp_path / "run"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", ["periods = []", "periods = [[1]]", "periods = {a = 1}", "periods = [1e400]"])
def test_periods(tmp_path: Path, options: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "o.toml").write_text(options)
    assert (
        cli.main(["train", "classify", "x.csv", "--config", str(tmp_path / "o.toml"), "--out", str(tmp_path / "r")])
        == 2
    )
    assert "periods" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["x" * 5000, "a\0b", "//" * 1000, "~", "*", "[b]", "the/cat"])
def test_an_input_is_not_taken_for_a_run(runs: Path, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(runs / "tag"), given, "--json"]) in (0, 2)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    if said.out:
        assert json.loads(said.out)["input"] == given


def test_output_is_not_parsed_as_markup(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(runs / "tag")]) == 0
    assert f"{runs / 'tag'}: a tag model" in capsys.readouterr().out
    assert cli.main(["train", "language", str(runs / "text.txt"), "--steps=1", "--out", str(runs / "new")]) == 0
    assert f"elman generate '{runs / 'new'}', elman evaluate '{runs / 'new'}'" in capsys.readouterr().err


def test_a_finished_run_reports_that_it_is_finished(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(runs / "language")
    assert cli.main(["train", "language", "--out", out, "--resume", "--minutes=0.000001"]) == 0
    assert "nothing left to do: the run has 2 steps" in capsys.readouterr().err


def test_help_has_groups_and_names_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "classify", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "DATA ..." in shown
    assert "ARGS" not in shown
    assert shown.index(" Data ") < shown.index("--text ") < shown.index(" Model ") < shown.index("--cell ")
    assert shown.index(" Training ") < shown.index("--learning-rate ")


def test_numbers_that_are_not_finite() -> None:
    assert json_line({"a": [1.5, "nan"]}, "x") == '{"a": [1.5, "nan"]}'
    for value in (float("nan"), float("inf")):
        with pytest.raises(elman.ElmanError, match="the score, b, would be"):
            check_finite({"a": {"b": [1.0, value]}}, "the score")


def test_names_of_output(tmp_path: Path) -> None:
    (tmp_path / "in.svg").write_text("mine")
    (tmp_path / "link.svg").symlink_to(tmp_path / "in.svg")
    for name, message in (("", "not the name"), (".", "folder"), (f"{tmp_path}/none/a.png", "does not exist")):
        with pytest.raises(elman.ElmanError, match=message):
            check_writable(name, "--plot")
    for name in ("in.svg", "link.svg"):
        with pytest.raises(elman.ElmanError, match="is also an input"):
            check_writable(str(tmp_path / name), "--plot", ["a text", str(tmp_path / "in.svg")])
    check_writable(str(tmp_path / "new.png"), "--plot", [str(tmp_path / "in.svg")])


def test_nearest_names() -> None:
    assert "did you mean b_size?" in str(unknown_name("option", "B-Size", ["a", "b_size"]))
    assert "did you mean" not in str(unknown_name("option", "zzz", ["a", "b_size"]))
