"""Questions about pictures: tables, and the JSON files of VQA v2."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, NamedTuple

from elman.data.captions import read_object, record_list
from elman.data.media_paths import file_column, folder_of, resolve
from elman.data.records import column, list_column
from elman.data.source import InMemory, local_path, printable, sources
from elman.data.tables import SkippedRows, read_rows
from elman.data.text import one_line, wrong_text
from elman.errors import ElmanError


class VisualQuestion(NamedTuple):
    """A question about a picture.

    Attributes:
        image (str): The path of the picture; see `elman.data.pictures.resolve`.
        question (str): The question, on one line.
        answer (str): Its answer.
        kind (str): The kind of the question. Default: ``""``.
        place (str): The location of the question, for messages: ``train.tsv, row 3``. Default: ``""``.
        answers (tuple[str, ...]): The answers of several people, if there are several. Default: ``()``.
        boxes (str): Where the objects are that the answer is about, as JSON; ``""`` if not known. Default: ``""``.
        in_table (bool): Whether it comes from a table, whose columns have names. Default: ``False``.
    """

    image: str
    question: str
    answer: str
    kind: str = ""
    place: str = ""
    answers: tuple[str, ...] = ()
    boxes: str = ""
    in_table: bool = False


def read_visual_questions(
    data: Any,
    columns: tuple[str, str, str],
    kind: str = "kind",
    images: str | None = None,
    boxes: str = "boxes",
    skip_bad: bool = False,
) -> list[VisualQuestion]:
    """Read questions about pictures, with their answers.

    A table has a question in each row; a list of answers becomes ``answers``, and the most frequent of them ``answer``.
    The two JSON files of VQA v2, questions and annotations, are given in any order.

    Args:
        data: Paths or data in memory; see `elman.data.source.sources`.
        columns (tuple[str, str, str]): The columns of the picture, the question and the answer in tables.
        kind (str): The column of the kind of question in tables, which may be missing. Default: ``"kind"``.
        images (str, optional): The folder or archive of the pictures. Default: ``None``, their names are relative to
            the file.
        boxes (str): The column of the boxes in tables, which may be missing. Default: ``"boxes"``.
        skip_bad (bool): Whether to skip rows that cannot be read and to log their number. Default: ``False``.

    Returns:
        list[VisualQuestion]: The questions, in the order of the files. The pictures are not opened.

    Raises:
        ElmanError: A file cannot be read or has another format, a question or an answer is empty or missing, or there
            is no question.

    Example::

        >>> data = [("dog.jpg", "What animal is it?", "dog")]
        >>> [one] = read_visual_questions(data, ("image", "question", "answer"))
        >>> one.image, one.question, one.answer
        ('dog.jpg', 'What animal is it?', 'dog')
    """
    result: list[VisualQuestion] = []
    parts: dict[str, list[tuple[str, dict[str, Any]]]] = {"questions": [], "annotations": []}
    for path in sources(data):
        local = local_path(path)
        if not isinstance(path, InMemory) and local is not None and os.path.isdir(local):
            raise ElmanError(f"{printable(path)}: this is a folder; give the table or the JSON files in it")
        value = read_object(path)
        if value is None:
            found = _read_table(path, columns, kind, images, boxes, skip_bad)
            if not found:
                raise ElmanError(f"{printable(path)}: no questions")
            result += found
            continue
        part = next((name for name in parts if name in value), None)
        if part is None or "images" in value:
            keys = ", ".join(map(str, list(value)[:8]))
            hint = "; these are captions, for `elman train caption`" if "images" in value else ""
            raise ElmanError(
                f"{printable(path)}: has no list 'questions' or 'annotations', as the files of VQA v2 do; it has "
                f"{keys}{hint}"
            )
        parts[part].append((path, value))
    if any(parts.values()):
        result += _read_json(parts["questions"], parts["annotations"], images, skip_bad)
    return result


def _read_table(
    path: str, columns: tuple[str, str, str], kind: str, images: str | None, boxes: str, skip_bad: bool
) -> list[VisualQuestion]:
    """Read a table with a question in each row."""
    skipped, shown = SkippedRows(path, skip_bad), printable(path)
    image, question, answer = columns
    table, lines = read_rows(path, dict(zip(("image", "question", "answer"), columns, strict=True)), skipped)
    names = file_column(table, image, shown)
    questions = column(table, question, shown)
    listed = list_column(table, answer)
    answers = [[text] for text in column(table, answer, shown)] if listed is None else listed
    kinds = column(table, kind, shown) if kind in table.columns else [""] * len(table)
    marked = column(table, boxes, shown) if boxes in table.columns else [""] * len(table)
    paths = resolve(names, folder_of(path), images)
    result = []
    rows = zip(names, paths, questions, answers, kinds, marked, strict=True)
    for row, (name, found, text, given, category, box) in enumerate(rows, 1):
        where = f" (line {lines[row - 1]})" if lines[row - 1] else ""
        reason = "" if name.strip() else f"the cell of {image!r} is empty"
        reason = reason or wrong_text(text, "question")
        reason = reason or next(filter(None, (wrong_text(one, "answer") for one in given or [""])), "")
        if reason:
            skipped.add(f"row {row}", f"{reason}{where}")
            continue
        given = [one_line(one) for one in given]
        several = tuple(given) if len(given) > 1 else ()
        usual = Counter(given).most_common(1)[0][0]
        place = f"{shown}, row {row}"
        result.append(VisualQuestion(found, one_line(text), usual, category.strip(), place, several, box, True))
    skipped.log(len(result))
    return result


def _read_json(
    questions: list[tuple[str, dict[str, Any]]],
    annotations: list[tuple[str, dict[str, Any]]],
    images: str | None,
    skip_bad: bool,
) -> list[VisualQuestion]:
    """Read the questions of VQA v2 and the annotations with their answers."""
    if not questions or not annotations:
        given, missing = ("questions", "annotations") if questions else ("annotations", "questions")
        path = printable((questions or annotations)[0][0])
        raise ElmanError(
            f"{path}: has the {given} of VQA v2; give the file of its {missing} too, such as "
            + ("v2_mscoco_train2014_annotations.json" if questions else "v2_OpenEnded_mscoco_train2014_questions.json")
        )
    answers: dict[str, dict[str, Any]] = {}
    for path, value in annotations:
        for k, record in enumerate(record_list(value, "annotations", path)):
            number = record.get("question_id")
            if answers.setdefault(str(number), record) != record:
                raise ElmanError(
                    f"{printable(path)}, annotations[{k}]: question_id {number!r} has another answer before; the "
                    "numbers must differ over all files"
                )
    result: list[VisualQuestion] = []
    for path, value in questions:
        skipped, shown = SkippedRows(path, skip_bad), printable(path)
        read: list[VisualQuestion] = []
        for k, record in enumerate(record_list(value, "questions", path)):
            place = f"questions[{k}]"
            one = _joined(record, answers.get(str(record.get("question_id"))), value, f"{shown}, {place}")
            if isinstance(one, str):
                skipped.add(place, one)
            else:
                read.append(one)
        skipped.log(len(read))
        paths = resolve([one.image for one in read], folder_of(path), images)
        result += [one._replace(image=found) for one, found in zip(read, paths, strict=True)]
    if not result:
        raise ElmanError(f"{printable(questions[0][0])}: no questions")
    return result


def _joined(
    question: dict[str, Any], annotation: dict[str, Any] | None, file: dict[str, Any], place: str
) -> VisualQuestion | str:
    """Return a question of VQA v2 with its answers, or what is wrong with it."""
    number, text = question.get("image_id"), question.get("question")
    if not isinstance(number, (int, str)) or not str(number).strip():
        return "'image_id' must be the number of a picture"
    if reason := wrong_text(text, "question"):
        return reason
    asked = f"question_id {question.get('question_id')!r}"
    if annotation is None:
        return f"{asked}: the annotations have no answer to it"
    given = annotation.get("answers")
    people = [one.get("answer") for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    answers = [one_line(str(answer)) for answer in people if not wrong_text(answer, "answer")]
    answer = annotation.get("multiple_choice_answer") or next(iter(Counter(answers).most_common(1)), (None,))[0]
    if reason := wrong_text(answer, "answer"):
        return f"{asked}: {reason}"
    kind = annotation.get("answer_type")
    return VisualQuestion(
        file_name(number, file), one_line(str(text)), one_line(str(answer)), kind if isinstance(kind, str) else "",
        place, tuple(answers),
    )  # fmt: skip


def file_name(number: int | str, file: dict[str, Any]) -> str:
    """Return the name of a picture of COCO, or of the abstract scenes of VQA."""
    if isinstance(number, str) and not number.isdigit():
        return number
    subset, kind = str(file.get("data_subtype") or ""), str(file.get("data_type") or "mscoco")
    if kind.startswith("abstract"):
        return f"{kind}_{subset}_{int(number):012d}.png"
    subset = subset.replace("test-dev", "test")
    return f"COCO_{subset}_{int(number):012d}.jpg" if subset else f"{int(number):012d}.jpg"
