"""The commands of the reference: ``python -m elman.reference sentiment`` and ``hello``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman.reference.__main__ as command
from benchmarks.sentiment import GRAMMARS
from benchmarks.sentiment import table as grammar_table
from elman.reference import gradcheck, hello, loss
from elman.reference import sentences as sentences_module
from elman.reference import sentiment as sentiment_module

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "elman.reference", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8",
    )  # fmt: skip


def status(*arguments: str) -> int:
    """Run the command in this process, which takes a tenth of the time, and return its exit status."""
    try:
        return command.main(list(arguments))
    except SystemExit as stop:  # raised by argparse
        return -1 if stop.code is None else int(stop.code)


def progress(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("epoch")]


def test_sentiment_reaches_full_accuracy() -> None:
    done = run("sentiment")
    assert (done.returncode, done.stderr) == (0, "")
    lines = progress(done.stdout)
    assert len(lines) > 3
    assert lines[-1].count("100.0%") == 2
    assert done.stdout.splitlines()[-1] == "test accuracy 100.0%"


def test_sentences_of_the_grammar() -> None:
    train, test = sentences_module.make(np.random.default_rng(0))
    texts = [text for text, _ in train + test]
    assert (len(train), len(test)) == (192, 32)
    assert len(set(texts)) == len(texts)
    labels = dict(train + test)
    for text, label in {
        "this is not very bad": "positive", "i was happy earlier": "positive", "i am not good right now": "negative",
        "this is good and happy": "positive", "i was not happy and not good earlier": "negative", "sad": "negative",
    }.items():  # fmt: skip
        assert labels[text] == label


FRAMES = ["{}", "it is {}", "it was {} yesterday", "the sea is {} today"]
ADJECTIVES = {"Schön!": ("warm", "sunny"), "bad": ("cold", "wet")}
WEATHER = [
    (frame.format(phrase.format(adjective)), label)
    for label, other in (("Schön!", "bad"), ("bad", "Schön!"))
    for phrase, of in (("{}", label), ("very {}", label), ("not {}", other), ("not at all {}", other))
    for adjective in ADJECTIVES[of]
    for frame in FRAMES
]
#: For every phrase one of the three longer frames, in rotation.
TEST_ROWS = {4 * phrase + 1 + phrase % 3 for phrase in range(len(WEATHER) // 4)}


def table(path: Path, rows: list[tuple[str, str]]) -> str:
    """Write a table as other programs do: more columns, another order, quotes, CRLF, a byte order mark, blank lines."""
    lines = ["id\tlabel\ttext", *(f'{k}\t{label}\t"{text.title()}"' for k, (text, label) in enumerate(rows)), "", ""]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    return str(path)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[str, str]:
    train = [row for k, row in enumerate(WEATHER) if k not in TEST_ROWS]
    test = [row for k, row in enumerate(WEATHER) if k in TEST_ROWS]
    return table(tmp_path / "train.tsv", train), table(tmp_path / "test.tsv", test)


def test_sentiment_learns_from_tables(tables: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """It stops early, and the test sentences have no influence on training."""
    assert status("sentiment", *tables, "--epochs", "100000") == 0
    output = capsys.readouterr().out
    assert "48 training sentences" in output
    assert "16 test sentences" in output
    assert "test words that do not occur in training: 0 " in output
    assert progress(output)[-1].count("100.0%") == 2
    assert int(progress(output)[-1].split()[1]) < 2000
    assert output.splitlines()[-1] == "test accuracy 100.0%"
    odd = table(Path(tables[1]).with_name("odd.tsv"), [("it is cold", "bad"), ("grey skies , grey", "grey")])
    assert status("sentiment", tables[0], odd) == 0
    with_odd = capsys.readouterr().out
    assert [line.split("test")[0] for line in progress(with_odd)] == [
        line.split("test")[0] for line in progress(output)
    ]
    assert "test words that do not occur in training: 3 " in with_odd
    assert "label that does not occur in training: 1 " in with_odd
    assert "wrong: the label is grey" in with_odd
    assert with_odd.splitlines()[-1] == "test accuracy 50.0%"


@pytest.mark.parametrize("name", GRAMMARS)
def test_tables_of_other_grammars(name: str) -> None:
    for seed in range(20):
        train, test = grammar_table(name, seed)
        texts = [text for text, _ in train + test]
        assert (len(train), len(test), len(set(texts))) == (50, 25, 75)
        train_words = {word for text, _ in train for word in text.split()}
        assert {word for text, _ in test for word in text.split()} <= train_words


def test_another_grammar(capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m benchmarks.sentiment`` has more grammars and seeds."""
    train, test = grammar_table("letters", seed=1)
    assert sentiment_module.fit(train, test, rng=np.random.default_rng(1)) >= 90


def test_more_than_two_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"{a} {b}", b) for a in ("a", "very", "no") for b in ("red", "green", "blue", "1")]
    path = table(tmp_path / "colours.tsv", rows)
    assert status("sentiment", path, path) == 0
    output = capsys.readouterr().out
    assert "labels: 1, blue, green, red" in output
    assert output.splitlines()[-1] == "test accuracy 100.0%"


def test_quoted_cells(tmp_path: Path) -> None:
    path = tmp_path / "quotes.tsv"
    path.write_text('text\tlabel\n"a\tb\nc ""d"""\tx\n\nplain "e" here\ty\n', newline="")
    assert sentences_module.read(str(path)) == [('a\tb\nc "d"', "x"), ('plain "e" here', "y")]


@pytest.mark.parametrize("option", [("--epochs", "3"), ("--hidden", "8"), ("--rate", "0.05"), ("--seed", "5")])
@pytest.mark.parametrize("name", ["sentiment", "hello"])
def test_options_have_an_effect(
    name: str, option: tuple[str, str], tables: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [name, *(tables if name == "sentiment" else ()), "--epochs", "20"]
    outputs = []
    for extra in ((), (), option):
        assert status(*arguments, *extra) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


def test_hello() -> None:
    done = run("hello")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines.count(["reads", "next", "h", "e", "l", "o"]) == 2
    rows = [line for line in lines if len(line) == 6 and line[0] in "hel"]
    assert [row[:2] for row in rows] == [["h", "e"], ["e", "l"], ["l", "l"], ["l", "o"]] * 2
    for row, column in zip(rows[4:], (3, 4, 4, 5), strict=True):
        assert sum(map(float, row[2:])) == pytest.approx(1.0, abs=0.02)
        assert float(row[column]) > 0.8
    assert done.stdout.endswith("generated from 'h': 'hello'\n")


@pytest.mark.parametrize("seed", range(10))
def test_hello_with_any_seed(seed: int) -> None:
    assert hello.fit(rng=np.random.default_rng(seed)) == "hello"


@pytest.mark.parametrize("text", ["ab", "aa", "tä dä\ntä", "a man, a plan, a canal: panama. " * 2 + "the end"])
def test_hello_with_other_texts(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("hello", text) == 0
    assert capsys.readouterr().out.endswith(f"generated from {text[0]!r}: {text!r}\n")


def test_gradients_of_the_networks() -> None:
    rng = np.random.default_rng(0)
    x, target = sentiment_module.one_hot("b zzz A", {"a": 0, "b": 1}), np.array([1])
    np.testing.assert_array_equal(x, [[[0, 1], [0, 0], [1, 0]]])
    p = sentiment_module.initialise(2, 3, 2, rng)
    y, h_T, tape = sentiment_module.forward(x, p)
    gradients = sentiment_module.backward(loss.cross_entropy(y, target)[1], h_T, tape, p)
    for v, dv in zip(p, gradients, strict=True):
        slope = gradcheck.numerical_gradient(
            lambda: loss.cross_entropy(sentiment_module.forward(x, p)[0], target)[0], v
        )
        np.testing.assert_allclose(dv, slope, rtol=1e-6, atol=1e-8)

    ids, h_0 = np.array([0, 1, 2, 2, 3]), np.zeros((1, 3))
    letters, targets = np.eye(4)[None, ids[:-1]], ids[1:]
    q = hello.initialise(4, 3, rng)
    y, _, tape = hello.forward(letters, h_0, q)
    all_gradients = hello.backward(loss.cross_entropy(y, targets)[1], tape, q)
    for v, dv in zip(q, all_gradients, strict=True):
        slope = gradcheck.numerical_gradient(
            lambda: loss.cross_entropy(hello.forward(letters, h_0, q)[0], targets)[0], v
        )
        np.testing.assert_allclose(dv, slope, rtol=1e-6, atol=1e-8)


#: content of the file (None: no file) and a part of the error message
BAD_TABLES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "No such file"),
    "empty": (b"", "the file is empty"),
    "blank": (b"\r\n\r\n", "the file is empty"),
    "no text": (b"sentence\tlabel\ngood\tyes\n", "line 1: there is no column 'text'"),
    "no label": (b"\ntext\ttruth\ngood\tyes\n", "line 2: there is no column 'label'"),
    "present": (b"words\tLabel\ngood\tyes\n", "'words', 'Label'"),
    "commas": (b"text,label\ngood,yes\n", "separated by tabs, and are 'text,label'"),
    "twice": (b"text\tlabel\ttext\ngood\tyes\tbad\n", "two columns are called 'text'"),
    "no rows": (b"text\tlabel\n\n", "no row below the column names"),
    "missing cell": (b"text\tlabel\ngood\tyes\n\nbad\n", "line 4: the row has 1 cells and the header 2"),
    "cell too many": (b'text\tlabel\n"go\nod"\tyes\nbad\tno\tno\n', "line 4: the row has 3 cells"),
    "empty text": (b"text\tlabel\ngood\tyes\n \tno\n", "line 3: the text is empty"),
    "empty label": (b"text\tlabel\r\ngood\t\r\n", "line 2: the label is empty"),
    "not UTF-8": (b"text\tlabel\ncaf\xe9\tyes\n", "not UTF-8 at byte 14 (0xe9)"),
    "UTF-16": ("text\tlabel\ngood\tyes\n".encode("utf-16"), "not UTF-8 at byte 0"),
    "open quote": (b'text\tlabel\ngood\tyes\n"bad\tno\nsad\tno\n', "line 3: unexpected end of data"),
    "stray quote": (b'text\tlabel\n"good" day\tyes\n', "line 2: '\\t' expected after '\"'"),
}


@pytest.mark.parametrize("place", ["train", "test"])
@pytest.mark.parametrize("fault", BAD_TABLES)
def test_bad_table(
    fault: str, place: str, tables: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, expected = BAD_TABLES[fault]
    bad = tmp_path / "bad.tsv"
    if content is not None:
        bad.write_bytes(content)
    both = (str(bad), tables[1]) if place == "train" else (tables[0], str(bad))
    assert status("sentiment", *both) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(bad) in error
    assert expected in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "COMMAND"),
        (["sentimental"], "invalid choice: 'sentimental'"),
        (["sentiment", "alone.tsv"], "alone.tsv: a test table is missing"),
        (["sentiment", str(ROOT), str(ROOT)], "Is a directory"),
        (["sentiment", "--epochs", "0"], "--epochs: must be an integer from 1"),
        (["sentiment", "--hidden", "-1"], "--hidden: must be an integer from 1"),
        (["sentiment", "--hidden", "1000001"], "--hidden: must be an integer from 1 to 1000000"),
        (["sentiment", "--rate", "nan"], "--rate: must be a number above 0"),
        (["sentiment", "--rate", "fast"], "--rate: must be a number above 0"),
        (["sentiment", "--rate", "1e308"], "--rate 1e+308 is too high"),
        (["hello", "--rate", "1e308"], "--rate 1e+308 is too high"),
        (["sentiment", "--seed", "-3"], "--seed: must be an integer of at least 0"),
        (["hello", "x"], "at least 2 characters"),
        (["hello", ""], "at least 2 characters"),
        (["hello", "caf\udce9"], "not UTF-8"),
    ],
    ids=str,
)
def test_bad_arguments(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error


def test_out_of_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise MemoryError("Unable to allocate 7.28 TiB")

    monkeypatch.setattr(hello, "fit", fit)
    assert status("hello", "--hidden", "1000000") == 2
    error = capsys.readouterr().err
    assert error == "python -m elman.reference: Unable to allocate 7.28 TiB; try a smaller --hidden\n"


def test_bad_input_from_the_shell(tmp_path: Path) -> None:
    bad = tmp_path / "nothing.tsv"
    done = run("sentiment", str(bad), str(bad))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert str(bad) in done.stderr


@pytest.mark.parametrize("name", [(), ("sentiment",), ("hello",)])
def test_help(name: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*name, "--help") == 0
    assert "usage: python -m elman.reference" in capsys.readouterr().out
