"""Tagging: the conditional random field, entities, file formats, training and unknown words."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

import elman
from elman import cli
from elman.data.tagged import read_tagged
from elman.data.words import token_pattern, word_pattern
from elman.layers.crf import CRF
from elman.metrics.entities import entities, entity_scores, is_bio
from elman.networks.tagger import Filler, Tagger


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


def test_words_and_punctuation_marks_of_any_writing_system() -> None:
    found = token_pattern().findall(
        "Don\u2019t, e\u0301te\u0301: \u0928\u092e\u0938\u094d\u0924\u0947! (3.5) \u0e17\u0e35\u0e48 x_1"
    )
    assert found == [
        "Don\u2019t", ",", "e\u0301te\u0301", ":", "\u0928\u092e\u0938\u094d\u0924\u0947", "!", "(", "3", ".", "5", ")",
        "\u0e17\u0e35\u0e48", "x_1",
    ]  # fmt: skip
    assert re.findall(word_pattern(), "rock 'n' roll's") == ["rock", "n", "roll's"]


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
        ("x.txt", "a X\nb\n", None, r"x.txt, line 2: 1 columns, not 2; every word needs a tag"),
        ("x.txt", "a\n", None, r"x.txt, line 1: 1 columns; a word and its tag are required"),
        ("x.txt", "a X\n", "upos", r"x.txt: --tag must be the number of a column, from 1, not 'upos'"),
        ("x.conllu", CONLLU, "pos", r"unknown column of CoNLL-U 'pos'"),
        ("x.csv", 'words,tags\na b,X Y\n"a b c",X Y\n', None, r"x.csv, row 2: 3 words and 2 tags"),
        ("x.txt", "a X\nb\t\n", None, r"x.txt, line 2: a word or its tag is empty"),
        ("x.txt", "a X\n", "0", r"--tag must be the number of a column, from 1, not '0'"),
        ("x.csv", "word,tags\na,X\n", None, r"x.csv: has no column 'words'; it has word, tags"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(elman.ElmanError, match=message):
            read_tagged([str(tmp_path / name)], tag, "words", "tags")


@pytest.mark.parametrize("parted", ["\t", " "])
def test_comments_are_not_words(parted: str, tmp_path: Path) -> None:
    def read(name: str, text: str, tag: str | None = None) -> Any:
        (tmp_path / name).write_text(text.replace("|", parted))
        found = read_tagged([str(tmp_path / name)], tag, "words", "tags")
        return list(zip(found.words, found.tags, strict=True))

    john, mary = (["John", "runs"], ["B-PER", "O"]), (["Mary"], ["B-PER"])
    plain = "John|B-PER\nruns|O\n\nMary|B-PER\n"
    for text in (
        plain,
        "# sentence 7\nJohn|B-PER\nruns|O\n\n# sentence 8\n# of two\nMary|B-PER",
        "# 7\nJohn|B-PER\nruns|O\n\n#8\nMary|B-PER\n\n# the end\n",
        "-DOCSTART-\n\nJohn|B-PER\nruns|O\n-DOCSTART-|O\nMary|B-PER\n",
        "token|ner\nJohn|B-PER\nruns|O\n\nMary|B-PER\n",
        "\ufeff\r\n" + plain.replace("\n", "\r\n"),
    ):
        for name in ("a.txt", "a.conll", "a.bio", "a.iob", "a.tsv"):
            assert read(name, text) == [john, mary], (name, text)
    assert read("a.txt", "#|SYM\n1|NUM\n\n#tag|X\n#|SYM\n") == [
        (["#", "1"], ["SYM", "NUM"]),
        (["#tag", "#"], ["X", "SYM"]),
    ]
    assert read("a.txt", "sentence_id|word|tag\n1|John|B-PER\n1|runs|O\n2|Mary|B-PER\n") == [john, mary]
    assert read("a.txt", "1|John|B-PER\n2|runs|O\n\n1|Mary|B-PER\n") == [john, mary]
    columns = "# global.columns = ID FORM NER UPOS\n1|John|B-PER|N\n2-3|runs|_|_\n2|runs|O|V\n\n# x\n1|Mary|B-PER|N\n"
    assert read("a.conllup", columns, "ner") == [john, mary]
    assert [tags for _, tags in read("a.conllup", columns)] == [["N", "V"], ["N"]]
    for name in ("a.conll", "a.txt", "a.tsv"):
        assert read(name, CONLLU.replace("\t", "|")) == [
            (["It", "'s", "here"], ["PRON", "AUX", "ADV"]),
            (["#"], ["SYM"]),
        ]
    assert read("a.txt", "John|B-PER\nruns\u00a0off|O\n") == [(["John", "runs\u00a0off"], ["B-PER", "O"])]
    if parted == "\t":  # no comment has a tab behind its sign
        assert read("a.txt", "#|NOUN\n1|NUM\n\n#|NOUN\n2|NUM\n")[1] == (["#", "2"], ["NOUN", "NUM"])
    assert read("a.conll", CONLLU.replace("\t", "|"), "xpos")[1] == (["#"], ["NN"])
    assert read("a.conll", CONLLU.replace("\t", "|"), "3")[1] == (["#"], ["#"])


def test_tagging_schemes(tmp_path: Path) -> None:
    for scheme in ("I-A I-A B-A O", "B-A I-A O O", "B-A E-A S-A O", "U-A B-A L-A O", "B-A M-A E-A S-A"):
        (tmp_path / "a.iob").write_text("".join(f"w {tag}\n" for tag in scheme.split()))
        (tags,) = read_tagged([str(tmp_path / "a.iob")], None, "", "").tags
        assert tags == scheme.split()
        assert is_bio(tags)
    assert entities(["I-A", "I-A", "B-A", "O"]) == {("A", 0, 1), ("A", 2, 2)}
    assert entities(["U-A", "B-A", "L-A", "O"]) == {("A", 0, 0), ("A", 1, 2)}
    assert entities(["B-A", "M-A", "E-A", "S-A"]) == {("A", 0, 2), ("A", 3, 3)}
    assert is_bio(["I-A", "O"]) and not is_bio(["B", "I", "O"])


def test_tables_of_sentences(tmp_path: Path) -> None:
    for name, text in (
        ("a.jsonl", '{"tokens": ["a b", "c"], "ner_tags": ["X", "O"]}\n'),
        ("a.csv", "words,tags\n\"['a b', 'c']\",\"['X', 'O']\"\n"),
        ("a.tsv", 'words\ttags\n["a b", "c"]\tX O\n'),
    ):
        (tmp_path / name).write_text(text)
        found = read_tagged([str(tmp_path / name)], None, "words", "tags")
        assert (found.words, found.tags) == ([["a b", "c"]], [["X", "O"]])
    for words, tags in (
        ("""['a b' "it's"\n 'c']""", "[0 1\n 2]"),
        ("""['a b', "it's", 'c']""", "['0', '1', '2']"),
        ("a\u00a0b it's c", "0 1 2"),
    ):  # as NumPy and Python write arrays and lists
        polars.DataFrame({"tokens": [words], "ner_tags": [tags]}).write_csv(tmp_path / "n.csv")
        found = read_tagged([str(tmp_path / "n.csv")], None, "words", "tags")
        assert [word.replace("\u00a0", " ") for word in found.words[0]] == ["a b", "it's", "c"]
        assert found.tags == [["0", "1", "2"]]
    (tmp_path / "n.csv").write_text("words,tags\n[ Music ],D N D\n[0 1],X Y\n")
    assert read_tagged([str(tmp_path / "n.csv")], None, "words", "tags").words == [["[", "Music", "]"], ["[0", "1]"]]
    (tmp_path / "a.jsonl").write_text('{"tokens": [1, 2], "tags": [0, 3]}\n')
    assert read_tagged([str(tmp_path / "a.jsonl")], None, "words", "tags").tags == [["0", "3"]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ann", "T1\tPer 0 4\tJohn\n", "a.ann: this is brat's standoff format"),
        ("a.txt", "T1\tPer 0 4\tJohn\nR1\tIn Arg1:T1 Arg2:T2\n", "a.txt: this is brat's standoff format"),
        ("a.conll", "#begin document (a); part 000\na 0 0 In IN\n", "a.conll, line 1: this is CoNLL-2012"),
        ("a.bio", "John\nruns\n", "a.bio, line 1: 1 columns; a word and its tag are required"),
        ("a.bio", "a\tX\nb c\nd\tX\n", "a.bio, line 2: 1 columns, not 2"),
        ("a.bio", "a X\nb X\nc X Y\n", "a.bio, line 3: 3 columns, not 2"),
        ("a.bio", "a x X\nb y\nc y X\n", "a.bio, line 2: 2 columns, not 3"),
        ("a.conllu", "1\ta\tX\n", "a.conllu, line 1: 3 columns, not 10"),
        ("a.conllu", "x" + "\t_" * 9 + "\n", "a.conllu, line 1: 'x' is not an id"),
        ("a.conllu", "1" + "\t_" * 9 + "\n", "a.conllu: all tags are '_'"),
        ("a.txt", "7 John O\n7 runs O\n8 Mary O\n", "the first of 3 columns contains numbers"),
        ("a.tsv", "sentence\ttagging\na b\tX Y\n", "a.tsv: has no column 'words'; it has sentence, tagging"),
        ("a.jsonl", '{"words": ["a", null], "tags": ["X", null]}\n', "row 1: column 'words' must contain a list"),
        ("a.jsonl", '{"words": ["a", ""], "tags": ["X", "Y"]}\n', "a.jsonl, row 1: a word or its tag is empty"),
        ("a.jsonl", '{"tokens": ["a"], "ner_tags": ["X"], "pos_tags": ["X"]}\n', "a.jsonl: has no column 'tags'"),
        ("a.csv", "words,tags\n[1 ... 9],[1 ... 9]\n", "a.csv, row 1: column 'words' contains an array"),
        ("a.csv", "Sentence #,words,tags\n1,a,X\n,b,Y\n", "each row is one word, and column 'Sentence #' names"),
        ("a.txt", "The/D dog/N\nA/D cat/N\n", "line 1: the line contains words joined to their tags, such as 'The/D'"),
        ("a.csv", "words,tags\na b,X Y\na b,X\n", "a.csv, row 2: 2 words and 1 tags (line 3); --skip-bad skips"),
        ("a.bio", "a X\nb\n\nc X\n", "a.bio, line 2: 1 columns, not 2; every word needs a tag; --skip-bad"),
        ("a.txt", "# only\n# comments here\n", "a.txt"),
    ],
)  # fmt: skip
def test_files_that_are_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(elman.ElmanError) as error:
        read_tagged([str(tmp_path / name)], None, "words", "tags")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_rows_and_sentences_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text, said in (
        (
            "a.csv",
            "words,tags\na b,X Y\na b,X\nc,X,Y\nd e,Y X\n",
            "a.csv: skipped 1 bad row of 4; the first, line 4: 3 col",
        ),
        (
            "a.csv",
            "words,tags\na b,X Y\na b,X\nd e,Y X\n",
            "a.csv: skipped 1 bad row of 3; the first, row 2: 2 words and",
        ),
        (
            "a.bio",
            "a X\nb Y\n\nc X\nc\n\nd Y\ne X\n",
            "a.bio: skipped 1 bad sentence of 3; the first, line 5: 1 columns",
        ),
        (
            "a.bio",
            "a\tX\nb\tY\n\nc\t\n\n\tX\n\nd\tY\ne\tX\n",
            "a.bio: skipped 2 bad sentences of 4; the first, line 4: a w",
        ),
    ):
        caplog.clear()
        (tmp_path / name).write_text(text)
        found = read_tagged([str(tmp_path / name)], None, "words", "tags", skip_bad=True)
        assert (found.words, found.tags) == ([["a", "b"], ["d", "e"]], [["X", "Y"], ["Y", "X"]])
        assert said in caplog.text
    (tmp_path / "b.bio").write_text("a X\nb\n\n" + "a X\nb Y\n\n" * 20)
    options = {"steps": 1, "hidden_size": 4, "embedding_size": 4, "character_size": 0, "progress": False}
    assert elman.train("tag", tmp_path / "b.bio", skip_bad=True, **options).sources.units == 36
    with pytest.raises(elman.ElmanError, match="b.bio, line 2"):
        elman.train("tag", tmp_path / "b.bio", **options)
    (tmp_path / "c.csv").write_text("words,tags\n" + "a,X\nb,Y\n" * 10)
    caplog.clear()
    assert read_tagged([str(tmp_path / "c.csv")], None, "words", "tags").words[1] == ["b"]
    assert "each of 20 rows is one word" in caplog.text


def sentences(path: Path, count: int, seed: int) -> None:
    """A word in -ed is a V after a name and otherwise an A, so that both its letters and its neighbours matter."""
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
    assert "a tag model has no attention" in capsys.readouterr().err
    assert elman.load(run).held_out().texts == model.held_out().texts


@pytest.mark.parametrize("crf", [False, True])
def test_unknown_tags(
    crf: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def file(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    data, run = file("train.txt", "the D\ndog N\n\na D\ncat N\nsits V\n\n" * 10), str(tmp_path / "run")
    settings: dict[str, Any] = {"steps": 2, "progress": False, "hidden_size": 4, "crf": crf}
    model = elman.train("tag", data, out=run, **settings)
    assert cli.main(["evaluate", run, file("odd.txt", "the X\ndog Y\n\na X\n"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"loss": None, "accuracy": 0.0, "words": 3, "unseen_tags": 3}
    assert cli.main(["evaluate", run, str(tmp_path / "odd.txt"), "--int8", "--baseline"]) == 0
    shown = capsys.readouterr().out
    assert "loss                 undefined" in shown and "unseen tags          3" in shown
    some = model.evaluate(model.read([file("some.txt", "the D\ndog Y\n\na D\n")]))
    assert np.isfinite(some["loss"]) and some["loss"] > 0 and some["unseen_tags"] == 1 and some["accuracy"] <= 2 / 3
    known = model.evaluate(model.read([file("known.txt", "the D\ndog N\n\na D\n")]))
    assert known["unseen_tags"] == 0
    if not crf:  # the others' loss is what it is
        alone = model.evaluate(model.read([file("dog.txt", "the D\ndog N\n\na D\n")]))
        assert alone["loss"] == known["loss"] != some["loss"]
    with pytest.raises(elman.ElmanError, match=r"odd.txt, line 1: no held-out word has a tag that is learnt: D, N, V"):
        elman.train("tag", data, valid=str(tmp_path / "odd.txt"), **settings)
    elman.train("tag", file("one.txt", "a O\nb O\n\n" * 9), **settings)
    assert "all 16 words have one tag, 'O': there is nothing to learn" in caplog.text


def test_the_loss_of_known_tags_is_the_field_summed_over_unknown_ones() -> None:
    tagger = Tagger(9, 9, 3, embedding_size=4, hidden_size=4, character_size=0, crf=True).double()
    assert tagger.crf is not None
    for parameter in tagger.crf.parameters():
        torch.nn.init.normal_(parameter)
    scores, lengths = torch.randn(2, 3, 3, dtype=torch.float64), torch.tensor([3, 2])
    tags = torch.tensor([[1, -1, 2], [0, 2, 0]])
    nats, known = tagger.nats(scores, tags, lengths)
    every = tags.repeat(3, 1, 1)
    every[:, 0, 1] = torch.arange(3)
    p = torch.stack([tagger.crf.log_probability(scores, one, lengths).exp() for one in every])
    assert known == 4
    assert nats.item() == pytest.approx(-p[:, 0].sum().log().item() - p[0, 1].log().item())


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
