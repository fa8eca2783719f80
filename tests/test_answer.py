"""Questions about stories: the worlds that are told, the formats, and a model that learns to answer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import elman
from elman import cli
from elman.data import Tokenizer, toy
from elman.data.stories import Story, read_stories, sentences
from elman.networks.sequence_to_sequence import story_answerer

COLUMNS = ("story", "question", "answer")
SMALL: dict[str, Any] = {"embedding_size": 24, "hidden_size": 48, "dropout": 0.0, "progress": False}


def told_again(story: Story) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Where people are, who has what, and where the rest lies, by reading the sentences."""
    place: dict[str, str] = {}
    holder: dict[str, str] = {}
    lying: dict[str, str] = {}
    for sentence in story.sentences:
        words = sentence.rstrip(".").split()
        who, what = words[0], words[-1]
        if words[1] in ("went", "moved", "walked"):
            place[who] = what
        elif words[1] in ("took", "picked"):
            assert what not in holder
            assert lying.pop(what, place[who]) == place[who]  # it must be there to be taken
            holder[what] = who
        else:
            assert holder.pop(what) == who
            lying[what] = place[who]
    return place, holder, lying


def truth(story: Story) -> str:
    """The answer, found by reading the sentences."""
    place, holder, lying = told_again(story)
    words = story.question.rstrip("?").split()
    carried = [thing for thing, who in holder.items() if who == words[-2]]
    if story.kind == "one_fact":
        return place[words[-1]]
    if story.kind == "two_facts":
        return place[holder[words[-1]]] if words[-1] in holder else lying[words[-1]]
    if story.kind == "yes_no":
        return "yes" if place[words[1]] == words[-1] else "no"
    return toy.NUMBERS[len(carried)] if story.kind == "counting" else " ".join(carried) or "nothing"


@pytest.mark.parametrize("kind", toy.KINDS)
def test_the_answers_are_true(kind: str) -> None:
    told = toy.stories(kind, 200)
    assert [story.answer for story in told] == [truth(story) for story in told]
    assert len({story.answer for story in told}) > 1
    assert toy.stories(kind, 5) == toy.stories(kind, 5)
    assert toy.stories(kind, 5) != toy.stories(kind, 5, seed=1)
    assert toy.KINDS[kind](random.Random(1)).kind == kind


def test_formats(tmp_path: Path) -> None:
    toy.main([str(tmp_path / "told"), "--stories", "3"])
    assert {path.stem for path in (tmp_path / "told").iterdir()} == set(toy.KINDS)
    (read, *_) = read_stories([str(tmp_path / "told" / "yes_no.txt")], COLUMNS, "kind")
    made = toy.stories("yes_no", 3)[0]
    assert read[:4] == made[:4]

    (tmp_path / "q.txt").write_text("1 A b.\n2 Where?\tx\t1\n3 C d.\n4 And now?\ty\t3\n1 E.\n2 Who?\tz\n")
    told = read_stories([str(tmp_path / "q.txt")], COLUMNS, "kind")
    assert [s[:3] for s in told] == [
        (["A b."], "Where?", "x"),
        (["A b.", "C d."], "And now?", "y"),
        (["E."], "Who?", "z"),
    ]
    assert told[0].group == told[1].group != told[2].group

    rows = [{"story": "A b! C d.", "question": "Where?", "answer": "x", "kind": "k"}]
    (tmp_path / "t.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (table,) = read_stories([str(tmp_path / "t.jsonl")], COLUMNS, "kind")
    assert table[:4] == (["A b!", "C d."], "Where?", "x", "k")
    assert sentences(" A b.  C? D") == ["A b.", "C?", "D"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A b.\n", "x.txt, line 1: a line must begin with its number"),
        ("1 A b.\n2 Where?\t\n", "x.txt, line 2: the question has no answer"),
        ("1 A b.\n", "x.txt: no questions"),
    ],
)
def test_wrong_stories(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(elman.ElmanError, match=message):
        read_stories([str(tmp_path / "x.txt")], COLUMNS, "kind")
    (tmp_path / "x.csv").write_text("story,question,answer\nA.,Where?,\n")
    with pytest.raises(elman.ElmanError, match=r"x.csv, row 1: the answer is empty"):
        read_stories([str(tmp_path / "x.csv")], COLUMNS, "kind")
    with pytest.raises(elman.ElmanError, match=r"x.csv: has no column 'text'; it has story, question, answer"):
        read_stories([str(tmp_path / "x.csv")], ("text", "question", "answer"), "kind")


def test_it_learns_where_people_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed, count in (("train", 0, 600), ("test", 1, 100)):
        toy.write(tmp_path / f"{name}.txt", toy.stories("one_fact", count, seed))
    run = str(tmp_path / "run")
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items() if key != "progress"]
    data = ["train", "answer", str(tmp_path / "train.txt"), "--out", run, "--steps=400", "--learning-rate=5e-3"]
    assert cli.main([*data, "--num-layers=1", "--batch-size=1000", *flags]) == 0
    assert cli.main(["evaluate", run, str(tmp_path / "test.txt"), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["accuracy"] > 0.95
    assert metrics["accuracy_test"] == metrics["accuracy"]
    asked = "Mary went to the garden. John moved to the office. Mary walked to the kitchen."
    for text in (f"{asked}\tWhere is John?", f"{asked} Where is John?"):
        assert cli.main(["predict", run, text]) == 0
        assert capsys.readouterr().out == "office\n"
    ((answer,),) = elman.load(run).predict([f"{asked} Where is Mary?"])
    assert [piece.strip() for piece in answer.source] == ["Where is Mary?", *sentences(asked)]
    assert answer.weights.shape == (1, 4)
    assert cli.main(["predict", run, " \t"]) == 2
    assert "input 1 of 1 is empty" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["recurrent", "gnmt", "transformer"])
def test_models(model: str, tmp_path: Path) -> None:
    toy.write(tmp_path / "s.txt", toy.stories("carrying", 30))
    settings = SMALL | {"model": model, "num_layers": 2, "out": tmp_path / "run"}
    trained = elman.train("answer", str(tmp_path / "s.txt"), steps=2, **settings)
    texts = ["Ada took the key. What is Ada carrying?"]
    again = elman.load(tmp_path / "run").predict(texts)[0]
    assert [a.text for a in again] == [a.text for a in trained.predict(texts)[0]]
    assert set(elman.load(tmp_path / "run").evaluate(trained.held_out())) >= {"loss", "accuracy", "accuracy_s"}


def test_first_words_of_sentences_are_words(tmp_path: Path) -> None:
    lines = [f"1 {name} went home.\n2 Where is {name}?\thome\n" for name in ("Anna", "Zoe", "Brian") for _ in range(9)]
    (tmp_path / "s.txt").write_text("".join(lines))
    model = elman.train("answer", str(tmp_path / "s.txt"), steps=0, **SMALL)
    asked = [model.asked(f"{name} went home.", f"Where is {name}?") for name in ("Anna", "Zoe", "Brian")]
    for ids in model.task.source_ids(model.learnt, asked):
        assert 1 not in ids


def test_a_reader_of_sentences_knows_no_padding() -> None:
    torch.manual_seed(0)
    reader = story_answerer(9, 5, 0, embedding_size=8, hidden_size=12).double().eval()
    rows = [[3, 4, 0, 5, 6, 7, 0, 8], [3, 0, 5], [2]]
    lengths = torch.tensor([len(row) for row in rows])
    source = torch.full((3, 8), 7)
    for row, ids in zip(source, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    with torch.no_grad():
        memory, state = reader.read(source, lengths)
        assert memory.mask.tolist() == [[True] * 3, [True, True, False], [True, False, False]]
        inputs = torch.tensor([[0, 2], [0, 3], [0, 4]])
        y, weights = reader.write(inputs, memory, state, torch.full((3,), 2))
        for k, ids in enumerate(rows):
            one = reader.read(torch.tensor([ids]), lengths[k : k + 1])
            alone, looked = reader.write(inputs[k : k + 1], *one, torch.tensor([2]))
            torch.testing.assert_close(alone[0], y[k])
            torch.testing.assert_close(looked[0], weights[k, :, : looked.shape[2]])


def test_an_answer_without_words_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    toy.write(tmp_path / "s.txt", toy.stories("one_fact", 30))
    model = elman.train("answer", str(tmp_path / "s.txt"), steps=0, num_layers=1, **SMALL)
    with torch.no_grad():
        model.network.head.bias[Tokenizer.end_id] = 1e4
    story = "Ada went to the garden. Where is Ada?"
    ((answer,),) = model.predict([story])
    assert answer.text == ""
    assert len(answer.tokens) == len(answer.weights)
    end = "no answer; the model ends before the first word and may need more training"
    assert [one.partition("): ")[2] for one in caplog.messages[-1:]] == [end]
    assert "\n" not in caplog.messages[-1]
    model.predict([story] * 3)
    assert caplog.messages[-1].endswith(f"{end}; 3 of 3 inputs have none")
