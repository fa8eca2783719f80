"""Captions of pictures and questions about them, in all formats."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from PIL import Image

from elman.data.captions import Captioned, read_captions
from elman.data.pictures import open_picture, read_pictures
from elman.data.visual_questions import VisualQuestion, read_visual_questions
from elman.errors import ElmanError
from tests.picture_files import GREY, RGB, encoded, photo


def captions(data: Any, images: str | None = None, **options: Any) -> list[Captioned]:
    return read_captions(data, "image", "caption", images, **options)


def questions(data: Any, images: str | None = None, **options: Any) -> list[VisualQuestion]:
    return read_visual_questions(data, ("image", "question", "answer"), "kind", images, **options)


def write(path: Path, content: Any) -> str:
    """Write a text, or JSON, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, so that paths are short."""
    monkeypatch.chdir(tmp_path)
    return Path()


def test_tables_with_repeated_rows(here: Path) -> None:
    boxes = '[{"label": "a dog", "box": [0, 0, 1, 1]}]'
    table = polars.DataFrame(
        {"image": ["i/a.png", "i/a.png"], "caption": ["A dog.", " Two \n dogs."], "boxes": [boxes, None]}
    )
    table.write_csv("set.csv")
    assert captions("set.csv") == [
        Captioned("i/a.png", "A dog.", "set.csv, row 1", boxes, True),
        Captioned("i/a.png", "Two dogs.", "set.csv, row 2", in_table=True),
    ]
    write(here / "sub" / "t.tsv", "image\tcaption\na.png\tA cat.\n")
    assert captions(["set.csv", "sub/t.tsv"])[2].image == os.path.join("sub", "a.png")
    write(here / "t.txt", "caption\timage\nA dog.\ta.png\n")
    assert captions("t.txt") == [Captioned("a.png", "A dog.", "t.txt, row 1", in_table=True)]


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_tables_with_lists_of_captions(here: Path, ending: str) -> None:
    table = polars.DataFrame({"image": ["a.png", "b.png"], "caption": [["A dog.", "It runs."], ["A cat."]]})
    writers = {"jsonl": table.write_ndjson, "json": table.write_json, "parquet": table.write_parquet}
    writers[ending](f"t.{ending}")
    found = captions(f"t.{ending}")
    assert [(one.image, one.caption) for one in found] == [
        ("a.png", "A dog."), ("a.png", "It runs."), ("b.png", "A cat."),
    ]  # fmt: skip
    assert found[1].place == f"t.{ending}, row 1"


def test_flickr(here: Path) -> None:
    lines = ["a.jpg#0\tA dog .", "a.jpg#1\tIt runs #1 .", "", "b.jpg.1#0\tA cat ."]
    path = write(here / "Flickr8k.token.txt", "\n".join(lines) + "\n")
    assert captions(path) == [
        Captioned("a.jpg", "A dog .", f"{path}, line 1"),
        Captioned("a.jpg", "It runs #1 .", f"{path}, line 2"),
        Captioned("b.jpg.1", "A cat .", f"{path}, line 4"),
    ]
    write(here / "bad.txt", "a.jpg#0\tA dog .\na.jpg A cat .\nb.jpg#0\t \n")
    with pytest.raises(ElmanError, match=r"bad\.txt, line 2: 'name.jpg#0<tab>caption' is required; --skip-bad"):
        captions("bad.txt")
    assert len(captions("bad.txt", skip_bad=True)) == 1


def test_kaggle(here: Path) -> None:
    text = 'image,caption\na.jpg,"A dog, a ""big"" one ."\nb.jpg,"Sit !"\nc.jpg,A cat, and a dog .\n'
    path = write(here / "captions.txt", text)
    assert [one.caption for one in captions(path)] == ['A dog, a "big" one .', "Sit !", "A cat, and a dog ."]
    assert captions(path)[2].place == "captions.txt, line 4"
    with pytest.raises(ElmanError, match=r"captions\.txt, line 2: 'name.jpg,caption' is required"):
        captions(write(here / "captions.txt", "image,caption\n,A dog\n"))
    with pytest.raises(ElmanError, match=r"line 2: the caption is empty"):
        captions(write(here / "captions.txt", "image,caption\na.jpg\n"))


COCO = {
    "info": {"year": 2014},
    "images": [{"id": 42, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 7, "id": 1, "caption": "A cat.\n"},
        {"image_id": 42, "id": 2, "caption": "A dog."},
        {"image_id": 7, "id": 3, "caption": "It sleeps."},
    ],
}


def test_coco(here: Path) -> None:
    path = write(here / "captions.json", COCO)
    assert captions(path)[:2] == [
        Captioned("b.jpg", "A cat.", "captions.json, annotations[0]"),
        Captioned("a.jpg", "A dog.", "captions.json, annotations[1]"),
    ]
    photo(here / "val" / "b.jpg")
    assert captions(path, "val")[2].image == os.path.join("val", "b.jpg")
    indented = here / "indented.json"
    indented.write_text(json.dumps(COCO, indent=1))
    assert len(captions(str(indented))) == 3


def test_karpathy(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = [
        {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "A dog."}, {"tokens": ["it", "runs"]}]},
        {"filename": "b.jpg", "filepath": "val2014", "split": "test", "sentences": [{"raw": "A cat."}]},
    ]
    path = write(here / "dataset.json", {"images": pictures, "dataset": "flickr8k"})
    assert captions(path) == [
        Captioned("a.jpg", "A dog.", "dataset.json, images[0].sentences[0]"),
        Captioned("a.jpg", "it runs", "dataset.json, images[0].sentences[1]"),
        Captioned("val2014/b.jpg", "A cat.", "dataset.json, images[1].sentences[0]"),
    ]
    assert caplog.messages == ["dataset.json: its own splits (train 1, test 1 pictures) are not used"]


def test_a_folder_of_pictures_with_texts(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.png", "b.JPG", "lonely.png"):
        photo(here / "set" / name)
    write(here / "set" / "a.txt", "A dog.\n\n  It runs.\n")
    write(here / "set" / "b.txt", "A cat.")
    write(here / "set" / "readme.txt", "Pictures of animals.")
    a, b = os.path.join("set", "a.png"), os.path.join("set", "b.JPG")
    place = os.path.join("set", "a.txt")
    assert captions("set") == [
        Captioned(a, "A dog.", f"{place}, line 1"),
        Captioned(a, "It runs.", f"{place}, line 3"),
        Captioned(b, "A cat.", f"{os.path.join('set', 'b.txt')}, line 1"),
    ]
    assert caplog.messages == [
        "set: left out 1 pictures without a .txt beside them, such as lonely.png",
        "set: left out 1 texts without a picture, such as readme.txt",
    ]
    for empty in ("", " \n"):
        write(here / "set" / "a.txt", empty)
        with pytest.raises(ElmanError, match=r"set, a\.txt: the caption is empty"):
            captions("set")
        assert len(captions("set", skip_bad=True)) == 1
    Path("none").mkdir()
    with pytest.raises(ElmanError, match=r"none: no captions; give a table"):
        captions("none")


def test_pictures_in_memory() -> None:
    picture = Image.fromarray(RGB)
    for cells in ([picture, picture.convert("L")], [RGB, GREY], [encoded(RGB), encoded(GREY)]):
        found = captions({"image": cells, "caption": ["one", ["two", "three"]]})
        assert [one.caption for one in found] == ["one", "two", "three"]
        read = read_pictures([one.image for one in found], [one.place for one in found])
        assert read[0] is not None and read[1] is not None and read[1] == read[2]
        assert np.array_equal(np.asarray(open_picture(read[0])), RGB)
        assert open_picture(read[1]).size == (14, 10)
    found = captions([{"image": encoded(RGB), "caption": "one"}, {"image": b"rubbish", "caption": "two"}])
    with pytest.raises(ElmanError, match=r"<data in memory, 2 rows>, row 2: <picture of row 2>: a text file"):
        read_pictures([one.image for one in found], [one.place for one in found])


def test_pictures_in_tables(here: Path) -> None:
    """Published tables hold the files themselves."""
    cells = [{"bytes": encoded(RGB), "path": "a.png"}, {"bytes": None, "path": "b.png"}]
    polars.DataFrame({"image": cells, "caption": ["one", "two"]}).write_parquet("t.parquet")
    photo(here / "b.png")
    found = captions("t.parquet")
    assert [one.image for one in found] == ["a.png", "b.png"]
    first, second = read_pictures([one.image for one in found], [one.place for one in found])
    assert first is not None and first.content is not None and second is not None and second.content is None
    polars.DataFrame({"image": [encoded(RGB)], "caption": ["one"]}).write_parquet("t.parquet")
    [one] = captions("t.parquet")
    assert np.array_equal(np.asarray(open_picture(one.image)), RGB)


def test_a_table_and_its_pictures_in_one_archive(here: Path) -> None:
    with zipfile.ZipFile("set.zip", "w") as archive:
        archive.writestr("set/train.csv", "image,caption\nimages/a.png,A dog.\n")
        archive.writestr("set/images/a.png", encoded(RGB))
    [one] = captions("set.zip::set/train.csv")
    assert one.image == "set.zip::set/images/a.png" and open_picture(one.image).size == (14, 10)
    with tarfile.open("images.tar", "w") as tar:
        info = tarfile.TarInfo("images/a.png")
        info.size = len(encoded(RGB))
        tar.addfile(info, io.BytesIO(encoded(RGB)))
    assert captions({"image": ["a.png"], "caption": ["A dog."]}, "images.tar")[0].image == "images.tar::images/a.png"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "a.png", "caption": " "}, "row 2: the caption is empty"),
        ({"image": "a.png", "caption": None}, "row 2: the caption is empty"),
        ({"image": "", "caption": "A dog."}, "row 2: the cell of 'image' is empty"),
    ],
)
def test_rows_that_cannot_be_used(row: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture) -> None:
    data = [{"image": "a.png", "caption": "A cat."}, row]
    with pytest.raises(ElmanError, match=f"{reason}; --skip-bad skips such rows"):
        captions(data)
    assert [one.caption for one in captions(data, skip_bad=True)] == ["A cat."]
    assert f"skipped 1 bad row of 2; the first, {reason}" in caplog.text
    with pytest.raises(ElmanError, match="no captions"):
        captions([row], skip_bad=True)


@pytest.mark.parametrize("cell", [[], ["A dog.", ""]])
def test_lists_with_an_empty_caption(cell: list[str]) -> None:
    with pytest.raises(ElmanError, match="row 1: the caption is empty"):
        captions({"image": ["a.png", "b.png"], "caption": [cell, ["A cat."]]})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({**COCO, "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}]}, "annotations have no 'caption'; a file"),
        ({**COCO, "annotations": [{"image_id": 8, "caption": "x"}]}, r"annotations\[0\]: image_id 8: 'images' has no"),
        ({**COCO, "annotations": [{"image_id": [7], "caption": "x"}]}, r"annotations\[0\]: image_id \[7\]"),
        ({**COCO, "annotations": [{"image_id": 7, "caption": ""}]}, r"annotations\[0\]: the caption is empty"),
        ({**COCO, "annotations": [{"image_id": 7, "caption": 5}]}, r"annotations\[0\]: the caption is int; a text"),
        ({**COCO, "annotations": [{"image_id": 7, "caption": "\ud800"}]}, "contains an unpaired surrogate"),
        ({**COCO, "annotations": {"image_id": 7}}, "'annotations' must be a list of objects; the file has the"),
        ({**COCO, "annotations": [COCO["images"], 3]}, r"annotations\[0\] is list; an object is required"),
        ({**COCO, "images": "x"}, "'images' must be a list"),
        ({"images": [{"filename": "a.jpg"}]}, r"images\[0\]: 'filename' and a list of 'sentences' are required"),
        ({"images": [{"sentences": ["A dog."]}]}, r"images\[0\]: 'filename' and a list"),
        ({"annotations": [{"caption": "x"}]}, "has no list 'images', as the captions of COCO and Karpathy do; it"),
        ({"questions": [{"question": "x"}]}, "these are questions, for `elman train vqa`"),
        ([{"picture": "a.jpg", "caption": "x"}], "has no column 'image'; it has picture, caption"),
        ([1, 2], "record 1: a number; an object with the columns as keys is required"),
        ("{", "not valid JSON"),
        ('{"images": [', "not valid JSON"),
        ("A dog runs.", "not valid JSON"),
    ],
)  # fmt: skip
def test_json_of_another_shape(here: Path, content: Any, reason: str) -> None:
    with pytest.raises(ElmanError, match=reason) as error:
        captions(write(here / "captions.json", content))
    assert str(error.value).startswith("captions.json") and "\n" not in str(error.value)


def test_files_without_captions(here: Path) -> None:
    with pytest.raises(ElmanError, match=r"a\.txt: not captions in a known format; give a table.*Flickr.*COCO"):
        captions(write(here / "a.txt", "A dog runs.\n"))
    with pytest.raises(ElmanError, match="did you mean --image picture"):
        captions(write(here / "a.csv", "picture,caption\na.png,A dog.\n"))
    with pytest.raises(ElmanError, match=r"a\.txt: the file is empty"):
        captions(write(here / "a.txt", ""))
    with pytest.raises(ElmanError, match=r"none\.csv: no such file"):
        captions("none.csv")


def test_tables_of_questions(here: Path) -> None:
    text = "image\tquestion\tanswer\tkind\na.png\tWhat animal  is it?\tdog\tanimal\nb.png\tIs it big?\tno\t\n"
    path = write(here / "set" / "q.tsv", text)
    assert questions(path) == [
        VisualQuestion(
            os.path.join("set", "a.png"), "What animal is it?", "dog", "animal", f"{path}, row 1", in_table=True
        ),
        VisualQuestion(os.path.join("set", "b.png"), "Is it big?", "no", "", f"{path}, row 2", in_table=True),
    ]
    [one] = questions([{"image": "a.png", "question": "Who?", "answer": ["a man", "a boy", "a boy"], "boxes": "[]"}])
    assert one.answer == "a boy" and one.answers == ("a man", "a boy", "a boy") and one.boxes == "[]"
    for name in ("image", "question", "answer"):
        row = {"image": "a.png", "question": "Who?", "answer": "a boy"}
        with pytest.raises(ElmanError, match=f"row 2: the .*{name}.* is empty; --skip-bad"):
            questions([row, row | {name: " "}])
        assert len(questions([row, row | {name: " "}], skip_bad=True)) == 1
    with pytest.raises(ElmanError, match="no questions"):
        questions([row | {"answer": ""}], skip_bad=True)


ASKED = {
    "data_subtype": "val2014",
    "data_type": "mscoco",
    "questions": [
        {"image_id": 42, "question": "What is it?", "question_id": 420},
        {"image_id": 73, "question": "How many?", "question_id": 730},
    ],
}
ANSWERED = {
    "data_subtype": "val2014",
    "annotations": [
        {"question_id": 730, "image_id": 73, "answer_type": "number", "multiple_choice_answer": "2",
         "answers": [{"answer": "2"}, {"answer": "two"}]},
        {"question_id": 420, "image_id": 42, "answer_type": "other", "multiple_choice_answer": "a  dog"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("swapped", [False, True])
def test_vqa(here: Path, swapped: bool) -> None:
    paths = [write(here / "vqa" / "q.json", ASKED), write(here / "vqa" / "a.json", ANSWERED)]
    image = os.path.join("vqa", "COCO_val2014_{:012d}.jpg")
    assert questions(paths[::-1] if swapped else paths) == [
        VisualQuestion(image.format(42), "What is it?", "a dog", "other", f"{paths[0]}, questions[0]"),
        VisualQuestion(image.format(73), "How many?", "2", "number", f"{paths[0]}, questions[1]", ("2", "two")),
    ]


def test_names_of_pictures_in_vqa(here: Path) -> None:
    answers = write(here / "a.json", ANSWERED)
    for head, name in (
        ({"data_subtype": "test-dev2015"}, "COCO_test2015_000000000042.jpg"),
        ({"data_subtype": "val2015", "data_type": "abstract_v002"}, "abstract_v002_val2015_000000000042.png"),
        ({}, "000000000042.jpg"),
    ):
        asked = {**head, "questions": ASKED["questions"]}
        assert questions([write(here / "q.json", asked), answers])[0].image == name
    asked = {"questions": [{"image_id": "dog.jpg", "question": "What is it?", "question_id": "420"}]}
    assert questions([write(here / "q.json", asked), answers])[0].image == "dog.jpg"


@pytest.mark.parametrize(
    ("asked", "answered", "reason"),
    [
        (ASKED, None, r"q\.json: has the questions of VQA v2; give the file of its annotations too, such as v2_mscoco"),
        (None, ANSWERED, r"a\.json: has the annotations of VQA v2; give the file of its questions too, such as"),
        (ASKED, {"annotations": ANSWERED["annotations"][:1]}, r"questions\[0\]: question_id 420: the annotations have"),
        (ASKED, {"annotations": [{"question_id": 420}]}, r"questions\[0\]: question_id 420: the answer is empty"),
        (ASKED, {"annotations": [{"question_id": 420, "multiple_choice_answer": 2}]}, "the answer is int; a text is"),
        ({"questions": [{"image_id": 4, "question_id": 420}]}, ANSWERED, r"questions\[0\]: the question is empty"),
        ({"questions": [{"question": "Who?", "question_id": 420}]}, ANSWERED, "'image_id' must be the number of a"),
        ({"questions": [{}, 3]}, ANSWERED, r"q\.json: questions\[1\] is int; an object is required"),
        (COCO, ANSWERED, "these are captions, for `elman train caption`"),
        ({"info": [{}]}, ANSWERED, "has no list 'questions' or 'annotations', as the files of VQA v2 do; it has info"),
    ],
)  # fmt: skip
def test_vqa_of_another_shape(here: Path, asked: Any, answered: Any, reason: str) -> None:
    paths = [write(here / name, value) for name, value in (("q.json", asked), ("a.json", answered)) if value]
    with pytest.raises(ElmanError, match=reason) as error:
        questions(paths)
    assert "\n" not in str(error.value)


def test_a_folder_has_no_questions(here: Path) -> None:
    with pytest.raises(ElmanError, match="this is a folder; give the table or the JSON files in it"):
        questions(".")
