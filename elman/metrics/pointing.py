"""The pointing game: whether the attention of a word lies on the object that the word names."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from elman.errors import ElmanError
from elman.metrics.captions import normalize, split_words
from elman.metrics.texts import share

_FORM = '[{"label": "red circle", "box": [left, top, right, bottom]}] with fractions between 0 and 1 is required'


class Box(NamedTuple):
    """The bounding box of an object, in fractions of the width and the height of the picture.

    Attributes:
        label (str): The phrase that names the object in the caption.
        left (float): The left edge, between 0 and 1.
        top (float): The upper edge, between 0 and 1.
        right (float): The right edge, greater than ``left``.
        bottom (float): The lower edge, greater than ``top``.
    """

    label: str
    left: float
    top: float
    right: float
    bottom: float


class Pointed(NamedTuple):
    """The attention over one picture, and the boxes of its objects.

    Attributes:
        words (list[str]): The words of the caption that was generated. Empty for a question.
        weights (numpy.ndarray): The attention of each word, or the one of the answer, over the cells of the grid in
            row-major order, (T, S). Rows after those of the words are ignored.
        grid (tuple[int, int]): The numbers of rows and columns of the grid.
        boxes (list[Box]): The objects; for a question those that the answer is about.
    """

    words: list[str]
    weights: np.ndarray
    grid: tuple[int, int]
    boxes: list[Box]


def read_boxes(cell: str, place: str) -> list[Box]:
    """Parse a cell of the column ``boxes``.

    Args:
        cell (str): JSON: a list of objects with ``label`` and ``box``, or nothing.
        place (str): Where the cell is, for messages.

    Returns:
        list[Box]: The boxes, none for an empty cell.

    Raises:
        ElmanError: The cell is not JSON of this form, or the edges of a box are not between 0 and 1 and in order.

    Example::

        >>> read_boxes('[{"label": "red circle", "box": [0.1, 0.2, 0.3, 0.4]}]', "captions.tsv, row 1")
        [Box(label='red circle', left=0.1, top=0.2, right=0.3, bottom=0.4)]
    """
    if not cell.strip():
        return []
    try:
        given = json.loads(cell)
    except (ValueError, RecursionError):
        raise ElmanError(f"{place}: boxes: {_short(cell)} is not JSON; {_FORM}") from None
    if not isinstance(given, list):
        raise ElmanError(f"{place}: boxes: {_short(cell)} is not a list; {_FORM}")
    return [_read_box(item, place) for item in given]


def _read_box(item: Any, place: str) -> Box:
    """Check one object of the list."""
    shown = _short(repr(item))
    if not isinstance(item, dict) or not {"label", "box"} <= item.keys():
        raise ElmanError(f"{place}: boxes: {shown} has no label and box; {_FORM}")
    label, edges = item["label"], item["box"]
    if not isinstance(label, str):
        raise ElmanError(f"{place}: boxes: the label of {shown} is not a text; {_FORM}")
    if not isinstance(edges, list) or len(edges) != 4 or not all(type(edge) in (int, float) for edge in edges):
        raise ElmanError(f"{place}: boxes: the box of {shown} is not four numbers; {_FORM}")
    if not all(math.isfinite(edge) and 0 <= edge <= 1 for edge in edges):
        raise ElmanError(f"{place}: boxes: {shown} is not within 0 and 1; divide pixels by the picture's size")
    left, top, right, bottom = map(float, edges)
    if not (left < right and top < bottom):
        raise ElmanError(f"{place}: boxes: {shown} is empty; its edges are left, top, right and bottom, in this order")
    return Box(label, left, top, right, bottom)


def _short(text: str) -> str:
    """Shorten a text for a message."""
    return text if len(text) <= 60 else text[:57] + "..."


def pointing_scores(found: Sequence[Pointed]) -> dict[str, float | None]:
    """Compute the scores of the pointing game.

    The cells of an object are those whose centre lies in its box, after the box has been grown by half a cell on each
    side. In a caption, each word of a label that occurs in it as a phrase is compared with the boxes of this label;
    for a question, the first row of the weights is compared with all boxes.

    Zhang et al. 2016, https://arxiv.org/abs/1608.00507

    Args:
        found (Sequence[Pointed]): The attention over each picture.

    Returns:
        dict: ``pointing``, the fraction of words whose largest weight lies on a cell of the object (weights that tie
        share the hit); ``attention_inside``, the mean fraction of the weights on these cells; ``pointing_chance``,
        the mean fraction of cells that are the object's, which is what equal weights would score in both. Values are
        between 0 and 1, and None where no word is compared.

    Raises:
        ValueError: The shape of the weights does not match the grid or the words.

    Example::

        >>> box = Box("red circle", 0.0, 0.0, 0.5, 1.0)
        >>> weights = np.array([[0.1, 0.2, 0.3, 0.4], [0.8, 0.1, 0.1, 0.0], [0.0, 0.0, 0.0, 1.0]])
        >>> scores = pointing_scores([Pointed(["a", "red", "circle"], weights, (1, 4), [box])])
        >>> scores["pointing"], scores["pointing_chance"]
        (0.5, 0.75)
    """
    hits, inside, chances = [], [], []
    for pointed in found:
        rows, columns = pointed.grid
        weights = np.asarray(pointed.weights, dtype=np.float64)
        if weights.ndim != 2 or weights.shape[1] != rows * columns or len(weights) < len(pointed.words):
            shape = f"({len(pointed.words)} or more, {rows * columns})"
            raise ValueError(f"weights: {weights.shape} is not the shape {shape} of the words and the grid")
        for row, boxes in _compared(pointed):
            cells = np.logical_or.reduce([_cells(box, rows, columns) for box in boxes])
            largest = weights[row] == weights[row].max()
            hits.append(float(cells[largest].mean()))
            inside.append(float(weights[row][cells].sum() / (weights[row].sum() or 1.0)))
            chances.append(float(cells.mean()))
    return {
        "pointing": share(sum(hits), len(hits)),
        "attention_inside": share(sum(inside), len(hits)),
        "pointing_chance": share(sum(chances), len(hits)),
    }


def _compared(pointed: Pointed) -> list[tuple[int, list[Box]]]:
    """Return the rows of the weights that are compared, each with its boxes; longer labels take words first."""
    if not pointed.words:
        return [(0, pointed.boxes)] if pointed.boxes and len(pointed.weights) else []
    tokens = [(token, row) for row, word in enumerate(pointed.words) for token in split_words(normalize(word))]
    labels: dict[tuple[str, ...], list[Box]] = {}
    for box in pointed.boxes:
        labels.setdefault(tuple(split_words(normalize(box.label))), []).append(box)
    compared: dict[int, list[Box]] = {}
    for label in sorted(labels, key=len, reverse=True):
        for start in range(len(tokens) - len(label) + 1):
            phrase = tokens[start : start + len(label)]
            rows = [row for _, row in phrase]
            if label == tuple(token for token, _ in phrase) and not compared.keys() & set(rows):
                compared.update(dict.fromkeys(rows, labels[label]))
    return sorted(compared.items())


def _cells(box: Box, rows: int, columns: int) -> np.ndarray:
    """Return which cells of the grid are the object's, (S,)."""
    margin = 1e-9  # centres on the edge of the grown box are inside
    y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    across = (x >= box.left - 0.5 / columns - margin) & (x <= box.right + 0.5 / columns + margin)
    down = (y >= box.top - 0.5 / rows - margin) & (y <= box.bottom + 0.5 / rows + margin)
    return (down[:, None] & across).ravel()
