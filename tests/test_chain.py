"""Chains: which models fit, what is passed on, which answers win, and what the commands print."""

from __future__ import annotations

import io
import itertools
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars
import pytest
import soundfile

import elman
from elman import cli, tasks
from elman.chains import Chain, ChainAnswer, Stage
from elman.config import FileName, Options, parse
from elman.data.inputs import InputFile
from elman.data.sounds import Wave
from elman.errors import ElmanError
from elman.tasks.abilities import Predicts
from elman.tasks.answers import Answer
from tests.test_translate import SMALL, some_pairs


class Ranks(Options):
    """How many answers a model gives."""

    n_best: int = 1


@dataclass(frozen=True)
class Said(Answer):
    """An answer of a table of answers."""

    text: str
    score: float
    log_probability: float | None
    value: Any

    @property
    def output(self) -> Any:
        return self.value

    @property
    def cell(self) -> str:
        return self.text

    @property
    def attention(self) -> None:
        return None

    def record(self) -> dict[str, Any]:
        return {"text": self.text}


class Table(Predicts):
    """Answers from a table: input to answers, each with its log probability."""

    Options = Ranks
    reads_paths = False
    reads, writes = "text", "text"

    def __init__(self, answers: dict[str, list[tuple[str, float | None]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def predict(self, inputs: Any, **options: Any) -> Sequence[Sequence[Said]]:
        self.asked += inputs
        for k, one in enumerate(inputs, 1):
            if one not in self.answers:
                raise ElmanError(f"input {k} of {len(inputs)}: {one} is not in the table")
        n = parse(Ranks, options).n_best
        return [
            [Said(text, -k, p, self.output(text)) for k, (text, p) in enumerate(self.answers[x][:n])] for x in inputs
        ]

    def output(self, text: str) -> Any:
        return text

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        return None


class Voice(Table):
    """Speaks each letter for a tenth of a second."""

    writes = "sound"

    def output(self, text: str) -> Wave:
        return Wave(np.full(800 * len(text), 0.25, np.float32), 8000)


def stages(*tables: dict[str, list[tuple[str, float | None]]], **options: Any) -> list[Stage]:
    return [Stage(Table(table), options=options) for table in tables]


def ended(chain: Chain, given: str, **options: Any) -> tuple[str, ...]:
    """The best answer of every stage."""
    return tuple(one.text for one in chain.predict([given], **options)[0][0].answers)


def test_every_task_declares_what_it_reads_and_writes() -> None:
    for name in tasks.TASKS:
        model = tasks.get(name).model_class
        if issubclass(model, Predicts):
            assert not {"reads", "writes"} & model.__abstractmethods__, name
            assert model.writes in ("text", "sound", "labels", "words", "words with tags"), name


def test_several_answers_are_passed_on() -> None:
    heard = {"sound": [("wreck a nice beach", -0.6), ("recognise speech", -0.8)]}
    said = {"wreck a nice beach": [("destroy", -2.0)], "recognise speech": [("understand", -0.5), ("hear", -1.5)]}
    chain = Chain(stages(heard, said))
    assert ended(chain, "sound") == ("wreck a nice beach", "destroy")
    ((best,),) = chain.predict(["sound"], n_best=2)
    assert [one.text for one in best.answers] == ["recognise speech", "understand"]
    assert best.score == best.log_probability == pytest.approx(-1.3)
    assert best.record()["stages"][0] == {"task": "Table", "text": "recognise speech"}
    first, second = stages(heard, said)
    for scale, winner in ((0.1, "wreck a nice beach"), (1.0, "recognise speech")):
        two = Chain([Stage(first.model, options={"n_best": 2}), Stage(second.model, scale=scale)])
        assert ended(two, "sound")[0] == winner
    every = Chain(stages(heard, said, n_best=2)).predict(["sound"])[0]
    assert [one.text for one in every] == ["understand", "hear"]


def test_the_best_sum_wins_over_all_paths() -> None:
    draw = random.Random(0)
    for _ in range(20):
        levels = [["in"], list("abc"), list("def"), list("ghi")]
        tables: list[dict[str, list[tuple[str, float | None]]]] = []
        for before, after in itertools.pairwise(levels):
            tables.append({x: sorted(((y, -draw.random()) for y in after), key=lambda one: -one[1]) for x in before})
        chain = Chain([*stages(*tables[:-1], n_best=3), Stage(Table(tables[-1]))])
        ((best,),) = chain.predict(["in"])
        sums = {}
        for path in itertools.product(*levels[1:]):
            steps = itertools.pairwise(("in", *path))
            sums[path] = sum(dict(table[x])[y] or 0.0 for table, (x, y) in zip(tables, steps, strict=True))
        # The second stage passes on 3 of its 9 answers, different ones: the best path to each letter.
        winner = max(sums, key=lambda path: sums[path])
        assert tuple(one.text for one in best.answers) == winner
        assert best.log_probability == pytest.approx(sums[winner])


def test_only_the_best_is_passed_on_where_probabilities_are_unknown() -> None:
    first, second = stages({"x": [("a", -1.0), ("b", -2.0)]}, {"a": [("A", None)], "b": [("B", None)]})
    assert ended(Chain([first, second]), "x", n_best=2) == ("a", "A")
    assert second.model.asked == ["a"]  # type: ignore[attr-defined]
    unknown, last = stages({"x": [("a", None), ("b", None)]}, {"a": [("A", -5.0)], "b": [("B", -1.0)]})
    assert ended(Chain([unknown, last]), "x", n_best=2) == ("a", "A")


def test_an_empty_answer_ends_the_chain() -> None:
    first, second = stages({"silence": [("", -0.1)], "x": [("a", -1.0)]}, {"a": [("A", -1.0)]})
    quiet, loud = Chain([first, second]).predict(["silence", "x"])
    assert (quiet[0].text, len(quiet[0].answers), quiet[0].empty_means) == ("", 1, "no answer")
    assert (loud[0].text, len(loud[0].answers)) == ("A", 2)
    assert quiet[0].at(1).text == ""


def test_stages_that_do_not_fit() -> None:
    text, voice = Table({}), Voice({})
    with pytest.raises(
        ElmanError, match=r"^stage 3 \(Table, runs/b\) reads text, stage 2 \(Voice, runs/a\) writes sound$"
    ):
        Chain([Stage(text), Stage(voice, "runs/a"), Stage(text, "runs/b")])
    with pytest.raises(ElmanError, match=r"stage 2 \(Table\): unknown option 'beam': choose from n_best"):
        Chain([Stage(text), Stage(text, options={"beam": 2})])
    with pytest.raises(ElmanError, match="a chain needs a model"):
        Chain([])
    with pytest.raises(ElmanError, match="no stage before the last one gives several answers"):
        Chain([Stage(text)]).predict(["x"], n_best=2)
    with pytest.raises(ElmanError, match=r"^stage 2 \(Table\): b is not in the table"):
        Chain(stages({"a": [("b", -1.0)]}, {})).predict(["a"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that reads words from behind; twice is not at all."""
    path = str(tmp_path_factory.mktemp("chain") / "behind")
    elman.train("translate", some_pairs(800), out=path, steps=250, learning_rate=1e-2, **SMALL)
    return path


def test_from_python(run: str) -> None:
    chain = elman.chain([run, run])
    assert chain.stages[0].model is chain.stages[1].model  # loaded once
    ((answer,), _) = chain.predict(["abcde", "badcab"])
    assert isinstance(answer, ChainAnswer)
    assert [one.text for one in answer.answers] == ["edcba", "abcde"]
    assert (chain.reads, chain.writes) == ("text", "text")
    model = elman.load(run)
    ((same,),) = elman.Chain([model, elman.chain(run).stages[0]]).predict("abcde")
    assert same.text == "abcde"
    assert same.score == pytest.approx(answer.score, rel=1e-2)  # another batch, perhaps in bf16


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    """What ``elman chain`` prints: to standard output, or to standard error if it fails."""
    assert cli.main(["chain", *arguments]) == status
    shown = capsys.readouterr()
    return shown.err if status else shown.out


def test_the_command(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert printed(capsys, run, "abcd") == "dcba\n"
    assert printed(capsys, run, run, "abcd", "bade", "--n-best=3") == "abcd\nbade\n"
    assert printed(capsys, run, run, "abcd", "--show") == "translate\tdcba\ntranslate\tabcd\n"
    assert printed(capsys, run, run, "abcd", "bad", "--show").splitlines()[:5] == [
        "abcd", "translate\tdcba", "translate\tabcd", "", "bad"
    ]  # fmt: skip
    found = json.loads(printed(capsys, run, run, "abcd", "--json"))
    assert found["input"] == "abcd"
    assert found["answers"][0]["text"] == "abcd"
    assert [one["text"] for one in found["answers"][0]["stages"]] == ["dcba", "abcd"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("abcd\n\nbade\n"))
    assert printed(capsys, run, run) == "abcd\n\nbade\n"
    (tmp_path / "t.csv").write_text("source\nabcd\nbade\n")
    assert printed(capsys, run, run, str(tmp_path / "t.csv"), "--out", str(tmp_path / "o.csv")) == ""
    assert polars.read_csv(tmp_path / "o.csv")["predicted"].to_list() == ["abcd", "bade"]


def test_wrong_command_lines(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: str) -> str:
        return printed(capsys, *arguments, status=2)

    assert "requires an argument" in error()
    assert "no/run: no such folder; a run directory" in error("no/run", "abc")
    assert f"{run}x: no such run directory" in error(run, f"{run}x", "abc")
    assert f"{run}: a run directory; those of a chain come before its inputs" in error(run, "abc", run)
    assert "--out: writes a file instead of" in error(run, "abc", "--out", str(tmp_path / "o.txt"), "--json")
    assert "n_best: no stage before the last one" in error(run, "abc", "--n-best=2")
    language = str(tmp_path / "language")
    elman.train("language", {"text": ["abc de"] * 50}, out=language, steps=1, hidden_size=8, progress=False)
    assert f"stage 2 (language, {language}): the model answers no inputs" in error(run, language, "abc")


def test_a_file_names_a_chain(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(run).parent
    path = folder / "twice.toml"
    path.write_text(
        'input = "word"\n[[stage]]\nrun = "behind"\nn_best = 2\nreference = "behind"\n'
        '[[stage]]\nrun = "behind"\nscale = 0.5\nbeam = 3\nreference = "again"\n'
    )
    assert printed(capsys, str(path), "abcd") == "abcd\n"
    chain = elman.chain(str(path))
    assert [stage.options for stage in chain.stages] == [{"n_best": 2}, {"beam": 3}]
    assert [stage.scale for stage in chain.stages] == [1.0, 0.5]
    table = tmp_path / "t.tsv"
    table.write_text("word\tbehind\tagain\nabcd\tdcba\tabcd\nbade\tedab\tbadx\nace\teca\t\n")
    assert printed(capsys, str(path), str(table)) == "abcd\nbade\nace\n"
    assert cli.main(["evaluate", str(path), str(table), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["examples"], scores["unanswered"]) == (3, 0)
    first, second = scores["stages"]
    assert (first["reference"], first["in_chain"]["exact"]) == ("behind", 1.0)
    assert (second["reference"], second["in_chain"]["exact"], second["alone"]["exact"]) == ("again", 0.5, 0.5)
    assert "alone" not in first
    assert cli.main(["evaluate", str(path), str(table)]) == 0
    shown = capsys.readouterr().out
    assert f"stage 1: translate, {folder / 'behind'}, compared with 'behind'" in shown
    assert shown.splitlines()[-2:] == [f"{'examples':20} 3", f"{'unanswered':20} 0"]


def test_paths_in_a_file_are_relative_to_it(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Search(Options):
        beam: int = 1
        hotwords: Annotated[str | None, FileName()] = None

    monkeypatch.setattr("elman.tasks.translate.model.Translator.Options", Search)
    path = Path(run).parent / "words.toml"
    path.write_text('[[stage]]\nrun = "behind"\nbeam = 2\nhotwords = "words.txt"\n')
    assert elman.chain(path).stages[0].options == {"beam": 2, "hotwords": str(path.parent / "words.txt")}
    path.write_text('[[stage]]\nrun = "behind"\nhotwords = "/words.txt"\n')
    assert elman.chain(path).stages[0].options == {"hotwords": "/words.txt"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "only white space|is empty"),
        ("stage = 3", "stage: should be a valid list"),
        ("[[stages]]\nrun = 'x'", "unknown option 'stages': did you mean stage"),
        ("[[stage]]\nbeam = 2", "stage 1: run: is missing"),
        ("[[stage]]\nrun = 'no'", "no: no such folder"),
        (
            "[[stage]]\nrun = 'behind'\nbeem = 2",
            "wrong.toml, stage 1: unknown option 'beem': did you mean beam",
        ),
        ("[[stage]]\nrun = 'behind'\nbeam = '2'", "beam: should be a valid integer"),
        ("[[stage]]\nrun = 'behind'\nscale = -1", "stage 1: scale: should be greater than or equal to 0"),
        ("[[stage]\n", "not TOML"),
    ],
)
def test_wrong_files(text: str, problem: str, run: str) -> None:
    path = Path(run).parent / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ElmanError, match=problem):
        elman.chain(path)


def test_wrong_evaluations(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(data: str, reference: str = 'reference = "right"', *options: str) -> str:
        path, table = Path(run).parent / "scored.toml", tmp_path / "t.csv"
        path.write_text(f'[[stage]]\nrun = "behind"\n{reference}\n')
        table.write_text(data)
        assert cli.main(["evaluate", str(path), str(table), *options]) == 2
        return capsys.readouterr().err

    assert "no stage names the column of its right answers" in error("source,right\nab,ba\n", "")
    assert "t.csv: no column 'right'; there are source, wrong" in error("source,wrong\nab,ba\n")
    assert "t.csv, row 2: is empty" in error("source,right\nab,ba\n ,b\n")
    assert "the column 'right' of right answers is empty" in error("source,right\nab,\n")
    assert "--int8: is for a run" in error("source,right\nab,ba\n", 'reference = "right"', "--int8")
    assert cli.main(["evaluate", str(Path(run).parent / "scored.toml")]) == 2
    assert "name a table to evaluate the chain on" in capsys.readouterr().err


def test_one_input_of_several_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(stages({"a": [("b", -1.0)], "c": [("d", -1.0)], "e": [("", -1.0)]}, {"b": [("B", -1.0)]}))
    monkeypatch.setattr("elman.cli.chain.load_chain", lambda runs, device: chain)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\nc\ne\na\n"))
    assert cli.main(["chain", "all.toml"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "B\n\n(no answer)\nB\n"
    assert shown.err == "elman: standard input, line 2: stage 2 (Table): d is not in the table\n"


def test_a_chain_that_speaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table({"a": [("bb", -1.0), ("b", -2.0)], "c": [("ddd", -1.0)], "quiet": [("", -1.0)]})
    chain = Chain([Stage(table), Stage(Voice({x: [(x, None)] for x in ("b", "bb", "ddd")}))])
    monkeypatch.setattr("elman.cli.chain.load_chain", lambda runs, device: chain)
    assert "--out: name the sound file to write" in printed(capsys, "all.toml", "a", status=2)
    assert "o.txt: unknown sound format" in printed(capsys, "all.toml", "a", "--out", "o.txt", status=2)
    out = str(tmp_path / "o.wav")
    assert printed(capsys, "all.toml", "a", "--out", out, "--show") == f"Table\tbb\nVoice\tbb ({out})\n"
    samples, rate = soundfile.read(out)
    assert (len(samples), rate) == (1600, 8000)
    assert np.allclose(samples, 0.25, atol=1e-3)
    assert "already exists" in printed(capsys, "all.toml", "a", "--out", out, status=2)
    assert printed(capsys, "all.toml", "a", "quiet", "c", "--out", out) == "(no answer)\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o-1.wav", "o-3.wav", "o.wav"]
    found = json.loads(printed(capsys, "all.toml", "c", "--json", "--out", str(tmp_path / "c.flac")))
    assert found["out"] == str(tmp_path / "c.flac")


def test_pictures_to_captions_to_other_texts(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    rows = ["image\tcaption"]
    for k in range(20):
        name, colour = (f"{k}.png", "abcde"[k % 5])
        image.new("RGB", (16, 16), (50 * (k % 5), 20, 20)).save(tmp_path / name)
        rows.append(f"{name}\t{colour} {colour}")
    (tmp_path / "captions.tsv").write_text("\n".join(rows))
    captions = str(tmp_path / "captions")
    elman.train(
        "caption", tmp_path / "captions.tsv", out=captions, encoder="small", image_size=16, picture_size=8,
        hidden_size=8, embedding_size=8, steps=3, progress=False,
    )  # fmt: skip
    pictures = [str(tmp_path / "0.png"), str(tmp_path / "3.png")]
    said = [found[0].text for found in elman.load(captions).predict(pictures)]  # type: ignore[attr-defined]
    wanted = [found[0].text for found in elman.load(run).predict(said)]  # type: ignore[attr-defined]
    assert [found[0].text for found in elman.chain([captions, run]).predict(pictures)] == wanted
    lines = printed(capsys, captions, run, *pictures).splitlines()
    assert lines == [f"{path}\t{text or '(no answer)'}" for path, text in zip(pictures, wanted, strict=True)]
    assert cli.main(["chain", captions, run, pictures[0], str(tmp_path / "no.png")]) == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == lines[0]
    assert "no.png" in shown.err
    message = f"stage 2 (caption, {captions}) reads pictures, stage 1 (translate, {run}) writes text"
    assert message in printed(capsys, run, captions, "abc", status=2)
