"""Text to text: reading pairs, training, answering, measuring, and what is said of wrong input."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman import cli
from elman.data.buckets import Buckets
from elman.data.pairs import read_pairs
from elman.data.vectors import first_words, read_vectors
from elman.tasks.answers import best_word, by_words
from elman.training.events import Started

SMALL: dict[str, Any] = {
    "source_tokens": "char", "target_tokens": "char", "embedding_size": 24, "hidden_size": 48, "num_layers": 1,
    "dropout": 0.0, "batch_size": 600, "progress": False,
}  # fmt: skip
FLAGS = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items() if key != "progress"]


def some_pairs(count: int, longest: int = 6) -> list[tuple[str, str]]:
    """Words and what they read from behind."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcde"), draw.integers(2, longest + 1))) for _ in range(count)]
    return [(word, word[::-1]) for word in words]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("pairs")
    pairs = some_pairs(800)
    for name, side in (("a.txt", 0), ("b.txt", 1)):
        (folder / name).write_text("".join(pair[side] + "\n" for pair in pairs))
    return str(folder / "a.txt"), str(folder / "b.txt")


@pytest.fixture(scope="module")
def run(files: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that has learnt to read from behind, trained by the command line."""
    path = str(tmp_path_factory.mktemp("translate") / "run")
    assert cli.main(["train", "translate", *files, "--out", path, "--steps=250", "--learning-rate=1e-2", *FLAGS]) == 0
    return path


def test_it_learns(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", run, "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["exact"] > 0.9
    assert metrics["character_error_rate"] < 0.05
    assert metrics["bleu"] >= 0
    assert metrics["chrf"] > 80
    assert metrics["signature"].startswith("nrefs:1|case:mixed")
    assert metrics["tokens_per_second"] > 0


def test_predict(run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["predict", run, "abc", "edda"]) == 0
    assert capsys.readouterr().out == "cba\nadde\n"
    assert cli.main(["predict", run, "abc", "--n-best=2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["input"] == "abc"
    assert found["answers"][0]["text"] == "cba"
    assert found["answers"][0]["score"] > found["answers"][1]["score"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("abc\nedda\n"))
    assert cli.main(["predict", run, "--beam=1"]) == 0
    assert capsys.readouterr().out == "cba\nadde\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("abc\n\nedda\n"))
    assert cli.main(["predict", run]) == 0
    assert capsys.readouterr().out == "cba\n\nadde\n"
    assert cli.main(["predict", run, " "]) == 2
    assert "input 1 of 1 is empty" in capsys.readouterr().err


def test_pictures(run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "looked.png"
    assert cli.main(["predict", run, "abcde", "--plot", str(picture), "--show-attention"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "edcba"
    assert [line[:1] for line in lines[1:]] == list("edcba")
    assert cli.main(["predict", run, "abc", "cba", "--plot", str(tmp_path / "many.svg")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"looked.png", "many-1.svg", "many-2.svg"}
    assert cli.main(["predict", run, "abc", "--plot", str(tmp_path / "wrong.txt")]) == 2
    assert "wrong.txt: unknown picture format; known are " in capsys.readouterr().err


def test_where_it_looks(run: str) -> None:
    """Each letter is looked at when it is written."""
    ((answer,),) = elman.load(run).predict(["abcde"])
    assert answer.source == list("abcde")
    assert answer.tokens == list("edcba")
    assert answer.weights.shape == (5, 5)


def test_the_card_and_info(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "model.predict" in (Path(run) / "README.md").read_text()
    assert cli.main(["info", run]) == 0
    assert "a translate model" in capsys.readouterr().out
    assert cli.main(["generate", run]) == 2
    assert f"elman predict {run}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        {"model": "transformer", "hidden_size": 32}, {"model": "gnmt", "num_layers": 3}, {"cell": "gru"},
        {"input_feeding": True}, {"attention": "location"}, {"scheduled_sampling": 0.5}, {"word_dropout": 0.2},
        {"joint": True, "tie": False}, {"target_tokens": "word", "vocab_size": 50},
        {"source_tokens": "bpe", "vocab_size": 260}, {"average": 0.0}, {"norm": "post", "model": "transformer"},
    ],
)  # fmt: skip
def test_options(options: dict[str, Any], files: tuple[str, str], tmp_path: Path) -> None:
    """Each one trains, changes what comes out, and is loaded again as it was."""
    plain = elman.train("translate", files, steps=3, **SMALL)
    model = elman.train("translate", files, steps=3, out=tmp_path / "run", **SMALL | options)
    assert [p.sum().item() for p in model.network.parameters()] != [p.sum().item() for p in plain.network.parameters()]
    texts = ["abc", "dd"]
    again = elman.load(tmp_path / "run").predict(texts, beam=2)
    assert [[a.text for a in row] for row in again] == [[a.text for a in row] for row in model.predict(texts, beam=2)]


def test_letters_have_sizes_of_their_own(files: tuple[str, str], tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("".join(f"w{k}\n" for k in range(1100)))
    (tmp_path / "same.txt").write_text(words.read_text())
    letters = elman.train("translate", files, target_tokens="char", steps=0, progress=False).config
    whole = elman.train(
        "translate", [str(words), str(tmp_path / "same.txt")], source_tokens="word", target_tokens="word", steps=0,
        progress=False,
    ).config  # fmt: skip
    assert (letters.num_layers, letters.dropout) == (2, 0.2)
    assert (whole.num_layers, whole.dropout) == (1, 0.3)


def test_tables(tmp_path: Path) -> None:
    rows = [("a b", "x"), ('say "no"\nnow', "y"), ("ü", "")]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"de": a, "en": b, "n": 1}) + "\n" for a, b in rows))
    (tmp_path / "t.csv").write_text('n,de,en\n1,a b,x\n1,"say ""no""\nnow",y\n1,ü,\n')
    (tmp_path / "t.tsv").write_text('de\ten\na b\tx\n"say ""no""\nnow"\ty\nü\t\n')
    import polars

    polars.read_ndjson(tmp_path / "t.jsonl").write_parquet(tmp_path / "t.parquet")
    for ending in ("jsonl", "csv", "tsv", "parquet"):
        pairs = read_pairs([str(tmp_path / f"t.{ending}")], "de", "en")
        assert pairs.sources == ["a b", 'say "no"\nnow']
        assert pairs.targets == ["x", "y"]
    with pytest.raises(elman.ElmanError, match=r"t.csv: has no column 'fr'; it has n, de, en"):
        read_pairs([str(tmp_path / "t.csv")], "de", "fr")
    (tmp_path / "q.tsv").write_text('de\ten\n"Wer\tWho\nist\tis\nda"\tthere\n"Ja", sagt er.\t"Yes," he says.\n')
    assert read_pairs([str(tmp_path / "q.tsv")], "de", "en").targets == ["Who", "is", "there", '"Yes," he says.']
    (tmp_path / "list.jsonl").write_text('{"de": ["a"], "en": "b"}\n')
    with pytest.raises(elman.ElmanError, match=r"list.jsonl: column 'de' contains List\(String\), not text"):
        read_pairs([str(tmp_path / "list.jsonl")], "de", "en")
    (tmp_path / "broken.jsonl").write_text('{"de": 1\n')
    with pytest.raises(elman.ElmanError, match=r"broken.jsonl, line 1: not valid JSON"):
        read_pairs([str(tmp_path / "broken.jsonl")], "de", "fr")


def test_sides_that_do_not_go_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a, b = tmp_path / "a.de", tmp_path / "a.en"
    lengths = [3, 40, 5, 60, 2, 50, 4, 70, 3, 45, 5]
    lines = ["x" * n for n in lengths]
    a.write_text("\n".join(lines))
    b.write_text("\n".join(lines[:4] + lines[5:]))
    with pytest.raises(
        elman.ElmanError, match=r"a.de has 11 lines and .*a.en 10: .* seem to be misaligned from line 5"
    ):
        read_pairs([str(a), str(b)], "", "")
    with pytest.raises(elman.ElmanError, match="give two text files with the same number of lines"):
        read_pairs([str(a)], "", "")
    b.write_text("\n".join([*lines[:4], " ", *lines[5:]]))
    with caplog.at_level(logging.WARNING):
        assert len(read_pairs([str(a), str(b)], "", "").sources) == 10
    assert "a.de, line 5: skipped 1 of 11 pairs with an empty side" in caplog.text


def test_long_lines(files: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    for truncate, kept in ((False, "skipped"), (True, "truncated")):
        caplog.clear()
        model = elman.train("translate", files, steps=0, max_tokens=5, truncate=truncate, **SMALL)
        assert f"more than 5: {kept}" in caplog.text
        assert "line " in caplog.text
        assert model.predict(["abcdabcd"], max_length=3)[0][0].text is not None
    assert "8 tokens; the model was trained on at most 5" in caplog.text
    learnt = SMALL | {"model": "transformer", "positions": "learnt", "hidden_size": 32, "max_tokens": 8}
    with pytest.raises(elman.ElmanError, match="input 1 of 1: 20 tokens; .* the model has 16"):
        elman.train("translate", files, steps=0, **learnt).predict("abcd" * 5)
    with pytest.raises(elman.ElmanError, match="every pair is longer than --max-tokens 1"):
        elman.train("translate", files, steps=0, max_tokens=1, **SMALL)


def test_words_that_are_not_known_are_copied(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("".join(f"{w} {w}\n" for w in ["yes", "no", "maybe"] * 30))
    settings = SMALL | {"source_tokens": "word", "target_tokens": "word", "vocab_size": 4}
    model = elman.train("translate", [str(tmp_path / "a"), str(tmp_path / "b")], steps=3, **settings)
    with torch.no_grad():
        model.network.head.bias[1] += 100.0
    ((answer,),) = model.predict("quark no", beam=1, max_length=3)
    assert len(answer.tokens) == 3
    assert set(answer.text.split()) <= {"quark", "no"}
    assert answer.source == [" quark", " no"]
    assert best_word(["Gr", "ün", " ist"], torch.tensor([0.3, 0.3, 0.4])) == "Grün"


def test_pieces_of_characters(files: tuple[str, str]) -> None:
    """A byte pair may be a part of a character: the labels of a picture are whole."""
    settings = SMALL | {"source_tokens": "bpe", "target_tokens": "bpe", "vocab_size": 300}
    model = elman.train("translate", files, steps=0, **settings)
    assert "".join(model.task.source_pieces(model.learnt, "a Привет")) == " a Привет"
    assert len(model.task.source_pieces(model.learnt, "a Привет")) == len(
        model.task.source_ids(model.learnt, ["a Привет"])[0]
    )
    assert [word for word, _ in by_words(model.task.source_pieces(model.learnt, "ab Привет"))] == [" ab", " Привет"]


def test_how_long_answers_may_become(tmp_path: Path) -> None:
    for name, times in (("a", 1), ("b", 9)):
        (tmp_path / name).write_text("".join(f"{'xy'[k % 2] * times}\n" for k in range(60)))
    model = elman.train("translate", [str(tmp_path / "a"), str(tmp_path / "b")], steps=0, **SMALL)
    assert model.config.length_ratio == pytest.approx(12.0)
    with torch.no_grad():
        model.network.head.bias[0] -= 100.0
    assert len(model.predict("xyx", beam=1)[0][0].text) == 46
    assert len(model.predict("xyx", beam=1, max_length=5)[0][0].text) == 5


def test_vectors(tmp_path: Path, files: tuple[str, str]) -> None:
    rows = {"a": [1.0, 2.0, 3.0], "b": [0.5, 0.0, -1.0], "New York": [1.0, 1.0, 1.0]}
    text = "".join(f"{w} {' '.join(map(str, v))}\n" for w, v in rows.items())
    (tmp_path / "glove.txt").write_text(text)
    (tmp_path / "fast.vec").write_text("3 3\n" + text)
    body = b"".join(
        w.replace(" ", "_").encode() + b" " + np.array(v, dtype="<f4").tobytes() + b"\n" for w, v in rows.items()
    )
    (tmp_path / "w2v.bin").write_bytes(b"3 3\n" + body)
    for name in ("glove.txt", "fast.vec", "w2v.bin"):
        found = read_vectors(str(tmp_path / name), {"b", "New York", "c"})
        expected = ["b"] if name.endswith("bin") else ["b", "New York"]  # a space would end a word there
        assert {word: v.tolist() for word, v in found.items()} == {w: rows[w] for w in expected}
        assert first_words(str(tmp_path / name), 2) == ["a", "b"]
        assert len(first_words(str(tmp_path / name), 9)) == 3
    events: list[Any] = []
    settings = SMALL | {"embedding_size": 3, "heads": 1, "vectors": str(tmp_path / "glove.txt")}
    model = elman.train("translate", files, steps=0, listeners=[events.append], **settings)
    a, b = (model.network.reader.source.weight[model.source.inner.token_to_id(letter)] for letter in "ab")
    ratio = torch.tensor(rows["a"]) / a.detach()
    assert torch.allclose(ratio, ratio[0].expand(3))
    assert torch.allclose(torch.tensor(rows["b"]) / ratio[0], b)
    (started,) = [event for event in events if isinstance(event, Started)]
    assert started.model.about()["vectors"] == "glove.txt covers 2 of 5 tokens"
    own = {key: value for key, value in settings.items() if key != "embedding_size"}
    assert elman.train("translate", files, steps=0, **own).config.embedding_size == 3
    for content, message in (
        ("a 1 2 3\nb 1 2\n", r"v.txt, line 2: 2 numbers, not 3"),
        ("a 1 2 3\nb 1 x 2\n", r"v.txt, line 2: expected a word and 3 numbers"),
        ("a 1 2 3 4\n", r"the embeddings have size 4, but --embedding-size is 3: give --embedding-size 4"),
        ("zz 1 2 3\n", r"v.txt: has none of the 5 tokens"),
    ):
        (tmp_path / "v.txt").write_text(content)
        with pytest.raises(elman.ElmanError, match=message):
            elman.train("translate", files, steps=0, **settings | {"vectors": str(tmp_path / "v.txt")})
    (tmp_path / "short.bin").write_bytes(b"3 3\n" + body[:-6])
    (tmp_path / "broken.txt.gz").write_bytes(b"\x1f\x8b\x08\x00nothing")
    with pytest.raises(elman.ElmanError, match=r"broken.txt.gz: cannot be read"):
        read_vectors(str(tmp_path / "broken.txt.gz"), {"a"})
    with pytest.raises(elman.ElmanError, match=r"short.bin: the file ends within word 3 of 3"):
        read_vectors(str(tmp_path / "short.bin"), {"a"})


def test_buckets() -> None:
    draw = np.random.default_rng(1)
    lengths = draw.integers(1, 40, (500, 2))
    assert len({tuple(Buckets([3, 3, 3], 100, 0, rank, 4).rows(0)) for rank in range(4)}) == 1
    for world in (1, 3):
        ranks = [Buckets(lengths, 200, 0, rank, world) for rank in range(world)]
        seen: list[int] = []
        k = 0
        while len(set(seen)) < 500:
            for one in ranks:
                rows = one.rows(k)
                assert len(rows) == 1 or lengths[rows].max() * len(rows) <= 200
                seen += rows.tolist()
            k += 1
        assert len(seen) < 500 + 200 * world  # an epoch holds everything once
    assert [ranks[0].rows(k).tolist() for k in (0, 70, 5)] == [
        Buckets(lengths, 200, 0, 0, 3).rows(k).tolist() for k in (0, 70, 5)
    ]


def test_pieces_as_words() -> None:
    pieces = ["Ein", " schö", "ner", " Tag", ".", " ", "\u00e9"]
    assert [word for word, _ in by_words(pieces)] == ["Ein", " schöner", " Tag", ".", " é"]
    assert [word for word, _ in by_words(list("ab c"))] == ["a", "b", " ", "c"]


def test_evaluate_writes_the_answers_of_the_search_that_is_asked_for(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "more.tsv"
    data.write_text("source\ttarget\nabc\tcba\nabc\tabc\nbad\tdab\n")
    for beam in (1, 3):
        out = tmp_path / f"answers-{beam}.jsonl"
        assert cli.main(["evaluate", run, str(data), "--json", "--answers", str(out), "--beam", str(beam)]) == 0
        capsys.readouterr()
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        asked = elman.load(run).predict(["abc", "bad"], beam=beam)
        assert [row["input"] for row in rows] == ["abc", "abc", "bad"]
        assert [row["target"] for row in rows] == ["cba", "abc", "dab"]
        assert [row["predicted"] for row in rows] == [asked[0][0].text, asked[0][0].text, asked[1][0].text]
    assert cli.main(["evaluate", run, str(data), "--answers", str(out)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert cli.main(["evaluate", run, str(data), "--beam", "0"]) == 2
    assert "--beam" in capsys.readouterr().err


def test_evaluate_has_no_search_for_models_without(text_file: str, tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "language")
    elman.train("language", text_file, steps=1, out=out, hidden_size=8, num_layers=1, progress=False)
    assert cli.main(["evaluate", out, text_file, "--answers", str(tmp_path / "a.tsv")]) == 2
    assert "does not write texts" in capsys.readouterr().err
    assert cli.main(["evaluate", out, text_file, "--beam", "2"]) == 2
    assert "--beam" in capsys.readouterr().err
