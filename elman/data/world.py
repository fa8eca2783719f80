"""Write a data set of drawn scenes with captions, questions and boxes, for captioning and visual question answering.

    python -m elman.data.world FOLDER --scenes 4000 --size 64 --seed 0

A scene has a noisy background and one to three objects of eight colours and six shapes. The command writes

- ``images/*.png``, the pictures, ``--size`` pixels wide and high;
- ``captions.tsv``, one caption for each picture, in the columns ``image``, ``caption`` and ``boxes``;
- ``questions.tsv``, up to six questions for each picture, in ``image``, ``question``, ``answer``, ``kind`` and
  ``boxes``;
- ``README.md``, which describes them.

**Captions.** Exactly one caption is right for a picture, for example ``a red circle left of a blue star above a green
ring``. It names every object; each is left of or above all that follow, and a relation holds between its two
neighbours in the caption. Objects whose relation would be unclear are never drawn. See `elman.data.scenes.draw_scene`.

**Questions.** The kinds are those of CLEVR (Johnson et al. 2017, https://arxiv.org/abs/1612.06890) and GQA (Hudson &
Manning 2019, https://arxiv.org/abs/1902.09506):

==========  ==================================================================================  =====================
kind        questions                                                                           answers
==========  ==================================================================================  =====================
colour      what colour is the circle?                                                          red, green, ...
shape       what shape is the red object?                                                       circle, square, ...
exist       is there a red circle? is there a red object? is there a circle?                    yes, no
count       how many circles are there? how many red objects ...? how many objects ...?         0, 1, 2, 3
relation    what is left of the red circle? right of, above, below                              blue star, ...
verify      is the circle red? is the red object a circle? is the red circle left of the ...?   yes, no
==========  ==================================================================================  =====================

Each question has one right answer, and answers are balanced, so that the question alone tells little.
See `elman.data.scene_questions.Questioner`.

**Boxes.** ``boxes`` is a JSON list such as ``[{"label": "red circle", "box": [0.12, 0.3, 0.41, 0.58]}]``: left, top,
right and bottom in fractions of the width and the height. In captions, the labels are phrases of the caption; in
questions, the boxes are those of the objects that the answer is about. `elman.metrics.pointing` compares them with
the attention of a model.

The same scenes, seed and size give the same pixels and the same tables on every machine. A greater number of scenes
begins with the same ones.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from elman.data.output import json_line
from elman.data.scene_questions import KINDS, Questioner
from elman.data.scenes import Scene, SceneObject, draw_scene
from elman.errors import ElmanError

__all__ = ["Scene", "SceneObject", "draw_scene", "main", "write_world"]

#: The least and the greatest size of a picture.
MIN_SIZE, MAX_SIZE = 32, 2048
#: How many times the command reports its progress.
_REPORTS = 10

_README = """# {scenes:,} drawn scenes with captions and questions

    python -m elman.data.world {name} --scenes {scenes} --size {size} --seed {seed}

| file | rows | columns |
|---|---|---|
| `images/*.png` | {scenes:,} | pictures, {size} x {size} pixels |
| `captions.tsv` | {scenes:,} | image, caption, boxes |
| `questions.tsv` | {questions:,} | image, question, answer, kind, boxes |

Each picture has exactly one right caption: every object is left of or above all that follow it, and each relation
holds between its two neighbours. Each question has one right answer. Kinds of questions: {kinds}.

`boxes`: a JSON list of objects with a label and their box, [left, top, right, bottom], in fractions of the width and
the height. In captions the labels are phrases of the caption; in questions the boxes are those of the objects that
the answer is about.

    elman train caption captions.tsv --encoder small
    elman train vqa questions.tsv --encoder small
"""


def write_world(
    folder: str | Path, scenes: int, size: int = 64, seed: int = 0, progress: Callable[[int], None] | None = None
) -> None:
    """Write a data set of drawn scenes; the module's documentation describes it.

    Args:
        folder (str | Path): The folder, which is created; if it exists, it must be empty.
        scenes (int): The number of scenes, 1 or more.
        size (int): The width and the height of a picture in pixels, 32 to 2048. Default: 64.
        seed (int): The seed, 0 or greater. Default: 0.
        progress (Callable[[int], None], optional): Called with the number of scenes after each scene.

    Raises:
        ElmanError: An argument is out of range, the folder has files in it or cannot be written, or Pillow is missing.
    """
    if scenes < 1:
        raise ElmanError(f"--scenes: 1 or more is required, not {scenes}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ElmanError(f"--size: {MIN_SIZE} to {MAX_SIZE} pixels are required, not {size}")
    if seed < 0:
        raise ElmanError(f"--seed: 0 or greater is required, not {seed}")
    try:
        from PIL import Image
    except ImportError:
        raise ElmanError("pictures need Pillow: pip install 'elman[vision]'") from None
    if not str(folder).strip() or "\0" in str(folder):
        raise ElmanError(f"{str(folder)!r} is not the name of a folder")
    folder = Path(folder).expanduser()
    created = _create(folder)
    captions, questions = [], []
    questioner = Questioner(seed)
    try:
        (folder / "images").mkdir()
        for k in range(scenes):
            scene = draw_scene((seed, 0, k), size)
            name = f"images/{k:06d}.png"
            Image.fromarray(scene.pixels).save(folder / name)
            captions.append((name, scene.caption, _boxes(scene.objects)))
            questions += [
                (name, q.question, q.answer, q.kind, _boxes(q.objects)) for q in questioner.ask(scene.objects)
            ]
            if progress:
                progress(k + 1)
        _write_table(folder / "captions.tsv", ("image", "caption", "boxes"), captions)
        _write_table(folder / "questions.tsv", ("image", "question", "answer", "kind", "boxes"), questions)
        facts = {
            "name": folder.resolve().name or "world",
            "scenes": scenes,
            "size": size,
            "seed": seed,
            "questions": len(questions),
        }
        (folder / "README.md").write_text(_README.format(**facts, kinds=", ".join(KINDS)), encoding="utf-8")
    except BaseException as error:
        _remove(folder, created)
        if isinstance(error, OSError):
            raise ElmanError(f"{folder}: {error.strerror or error}") from None
        raise


def _create(folder: Path) -> bool:
    """Create a folder; return whether it did not exist."""
    try:
        if os.path.isdir(folder):
            if any(folder.iterdir()):
                raise ElmanError(f"{folder} is not empty; name a new folder")
            return False
        folder.mkdir(parents=True)
    except OSError as error:
        reason = "it is a file; name a folder" if os.path.isfile(folder) else error.strerror or str(error)
        raise ElmanError(f"{folder}: {reason}") from None
    return True


def _remove(folder: Path, created: bool) -> None:
    """Remove what was written before an error."""
    for name in ("captions.tsv", "questions.tsv", "README.md"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "images", ignore_errors=True)
    if created:
        shutil.rmtree(folder, ignore_errors=True)


def _boxes(objects: Sequence[SceneObject]) -> str:
    """Return the cell of the column ``boxes`` for these objects."""
    boxes = [{"label": one.name, "box": [round(edge, 4) for edge in one.box]} for one in objects]
    return json_line(boxes, "a box")


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table that is separated by tabs."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``python -m elman.data.world``, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m elman.data.world", description="Write drawn scenes with captions, questions and boxes."
    )
    parser.add_argument("folder", help="a new or an empty folder")
    parser.add_argument("--scenes", type=int, default=4000, help="number of scenes (default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    options = parser.parse_args(arguments)

    def report(done: int) -> None:
        if done * _REPORTS // options.scenes > (done - 1) * _REPORTS // options.scenes:
            print(f"{done:,} of {options.scenes:,} scenes", file=sys.stderr)

    try:
        write_world(options.folder, options.scenes, options.size, options.seed, report)
    except ElmanError as error:
        print(f"elman: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("elman: interrupted; what was written has been removed", file=sys.stderr)
        return 130
    print(f"{options.folder}{os.sep}: captions.tsv, questions.tsv and images of {options.scenes:,} scenes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
