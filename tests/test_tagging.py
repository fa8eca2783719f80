"""Tags: the field against brute force, entities, the formats, a model that learns, words that are missing."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman import cli
from elman.data.tagged import read_tagged
from elman.layers.crf import CRF
from elman.layers.tagger import Filler
from elman.predict import predict
from elman.tasks.tag_scores import entities, entity_scores, is_bio


def test_the_field_is_the_sum_over_all_sequences() -> None:
    K, lengths = 3, torch.tensor([4, 1, 3])
    field = CRF(K).double()
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter)
    scores = torch.randn(3, 4, K, dtype=torch.float64)
    best, marginals = field.decode(scores, lengths), field.marginals(scores, lengths)
    for row, T in enumerate(lengths.tolist()):
        every = torch.tensor(list(itertools.product(range(K), repeat=T)))
        alone, n = scores[row : row + 1, :T].expand(len(every), -1, -1), torch.full((len(every),), T)
        p = field.log_probability(alone, every, n).exp()
        assert p.sum().item() == pytest.approx(1.0)
        assert best[row, :T].tolist() == every[p.argmax()].tolist()
        assert not best[row, T:].any()
        for t in range(T):
            for k in range(K):
                assert marginals[row, t, k].item() == pytest.approx(p[every[:, t] == k].sum().item())
    tags = torch.randint(K, (3, 4))
    assert torch.autograd.gradcheck(lambda s: field.log_probability(s, tags, lengths), scores.requires_grad_())


def test_entities_are_counted_as_seqeval_does() -> None:
    assert is_bio(["B-PER", "I-PER", "O"]) and not is_bio(["NOUN", "B-X"]) and not is_bio(["O"])
    for tags, expected in (
        ("B-PER I-PER O B-LOC", {("PER", 0, 1), ("LOC", 3, 3)}),
        ("I-PER I-PER O", {("PER", 0, 1)}),
        ("B-PER B-PER I-LOC", {("PER", 0, 0), ("PER", 1, 1), ("LOC", 2, 2)}),
        ("O I-MISC-X O", {("MISC-X", 1, 1)}),
        ("S-A B-A E-A I-A", {("A", 0, 0), ("A", 1, 2), ("A", 3, 3)}),
    ):
        assert entities(tags.split()) == expected
    truth = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    said = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert entity_scores(truth, said)["entity_f1"] == 0.5  # seqeval's own example


CONLLU = """# sent_id = 1
# text = It's here
1-2\tIt's\t_\t_\t_\t_\t_\t_\t_\t_
1\tIt\tit\tPRON\tPRP\t_\t_\t_\t_\t_
2\t's\tbe\tAUX\tVBZ\t_\t_\t_\t_\t_
3\there\there\tADV\tRB\t_\t_\t_\t_\t_
3.1\tgone\tgo\tVERB\t_\t_\t_\t_\t_\t_

1\t#\t#\tSYM\tNN\t_\t_\t_\t_\t_
"""


def test_formats(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(CONLLU)
    found = read_tagged([str(tmp_path / "a.conllu")], None, "words", "tags")
    assert found.words == [["It", "'s", "here"], ["#"]]
    assert found.tags == [["PRON", "AUX", "ADV"], ["SYM"]]
    assert read_tagged([str(tmp_path / "a.conllu")], "lemma", "", "").tags[0] == ["it", "be", "here"]
    (tmp_path / "b.txt").write_text("-DOCSTART- X O\n\nJohn NNP B-PER\nruns VBZ O\n\n\nx y O\n")
    assert read_tagged([str(tmp_path / "b.txt")], None, "", "").tags == [["B-PER", "O"], ["O"]]
    assert read_tagged([str(tmp_path / "b.txt")], "2", "", "").tags == [["NNP", "VBZ"], ["y"]]
    (tmp_path / "c.csv").write_text('words,tags\n"a b",X Y\n')
    (tmp_path / "d.jsonl").write_text(json.dumps({"words": ["a c", "b"], "tags": ["X", "Y"]}) + "\n")
    assert read_tagged([str(tmp_path / "c.csv")], None, "words", "tags").words == [["a", "b"]]
    assert read_tagged([str(tmp_path / "d.jsonl")], None, "words", "tags").words == [["a c", "b"]]
    for name, text, tag, message in (
        ("x.txt", "a X\nb\n", None, r"x.txt, line 2: 1 columns, not 2; every word needs its tag"),
        ("x.txt", "a\n", None, r"x.txt, line 1: 1 columns; a word and its tag are needed"),
        ("x.txt", "a X\n", "upos", r"x.txt: --tag is the number of a column there, from 1, not 'upos'"),
        ("x.conllu", CONLLU, "pos", r"unknown column of CoNLL-U 'pos'"),
        ("x.csv", 'words,tags\na b,X Y\n"a b c",X Y\n', None, r"x.csv, row 2: 3 words and 2 tags"),
        ("x.txt", "a X\nb\t\n", None, r"x.txt, line 2: a word or its tag is empty"),
        ("x.txt", "a X\n", "0", r"--tag is the number of a column there, from 1, not '0'"),
        ("x.csv", "word,tags\na,X\n", None, r"x.csv: has no column 'words'; it has word, tags"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(elman.ElmanError, match=message):
            read_tagged([str(tmp_path / name)], tag, "words", "tags")


def sentences(path: Path, count: int, seed: int) -> None:
    """A word in -ed is a V if a name stands before it, else an A: letters and neighbours are needed."""
    draw, lines = random.Random(seed), []
    for _ in range(count):
        stem = "".join(draw.choice("bdgklmnprst") + draw.choice("aeiou") for _ in range(2))
        if draw.random() < 0.5:
            lines += [f"{stem.capitalize()} B-N", f"{stem[::-1]}ed V", ". O", ""]
        else:
            lines += ["the D", f"{stem}ed A", f"{stem[::-1]} X", ". O", ""]
    path.write_text("\n".join(lines).replace(" V", " O").replace(" A", " B-A").replace(" D", " O").replace(" X", " O"))


@pytest.mark.parametrize("crf", [False, True])
def test_it_learns_to_tag(crf: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences(tmp_path / "train.txt", 300, 0)
    sentences(tmp_path / "test.txt", 60, 1)
    run = str(tmp_path / "run")
    flags = ["--steps=120", "--embedding-size=16", "--hidden-size=24", "--character-size=16", "--learning-rate=0.01"]
    data = ["train", "tag", str(tmp_path / "train.txt"), "--out", run, *flags, *(["--crf"] if crf else [])]
    assert cli.main(data) == 0
    assert cli.main(["evaluate", run, str(tmp_path / "test.txt"), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["accuracy"] > 0.95
    assert metrics["entity_f1"] > 0.9
    assert cli.main(["evaluate", run, "--json", "--baseline"]) == 0
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scores["baseline_majority"] < scores["baseline_most_frequent"] < scores["accuracy"]
    assert cli.main(["predict", run, "the poked nul."]) == 0
    assert capsys.readouterr().out == "the/O poked/B-A nul/O ./O\n"
    model = elman.load(run)
    ((one,),) = model.predict([["Tomu", "lated", "."]])
    assert one.tags == ["B-N", "O", "O"]
    assert all(0.3 < p <= 1.0001 for p in one.probabilities)
    together = model.predict(["the poked nul.", "Tomu lated."])
    assert [a.tags for (a,) in together] == [["O", "B-A", "O", "O"], ["B-N", "O", "O"]]
    (tmp_path / "odd.txt").write_text("the B-Z\n")
    odd = model.evaluate(model.read([str(tmp_path / "odd.txt")]))
    assert odd["accuracy"] == odd["entity_recall"] == 0.0
    assert cli.main(["predict", run, "the poked nul.", "--show", "attention"]) == 2
    assert "a tag model does not say where it looks" in capsys.readouterr().err
    assert elman.load(run).held_out().texts == model.held_out().texts


def test_no_word_sees_itself() -> None:
    torch.manual_seed(0)
    filler = Filler(20, embedding_size=8, hidden_size=6).double().eval()
    ids = torch.tensor([[0, 5, 6, 7, 8, 0], [0, 9, 10, 0, 3, 3]])
    lengths = torch.tensor([6, 4])
    y, vectors = filler(ids, lengths)
    for t in range(1, 5):
        other = ids.clone()
        other[0, t] = 11
        z, changed = filler(other, lengths)
        assert torch.equal(z[0, t], y[0, t])
        assert all(not torch.equal(z[0, k], y[0, k]) for k in range(1, 5) if k != t)
        assert not torch.equal(changed[0, t], vectors[0, t])
    alone, _ = filler(ids[1:, :4], lengths[1:])
    torch.testing.assert_close(alone[0, 1:3], y[1, 1:3])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, draw = tmp_path_factory.mktemp("fill"), random.Random(0)
    pairs = {"cat": "meows", "dog": "barks", "cow": "moos"}
    lines = [f"The {animal} {pairs[animal]} loudly." for animal in draw.choices(list(pairs), k=300)]
    (folder / "text.txt").write_text("\n".join(lines))
    flags = ["--steps=150", "--embedding-size=16", "--hidden-size=16", "--batch-size=200", "--learning-rate=0.01"]
    assert cli.main(["train", "fill", str(folder / "text.txt"), "--out", str(folder / "run"), *flags]) == 0
    return str(folder / "run")


def test_words_from_both_sides(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = elman.load(filled)
    for text, word in (
        ("The ___ barks loudly.", "dog"), ("The cow ____ loudly.", "moos"), ("___ cat meows loudly.", "The"),
        ("The cat meows loudly___", "."),
    ):  # fmt: skip
        assert model.predict(text)[0][0].text == word
    (both,) = model.predict("The ___ ___ loudly.", top=2)
    assert [guess.blank for guess in both] == [1, 1, 2, 2]
    metrics = model.evaluate(model.held_out())
    assert metrics["pseudo_perplexity"] == pytest.approx(np.exp(metrics["loss"]))
    assert metrics["accuracy"] > 0.95
    assert cli.main(["predict", filled, "The ___ barks loudly.", "--json", "--top", "2"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["answers"][0].keys() == {"text", "probability", "blank"}
    assert cli.main(["predict", filled, "The dog barks."]) == 2
    assert "no blank in 'The dog barks.'; write ___ where a word is missing" in capsys.readouterr().err
    assert cli.main(["predict", filled, "The dog barks.", "The dog moos.", "--vectors"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["The", "dog", "barks", ".", "", "The", "dog", "moos", ".", ""]
    assert len(lines[0]) == 1 + 32
    assert lines[1][1:17] == lines[6][1:17]  # what is before is the same
    assert lines[1][17:] != lines[6][17:]  # what is behind is not


def test_wrong_fill_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.txt").write_text("Just one line.\n")
    settings: dict[str, Any] = {"steps": 1, "progress": False}
    with pytest.raises(elman.ElmanError, match=r"one.txt: 1 line; each line is a sentence"):
        elman.train("fill", tmp_path / "one.txt", **settings)
    sentences(tmp_path / "t.txt", 20, 0)
    elman.train("tag", tmp_path / "t.txt", out=tmp_path / "run", **settings)
    with pytest.raises(elman.ElmanError, match="has no vectors of words in their context"):
        predict(str(tmp_path / "run"), ["a"], vectors=True)
