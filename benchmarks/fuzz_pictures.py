"""Fuzzer cases with damaged pictures, archives of pictures, captions and visual questions; see `benchmarks.fuzz`."""

from __future__ import annotations

import json
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.fuzz_data import damage_data
from benchmarks.fuzz_runs import SIZES, damage_bytes, damage_value

#: Options of the runs about pictures.
_OPTIONS = ["--encoder=small", "--image-size=16", "--picture-size=6", "--embedding-size=6"]

#: Each file of captions or questions to the task that reads it and the files that it is given.
FILES: dict[str, tuple[str, list[str]]] = {
    "captions.tsv": ("caption", []),
    "captions.jsonl": ("caption", []),
    "captions.txt": ("caption", []),
    "token.txt": ("caption", []),
    "coco.json": ("caption", []),
    "karpathy.json": ("caption", []),
    "questions.tsv": ("vqa", []),
    "questions.json": ("vqa", ["annotations.json"]),
    "annotations.json": ("vqa", ["questions.json"]),
}

#: Formats of pictures, by the ending of the file, with the modes that they can have.
_MODES = {
    "png": ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"], "jpg": ["RGB", "L", "CMYK"], "gif": ["P", "L"],
    "bmp": ["RGB", "L", "1"], "tif": ["RGB", "CMYK", "I;16", "F", "I", "L"], "webp": ["RGB", "RGBA"],
    "ppm": ["RGB"], "pgm": ["L"], "tga": ["RGB", "RGBA"], "ico": ["RGBA"], "jp2": ["RGB", "L"], "avif": ["RGB"],
}  # fmt: skip


def make_pictures(folder: Path) -> None:
    """Write small pictures of all formats into ``pictures``, and captions of and questions about them in all formats.

    Args:
        folder: the folder of the samples.
    """
    from PIL import Image

    draw = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    (folder / "formats").mkdir()
    (folder / "coco").mkdir()
    for k in range(8):
        pixels = draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{k}.png")
        Image.fromarray(pixels).save(folder / "coco" / f"{k:012}.jpg")
        (folder / "pictures" / f"{k}.txt").write_text(f"a picture of number {k}\n")
    for ending, modes in _MODES.items():
        for mode in modes:
            pixels = draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels).convert("I" if mode == "I;16" else mode)
            path = folder / "formats" / f"{mode.replace(';', '')}.{ending}"
            try:
                picture.convert(mode).save(path)
            except (KeyError, OSError, ValueError):  # this Pillow cannot write the format
                path.unlink(missing_ok=True)
    names = [f"{k % 8}.png" for k in range(16)]
    captions = [f"{('a red', 'two blue')[k % 2]} thing of number {k}" for k in range(16)]
    boxes = json.dumps([{"label": "thing", "box": [0, 0, 0.5, 1]}])
    rows = list(zip(names, captions, strict=True))
    (folder / "captions.tsv").write_text("\n".join(["image\tcaption\tboxes", *(f"{a}\t{b}\t{boxes}" for a, b in rows)]))
    (folder / "captions.jsonl").write_text(
        "\n".join(json.dumps({"image": a, "caption": [b, b + " again"]}) for a, b in rows)
    )
    (folder / "captions.txt").write_text("\n".join(["image,caption", *(f"{a},{b} , I think" for a, b in rows)]))
    (folder / "token.txt").write_text("\n".join(f"{a}#{k // 8}\t{b}" for k, (a, b) in enumerate(rows)))
    coco = {
        "images": [{"id": k, "file_name": f"{k}.png"} for k in range(8)],
        "annotations": [{"id": k, "image_id": k % 8, "caption": b} for k, b in enumerate(captions)],
    }
    (folder / "coco.json").write_text(json.dumps(coco))
    karpathy = [
        {"filename": f"{k}.png", "split": "train", "sentences": [{"raw": captions[k], "tokens": captions[k].split()}]}
        for k in range(8)
    ]
    (folder / "karpathy.json").write_text(json.dumps({"dataset": "flickr8k", "images": karpathy}))
    asked = [(name, f"how many are in {k // 8}?", ("two", "no idea")[k % 2]) for k, name in enumerate(names)]
    lines = [f"{a}\t{b}\t{c}\t{('count', 'other')[k % 2]}\t{boxes}" for k, (a, b, c) in enumerate(asked)]
    (folder / "questions.tsv").write_text("\n".join(["image\tquestion\tanswer\tkind\tboxes", *lines]))
    questions = [{"image_id": k % 8, "question": b, "question_id": k} for k, (_, b, _) in enumerate(asked)]
    (folder / "questions.json").write_text(json.dumps({"data_subtype": "", "questions": questions}))
    annotations = [
        {
            "question_id": k, "image_id": k % 8, "multiple_choice_answer": c, "answer_type": "other",
            "answers": [{"answer": c, "answer_id": n} for n in range(3)],
        }
        for k, (_, _, c) in enumerate(asked)
    ]  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps({"data_subtype": "", "annotations": annotations}))
    for name in ("captions.tsv", "questions.tsv"):
        shutil.copy(folder / name, folder / "pictures" / name)  # the pictures are beside them
    with tarfile.open(folder / "pictures.tar", "w") as tar, zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for path in sorted((folder / "pictures").glob("*.png")):
            tar.add(path, f"all/{path.name}")
            archive.write(path, f"all/{path.name}")


def picture_case(draw: random.Random, folder: Path, samples: Path) -> list[list[str]]:
    """Damage a picture, an archive of pictures, or captions or questions, and train, evaluate or predict with it.

    Args:
        draw: random generator of the case.
        folder: folder of the case.
        samples: folder of the sample runs.

    Returns:
        The command lines.
    """
    kind = draw.random()
    if kind < 0.4:
        return _picture(draw, folder, samples)
    if kind < 0.5:
        return _archive(draw, folder, samples)
    name = draw.choice(list(FILES))
    task, others = FILES[name]
    data = (samples / name).read_bytes()
    if name.endswith(".json") and draw.random() < 0.8:
        value = json.loads(data)
        for _ in range(draw.choice([1, 1, 2])):
            value = damage_value(draw, value)
        data = json.dumps(value).encode(errors="surrogatepass")
    else:
        for _ in range(draw.choice([1, 1, 2])):
            data = damage_data(draw, data)
    path = folder / (name if draw.random() < 0.9 else Path(name).stem + draw.choice([".csv", ".json", ".txt", ".html"]))
    path.write_bytes(data)
    given = [str(path), *(str(samples / other) for other in others if draw.random() < 0.95)]
    draw.shuffle(given)
    pictures = samples / ("coco" if others else "pictures")
    more = [f"--images={pictures}"] if draw.random() < 0.95 else []
    more += [option for option in ("--skip-bad", "--skip-broken") if draw.random() < 0.3]
    if draw.random() < 0.7:
        return [_train(task, given, folder, more)]
    if draw.random() < 0.5:
        return [["predict", str(samples / "runs" / task), str(path), "--json"]]
    shutil.copytree(pictures, folder, dirs_exist_ok=True)  # evaluate finds pictures beside the data
    return [["evaluate", str(samples / "runs" / task), *given, "--json"]]


def _picture(draw: random.Random, folder: Path, samples: Path) -> list[list[str]]:
    """Damage a picture of any format."""
    chosen = draw.choice(sorted((samples / "formats").iterdir()))
    data = chosen.read_bytes()
    for _ in range(draw.choice([0, 1, 1, 2])):
        data = damage_bytes(draw, data)
    if draw.random() < 0.15:
        data = draw.choice([b"", b"\0", b"<svg/>", b"<html><p>", b"text", draw.randbytes(100), data[:12], data * 2])
    name = chosen.name if draw.random() < 0.8 else chosen.stem + draw.choice([".jpg", ".png", ".PNG", ".svg", "", ".x"])
    path = folder / name
    path.write_bytes(data)
    run = draw.choice(["caption", "vqa", "frozen"])
    question = ["what is it?"] if run == "vqa" else []
    if draw.random() < 0.6:
        plot = [["--plot", str(folder / "out.png")], ["--show-attention"], ["--json"]]
        return [["predict", str(samples / "runs" / run), str(path), *question, *draw.choice(plot)]]
    data_folder = folder / "data"
    shutil.copytree(samples / "pictures", data_folder)
    shutil.copy(path, data_folder)
    more = draw.choice([[], ["--skip-broken"]])
    if draw.random() < 0.3:
        classes = folder / "classes"
        for k, one in enumerate([path, *sorted(data_folder.glob("[0-7].png"))]):
            (classes / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
            shutil.copy(one, classes / "ab"[k % 2] / one.name)
        sizes = ["--hidden-size=6", "--steps=2", "--encoder=small", "--image-size=16"]
        return [["train", "classify", str(classes), "--out", str(folder / "run"), *sizes, *more]]
    (data_folder / f"{path.stem}.txt").write_text("a damaged picture")
    return [_train("caption", [str(data_folder)], folder, more)]


def _archive(draw: random.Random, folder: Path, samples: Path) -> list[list[str]]:
    """Damage an archive of pictures."""
    name = draw.choice(["pictures.tar", "pictures.zip"])
    data = (samples / name).read_bytes()
    for _ in range(draw.choice([1, 1, 2, 4])):
        data = damage_bytes(draw, data)
    (folder / name).write_bytes(data)
    task, table = draw.choice([("caption", "captions.tsv"), ("vqa", "questions.tsv")])
    more = [f"--images={folder / name}", *draw.choice([[], ["--skip-broken"]])]
    return [_train(task, [str(samples / table)], folder, more)]


def _train(task: str, data: list[str], folder: Path, more: list[str]) -> list[str]:
    sizes = [f"--{key.replace('_', '-')}={value}" for key, value in SIZES.items()]
    return ["train", task, *data, "--out", str(folder / "run"), *sizes, *_OPTIONS, *more]
