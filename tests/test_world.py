"""Drawn scenes: captions and questions are right by the geometry of the objects, and answers are balanced."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter, defaultdict
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest

from elman.data.drawing import COLOURS, SHAPES, Draw, Outline, paint
from elman.data.scene_questions import KINDS, Questioner, SceneQuestion
from elman.data.tables import read_table
from elman.data.world import Scene, SceneObject, draw_scene, main, write_world
from elman.errors import ElmanError
from elman.metrics.pointing import read_boxes

NAME = rf"(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})"
SIDES = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene((5, k)) for k in range(400)]


@pytest.fixture(scope="module")
def asked(scenes: list[Scene]) -> list[list[SceneQuestion]]:
    questioner = Questioner(5)
    return [questioner.ask(scene.objects) for scene in scenes]


def stands(a: SceneObject, b: SceneObject, side: str, degrees: float) -> bool:
    """Whether ``a``, seen from ``b``, lies in the direction of a side, up to an angle."""
    dx, dy = a.x - b.x, a.y - b.y
    along = (dx * SIDES[side][0] + dy * SIDES[side][1]) / np.hypot(dx, dy)
    return along >= np.cos(np.radians(degrees))


# Captions


def test_captions_name_every_object_and_are_right(scenes: list[Scene]) -> None:
    for scene in scenes:
        words = re.sub(r"\ban?\b ", "", scene.caption)
        assert re.fullmatch(rf"{NAME}(?: (?:left of|above) {NAME})*", words)
        named, sides = re.findall(NAME, words), re.findall("left of|above", words)
        assert named == [o.name for o in scene.objects]
        assert len(set(named)) == len(named) in (1, 2, 3)
        for a, b, side in zip(scene.objects, scene.objects[1:], sides, strict=False):
            assert stands(a, b, side, 35)
        for article, name in re.findall(rf"\b(an?) ({NAME})", scene.caption):
            assert (article == "an") == (name[0] in "aeiou")


def test_one_caption_is_right(scenes: list[Scene]) -> None:
    """Even for somebody who draws the line between beside and above 10 degrees elsewhere."""
    for scene in scenes:
        captions = set()
        for order in permutations(scene.objects):
            pairs = [(a, b) for k, a in enumerate(order) for b in order[k + 1 :]]
            if all(stands(a, b, "left of", 55) or stands(a, b, "above", 55) for a, b in pairs):
                sides = [[side for side in ("left of", "above") if stands(a, b, side, 55)] for a, b in pairwise(order)]
                assert all(len(each) == 1 for each in sides)
                captions.add((tuple(o.name for o in order), tuple(side for [side] in sides)))
        assert len(captions) == 1


def test_scenes_are_balanced(scenes: list[Scene]) -> None:
    objects = [o for scene in scenes for o in scene.objects]
    for counts, options in (
        (Counter(len(scene.objects) for scene in scenes), (1, 2, 3)),
        (Counter(o.colour for o in objects), COLOURS),
        (Counter(o.shape for o in objects), SHAPES),
    ):
        assert set(counts) == set(options)
        assert min(counts.values()) > 0.7 * sum(counts.values()) / len(options)


# Pictures


def test_pictures_show_the_objects(scenes: list[Scene]) -> None:
    """The pixel in the middle of an object, or of the upper part of a ring, is nearest to its colour."""
    for scene in scenes:
        assert scene.pixels.shape == (64, 64, 3)
        assert scene.pixels.dtype == np.uint8
        for o in scene.objects:
            y = o.y - 0.77 * o.radius if o.shape == "ring" else o.y
            pixel = scene.pixels[int(y * 64), int(o.x * 64)].astype(float)
            assert min(COLOURS, key=lambda name: float(((np.array(COLOURS[name]) - pixel) ** 2).sum())) == o.colour


def test_objects_are_apart_and_inside(scenes: list[Scene]) -> None:
    for scene in scenes:
        for k, o in enumerate(scene.objects):
            left, top, right, bottom = o.box
            assert 0 < left < o.x < right < 1
            assert 0 < top < o.y < bottom < 1
            for other in scene.objects[:k]:
                assert np.hypot(o.x - other.x, o.y - other.y) > o.radius + other.radius


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_fit(shape: str) -> None:
    size, pixels = 400, np.zeros((400, 400, 3))
    outline = Outline(shape, 0.4, 0.55, 0.3, 0.1)
    paint(pixels, outline, np.ones_like(pixels))
    painted = pixels[..., 0] > 0
    rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
    edges = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    assert np.allclose(np.array(edges) / size, outline.box(), atol=1.5 / size)
    area = {"circle": 3.1416, "square": 2.6896, "triangle": 1.8, "star": 1.4872, "cross": 2.16, "ring": 2.1913}[shape]
    assert painted.mean() == pytest.approx(area * 0.3**2, rel=0.03)


def test_scenes_are_the_same_on_every_machine() -> None:
    pixels = b"".join(draw_scene(seed).pixels.tobytes() for seed in range(20))
    assert hashlib.sha256(pixels).hexdigest() == "554cfc25b379524b8d31532cf8b2ec904a3e1f6866f2715977ea19f91c9d7375"


def test_size_changes_only_the_pixels() -> None:
    for seed in range(20):
        small, large = draw_scene(seed, 32), draw_scene(seed, 128)
        assert (small.caption, small.objects) == (large.caption, large.objects)
        mean = large.pixels.reshape(32, 4, 32, 4, 3).mean((1, 3))
        assert np.abs(mean - small.pixels).mean() < 8


def test_random_numbers() -> None:
    draw = Draw(3)
    fractions = draw.fractions(100, 50)
    assert fractions.shape == (100, 50)
    assert 0 <= fractions.min() < 0.01
    assert 0.99 < fractions.max() < 1
    assert {draw.choice("abc") for _ in range(50)} == set("abc")
    assert (Draw((3, 1)).fractions(4) != Draw((3, 2)).fractions(4)).all()


# Questions


def answer(question: str, objects: list[SceneObject]) -> str:
    """The answer by the objects alone, "" where there is none or more than one."""

    def only(found: list[str]) -> str:
        return found[0] if len(found) == 1 else ""

    def matching(phrase: str) -> list[SceneObject]:
        words = [re.sub(r"(?<=cross)es$|(?<!cros)s$", "", word) for word in phrase.split()]
        assert set(words) <= {*COLOURS, *SHAPES, "object"}
        return [o for o in objects if set(words) - {"object"} <= {o.colour, o.shape}]

    if m := re.fullmatch(r"what colour is the (\w+)\?", question):
        return only([o.colour for o in matching(m[1])])
    if m := re.fullmatch(r"what shape is the (\w+ object)\?", question):
        return only([o.shape for o in matching(m[1])])
    if m := re.fullmatch(r"is there (an?) (.*)\?", question):
        assert (m[1] == "an") == (m[2][0] in "aeiou")
        return "yes" if matching(m[2]) else "no"
    if m := re.fullmatch(r"how many (.*) are there\?", question):
        return str(len(matching(m[1])))
    if m := re.fullmatch(rf"what is ({'|'.join(SIDES)}) the ({NAME})\?", question):
        [b] = matching(m[2])
        return only([o.name for o in objects if o is not b and stands(o, b, m[1], 55)])
    if m := re.fullmatch(rf"is the ({NAME}) ({'|'.join(SIDES)}) the ({NAME})\?", question):
        [a], [b] = matching(m[1]), matching(m[3])
        held = [side for side in SIDES if stands(a, b, side, 55)]
        return "yes" if held == [m[2]] else "no" if m[2] not in held else ""
    m = re.fullmatch(r"is the (\w+|\w+ object) (?:an? )?(\w+)\?", question)
    assert m, question
    assert m[2] in {*COLOURS, *SHAPES}
    return only(["yes" if m[2] in (o.colour, o.shape) else "no" for o in matching(m[1])])


def test_answers_are_right(scenes: list[Scene], asked: list[list[SceneQuestion]]) -> None:
    for scene, questions in zip(scenes, asked, strict=True):
        for question in questions:
            assert question.answer == answer(question.question, scene.objects), (question, scene.caption)


def test_every_question_that_could_be_asked_is_right(scenes: list[Scene]) -> None:
    for scene in scenes[:100]:
        for make in KINDS.values():
            for question in (one for form in make(scene.objects) for one in form):
                assert question.answer == answer(question.question, scene.objects), (question, scene.caption)


def test_objects_of_answers(asked: list[list[SceneQuestion]]) -> None:
    for question in (one for each in asked for one in each):
        names = [o.name for o in question.objects]
        if question.kind == "count":
            assert question.answer == str(len(names))
        elif question.kind == "exist":
            assert (question.answer == "yes") == bool(names)
        elif question.kind == "relation":
            assert names == [question.answer]
        elif question.kind in ("colour", "shape"):
            [name] = names
            assert question.answer in name
        else:
            assert len(names) == 1 + bool(re.search("left|right|above|below", question.question))


def test_one_question_of_each_kind(scenes: list[Scene], asked: list[list[SceneQuestion]]) -> None:
    for scene, questions in zip(scenes, asked, strict=True):
        kinds = [question.kind for question in questions]
        assert len(set(kinds)) == len(kinds)
        assert {"exist", "count", "verify"} <= set(kinds) <= set(KINDS)
        assert "relation" not in kinds or len(scene.objects) > 1
    assert {question.kind for each in asked for question in each} == set(KINDS)


def test_the_question_alone_tells_little(asked: list[list[SceneQuestion]]) -> None:
    """The most frequent answer to the same question about other scenes is right about as often as a guess."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for question in (one for each in asked[:200] for one in each):
        answers[question.question][question.answer] += 1
        answers[question.kind][question.answer] += 1
    right: dict[str, list[bool]] = defaultdict(list)
    for question in (one for each in asked[200:] for one in each):
        known = answers.get(question.question) or answers[question.kind]
        right[question.kind].append(known.most_common(1)[0][0] == question.answer)
    limits = {"colour": 0.25, "shape": 0.3, "exist": 0.6, "count": 0.5, "relation": 0.15, "verify": 0.6}
    for kind, limit in limits.items():
        assert np.mean(right[kind]) < limit, kind


def test_yes_and_no_are_balanced(asked: list[list[SceneQuestion]]) -> None:
    for kind in ("exist", "verify"):
        counts = Counter(one.answer for each in asked for one in each if one.kind == kind)
        assert set(counts) == {"yes", "no"}
        assert abs(counts["yes"] - counts["no"]) <= 5


# The command


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "new" / "world"
    assert main([str(folder), "--scenes", "12", "--size", "48", "--seed", "7"]) == 0
    assert "12 of 12 scenes" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "captions.tsv", "images", "questions.tsv"]
    captions = read_table(str(folder / "captions.tsv"), ["image", "caption", "boxes"])
    assert len(captions) == len(list((folder / "images").iterdir())) == 12
    for k, row in enumerate(captions.iter_rows(named=True)):
        scene = draw_scene((7, 0, k), 48)
        assert row["caption"] == scene.caption
        boxes = read_boxes(row["boxes"], "")
        assert [box.label for box in boxes] == [o.name for o in scene.objects]
        assert np.allclose([box[1:] for box in boxes], [o.box for o in scene.objects], atol=1e-4)
        with image.open(folder / row["image"]) as picture:
            assert (np.asarray(picture) == scene.pixels).all()
    questions = read_table(str(folder / "questions.tsv"), ["image", "question", "answer", "kind", "boxes"])
    assert set(questions["image"]) == set(captions["image"])
    assert set(questions["kind"]) <= set(KINDS)
    assert sum(len(read_boxes(cell, "")) for cell in questions["boxes"]) > len(questions) / 2
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "world --scenes 12 --size 48 --seed 7" in readme
    assert f"| {len(questions)} |" in readme


def test_more_scenes_begin_with_the_same(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    for scenes in (4, 6):
        write_world(tmp_path / str(scenes), scenes)
    for name in ("captions.tsv", "questions.tsv"):
        few, many = ((tmp_path / scenes / name).read_bytes() for scenes in ("4", "6"))
        assert many.startswith(few)
        assert len(many) > len(few)


def test_an_empty_folder_is_used_and_another_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    assert main([str(tmp_path), "--scenes", "1"]) == 0
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main([str(tmp_path), "--scenes", "2"]) == 2
    assert capsys.readouterr().err == f"elman: {tmp_path} is not empty; name a new folder\n"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["world", "--scenes", "0"], "--scenes: 1 or more is required, not 0"),
        (["world", "--scenes", "-3"], "--scenes: 1 or more is required, not -3"),
        (["world", "--size", "31"], "--size: 32 to 2048 pixels are required, not 31"),
        (["world", "--size", "2049"], "--size: 32 to 2048 pixels are required, not 2049"),
        (["world", "--seed", "-1"], "--seed: 0 or greater is required, not -1"),
        ([""], "'' is not the name of a folder"),
        (["a\0b"], r"'a\x00b' is not the name of a folder"),
        (["file"], "file: it is a file; name a folder"),
        (["file/world"], "file/world: Not a directory"),
        (["x" * 300], "File name too long"),
    ],
)
def test_bad_arguments(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("elman: ")
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_missing_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ElmanError, match=r"pictures need Pillow: pip install 'elman\[vision\]'"):
        write_world(tmp_path / "world", 1)
    assert not (tmp_path / "world").exists()


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_is_left_of_a_world_that_is_interrupted(exists: bool, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    folder = tmp_path / "world"
    if exists:
        folder.mkdir()

    def interrupt(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(folder, 3, progress=interrupt)
    assert list(tmp_path.rglob("*")) == ([folder] if exists else [])
