"""Input files: read as in training, answered row by row, and written with all their columns."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import polars
import pytest

import elman
from elman import cli
from elman.data.inputs import is_file_argument
from elman.data.stories import read_questions
from elman.data.tagged import read_words

SMALL = ["--hidden-size=8", "--embedding-size=8"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A small model of each task that predicts, trained on columns with unusual names."""
    folder = tmp_path_factory.mktemp("runs")
    reviews = "".join(f"{k},{'good film' if k % 2 else 'bad film'},{'pos' if k % 2 else 'neg'}\n" for k in range(60))
    (folder / "reviews.csv").write_text("id,review,stars\n" + reviews)
    (folder / "tags.txt").write_text("the D\ndog N\nruns V\n\na D\ncat N\nsits V\n\n" * 15)
    (folder / "fill.txt").write_text("The dog barks loudly .\nThe cow moos loudly .\n" * 20)
    (folder / "pairs.tsv").write_text("de\ten\n" + "".join(f"a{'b' * k}\tA{'B' * k}\n" for k in range(12)))
    story = "Mary went to the garden. John went to the office."
    rows = [{"story": story, "question": f"Where is {w}?", "answer": a} for w, a in (("Mary", "garden"), ("John", "x"))]
    more = [row | {"story": row["story"] + " " * k} for row in rows for k in range(10)]
    (folder / "stories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    for task, data, options in (
        ("classify", "reviews.csv", ["--text=review", "--label=stars", "--steps=80", "--learning-rate=0.02"]),
        ("tag", "tags.txt", ["--steps=60", "--learning-rate=0.02", "--character-size=8"]),
        ("fill", "fill.txt", ["--steps=2"]),
        ("punctuate", "fill.txt", ["--steps=2"]),
        ("translate", "pairs.tsv", ["--source=de", "--target=en", "--source-tokens=char", "--target-tokens=char"]),
        ("answer", "stories.jsonl", []),
    ):
        options = options if any("steps=" in one for one in options) else [*options, "--steps=2", "--num-layers=1"]
        assert cli.main(["train", task, str(folder / data), "--out", str(folder / task), *options, *SMALL]) == 0
    return {task: str(folder / task) for task in ("classify", "tag", "fill", "punctuate", "translate", "answer")}


LINES = {
    "classify": ["good film", "bad film"],
    "tag": ["the dog runs", "a cat sits"],
    "fill": ["The ___ barks loudly .", "The ___ moos loudly ."],
    "punctuate": ["the dog", "the cow moos"],
    "translate": ["abb", "ab"],
    "answer": ["Mary went to the garden. Where is Mary?", "John left.\tWhere is John?"],
}


@pytest.mark.parametrize("task", LINES)
def test_an_empty_line_has_an_empty_answer(
    task: str, runs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = LINES[task]
    one = ["--top=1"] if task == "fill" else []
    alone = []
    for text in (first, second):
        assert cli.main(["predict", runs[task], text, *one]) == 0
        alone.append(capsys.readouterr().out.rstrip("\n"))
    lines = f"{first}\n\n{second}\n  \n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert cli.main(["predict", runs[task], *one]) == 0
    assert capsys.readouterr().out == f"{alone[0]}\n\n{alone[1]}\n\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert cli.main(["predict", runs[task], "--json", *one]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["input"] for r in records] == [first, "", second, "  "]
    assert records[1] == {"input": "", "answers": None, "reason": "the input is empty"}
    assert records[0]["answers"] and records[2]["answers"]


def test_a_line_that_cannot_be_answered(
    runs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("The ___ barks .\nno blank\nThe ___ moos .\n"))
    assert cli.main(["predict", runs["fill"], "--json"]) == 2
    shown = capsys.readouterr()
    records = [json.loads(line) for line in shown.out.splitlines()]
    assert [bool(r["answers"]) for r in records] == [True, False, True]
    assert "no blank in 'no blank'" in records[1]["reason"]
    (line,) = shown.err.splitlines()
    assert line.startswith("elman: standard input, line 2: no blank in 'no blank'")


TABLES = {
    "classify": ("review", LINES["classify"]),
    "tag": ("words", LINES["tag"]),
    "fill": ("text", LINES["fill"]),
    "punctuate": ("text", LINES["punctuate"]),
    "translate": ("de", LINES["translate"]),
}


@pytest.mark.parametrize("task", TABLES)
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_keeps_its_columns(
    task: str, ending: str, runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, (first, second) = TABLES[task]
    path, out = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    table = polars.DataFrame({"z": ["1", 'x, "y"', "3"], name: [first, None, second], "a": [None, "b", "c"]})
    write = {"csv": table.write_csv, "jsonl": table.write_ndjson, "parquet": table.write_parquet}
    table.write_csv(path, separator="\t") if ending == "tsv" else write[ending](path)
    one = ["--top=1"] if task == "fill" else []
    assert cli.main(["predict", runs[task], str(path), *one]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0] and not lines[1] and lines[2]
    assert cli.main(["predict", runs[task], str(path), "--out", str(out), *one]) == 0
    assert capsys.readouterr().out == ""
    read = {"jsonl": polars.read_ndjson, "parquet": polars.read_parquet}.get(
        ending, lambda p: polars.read_csv(p, separator="\t" if ending == "tsv" else ",", infer_schema=False)
    )
    found = read(out)
    assert found.columns == ["z", name, "a", "predicted", "score"]
    assert found.select(table.columns).rows() == table.rows()
    said = found["predicted"].to_list()
    assert said[1] is None
    if task != "tag":
        assert [said[0] or "(no answer)", said[2] or "(no answer)"] == [lines[0], lines[2]]
    elif ending in ("csv", "tsv"):
        assert said == ["D N V", None, "D N V"]
    else:
        assert said == [["D", "N", "V"], None, ["D", "N", "V"]]


def test_predictions_for_files(runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, run = tmp_path / "new.csv", runs["classify"]
    table.write_text("predicted,review\n?,good film\n?,bad film\n")
    assert cli.main(["predict", run, str(table), "--top=2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert cli.main(["predict", run, str(table), "--top=2", "--out", str(tmp_path / "out.csv")]) == 0
    found = polars.read_csv(tmp_path / "out.csv")
    assert found.columns == ["predicted", "review", "predicted_new", "score", "predicted_2", "score_2"]
    assert found["predicted_new"].to_list() == ["pos", "neg"]
    other = tmp_path / "other.csv"
    other.write_text("text\ngood film\n")
    assert cli.main(["predict", run, str(other), "--column=text"]) == 0
    assert capsys.readouterr().out == "pos\n"
    lines = tmp_path / "lines.txt"
    lines.write_text("good film\n\nbad film\n")
    assert cli.main(["predict", run, str(lines), str(other), "--column=text", "good film"]) == 0
    assert capsys.readouterr().out == "pos\n\nneg\npos\npos\n"
    assert cli.main(["predict", run, str(lines), "--out", str(tmp_path / "out.txt.gz")]) == 0
    assert elman.data.read_text(str(tmp_path / "out.txt.gz")) == "pos\n\nneg\n"
    assert cli.main(["predict", run, "good film", "bad film", "--out", str(tmp_path / "out.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["input"], row["predicted"]) for row in rows] == [("good film", "pos"), ("bad film", "neg")]
    (tmp_path / "folder").mkdir()
    assert "answers to 2 inputs in" in capsys.readouterr().err
    for arguments, message in (
        (["none.csv"], "none.csv: no such file. If this is a text, give it on standard input"),
        (["./no such.csv"], "no such file"),
        ([str(tmp_path / "folder")], "this is a folder; give the files in it"),
        ([str(other)], "other.csv: has no column 'review'; it has text"),
        (["good film", "--column=text"], "--column: names a column of a table"),
        ([str(table), "--out", str(table)], "already exists; name a new file"),
        ([str(table), "--out", str(tmp_path / "no" / "a.csv")], "does not exist"),
        ([str(table), "--out", str(tmp_path / "a.xyz")], "a table is written to .csv, .tsv"),
        ([str(table), str(lines), "--out", str(tmp_path / "a.csv")], "the answers to one file are written"),
        ([str(table), "--out", str(tmp_path / "a.csv"), "--json"], "--out: writes a file instead"),
    ):
        assert cli.main(["predict", run, *arguments]) == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (tmp_path / "a.csv").exists()


def test_texts_that_are_not_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("What a film!", "and/or", "What is in reviews.csv", "u.s.a.", "x" * 5000, "a\0b", "https://a.b/c"):
        assert not is_file_argument(text)
    (tmp_path / "my file").write_text("x")
    assert is_file_argument("my file")
    for name in ("reviews.csv", "a/b.TXT", "my data/new reviews.csv", "x.conllu.gz", "~/no such.jsonl", "gone.wav"):
        with pytest.raises(elman.ElmanError, match="no such file"):
            is_file_argument(name)


CONLLU = """# sent_id = 1
1-2\tthedog\t_\t_\t_\t_\t_\t_\t_\t_
1\tthe\tthe\tX\t_\t_\t0\t_\t_\tSpaceAfter=No
2\tdog\t_\tX\t_\t_\t1\t_\t_\t_
2.1\tdoes\t_\tX\t_\t_\t_\t_\t_\t_
3\truns\t_\t_\t_\t_\t_\t_\t_\t_

# sent_id = 2
1\tcat\t_\t_\t_\t_\t_\t_\t_\t_

"""


def test_tags_are_written_back(runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tagged(name: str, text: str, out: str) -> str:
        (tmp_path / name).write_text(text)
        assert cli.main(["predict", runs["tag"], str(tmp_path / name), "--out", str(tmp_path / out)]) == 0
        return (tmp_path / out).read_text()

    wanted = CONLLU
    for old, new in (("the\tthe\tX", "the\tthe\tD"), ("dog\t_\tX", "dog\t_\tN"), ("runs\t_\t_", "runs\t_\tV")):
        wanted = wanted.replace(old, new)
    wanted = wanted.replace("cat\t_\t_", "cat\t_\tN")
    assert tagged("a.conllu", CONLLU, "b.conllu") == wanted
    assert tagged("a.conll", CONLLU, "b.conll") == wanted
    assert tagged("a.txt", "the D\ndog O\n\ncat N\n", "b.txt") == "the D D\ndog O N\n\ncat N N\n"
    assert tagged("c.bio", "-DOCSTART-\n\nthe\ndog\n\ncat\n", "d.bio") == "-DOCSTART-\n\nthe D\ndog N\n\ncat N\n"
    assert tagged("e.tsv", "the\tx\ndog\ty\n\n\ncat\tz\n", "f.tsv") == "the\tx\tD\ndog\ty\tN\n\n\ncat\tz\tN\n"
    assert cli.main(["predict", runs["tag"], str(tmp_path / "a.conllu")]) == 0
    assert capsys.readouterr().out == "the/D dog/N runs/V\ncat/N\n"
    (tmp_path / "lines.txt").write_text("the dog runs\na cat sits\n")
    assert cli.main(["predict", runs["tag"], str(tmp_path / "lines.txt")]) == 0
    assert capsys.readouterr().out == "the/D dog/N runs/V\na/D cat/N sits/V\n"
    (tmp_path / "x.ann").write_text("T1\tPer 0 4\tJohn\n")
    assert cli.main(["predict", runs["tag"], str(tmp_path / "x.ann")]) == 2
    assert "this is brat's standoff format" in capsys.readouterr().err


def test_lists_of_words(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"tokens": ["New York", "is"]}\n{"tokens": []}\n')
    assert read_words(str(tmp_path / "a.jsonl"), "words", None, []).inputs == [["New York", "is"], []]


def test_questions(runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "babi.txt").write_text("1 Mary left.\n2 Where is Mary?\n3 John left.\n4 Where is John? \tx\t1\n")
    asked = read_questions(str(tmp_path / "babi.txt"), "story", "question")
    assert asked.inputs == ["Mary left.\tWhere is Mary?", "Mary left. John left.\tWhere is John?"]
    (tmp_path / "q.csv").write_text("question,story\nWhere is Mary?,Mary went to the garden.\n")
    assert cli.main(["predict", runs["answer"], str(tmp_path / "q.csv"), "--out", str(tmp_path / "o.csv")]) == 0
    assert polars.read_csv(tmp_path / "o.csv").columns == ["question", "story", "predicted", "score"]


def test_missing_answers_are_reported(
    runs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model whose answer is empty reports it, together with the attention of the end token."""
    model = elman.load(runs["answer"])
    model.network.head.bias.data.fill_(0)
    model.network.head.bias.data[0] = 1e4  # the end
    ((answer,),) = model.predict(["Mary left. Where is Mary?"])
    assert answer.text == "" and answer.tokens == [""]
    assert answer.weights.shape == (1, len(answer.source))
    monkeypatch.setattr("elman.cli.predict.load", lambda run, device: model)
    assert cli.main(["predict", "run", "Mary left. Where is Mary?"]) == 0
    assert capsys.readouterr().out == "(no answer)\n"
    assert cli.main(["predict", "run", "Mary left. Where is Mary?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "no answer"


def test_lines_that_are_not_text(
    runs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines in UTF-8 are answered, and the others are reported."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"good film\nbad \xff film\nbad film\n")))
    assert cli.main(["predict", runs["classify"]]) == 2
    shown = capsys.readouterr()
    assert shown.out == "pos\n\nneg\n"
    assert shown.err == "elman: standard input, line 2: not UTF-8\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("good film\nbad film\n".encode("utf-16"))))
    assert cli.main(["predict", runs["classify"]]) == 2
    assert "line 1: not text: it contains a zero byte" in capsys.readouterr().err


def test_a_hyphen_is_standard_input(
    runs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in (
        b"good film\n\nbad film\n", b"[good film]\n\nbad film\n", b"id;review\n1;good film\n2;\n3;bad film\n",
        b'review\ngood film\n""\nbad film\n', b'[{"review": "good film"}, {}, {"review": "bad film"}]',
    ):  # fmt: skip
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert cli.main(["predict", runs["classify"], "-"]) == 0
        assert capsys.readouterr().out == "pos\n\nneg\n"


def test_a_table_without_rows(runs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,review\n")
    assert cli.main(["predict", runs["classify"], str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")]) == 0
    assert (tmp_path / "out.csv").read_text() == "id,review,predicted\n"


def test_answers_to_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide, long, ts = tmp_path / "wide.csv", tmp_path / "long.csv", tmp_path / "a.ts"
    rows = [(f"p{k}", "ab"[k % 2], [k % 2 + t / 10 for t in range(4)]) for k in range(12)]
    wide.write_text("who,t0,t1,t2,t3,label\n" + "".join(f"{p},{','.join(map(str, x))},{y}\n" for p, y, x in rows))
    long.write_text("who,x,label\n" + "".join(f"{p},{v},{y}\n" for p, y, x in rows for v in x))
    ts.write_text("@classLabel true a b\n@data\n" + "".join(f"{','.join(map(str, x))}:{y}\n" for _, y, x in rows))
    for path, options, names in (
        (wide, [], [p for p, _, _ in rows]),
        (long, ["--series=who"], [p for p, _, _ in rows]),
        (ts, [], [f"{ts}, line {k}" for k in range(3, 15)]),
    ):
        run, out = str(tmp_path / f"run-{path.name}"), tmp_path / f"out-{path.name}.csv"
        assert cli.main(["train", "classify", str(path), "--out", run, "--steps=1", "--hidden-size=4", *options]) == 0
        assert cli.main(["predict", run, str(path)]) == 0
        said = capsys.readouterr().out.splitlines()
        assert cli.main(["predict", run, str(path), "--out", str(out)]) == 0
        found = polars.read_csv(out)
        assert found["predicted"].to_list() == said
        assert found[found.columns[0]].to_list() == names
    assert found.columns == ["input", "predicted", "score"]
    assert polars.read_csv(tmp_path / "out-wide.csv.csv").columns == [
        "who", "t0", "t1", "t2", "t3", "label", "predicted", "score",
    ]  # fmt: skip
    assert polars.read_csv(tmp_path / "out-long.csv.csv").columns == ["who", "predicted", "score"]


def test_inspect_refuses_files(runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("review\ngood film\n")
    for name, message in (("a.csv", "this is a file; give a text"), ("b.csv", "no such file")):
        command = ["inspect", runs["classify"], str(tmp_path / name), "--out", str(tmp_path / "a.png")]
        assert cli.main(command) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["generate", runs["classify"], "story.txt"]) == 2
    assert "a prompt is a text, not a file" in capsys.readouterr().err
