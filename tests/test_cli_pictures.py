"""Pictures on the command line: questions about them, and the attention to them as figures and in the terminal."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

from elman import cli
from elman.cli.pictures import Panel, grid_picture, heading, panels
from elman.config import Options
from elman.data.inputs import InputFile
from elman.data.picture_inputs import pictures_in
from elman.data.pictures import open_picture
from elman.errors import ElmanError
from elman.tasks.abilities import Attends
from elman.tasks.answers import Attention, Axis
from elman.tasks.writing.model import Written

pytest.importorskip("PIL")

from PIL import Image


class NoOptions(Options):
    """No options."""


class Captioner(Attends):
    """Describes each picture by its colour."""

    name = "caption"
    Options = NoOptions
    reads_paths = reads_pictures = True
    reads, writes = "pictures", "text"

    def split(self, given: str) -> tuple[str, str]:
        if "\t" in given:
            raise ElmanError(f"{given.partition(chr(9))[0]}: a caption model takes no question")
        return given, ""

    def predict(self, inputs: Any, **options: Any) -> Sequence[Sequence[Written]]:
        return [[self.answer(*self.split(one))] for one in inputs]

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        return pictures_in(argument, column or "image", "question" if self.takes_questions else None)

    def answer(self, path: str, question: str) -> Written:
        red, _, blue = np.asarray(open_picture(path)).reshape(-1, 3).mean(0)
        text = f" a{' red' if red > blue else ' blue'} thing ."
        return written(text, (2, 3), None if "noname" in path else path)


class Answerer(Captioner):
    """Answers every question with the question's last word."""

    name = "vqa"
    takes_questions = True

    def split(self, given: str) -> tuple[str, str]:
        path, _, question = given.partition("\t")
        if not question:
            raise ElmanError(f"{path}: no question")
        return path, question

    def answer(self, path: str, question: str) -> Written:
        open_picture(path)
        return written(f" {question.split()[-1].strip('?')}", (2, 3), path)


def written(text: str, grid: tuple[int, ...], picture: Any = None) -> Written:
    pieces = re.findall(r"\s*\S+", text)
    weights = torch.full((len(pieces), math.prod(grid)), 0.5 / (math.prod(grid) - 1 or 1))
    weights[:, min(1, len(weights[0]) - 1)] = 0.5
    return Written(text.strip(), -0.5, math.log(0.8), Axis("grid", grid, picture=picture), pieces, weights)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name, colour, size in (("a", "red", (40, 20)), ("b", "blue", (20, 40))):
        Image.new("RGB", size, colour).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path


@pytest.fixture
def captioner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.cli.predict.load", lambda run, device: Captioner())


@pytest.fixture
def answerer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.cli.predict.load", lambda run, device: Answerer())


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """What ``elman predict`` prints."""
    assert cli.main(["predict", "run", *arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


def records(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[tuple[str, str, str]]:
    """Input, question and answer of each record."""
    every = [json.loads(line) for line in lines(capsys, *arguments, "--json")]
    return [(one["input"], one["question"], one["answers"][0]["text"]) for one in every]


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["predict", "run", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.usefixtures("captioner")
def test_captions(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    red, blue = "a red thing .", "a blue thing ."
    assert lines(capsys, "photos/a.png") == [red]
    for given in (["photos"], ["photos/"], ["photos/*.png"], ["photos/a.png", "photos/b.png"]):
        assert lines(capsys, *given) == [f"photos/a.png\t{red}", f"photos/b.png\t{blue}"]
    red, blue = f"photos/a.png\t{red}", f"photos/b.png\t{blue}"
    for arguments in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.StringIO("photos/b.png\n\nphotos\nphotos/*.png\n"))
        assert lines(capsys, *arguments) == [blue, "", red, blue, red, blue]
    (photos / "t.csv").write_text("id,image\n1,photos/b.png\n2,photos/a.png\n")
    assert lines(capsys, "t.csv") == [blue, red]
    assert lines(capsys, "t.csv", "--out", "o.csv") == []
    assert polars.read_csv("o.csv")["predicted"].to_list() == ["a blue thing .", "a red thing ."]
    assert lines(capsys, "photos", "--out", "o.tsv") == []
    assert polars.read_csv("o.tsv", separator="\t").columns == ["input", "predicted", "score"]
    (record,) = (json.loads(line) for line in lines(capsys, "photos/a.png", "--json"))
    assert record["input"] == "photos/a.png" and "question" not in record
    assert record["answers"][0].keys() == {"text", "score", "log_probability"}


@pytest.mark.usefixtures("captioner")
def test_a_captioner_takes_no_question(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for question in ("what animal is it?", "color?", "describe the picture"):
        assert "no such file, and the model takes no questions" in error(capsys, "photos/a.png", question)
    assert error(capsys, "photos/c.png").startswith("elman: ")
    monkeypatch.setattr(sys, "stdin", io.StringIO("photos/a.png\tcolor?\nphotos/b.png\n"))
    assert cli.main(["predict", "run"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "photos/a.png\tcolor?\t\nphotos/b.png\ta blue thing .\n"
    assert "standard input, line 1: photos/a.png: a caption model takes no question" in shown.err


@pytest.mark.usefixtures("answerer")
def test_questions_follow_their_pictures(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = "photos/a.png", "photos/b.png"
    assert lines(capsys, a, "what animal is  it?") == ["it"]
    assert records(capsys, a, "what animal\n is it?") == [(a, "what animal is it?", "it")]
    assert records(capsys, a, "q one", b, "q two") == [(a, "q one", "one"), (b, "q two", "two")]
    assert records(capsys, a, "q one", "two?") == [(a, "q one", "one"), (a, "two?", "two")]
    both = [(a, "q one", "one"), (b, "q one", "one")]
    for pictures in ([a, b], ["photos"], ["photos/"], ["photos/*.png"]):
        assert records(capsys, *pictures, "q one") == both
    assert records(capsys, "photos", "x", "y") == [(a, "x", "x"), (a, "y", "y"), (b, "x", "x"), (b, "y", "y")]
    assert records(capsys, f"{a}\tq one") == both[:1]


@pytest.mark.usefixtures("answerer")
def test_questions_in_files(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = "photos/a.png", "photos/b.png"
    (photos / "t.csv").write_text(f"id,question,image\n1,q one,{a}\n2,q two,{b}\n")
    (photos / "lines.txt").write_text(f"{b}\tq two\n{a}\tq one\n")
    (photos / "paths.txt").write_text(f"{b}\n{a}\n")
    table = [(a, "q one", "one"), (b, "q two", "two")]
    assert records(capsys, "t.csv") == table
    assert records(capsys, "lines.txt") == table[::-1]
    assert records(capsys, "paths.txt", "q one") == [(b, "q one", "one"), (a, "q one", "one")]
    assert records(capsys, "t.csv", a, "x") == [*table, (a, "x", "x")]
    for arguments in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{a}\tq one\n\n{b}\tq two\n"))
        assert lines(capsys, *arguments) == [f"{a}\tq one\tone", "", f"{b}\tq two\ttwo"]
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        assert lines(capsys, *arguments) == []
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{a}\tq one\n{b}\n"))
    assert "line 2: photos/b.png: no question" in error(capsys)


@pytest.mark.usefixtures("answerer")
def test_answers_to_questions_are_written_to_tables(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "t.csv").write_text("id,question,image\n1,q one,photos/a.png\n")
    assert lines(capsys, "t.csv", "--out", "o.csv") == []
    assert polars.read_csv("o.csv").columns == ["id", "question", "image", "predicted", "score"]
    for k, given in enumerate((["photos", "q one"], ["photos/a.png", "photos/b.png", "q one"])):
        assert lines(capsys, *given, "--out", f"{k}.tsv") == []
        table = polars.read_csv(f"{k}.tsv", separator="\t")
        assert table.columns == ["image", "question", "predicted", "score"]
        assert table.row(1) == ("photos/b.png", "q one", "one", -0.5)
    assert lines(capsys, "photos", "q one", "--out", "o.txt") == []
    assert Path("o.txt").read_text() == "one\none\n"


@pytest.mark.usefixtures("answerer")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos/a.png"], 'photos/a.png: no question; give it after the picture: photos/a.png "what is it?"'),
        (["photos/a.png", "x", "photos"], "photos: no question; give it after"),
        (["what is it?"], "'what is it?': no such file, and a question follows the picture that it is about"),
        (["what is it?", "photos/a.png"], "a question follows the picture that it is about"),
        (["photos/a.png\tx", "y"], "has questions already; 'y' is one too many"),
        (["photos/none.png", "x"], "photos/none.png: no such file"),
        (["none/*.png", "x"], "none/*.png: no pictures"),
        (["photos/a.png", "x", "--column", "y"], "--column: names a column of a table"),
        (["photos", "x", "photos/a.png", "y", "--out", "o.tsv"], "the answers to one file are written"),
    ],
)
def test_wrong_questions(arguments: list[str], message: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in error(capsys, *arguments)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert 'photo.jpg "what animal is it?"' in shown
    assert "a panel for each word" in shown


def attention(pieces: Sequence[str], grid: tuple[int, ...] = (2, 2)) -> Attention:
    """The first token attends to the first cell, the second to the second one, ..."""
    cells = math.prod(grid)
    return Attention(torch.eye(cells).repeat(len(pieces), 1)[: len(pieces)], Axis("grid", grid), Axis.of_words(pieces))


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["a", " red", " circle"], ["a", "red", "circle"]),
        ([" a", " bl", "ack", " dog", " ."], ["a", "black", "dog"]),
        (["a", " ", "r", "e", "d"], ["a", "red"]),
        ([" don", "'", "t", " T", "-", "shirt", "."], ["don't", "T-shirt."]),
        (["ein", " schö", "", "ner"], ["ein", "schöner"]),
        (["赤", "い", "犬"], ["赤", "い", "犬"]),
        (["?", "!"], ["?!"]),
        ([""], [""]),
    ],
)
def test_tokens_are_joined_to_words(pieces: list[str], words: list[str]) -> None:
    assert [panel.word for panel in panels(attention(pieces))] == words


def test_weights_are_averaged_over_the_tokens_of_a_word() -> None:
    first, second = panels(attention([" a", " bl", "ack", "."]))
    assert first.weights.tolist() == [[1, 0], [0, 0]]
    assert second.weights.tolist() == [[0, 0.5], [0.5, 0]]  # without the full stop
    assert (first.largest, second.largest) == ("1.00", "0.50")
    (flat,) = panels(attention(["cat"], (6,)))
    assert flat.weights.shape == (2, 3)


def test_attention_at_pixels() -> None:
    weights = np.zeros((2, 4))
    weights[1, 3] = 0.7
    smooth = Panel("dog", weights).smooth(80, 20)
    assert smooth.shape == (20, 80)
    assert smooth.max() == pytest.approx(1.0)
    assert np.unravel_index(smooth.argmax(), smooth.shape) == (19, 79)
    assert smooth[:5, :20].max() < 0.01
    uniform = Panel("a", np.full((2, 4), 1 / 8))
    assert np.allclose(uniform.smooth(8, 8), 1.0)
    picture = np.random.default_rng(0).integers(0, 255, (20, 80, 3)).astype(np.uint8)
    assert np.abs(uniform.lit(picture).astype(int) - picture).max() <= 1
    lit = Panel("dog", weights).lit(picture)
    assert lit[:, :30].mean() < 0.4 * picture[:, :30].mean()


def test_headings() -> None:
    assert heading(written(" two dogs", (2, 2)), "what?") == "two dogs   p = 0.80"
    assert heading(written(" two dogs", (2, 2)), "") == "two dogs"
    unlikely = Written("x", -1.0, math.log(2e-5), Axis("grid", (1, 1)), ["x"], torch.ones(1, 1))
    assert heading(unlikely, "what?") == "x   p = 2e-05"
    empty = Written("", -1.0, 0.0, Axis("grid", (1, 1)), [""], torch.ones(1, 1))
    assert heading(empty, "what?") == "(no answer)   p = 1.00"


@pytest.mark.usefixtures("captioner")
def test_figures_of_captions(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert lines(capsys, "photos/a.png", "--plot", "out.png") == ["a red thing ."]
    both = ["photos/a.png\ta red thing .", "photos/b.png\ta blue thing ."]
    assert lines(capsys, "photos", "--plot", "both.svg") == both
    assert sorted(path.name for path in photos.glob("*.*")) == ["both-1.svg", "both-2.svg", "out.png"]
    svg = (photos / "both-1.svg").read_text()
    assert svg.count("<image") == 4  # the picture, and one for each of three words
    assert "unknown picture format" in error(capsys, "photos/a.png", "--plot", "out.xyz")


def test_a_figure_explains_its_lines_if_it_has_any(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    figures: list[Any] = []
    monkeypatch.setattr("elman.cli.pictures.save_figure", lambda figure, path: figures.append(figure))
    answer, flat = (
        written(" a dog", (2, 2)),
        Attention(torch.full((1, 4), 0.25), Axis("grid", (2, 2)), Axis.of_words(["a"])),
    )
    for attention, lines in ((answer.attention, True), (flat, False)):
        grid_picture("x.png", Image.new("RGB", (40, 40)), answer, attention, "p.jpg")
        assert any("lines: half of it" in text.get_text() for text in figures[-1].texts) == lines


@pytest.mark.usefixtures("answerer")
def test_figures_of_answers(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert lines(capsys, "photos/a.png", "what is it?", "--plot", "one.pdf") == ["it"]
    assert lines(capsys, "photos/a.png", "x $1 $2犬", "y", "--plot", "two.svg")[1] == "photos/a.png\ty\ty"
    assert sorted(path.name for path in photos.glob("*.*")) == ["one.pdf", "two-1.svg", "two-2.svg"]


def test_panels_of_a_figure_have_the_shape_of_the_picture(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    figures: list[Any] = []
    monkeypatch.setattr("elman.cli.pictures._PIXELS", 180)
    monkeypatch.setattr("elman.cli.pictures.save_figure", lambda figure, path: figures.append(figure))
    long = " a" * 12 + " word"
    for size, text in (((600, 200), " a dog"), ((200, 600), long), ((90, 90), long), ((900, 90), " dog")):
        answer = written(text, (7, 7))
        grid_picture("x.png", Image.new("RGB", size), answer, answer.attention, "p.jpg", "what is it?")
        width, height = figures[-1].get_size_inches()
        assert width < 13
        assert len(figures[-1].axes) == 1 + len(text.split())
        for axes in figures[-1].axes:
            box = axes.get_position()
            assert box.width * width / (box.height * height) == pytest.approx(size[0] / size[1])
            assert -1e-6 < box.x0 < box.x1 < 1 + 1e-6 and -1e-6 < box.y0 < box.y1 < 1 + 1e-6
        shown = [text.get_text() for text in figures[-1].texts]
        assert "what is it?" in shown and "p.jpg" in shown and shown.count("0.50") == len(text.split())


@pytest.mark.usefixtures("answerer")
def test_attention_is_shown(photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    first, title, *_ = lines(capsys, "photos/a.png", "is it red?", "--show-attention")
    assert first == "red"
    assert title.split() == ["a.png", "red", "0.50"]


@pytest.mark.usefixtures("captioner")
def test_the_input_is_the_picture_where_the_attention_names_none(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "noname.png").write_bytes((photos / "photos" / "a.png").read_bytes())
    assert lines(capsys, "noname.png", "--show-attention")[1].startswith("noname.png")


def test_trained_models_read_folders_and_tables(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pictures of a table are found as in training; a folder is data for captions."""
    for k in range(4):
        for name in ("a", "b"):
            picture = Image.open(f"photos/{name}.png").rotate(10 * k)
            picture.save(f"photos/{name}{k}.png")
            Path(f"photos/{name}{k}.txt").write_text("red\n" if name == "a" else "blue\n")
    rows = [f"{name}{k}.png\twhat is it?\t{name}" for k in range(4) for name in "ab"]
    Path("questions.tsv").write_text("\n".join(["image\tquestion\tanswer", *rows]) + "\n")
    small = ["--encoder=small", "--image-size=32", "--picture-size=8", "--hidden-size=8", "--embedding-size=8"]
    for name in ("a", "b"):
        Path(f"photos/{name}.png").unlink()
    assert cli.main(["train", "caption", "photos", "--out", "captions", "--steps=1", *small]) == 0
    asked = ["questions.tsv", "--images", "photos", "--out", "answers", "--steps=1"]
    assert cli.main(["train", "vqa", *asked, *small]) == 0
    capsys.readouterr()
    for run, given in (("captions", "photos"), ("answers", "questions.tsv")):
        assert cli.main(["predict", run, given]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 8
    assert cli.main(["predict", "captions", "photos/a1.png", "what is it?"]) == 2
    assert "the model takes no questions" in capsys.readouterr().err
    assert cli.main(["predict", "answers", "photos/a1.png", "what is it?", "--show-attention"]) == 0
    assert "a1.png" in capsys.readouterr().out
