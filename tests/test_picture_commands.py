"""The commands on the user's own pictures: training, evaluation and prediction take the same files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import safetensors.torch
import torch

import elman
from elman import cli

PIL = pytest.importorskip("PIL.Image")

SMALL: dict[str, Any] = {
    "encoder": "small", "image_size": 16, "embedding_size": 8, "hidden_size": 8, "picture_size": 8, "steps": 1,
    "precision": "float32", "progress": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, and a table of captions and one of questions about them."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "photos").mkdir()
    captions, questions = ["image\tcaption"], ["image\tquestion\tanswer"]
    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 255, (16, 16, 3)).astype(np.uint8)
        PIL.fromarray(pixels).save(folder / f"photos/{k}.png")
        captions.append(f"photos/{k}.png\tpicture {'ab'[k % 2]}")
        questions.append(f"photos/{k}.png\twhich one?\t{'ab'[k % 2]}")
    (folder / "captions.tsv").write_text("\n".join(captions))
    (folder / "questions.tsv").write_text("\n".join(questions))
    return folder


@pytest.fixture(scope="session")
def captions_run(photos: Path) -> str:
    elman.train("caption", photos / "captions.tsv", out=photos / "captions", **SMALL)
    return str(photos / "captions")


@pytest.fixture(scope="session")
def questions_run(photos: Path) -> str:
    elman.train("vqa", photos / "questions.tsv", out=photos / "questions", **SMALL)
    return str(photos / "questions")


@pytest.mark.parametrize(("task", "given"), [("caption", "photo.jpg"), ("vqa", "photo.jpg 'what is it?'")])
def test_options_of_the_user_replace_those_of_the_encoder(
    task: str, given: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(photos / ("captions.tsv" if task == "caption" else "questions.tsv"))
    for feeding, option in ((False, "--no-input-feeding"), (True, "--input-feeding")):
        run = str(tmp_path / f"{feeding}")
        options = ["--encoder", "small", "--image-size", "16", "--hidden-size", "8", "--weight-decay", "0.1"]
        assert cli.main(["train", task, data, "--out", run, "--steps", "1", *options, option]) == 0
        assert f"try: elman predict {run} {given}, elman evaluate {run}\n" in capsys.readouterr().err
        config = elman.load(run).config
        assert (config.input_feeding, config.weight_decay) == (feeding, 0.1)


def test_an_untrained_model_answers_with_a_word(captions_run: str, questions_run: str, photos: Path) -> None:
    for run, given in ((captions_run, f"{photos}/photos/0.png"), (questions_run, f"{photos}/photos/0.png\twhich?")):
        model = elman.load(run)
        model.network.head.bias.data[elman.data.tokenizer.Tokenizer.end_id] = 50.0
        for beam in (1, 5):
            assert model.predict([given], beam=beam)[0][0].text


def test_columns_have_an_effect_on_tables_only(photos: Path, tmp_path: Path) -> None:
    names = [{"id": k, "file_name": f"{k}.png"} for k in range(12)]
    coco = {"images": names, "annotations": [{"image_id": k, "caption": "a picture"} for k in range(12)]}
    asked = [{"question_id": k, "image_id": f"{k}.png", "question": "which?"} for k in range(12)]
    told = [{"question_id": k, "multiple_choice_answer": "a"} for k in range(12)]
    files = {"c.json": coco, "q.json": {"questions": asked}, "a.json": {"annotations": told}}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "token.txt").write_text("\n".join(f"{k}.png#0\ta picture" for k in range(12)))
    options = {**SMALL, "images": str(photos / "photos")}
    for data in ("c.json", "token.txt"):
        for option in ("caption", "image"):
            with pytest.raises(elman.ElmanError, match=f"{option}: has no effect here, it needs data in tables"):
                elman.train("caption", tmp_path / data, **options, **{option: "other"})
    for option in ("question", "answer", "image"):
        with pytest.raises(elman.ElmanError, match=f"{option}: has no effect here, it needs data in tables"):
            elman.train("vqa", [tmp_path / "q.json", tmp_path / "a.json"], **options, **{option: "other"})


def test_the_help_shows_one_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "caption", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Default: by the encoder. [default" not in shown
    assert "Size of an embedding. Default: by the encoder." in shown
    assert "Column with the caption, in tables. [default: caption]" in shown


def predicted(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> tuple[list[str], list[str]]:
    """The names of the pictures that ``elman predict`` answers, and the lines on standard error."""
    assert cli.main(["predict", *arguments]) == status
    shown = capsys.readouterr()
    return [line.partition("\t")[0] for line in shown.out.splitlines()], shown.err.splitlines()


def files(photos: Path, folder: Path) -> dict[str, Any]:
    """The JSON of COCO, Karpathy and VQA v2 without captions and answers, and the lines of Flickr and Kaggle."""
    names = [f"{k}.png" for k in range(3)]
    asked = [{"question_id": k, "image_id": name, "question": f"which {k}?"} for k, name in enumerate(names)]
    contents = {
        "coco.json": {"images": [{"id": k, "file_name": name} for k, name in enumerate(names)]},
        "karpathy.json": {"images": [{"filename": name, "filepath": ""} for name in names]},
        "token.txt": "\n".join(f"{name}#{j}\ta caption" for name in names for j in range(2)),
        "captions.txt": "\n".join(["image,caption", *(f"{name},a caption, or so" for name in names)]),
        "questions.json": {"questions": asked},
        "annotations.json": {"annotations": [{"question_id": 1}]},
    }
    for name, content in contents.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return contents


def test_prediction_takes_the_files_of_training(
    captions_run: str, questions_run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, wanted = str(photos / "photos"), [str(photos / f"photos/{k}.png") for k in range(3)]
    for name in files(photos, tmp_path):
        path, asks = str(tmp_path / name), name in ("questions.json", "annotations.json")
        if name != "annotations.json":
            run = questions_run if asks else captions_run
            assert predicted(capsys, 0, run, path, "--images", images) == (wanted, [])
    out = str(tmp_path / "o.csv")
    assert cli.main(["predict", questions_run, str(tmp_path / "questions.json"), "--images", images, "--out", out]) == 0
    capsys.readouterr()
    assert Path(out).read_text().splitlines()[0].startswith("question_id,image,question,predicted,score")
    _, (message,) = predicted(capsys, 2, questions_run, str(tmp_path / "annotations.json"))
    assert "annotations of VQA v2, which are answers; give the file of the questions alone" in message
    (tmp_path / "coco.json").write_text(json.dumps({"images": [{"file_name": "0.png"}, {"id": 1}]}))
    _, (message,) = predicted(capsys, 2, captions_run, str(tmp_path / "coco.json"), "--images", images)
    assert "coco.json, images[1]: 'file_name' or 'filename' is required" in message
    names, _ = predicted(capsys, 0, captions_run, str(tmp_path / "coco.json"), "--images", images, "--skip-bad")
    assert names == wanted[:1]


def test_messages_name_the_record_of_a_file(
    captions_run: str, questions_run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"images": [{"file_name": ""}, {"file_name": "missing.png"}]}))
    asked = {"questions": [{"image_id": "missing.png", "question": "which?"}]}
    (tmp_path / "q.json").write_text(json.dumps(asked))
    for run, name, place in ((captions_run, "c.json", "images[1]"), (questions_run, "q.json", "questions[0]")):
        message = predicted(capsys, 2, run, str(tmp_path / name), "--skip-bad")[1][-1]
        assert message == f"elman: {tmp_path / name}, {place}: {tmp_path}/missing.png: no such file"
    _, (message,) = predicted(capsys, 2, questions_run, str(tmp_path / "c.json"))
    assert "c.json: no list 'questions'; these are pictures, for a caption model" in message


def test_rows_without_a_picture_or_a_question(
    questions_run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (photos / "rows.tsv").write_text("image\tquestion\nphotos/0.png\twhich?\n\twhich?\nphotos/1.png\t\n")
    assert cli.main(["predict", questions_run, str(photos / "rows.tsv")]) == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1:] == ["\twhich?\t", f"{photos}/photos/1.png\t\t"]
    assert shown.err.splitlines()[0] == f"elman: {photos}/rows.tsv, row 2: the name of the picture is empty"
    out = str(tmp_path / "o.tsv")
    assert cli.main(["predict", questions_run, str(photos / "rows.tsv"), "--out", out]) == 2
    assert "answers to 1 of 3 inputs" in capsys.readouterr().err
    names, _ = predicted(capsys, 0, questions_run, str(photos / "rows.tsv"), "--skip-bad")
    assert names == [f"{photos}/photos/0.png"]
    assert "skipped 2 bad rows of 3; the first, row 2: the name of the picture is empty" in caplog.text


def test_questions_about_pictures_within_a_table(
    questions_run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [(photos / f"photos/{k}.png").read_bytes() for k in range(2)]
    polars.DataFrame({"image": pictures, "question": ["which?"] * 2}).write_parquet(tmp_path / "t.parquet")
    assert cli.main(["predict", questions_run, str(tmp_path / "t.parquet"), "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    answers = elman.load(questions_run).predict([(f"{photos}/photos/{k}.png", "which?") for k in range(2)])
    assert [one["answers"][0]["text"] for one in records] == [one[0].text for one in answers]
    assert [one["question"] for one in records] == ["which?"] * 2


def test_archives_and_subfolders(
    captions_run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos / "photos", tmp_path / "set/inner")
    for form in ("zip", "tar"):
        archive = shutil.make_archive(str(tmp_path / "pictures"), form, tmp_path / "set")
        names, _ = predicted(capsys, 0, captions_run, archive)
        assert len(names) == 12
        assert f"{archive}::inner/3.png" in names
    names, _ = predicted(capsys, 0, captions_run, str(tmp_path / "set"))
    assert len(names) == 12


def test_each_broken_picture_is_named_and_the_others_are_answered(
    captions_run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(4):
        data = (photos / f"photos/{k}.png").read_bytes()
        (tmp_path / f"{k}.png").write_bytes(data[:60] if k % 2 else data)
    paths = [str(tmp_path / f"{k}.png") for k in range(4)]
    (tmp_path / "list.txt").write_text("\n".join(paths))
    errors = [f"elman: {paths[k]}: " for k in (1, 3)]
    for given in (paths, [str(tmp_path)], [f"{tmp_path}/?.png"]):
        names, found = predicted(capsys, 2, captions_run, *given)
        assert names == paths
        assert [line.partition("the file")[0] for line in found] == errors
    names, found = predicted(capsys, 2, captions_run, str(tmp_path / "list.txt"))
    assert [line.count(path) for line, path in zip(found, paths[1::2], strict=True)] == [1, 1]
    names, (note,) = predicted(capsys, 0, captions_run, *paths, "--skip-broken")
    assert names == paths
    assert f"left out 2 of 4 inputs, which cannot be read; the first, {paths[1]}: the file is truncated" in note


def test_options_of_reading_are_refused_where_they_do_nothing(
    captions_run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(photos / "photos/0.png")
    for option in (["--images", str(photos)], ["--skip-bad"]):
        assert option[0] in predicted(capsys, 2, captions_run, picture, *option)[1][0]
    (tmp_path / "t.csv").write_text("text,label\n" + "it is good,a\nit is bad,b\n" * 20)
    elman.train("classify", tmp_path / "t.csv", out=tmp_path / "run", hidden_size=4, steps=1, progress=False)
    for command in ("predict", "evaluate"):
        for option in (["--images", str(photos)], ["--skip-broken"]):
            assert cli.main([command, str(tmp_path / "run"), str(tmp_path / "t.csv"), *option]) == 2
            name = option[0].removeprefix("--").replace("-", "_")
            assert f"{name}: has no effect here" in capsys.readouterr().err


def test_evaluation_reads_with_other_options(
    captions_run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos / "photos", tmp_path / "photos")
    shutil.copy(photos / "captions.tsv", tmp_path / "t.tsv")
    (tmp_path / "photos/3.png").write_bytes(b"")
    for arguments, status in ((["--images", str(photos)], 0), ([], 2), (["--skip-broken"], 0)):
        assert cli.main(["evaluate", captions_run, str(tmp_path / "t.tsv"), *arguments]) == status
        assert ("--skip-broken leaves them out" in capsys.readouterr().err) == (status == 2)
    with open(tmp_path / "t.tsv", "a") as file:
        file.write("\nphotos/4.png\t")
    arguments = ["evaluate", captions_run, str(tmp_path / "t.tsv"), "--images", str(photos)]
    assert cli.main(arguments) == 2
    assert "--skip-bad" in capsys.readouterr().err
    assert cli.main([*arguments, "--skip-bad"]) == 0


def test_held_out_pictures_that_were_moved(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(photos, tmp_path / "data", ignore=shutil.ignore_patterns("captions", "questions"))
    run = str(tmp_path / "run")
    elman.train("vqa", tmp_path / "data/questions.tsv", out=run, **SMALL)
    (tmp_path / "data/photos").rename(tmp_path / "photos")
    for moved, status in (([], 2), (["--images", str(tmp_path)], 0)):
        assert cli.main(["evaluate", run, "--baseline", *moved]) == status
    assert "baseline question" in capsys.readouterr().out


def test_tables_in_memory(captions_run: str, questions_run: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    captioner, answerer = elman.load(captions_run), elman.load(questions_run)
    asked = polars.read_csv("questions.tsv", separator="\t")
    answers = [one[0].text for one in answerer.predict(list(zip(asked["image"], asked["question"], strict=True)))]
    for table in (asked, asked.lazy(), asked.to_dict(as_series=False)):
        assert [one[0].text for one in answerer.predict(table)] == answers
        assert answerer.evaluate(table)["accuracy"] == answerer.evaluate(answerer.read(["questions.tsv"]))["accuracy"]
    captions = [one[0].text for one in captioner.predict(asked["image"].to_list())]
    for table in (asked["image"], asked, {"image": asked["image"].to_list()}):
        assert [one[0].text for one in captioner.predict(table)] == captions
    with pytest.raises(elman.ElmanError, match="no column 'question', as in training; there are image"):
        answerer.predict(asked.select("image"))


def test_inspect_shows_a_picture(
    captions_run: str, questions_run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    picture = str(photos / "photos/0.png")
    for run, given in ((captions_run, picture), (questions_run, f"{picture}\twhich one?")):
        assert cli.main(["inspect", run, given, "--out", str(tmp_path / "i.png")]) == 0
        shown = capsys.readouterr().out
        assert "picture: 16 x 16 pixels, resized to 16 x 16; encoder: small, trained; grid: 2 x 2 cells" in shown
    for run, given, words in (
        (captions_run, picture, ["(start)"]),
        (questions_run, f"{picture}\twhich one of these?", ["which", "one", "of", "these"]),
    ):
        assert cli.main(["inspect", run, given, "--out", str(tmp_path / "i.png")]) == 0
        steps = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
        assert [step[1] for step in steps[: len(words)]] == words


def test_runs_with_other_parameters(
    questions_run: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(shutil.copytree(questions_run, tmp_path / "run"))
    for name, prefix in (("model.safetensors", ""), ("last.safetensors", "network.")):
        with safetensors.safe_open(f"{run}/{name}", "pt") as file:
            about, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        tensors[f"{prefix}decoder.attention.key.weight"] = tensors.pop(f"{prefix}reader.fusion.weight")
        safetensors.torch.save_file(tensors, f"{run}/{name}", about)
    for arguments in (["predict", run, f"{photos}/photos/0.png", "which?"], ["train", "vqa", "--out", run, "--resume"]):
        assert cli.main(arguments) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert "reader.fusion.weight is missing; if another version of elman has trained the model" in message


def test_dot_attention_of_a_question_names_the_size_that_it_needs(photos: Path) -> None:
    with pytest.raises(elman.ElmanError, match="dot attention needs a picture_size of 16, .* not 8"):
        elman.train("vqa", photos / "questions.tsv", **SMALL, attention="dot")
    elman.train("vqa", photos / "questions.tsv", **SMALL | {"picture_size": 16}, attention="dot")


@pytest.mark.parametrize("kind", ["additive", "multihead", "location"])
def test_the_attention_of_an_answer_is_of_its_own_picture_and_question(photos: Path, kind: str) -> None:
    model = elman.train("vqa", photos / "questions.tsv", **SMALL, attention=kind)
    given = [(f"{photos}/photos/{k}.png", text) for k in (3, 1, 3, 7) for text in ("which one?", "which?")]
    for beam in (1, 4):
        for one, (answer, *_) in zip(given, model.predict(given, beam=beam), strict=True):
            ((alone, *_),) = model.predict([one], beam=beam)
            assert answer.text == alone.text
            torch.testing.assert_close(answer.attention.weights, alone.attention.weights, rtol=1e-4, atol=1e-6)
            sums = answer.attention.weights.sum(-1)
            torch.testing.assert_close(sums, torch.ones_like(sums))
