"""Captions and questions about pictures: what a model learns, what it is asked, and where it looks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman.data.world import draw_scene

PIL = pytest.importorskip("PIL.Image")

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (30, 60, 220), "white": (240, 240, 240)}
PLACES = ("left", "right")
SMALL: dict[str, Any] = {
    "encoder": "small", "image_size": 16, "embedding_size": 16, "hidden_size": 32, "picture_size": 32, "dropout": 0.0,
    "progress": False,
}  # fmt: skip


def picture(path: Path, left: str, right: str, seed: int) -> None:
    """Two squares of a colour, with noise."""
    pixels = np.full((16, 16, 3), 90.0) + np.random.default_rng(seed).normal(0, 6, (16, 16, 3))
    pixels[4:12, 1:7], pixels[4:12, 9:15] = COLOURS[left], COLOURS[right]
    PIL.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with captions and questions, for training and for testing."""
    folder = tmp_path_factory.mktemp("squares")
    (folder / "images").mkdir()
    draw = np.random.default_rng(0)
    for name, count in (("train", 120), ("test", 24)):
        captions, questions = ["image\tcaption"], ["image\tquestion\tanswer\tkind\tboxes"]
        for k in range(count):
            left, right = draw.choice(list(COLOURS), 2)
            path = f"images/{name}{k}.png"
            picture(folder / path, left, right, k + 1000 * (name == "test"))
            captions += [f"{path}\tA {left} square beside a {right} square.", f"{path}\t{left} and {right}"]
            sides = ([0.06, 0.25, 0.44, 0.75], [0.56, 0.25, 0.94, 0.75])
            for place, colour, box in zip(PLACES, (left, right), sides, strict=True):
                boxes = json.dumps([{"label": colour, "box": box}])
                questions.append(f"{path}\tWhat colour is on the {place}?\t{colour}\t{place}\t{boxes}")
        (folder / f"{name}.tsv").write_text("\n".join(captions))
        (folder / f"{name}_questions.tsv").write_text("\n".join(questions))
    return folder


@pytest.fixture(scope="session")
def answerer(squares: Path) -> Any:
    return elman.train(
        "vqa", squares / "train_questions.tsv", out=squares / "vqa", steps=120, learning_rate=5e-3, batch_size=700,
        mirror=False, validate_every=120, **{**SMALL, "image_size": 32},
    )  # fmt: skip


@pytest.fixture(scope="session")
def captioner(squares: Path) -> Any:
    return elman.train(
        "caption", squares / "train.tsv", out=squares / "caption", steps=100, learning_rate=5e-3, mirror=False,
        validate_every=100, **SMALL,
    )  # fmt: skip


def test_a_question_steers_the_answer(answerer: Any, squares: Path) -> None:
    """The same picture has another answer for another question, and the attention moves to the other square."""
    scores = answerer.evaluate(answerer.read([str(squares / "test_questions.tsv")]))
    assert scores["accuracy"] > 0.9
    assert scores["accuracy_left"] > 0.8
    assert scores["accuracy_right"] > 0.8
    assert scores["pointing"] > 0.8
    assert scores["pointing_chance"] == pytest.approx(0.5)


def test_the_question_alone_is_the_baseline(answerer: Any, squares: Path) -> None:
    examples = answerer.read([str(squares / "test_questions.tsv")])
    scores = answerer.baselines(examples)
    assert scores["baseline_question"] < 0.6
    assert set(scores) == {"baseline_majority", "baseline_question"}


def test_answers_are_the_same_however_a_picture_is_given(answerer: Any, squares: Path) -> None:
    path, question = squares / "images/test0.png", "What colour is on the left?"
    opened = PIL.open(path)
    given = [(path, question), (str(path), question), (opened, question), (np.asarray(opened), question)]
    (first,), *others = answerer.predict([*given, f"{path}\t{question}"])
    assert all(answers[0].text == first.text for answers in others)
    assert all(answers[0].score == pytest.approx(first.score, abs=1e-5) for answers in others)
    assert 0 < first.score <= 1
    assert answerer.predict((path, question))[0][0].text == first.text
    loaded = elman.load(squares / "vqa").predict([(path, question)], n_best=3)[0]
    assert loaded[0].text == first.text
    assert [a.score for a in loaded] == sorted((a.score for a in loaded), reverse=True)
    assert sum(a.score for a in loaded) <= 1 + 1e-6


def test_a_caption_names_both_colours(captioner: Any, squares: Path) -> None:
    scores = captioner.evaluate(captioner.read([str(squares / "test.tsv")]))
    assert scores["exact"] > 0.5
    assert scores["cider"] > 1
    answer = captioner.predict(squares / "images/test0.png")[0][0]
    assert answer.attention.source.kind == "grid"
    assert answer.attention.source.shape == (2, 2)
    assert answer.attention.weights.shape == (len(answer.attention.target.pieces), 4)
    torch.testing.assert_close(answer.attention.weights.sum(1), torch.ones(len(answer.attention.weights)))


def test_the_maximum_length_is_that_of_the_config(captioner: Any, squares: Path, tmp_path: Path) -> None:
    assert captioner.config.max_length == 10  # captions have 7 words
    run = tmp_path / "run"
    shutil.copytree(squares / "caption", run)
    config = json.loads((run / "config.json").read_text())
    config["config"]["max_length"] = 2
    (run / "config.json").write_text(json.dumps(config))
    path = squares / "images/test0.png"
    assert len(elman.load(run).predict(path)[0][0].text.split()) == 2


def test_captions_are_normalized(captioner: Any, squares: Path) -> None:
    train, _ = captioner.task.parts([str(squares / "train.tsv")], [])
    assert all(item.text == item.text.lower() and "." not in item.text for item in train.items)


def test_a_picture_is_encoded_once_for_all_its_questions(answerer: Any, squares: Path) -> None:
    examples = answerer.read([str(squares / "test_questions.tsv")])
    pictures, _, which, questions, _ = answerer.collate(examples.rows[:8])
    assert len(pictures) == 4
    assert which.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(questions) == 8
    batch = answerer.batches(examples, 0, 1).batch(0)
    assert len(batch.read[0]) <= -(-len(batch.targets) // 2) + 1


def test_a_row_is_the_same_alone_and_in_a_batch(answerer: Any, captioner: Any, squares: Path) -> None:
    for model, table in ((answerer, "test_questions.tsv"), (captioner, "test.tsv")):
        rows = model.read([str(squares / table)]).rows[:6]
        with torch.no_grad():
            model.network.eval()
            together, state = model.network.read(*model.collate(rows))
            for k, row in enumerate(rows):
                alone, _ = model.network.read(*model.collate([row]))
                torch.testing.assert_close(alone.values[0], together.values[k], atol=1e-5, rtol=1e-4)
        assert len(together.values) == len(state.layers[0][0]) == 6


def test_a_side_forbids_mirroring(squares: Path, tmp_path: Path) -> None:
    task = elman.tasks.get("caption")(elman.tasks.get("caption").Config())
    table = tmp_path / "t.tsv"
    names = [str(squares / f"images/train{k}.png") for k in range(2)]
    table.write_text(f"image\tcaption\n{names[0]}\ta ball left of a box\n{names[0]}\ta ball\n{names[1]}\ta leftover")
    mirrored = [item.asked.picture.mirror for item in task.read([str(table)]).items]
    assert mirrored == [False, False, True]


def test_pictures_are_held_out_whole(squares: Path) -> None:
    task = elman.tasks.get("caption")(elman.tasks.get("caption").Config(valid_fraction=0.3))
    train, held = task.parts([str(squares / "train.tsv")], [])
    digests = [{item.asked.picture.digest for item in part.items} for part in (train, held)]
    assert digests[0]
    assert digests[1]
    assert not digests[0] & digests[1]


def test_a_picture_in_both_sets_is_left_out(squares: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copied = tmp_path / "copy.png"
    copied.write_bytes((squares / "images/train3.png").read_bytes())
    table = tmp_path / "v.tsv"
    table.write_text(f"image\tcaption\ncopy.png\ttwo squares\n{squares}/images/test0.png\ttwo squares")
    task = elman.tasks.get("caption")(elman.tasks.get("caption").Config())
    _, held = task.parts([str(squares / "train.tsv")], [str(table)])
    assert len(held.items) == 1
    assert "v.tsv, row 1: this picture is also in the training data" in caplog.text
    table.write_text("image\tcaption\ncopy.png\ttwo squares")
    with pytest.raises(elman.ElmanError, match=r"v.tsv, row 1: .* as are all 1 pictures"):
        task.parts([str(squares / "train.tsv")], [str(table)])


def test_bad_lines_are_skipped_on_demand(squares: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [f"train{k}.png#0\ta picture of number {k}" for k in range(8)]
    (tmp_path / "token.txt").write_text("\n".join([*lines[:3], "no caption", *lines[3:]]))
    options = {**SMALL, "steps": 1, "images": str(squares / "images")}
    with pytest.raises(elman.ElmanError, match=r"token.txt, line 4: .*--skip-bad skips"):
        elman.train("caption", tmp_path / "token.txt", **options)
    assert elman.train("caption", tmp_path / "token.txt", skip_bad=True, **options).sources.examples + 1 == 8
    assert "skipped 1 bad" in caplog.text


def test_wrong_questions_are_named(answerer: Any, captioner: Any, squares: Path) -> None:
    path = str(squares / "images/test0.png")
    with pytest.raises(elman.ElmanError, match=r"test0.png: a caption model takes no question, 'what\?'"):
        captioner.predict([f"{path}\twhat?"])
    with pytest.raises(elman.ElmanError, match=r"test0.png: no question"):
        answerer.predict([path])
    with pytest.raises(elman.ElmanError, match=r"nothing.png: no such file"):
        captioner.predict(["nothing.png"])
    with pytest.raises(elman.ElmanError, match=r"1 of 2 pictures cannot be read") as caught:
        captioner.predict([path, "nothing.png"])
    assert "--skip-broken" not in str(caught.value)  # an option of training


def test_broken_pictures_are_left_out_on_demand(squares: Path, tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "broken.png").write_bytes((squares / "images/train3.png").read_bytes()[:60])
    lines = [f"{squares}/images/train{k}.png\ta picture of number {k}" for k in range(8)]
    (tmp_path / "t.tsv").write_text("\n".join(["image\tcaption", *lines[:3], "broken.png\tbroken", *lines[3:]]))
    options = {**SMALL, "steps": 1}
    with pytest.raises(elman.ElmanError, match=r"t.tsv, row 4: .*broken.png: .*1 of 9 pictures .* --skip-broken"):
        elman.train("caption", tmp_path / "t.tsv", **options)
    assert "row 4" not in caplog.text
    model = elman.train("caption", tmp_path / "t.tsv", skip_broken=True, **options)
    assert "row 4" in caplog.text
    assert model.sources.examples + 1 == 8


def test_a_scene_of_the_world_can_be_captioned(captioner: Any) -> None:
    assert isinstance(captioner.predict(draw_scene(0, 64).pixels)[0][0].text, str)


def test_pictures_in_memory_are_known_by_their_content() -> None:
    """Equal pictures are one, all their captions are references, and validation compares them."""
    made = [np.full((16, 16, 3), 20 * k, dtype=np.uint8) for k in range(8)]
    data = {
        "image": [*made, *(x.copy() for x in made)],
        "caption": [f"number {k % 8} {'ab'[k // 8]}" for k in range(16)],
    }
    model = elman.train("caption", data, steps=2, validate_every=1, valid_fraction=0.3, **SMALL)
    train, held = model.task.parts(model.sources.data, [])
    assert {len(part.items) % 2 for part in (train, held)} == {0}
    scores = model.evaluate(model.held_out())
    assert scores["distinct"] <= len(held.items) // 2


def test_evaluation_answers_as_prediction_does(answerer: Any, squares: Path, tmp_path: Path) -> None:
    """The search that is evaluated is the one that predicts: answers of several words are ranked by probability."""
    lines = (squares / "test_questions.tsv").read_text().splitlines()[:13]
    (tmp_path / "q.tsv").write_text("\n".join(line.replace("images/", f"{squares}/images/") for line in lines))
    examples = answerer.read([str(tmp_path / "q.tsv")])
    answers = answerer.predict([(one.picture.path, one.question) for one in examples.inputs])
    right = [a[0].text == target for a, target in zip(answers, examples.targets, strict=True)]
    assert answerer.evaluate(examples)["accuracy"] == pytest.approx(sum(right) / len(right))
    assert type(answerer).Options().length_penalty == 0


def test_training_pictures_are_named_in_an_evaluation(answerer: Any, squares: Path, caplog: Any) -> None:
    answerer.read([str(squares / "test_questions.tsv")])
    assert "trained on" not in caplog.text
    elman.load(squares / "vqa").read([str(squares / "train_questions.tsv")])
    assert "the model was trained on this picture; 114 pictures" in caplog.text


def test_an_option_for_what_is_not_there_is_refused(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(elman.ElmanError, match="kind: has no effect here"):
        elman.train("vqa", squares / "train_questions.tsv", kind="sort", steps=1, **SMALL)
    for k, colour in enumerate(COLOURS):
        picture(tmp_path / f"{k}.png", colour, "blue", k)
        (tmp_path / f"{k}.txt").write_text(f"{colour} beside blue")
    with pytest.raises(elman.ElmanError, match="images: has no effect here"):
        elman.train("caption", tmp_path, images=str(squares), steps=1, **SMALL)


def test_one_cell_is_a_picture_too(squares: Path) -> None:
    options = {**SMALL, "image_size": 8, "batch_size": 4}
    assert elman.train("caption", squares / "train.tsv", steps=2, **options).predict(squares / "images/test0.png")


def test_two_answers_to_one_number_are_refused(tmp_path: Path) -> None:
    asked = [{"question_id": 1, "image_id": 1, "question": "What is it?"}]
    for name, answer in (("a", "dog"), ("b", "cat")):
        told = [{"question_id": 1, "multiple_choice_answer": answer}]
        (tmp_path / f"{name}.json").write_text(json.dumps({"annotations": told}))
    (tmp_path / "q.json").write_text(json.dumps({"questions": asked, "data_subtype": "val2014"}))
    files = [str(tmp_path / name) for name in ("q.json", "a.json", "b.json")]
    with pytest.raises(elman.ElmanError, match=r"b.json, annotations\[0\]: question_id 1 has another answer before"):
        elman.train("vqa", files, steps=1, **SMALL)
