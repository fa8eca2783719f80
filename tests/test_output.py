"""What leaves the process: any encoding, a pipe that is closed, JSON that every reader takes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import elman
from elman import cli
from elman.data.output import json_line
from tests.conftest import some_text


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model that writes and one that labels, both with characters that few encodings have."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(some_text(3000).replace("cat", "猫…é"), encoding="utf-8")
    rows = "".join(f"{'schön 猫' if k % 2 else 'nah'},{'✓' if k % 2 else 'é'}\n" for k in range(40))
    (folder / "table.csv").write_text("text,label\n" + rows, encoding="utf-8")
    small = ["--hidden-size=8", "--embedding-size=4"]
    language = ["train", "language", str(folder / "text.txt"), "--steps=3", "--batch-size=4", "--window=16", *small]
    assert cli.main([*language, "--out", str(folder / "language")]) == 0
    classify = ["train", "classify", str(folder / "table.csv"), "--steps=40", "--learning-rate=0.02", *small]
    assert cli.main([*classify, "--out", str(folder / "classify")]) == 0
    return {"language": str(folder / "language"), "classify": str(folder / "classify")}


def written(monkeypatch: pytest.MonkeyPatch, encoding: str, arguments: list[str], given: bytes = b"") -> str:
    """What the command writes to a standard output of that encoding."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding=encoding))
        assert cli.main(arguments) == 0
        out.flush()
        assert isinstance(out.buffer, io.BytesIO)
        return out.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_encoding(encoding: str, runs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    label, text = runs["classify"], "schön 猫\n".encode()
    assert written(monkeypatch, encoding, ["generate", runs["language"], "猫…é", "--max-new-tokens=5"])
    assert "label" in written(monkeypatch, encoding, ["evaluate", label])
    assert "classify" in written(monkeypatch, encoding, ["info", label])
    assert "猫" in written(monkeypatch, "utf-8", ["predict", label, "--show=attention"], text)
    assert written(monkeypatch, encoding, ["predict", label, "--show=attention"], text)
    said = written(monkeypatch, encoding, ["predict", label], text)
    assert said == ("✓\n" if encoding == "utf-8" else "\\u2713\n")
    record = json.loads(written(monkeypatch, encoding, ["predict", label, "--json"], text))
    assert (record["input"], record["answers"][0]["text"]) == ("schön 猫", "✓")
    marked = written(monkeypatch, encoding, ["predict", label, "--json"], b"\xef\xbb\xbfnah\r\n")
    assert json.loads(marked)["input"] == "nah"


def test_a_process_in_the_c_locale(runs: dict[str, str]) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "elman", "predict", runs["classify"]]
    done = subprocess.run(
        command, input="schön 猫\n".encode(), capture_output=True, env=os.environ | environment, timeout=240
    )
    assert (done.returncode, done.stdout) == (0, b"\\u2713\n"), done.stderr


def test_input_that_is_not_utf8(
    runs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = io.TextIOWrapper(io.BytesIO("gut\nschön\n".encode("latin-1")), encoding="ascii", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdin", given)
    assert cli.main(["predict", runs["classify"]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "standard input" in line and "not UTF-8" in line


def test_a_closed_pipe_is_quiet(runs: dict[str, str]) -> None:
    command = [sys.executable, "-m", "elman", "predict", runs["classify"]]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.write(b"nah\n" * 3)
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=240) == 0


def test_json_has_no_nan() -> None:
    assert json.loads(json_line({"a": [1.5, None, ("é",)]}, "x")) == {"a": [1.5, None, ["é"]]}
    for value in (float("nan"), {"a": [float("inf")]}):
        with pytest.raises(elman.ElmanError, match="would be (nan|inf)"):
            json_line(value, "x")


def test_no_other_place_writes_json() -> None:
    """Whatever is written for others goes through the one function; files that elman alone reads do not."""
    own = {"output.py", "tokenizer.py", "examples.py", "run.py"}
    root = Path(elman.__file__).parent
    assert {path.name for path in root.rglob("*.py") if "dumps(" in path.read_text(encoding="utf-8")} <= own
