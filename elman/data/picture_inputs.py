"""Find the pictures, and the questions about them, that an argument of the command line stands for."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import polars

from elman.data.captions import caption_lines, read_object, record_list
from elman.data.inputs import InputFile, InputTable
from elman.data.media_inputs import LISTS, files_in, lines_in
from elman.data.media_paths import PICTURE, FileInMemory, file_column, folder_of, resolve
from elman.data.records import column
from elman.data.source import expand_home, printable
from elman.data.tables import SkippedRows, is_table, read_rows
from elman.data.text import one_line, read_text, wrong_text
from elman.data.visual_questions import file_name
from elman.errors import ElmanError


def pictures_in(
    argument: str,
    image: str = "image",
    question: str | None = None,
    images: str | None = None,
    caption: str = "caption",
    skip_bad: bool = False,
) -> InputFile | None:
    """Return the pictures that an argument of the command line names, if it does not name a single one.

    Args:
        argument (str): A folder, whose pictures and those of its subfolders are taken in alphabetical order; an
            archive; a pattern such as ``photos/*.jpg``; a table with a column of paths; a text file with a path on each
            line; or a file that `read_captions` or `read_visual_questions` reads, whose captions and answers are not
            needed. Each picture of a file of captions is taken once.
        image (str): The column of the paths in tables. Default: ``"image"``.
        question (str, optional): The column of the questions in tables. Each input is then a path, a tab and a
            question. Default: ``None``, no questions.
        images (str, optional): The folder or archive to which the paths in files are relative. Default: ``None``, the
            folder of the file.
        caption (str): The column of the captions, for text files with a line of headings. Default: ``"caption"``.
        skip_bad (bool): Whether to skip rows that cannot be read and to log their number. Default: ``False``.

    Returns:
        InputFile | None: The paths of the pictures, which may not be readable; None for a single picture.

    Raises:
        ElmanError: There is no picture, the file cannot be read, or a column is missing.
    """
    path = argument if "://" in argument else expand_home(argument)
    several = files_in(path, argument, PICTURE)
    if several is not None or PICTURE.has(path):
        return several
    skipped = SkippedRows(path, skip_bad or None)
    if path.lower().endswith(".json") and (value := read_object(path)) is not None:
        rows, places = _captioned(path, value, skipped) if question is None else _asked(path, value, skipped)
    elif is_table(path, [image] if question is None else [image, question]):
        columns = {"image": image} | ({} if question is None else {"question": question})
        return _in_table(argument, path, read_rows(path, columns, skipped).table, columns, images, skipped)
    elif not path.lower().endswith(LISTS):
        return None
    else:
        lines = read_text(path).split("\n")
        named = caption_lines(path, lines, image, caption, skipped) if question is None else None
        if named is None:
            return lines_in(path, argument, images)
        rows, places = polars.DataFrame({"image": list(dict.fromkeys(named))}), [""] * len(dict.fromkeys(named))
    skipped.log(len(rows))
    if not len(rows):
        raise ElmanError(f"{argument}: names no pictures")
    paths = resolve(rows["image"].to_list(), folder_of(path), images)
    questions = rows["question"].to_list() if question is not None else None
    places = [f"{argument}, {place}" if place else argument for place in places]
    return _table(argument, rows, paths, questions, places)


def _in_table(
    argument: str, path: str, table: polars.DataFrame, columns: dict[str, str], images: str | None, skipped: SkippedRows
) -> InputFile:
    """Return the pictures of a table; rows without a picture or a question are skipped, if bad rows are."""
    names = file_column(table, columns["image"], printable(path))
    questions = column(table, columns["question"], printable(path)) if "question" in columns else None
    bad = set()
    for k in range(len(table) if skipped.skip else 0):
        wrong = wrong_text(questions[k], "question") if questions is not None else ""
        if reason := wrong if names[k].strip() else "the name of the picture is empty":
            skipped.add(f"row {k + 1}", reason)
            bad.add(k)
    kept = [k for k in range(len(table)) if k not in bad]
    skipped.log(len(kept))
    paths = resolve([names[k] for k in kept], folder_of(path), images)
    questions = None if questions is None else [questions[k] for k in kept]
    return _table(argument, table[kept], paths, questions, [f"{argument}, row {k + 1}" for k in kept])


def _captioned(path: str, value: dict, skipped: SkippedRows) -> tuple[polars.DataFrame, list[str]]:
    """Return the names of the pictures in the JSON of COCO or Karpathy, and where each is."""
    if "images" not in value:
        hint = "; these are questions or answers, for a vqa model" if "questions" in value else ""
        raise ElmanError(f"{printable(path)}: has no list 'images', as the files of COCO and Karpathy do{hint}")
    names, places = [], []
    for k, record in enumerate(record_list(value, "images", path)):
        name = record.get("filename", record.get("file_name"))
        if isinstance(name, str) and name.strip():
            names.append(posixpath.join(str(record.get("filepath") or ""), name))
            places.append(f"images[{k}]")
        else:
            skipped.add(f"images[{k}]", "'file_name' or 'filename' is required")
    return polars.DataFrame({"image": names}, schema={"image": polars.String}), places


def _asked(path: str, value: dict, skipped: SkippedRows) -> tuple[polars.DataFrame, list[str]]:
    """Return the pictures and questions in the JSON of VQA v2, with their numbers, and where each is."""
    if "questions" not in value:
        if "images" in value:
            raise ElmanError(f"{printable(path)}: no list 'questions'; these are pictures, for a caption model")
        hint = "has the annotations of VQA v2, which are answers" if "annotations" in value else "no list 'questions'"
        raise ElmanError(f"{printable(path)}: {hint}; give the file of the questions alone")
    rows, places = [], []
    for k, record in enumerate(record_list(value, "questions", path)):
        number, text = record.get("image_id"), record.get("question")
        if not isinstance(number, (int, str)) or not str(number).strip():
            skipped.add(f"questions[{k}]", "'image_id' must be the number of a picture")
        elif reason := wrong_text(text, "question"):
            skipped.add(f"questions[{k}]", reason)
        else:
            rows.append((str(record.get("question_id", "")), file_name(number, value), one_line(str(text))))
            places.append(f"questions[{k}]")
    schema = dict.fromkeys(("question_id", "image", "question"), polars.String)
    return polars.DataFrame(rows, schema=schema, orient="row"), places


def _table(
    argument: str, table: polars.DataFrame, paths: Sequence[str], questions: list[str] | None, places: list[str]
) -> InputFile:
    """Return the pictures of a table, each with its question if there are any."""
    inputs: list[Any] = list(paths)
    names = [str(path) for path in paths]
    if questions is not None:
        names = [f"{path}\t{one_line(text)}" for path, text in zip(paths, questions, strict=True)]
        inputs = [
            (path, one_line(text)) if isinstance(path, FileInMemory) else name
            for path, text, name in zip(paths, questions, names, strict=True)
        ]
    found = InputTable(argument, table, inputs, names, places)
    found.relative = True
    return found
