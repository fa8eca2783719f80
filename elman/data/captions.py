"""Pictures with captions: tables, the files of Flickr8k, COCO and Karpathy, and folders of pictures with texts."""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from elman.data.archive import name_inside, table_in_memory
from elman.data.media_paths import file_column, folder_of, resolve
from elman.data.picture_formats import PICTURES
from elman.data.records import column, list_column
from elman.data.source import InMemory, files_below, local_path, printable, sources
from elman.data.tables import SkippedRows, is_table, read_rows
from elman.data.text import one_line, read_bytes, read_text, wrong_text
from elman.errors import ElmanError

_log = logging.getLogger("elman")

#: A line of Flickr's files: the name of the picture, the number of the caption, a tab and the caption.
_FLICKR = re.compile(r"([^\t]+?)#(\d+)\t(.*)")
#: The first line of Kaggle's copy of Flickr8k.
_KAGGLE = re.compile(r"image(_name)?\s*,\s*caption\s*")

_FORMATS = (
    "a table with the columns of images and captions (.csv, .tsv, .jsonl, .parquet, ...), lines "
    "'name.jpg#0<tab>caption' (Flickr) or 'image,caption' (Kaggle), the JSON of COCO or Karpathy, or a folder with a "
    ".txt beside each picture"
)


class Captioned(NamedTuple):
    """A caption of a picture.

    Attributes:
        image (str): The path of the picture; see `elman.data.pictures.resolve`.
        caption (str): The caption, on one line.
        place (str): The location of the caption, for messages: ``train.tsv, row 3``.
        boxes (str): Where the objects of the caption are, as JSON; ``""`` if not known. Default: ``""``.
        in_table (bool): Whether it comes from a table, whose columns have names. Default: ``False``.
    """

    image: str
    caption: str
    place: str
    boxes: str = ""
    in_table: bool = False


def read_captions(
    data: Any, image: str, caption: str, images: str | None, boxes: str = "boxes", skip_bad: bool = False
) -> list[Captioned]:
    """Read captions of pictures.

    The formats are a table whose rows have one picture and a caption or a list of captions; the ``token.txt`` of
    Flickr8k and Flickr30k; the ``captions.txt`` of Kaggle; the JSON of COCO and of Karpathy; and a folder in which a
    text file beside each picture has a caption on each line. The splits of Karpathy's files are logged and not used.

    Args:
        data: Paths or data in memory; see `elman.data.source.sources`.
        image (str): The column of the pictures in tables.
        caption (str): The column of the captions in tables.
        images (str, optional): The folder or archive of the pictures. ``None``: their names are relative to the file.
        boxes (str): The column of the boxes in tables, which may be missing. Default: ``"boxes"``.
        skip_bad (bool): Whether to skip rows that cannot be read and to log their number. Default: ``False``.

    Returns:
        list[Captioned]: One for each caption, in the order of the files. The pictures are not opened.

    Raises:
        ElmanError: A file cannot be read or has another format, a caption is empty, or there is no caption.

    Example::

        >>> data = {"image": ["dog.jpg"], "caption": [["A dog.", "A brown dog runs."]]}
        >>> for one in read_captions(data, "image", "caption", None):
        ...     print(one.image, one.caption)
        dog.jpg A dog.
        dog.jpg A brown dog runs.
    """
    result: list[Captioned] = []
    for path in sources(data):
        skipped = SkippedRows(path, skip_bad)
        local = local_path(path)
        if not isinstance(path, InMemory) and local is not None and os.path.isdir(local):
            found = _read_folder(local, skipped)
        elif (value := read_object(path)) is not None:
            found = _read_json(path, value, images, skipped)
        elif is_table(path, [image, caption]):
            found = _read_table(path, image, caption, images, boxes, skipped)
        else:
            found = _read_lines(path, image, caption, images, boxes, skipped)
        skipped.log(len(found))
        if not found:
            raise ElmanError(f"{printable(path)}: no captions; give {_FORMATS}")
        result += found
    return result


def read_object(path: str) -> dict[str, Any] | None:
    """Return the content of a JSON file that is one object with lists of records; None for any other file.

    Args:
        path (str): A path, a URL or an in-memory source.

    Raises:
        ElmanError: The file ends with ``.json`` and is not valid JSON.
    """
    if table_in_memory(path) is not None:
        return None
    if not isinstance(path, InMemory) and not name_inside(path).lower().endswith(".json"):
        return None
    text = read_text(path)
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if isinstance(path, InMemory) or "\n" in text.strip():
            return None  # an object on each line, or another table, whose reader says what is wrong
        raise ElmanError(f"{printable(path)}: not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ElmanError(f"{printable(path)}: the JSON is nested too deeply") from None
    is_records = any(isinstance(cells, list) and cells and isinstance(cells[0], dict) for cells in value.values())
    return value if is_records else None


def record_list(value: dict[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    """Return the list of records under a key of a JSON object.

    Raises:
        ElmanError: The object has no such list, or one of its items is no record.
    """
    records = value.get(key)
    if not isinstance(records, list):
        keys = ", ".join(map(str, list(value)[:8]))
        raise ElmanError(f"{printable(path)}: {key!r} must be a list of objects; the file has the keys {keys}")
    for k, record in enumerate(records):
        if not isinstance(record, dict):
            raise ElmanError(f"{printable(path)}: {key}[{k}] is {type(record).__name__}; an object is required")
    return records


def caption_lines(path: str, lines: Sequence[str], image: str, caption: str, skipped: SkippedRows) -> list[str] | None:
    """Return the name of the picture on each line of Flickr's or Kaggle's files; None for any other text.

    Args:
        path (str): The path of the file.
        lines (Sequence[str]): Its lines.
        image (str): The column of the pictures, for a line of headings.
        caption (str): The column of the captions, for a line of headings.
        skipped (SkippedRows): Gets the lines without a name.
    """
    if _KAGGLE.fullmatch(lines[0].strip().lower()) or lines[0].strip() == f"{image},{caption}":
        names = [line.partition(",")[0].strip() for line in lines[1:]]
        first, form = 2, "'name.jpg,caption'"
    elif _FLICKR.fullmatch(next((line for line in lines if line.strip()), "")):
        names = [match[1] if (match := _FLICKR.fullmatch(line)) else "" for line in lines]
        first, form = 1, "'name.jpg#0<tab>caption'"
    else:
        return None
    for number, name in enumerate(names, first):
        if not name and lines[number - 1].strip():
            skipped.add(f"line {number}", f"{form} is required")
    return [name for name in names if name]


def _read_table(
    path: str, image: str, caption: str, images: str | None, boxes: str, skipped: SkippedRows
) -> list[Captioned]:
    """Read a table with a picture and a caption, or a list of captions, in each row."""
    table, lines = read_rows(path, {"image": image, "caption": caption}, skipped)
    shown = printable(path)
    names = file_column(table, image, shown)
    texts = list_column(table, caption)
    if texts is None:
        texts = [[text] for text in column(table, caption, shown)]
    marked = column(table, boxes, shown) if boxes in table.columns else [""] * len(table)
    result = []
    paths = resolve(names, folder_of(path), images)
    for row, (name, found, captions, box) in enumerate(zip(names, paths, texts, marked, strict=True), 1):
        where = f" (line {lines[row - 1]})" if lines[row - 1] else ""
        reason = f"the cell of {image!r} is empty" if not name.strip() else ""
        reason = reason or next(filter(None, (wrong_text(text, "caption") for text in captions or [""])), "")
        if reason:
            skipped.add(f"row {row}", f"{reason}{where}")
        else:
            place = f"{shown}, row {row}"
            result += [Captioned(found, one_line(text), place, box, True) for text in captions]
    return result


def _read_lines(
    path: str, image: str, caption: str, images: str | None, boxes: str, skipped: SkippedRows
) -> list[Captioned]:
    """Read Flickr's ``token.txt``, Kaggle's ``captions.txt``, or a table in a text file."""
    lines = read_text(path).split("\n")
    if _KAGGLE.fullmatch(lines[0].strip().lower()) or lines[0].strip() == f"{image},{caption}":
        rows = [line.partition(",")[::2] for line in lines[1:]]
        return _captions_of_lines(path, lines, rows, 2, "'name.jpg,caption'", images, skipped)
    first = next(line for line in lines if line.strip())
    if {image, caption} <= {cell.strip(' "') for cell in re.split(r"[\t,;|]", first)}:
        return _read_table(path, image, caption, images, boxes, skipped)
    if not _FLICKR.fullmatch(first):
        raise ElmanError(f"{printable(path)}: not captions in a known format; give {_FORMATS}")
    matches = [_FLICKR.fullmatch(line) for line in lines]
    rows = [(match[1], match[3]) if match else ("", "") for match in matches]
    return _captions_of_lines(path, lines, rows, 1, "'name.jpg#0<tab>caption'", images, skipped)


def _captions_of_lines(
    path: str,
    lines: list[str],
    rows: Sequence[Sequence[str]],
    first: int,
    form: str,
    images: str | None,
    skipped: SkippedRows,
) -> list[Captioned]:
    """Return the captions of a text file; ``first``: the number of the line of the first row."""
    shown, result = printable(path), []
    paths = resolve([name for name, _ in rows], folder_of(path), images)
    for number, ((name, text), found) in enumerate(zip(rows, paths, strict=True), first):
        if not lines[number - 1].strip():
            continue
        text = text.strip()
        if len(text) > 1 and text[0] == text[-1] == '"' and first > 1:
            text = text[1:-1].replace('""', '"')
        reason = wrong_text(text, "caption") if name.strip() else f"{form} is required"
        if reason:
            skipped.add(f"line {number}", reason)
        else:
            result.append(Captioned(found, one_line(text), f"{shown}, line {number}"))
    return result


def _read_json(path: str, value: dict[str, Any], images: str | None, skipped: SkippedRows) -> list[Captioned]:
    """Read the JSON of COCO (images and annotations) or of Karpathy (images with sentences)."""
    if "images" not in value:
        keys = ", ".join(map(str, list(value)[:8]))
        hint = "; these are questions, for `elman train vqa`" if "questions" in value else ""
        raise ElmanError(
            f"{printable(path)}: has no list 'images', as the captions of COCO and Karpathy do; it has {keys}{hint}"
        )
    records = record_list(value, "images", path)
    if "annotations" in value:
        rows = _rows_of_coco(records, record_list(value, "annotations", path), path, skipped)
    else:
        rows = _rows_of_karpathy(records, path, skipped)
    paths = resolve([name for name, _, _ in rows], folder_of(path), images)
    shown, result = printable(path), []
    for found, (_, text, place) in zip(paths, rows, strict=True):
        reason = wrong_text(text, "caption")
        if reason:
            skipped.add(place, reason)
        else:
            result.append(Captioned(found, one_line(text), f"{shown}, {place}"))
    return result


def _rows_of_coco(
    pictures: list[dict[str, Any]], annotations: list[dict[str, Any]], path: str, skipped: SkippedRows
) -> list[tuple[str, Any, str]]:
    """Return the name, the caption and the place of each annotation."""
    if annotations and not any("caption" in annotation for annotation in annotations):
        raise ElmanError(
            f"{printable(path)}: the annotations have no 'caption'; a file such as captions_train2017.json is required"
        )
    names = {str(picture.get("id")): picture.get("file_name") for picture in pictures}
    rows = []
    for k, annotation in enumerate(annotations):
        place = f"annotations[{k}]"
        name = names.get(str(annotation.get("image_id")))
        if isinstance(name, str) and name:
            rows.append((name, annotation.get("caption"), place))
        else:
            skipped.add(place, f"image_id {annotation.get('image_id')!r}: 'images' has no 'file_name' for this id")
    return rows


def _rows_of_karpathy(pictures: list[dict[str, Any]], path: str, skipped: SkippedRows) -> list[tuple[str, Any, str]]:
    """Return the name, the caption and the place of each sentence."""
    rows = []
    for k, picture in enumerate(pictures):
        name, sentences = picture.get("filename", picture.get("file_name")), picture.get("sentences")
        if not isinstance(name, str) or not name or not isinstance(sentences, list):
            skipped.add(f"images[{k}]", "'filename' and a list of 'sentences' are required")
            continue
        name = posixpath.join(str(picture.get("filepath") or ""), name)
        for j, sentence in enumerate(sentences):
            text = sentence.get("raw", sentence.get("caption")) if isinstance(sentence, dict) else sentence
            if text is None and isinstance(sentence, dict) and isinstance(sentence.get("tokens"), list):
                text = " ".join(map(str, sentence["tokens"]))
            rows.append((name, text, f"images[{k}].sentences[{j}]"))
    splits = Counter(str(picture["split"]) for picture in pictures if "split" in picture)
    if splits:
        counts = ", ".join(f"{name} {count:,}" for name, count in splits.items())
        _log.warning("%s: its own splits (%s pictures) are not used", printable(path), counts)
    return rows


def _read_folder(folder: str, skipped: SkippedRows) -> list[Captioned]:
    """Read the text file beside each picture of a folder and its subfolders."""
    names = files_below(folder)
    texts = {os.path.splitext(name)[0]: name for name in names if name.lower().endswith(".txt")}
    result, without = [], []
    for name in names:
        if not name.lower().endswith(PICTURES):
            continue
        text = texts.pop(os.path.splitext(name)[0], None)
        if text is None:
            without.append(name)
            continue
        path = os.path.join(folder, text)
        lines = read_text(path).split("\n") if read_bytes(path).strip() else []
        captions = [(k, one_line(line)) for k, line in enumerate(lines, 1) if line.strip()]
        if not captions:
            skipped.add(printable(text), "the caption is empty")
        result += [Captioned(os.path.join(folder, name), line, f"{printable(path)}, line {k}") for k, line in captions]
    if without and result:
        _log.warning(
            "%s: left out %d pictures without a .txt beside them, such as %s", printable(folder), len(without),
            printable(without[0]),
        )  # fmt: skip
    if texts and result:
        first = printable(next(iter(texts.values())))
        _log.warning("%s: left out %d texts without a picture, such as %s", printable(folder), len(texts), first)
    return result
