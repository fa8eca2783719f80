"""Attention over a picture, drawn to a file: the picture, and a panel for each word that was written."""

from __future__ import annotations

import math
import re
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from elman.cli.plots import fonts, new_figure, save_figure
from elman.tasks.answers import Answer, Attention

if TYPE_CHECKING:
    from PIL.Image import Image

#: Inches: the widest row of panels, gaps, the margin, and the lines above a panel and below all.
_WIDTH, _GAP, _MARGIN, _LINE, _FOOT = 12.0, 0.18, 0.22, 0.27, 0.16
#: Font sizes in points: of words, of the title, of the line above it, and of what is small.
_WORD, _TITLE, _QUESTION, _SMALL = 11.0, 15.0, 12.0, 7.5
#: The longer side of a drawn picture in pixels, at most; smaller ones are enlarged to half of it.
_PIXELS = 560
#: How much of a picture's brightness and colour is left where the attention is zero.
_DARK, _COLOUR = 0.27, 0.25
#: The standard deviation of the kernel that smooths the attention, in cells of the grid.
_SMOOTH = 0.55

_INK, _GREY, _YELLOW = "#1a1a1a", "#7a7a7a", "#ffd23f"
#: What the numbers and lines of a figure are.
_FOOTER, _FOOTER_LINES = "numbers: the largest weight of the attention", "; lines: half of it"
#: A word; each Chinese or Japanese character is one.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


class Panel(NamedTuple):
    """A word that was written, and the attention over the picture while it was written.

    Attributes:
        word (str): the word.
        weights (ndarray): (rows, cols), the mean over the tokens of the word.
    """

    word: str
    weights: np.ndarray

    @property
    def largest(self) -> str:
        """The largest weight, as text."""
        return f"{float(self.weights.max(initial=0.0)):.2f}"

    def smooth(self, width: int, height: int) -> np.ndarray:
        """Return the attention at each pixel, (height, width), interpolated; the largest value is 1."""
        rows, cols = self.weights.shape
        values = _kernel(rows, height) @ self.weights @ _kernel(cols, width).T
        return values / max(1e-9, float(values.max(initial=0.0)))

    def lit(self, picture: np.ndarray) -> np.ndarray:
        """Return the picture (height, width, 3), 0 to 255, dark and pale where the attention is small."""
        bright = picture.astype(np.float32)
        share = self.smooth(bright.shape[1], bright.shape[0])[..., None] ** 0.8
        grey = bright @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        dark = _DARK * (_COLOUR * bright + (1 - _COLOUR) * grey[..., None])
        return (share * bright + (1 - share) * dark).clip(0, 255).astype(np.uint8)


def panels(attention: Attention) -> list[Panel]:
    """Return a panel for each word of an answer, in order.

    Tokens are joined to words. What consists of punctuation only has no panel, unless there is nothing else.

    Args:
        attention: of the tokens to a grid.
    """
    grid = attention.source.shape
    if len(grid) == 1:  # a square, as far as that is possible
        rows = next(n for n in range(math.isqrt(grid[0]), 0, -1) if grid[0] % n == 0)
        grid = (rows, grid[0] // rows)
    weights = attention.weights.float().numpy()
    text, piece_of = "".join(attention.target.pieces), []
    for k, piece in enumerate(attention.target.pieces):
        piece_of += [k] * len(piece)
    found = []
    for match in _WORDS.finditer(text):
        places = range(*match.span())
        letters = [i for i in places if text[i].isalnum()]
        chosen = sorted({piece_of[i] for i in letters or places})
        found.append((bool(letters), Panel(match[0], weights[chosen].mean(0).reshape(grid))))
    kept = [panel for has_letters, panel in found if has_letters] or [panel for _, panel in found]
    return kept or [Panel("", weights.mean(0).reshape(grid))]


def heading(answer: Answer, question: str) -> str:
    """Return an answer with its probability, or its score where it has none; a caption alone."""
    record = answer.record()
    text = answer.text or f"({answer.empty_means})"
    if "log_probability" in record and not question:
        return text
    if "log_probability" not in record and "probability" not in record:
        return f"{text}   score {answer.score:.2f}"
    p = math.exp(min(0.0, record["log_probability"])) if "log_probability" in record else record["probability"]
    return f"{text}   p = {p:.2f}" if p >= 0.01 else f"{text}   p = {p:.0e}"


def grid_picture(
    path: str, picture: Image, answer: Answer, attention: Attention, name: str, question: str = ""
) -> None:
    """Draw a picture, what a model has written about it, and the attention over the picture for each word.

    Args:
        path: the file; its extension is the format (.png, .svg, .pdf).
        picture: the picture.
        answer: what was written.
        attention: its attention, to a grid.
        name: the name of the picture.
        question: the question that the answer is for.
    """
    words = panels(attention)
    width, height, per_row, rows = _layout(picture.width / picture.height, 1 + len(words))
    whole = max(5.0, 2 * _MARGIN + per_row * (width + _GAP) - _GAP)
    lines = [(line, _QUESTION, _GREY) for line in _wrapped(question, whole, _QUESTION)]
    lines += [(line, _TITLE, _INK) for line in _wrapped(heading(answer, question), whole, _TITLE)]
    above = sum(1.4 * size / 72 for _, size, _ in lines) + 0.08
    total = 2 * _MARGIN + above + rows * (_LINE + height + _GAP) - _GAP + _FOOT + 0.1
    figure = new_figure(whole, total, constrained=False)

    families = fonts()

    def text(x: float, y: float, words: str, size: float, colour: str, **style: Any) -> None:
        style |= {"fontsize": size, "color": colour, "family": families, "parse_math": False}
        figure.text(x / whole, 1 - y / total, words, **style)

    y = _MARGIN
    for line, size, colour in lines:
        text(_MARGIN, y, line, size, colour, va="top")
        y += 1.4 * size / 72
    scale = max(0.5, min(1.0, max(picture.size) / _PIXELS)) * _PIXELS / max(picture.size)
    pixels = np.asarray(picture.resize([max(1, round(scale * side)) for side in picture.size], reducing_gap=2.0))
    drawn = False
    for k, panel in enumerate([None, *words]):
        left = _MARGIN + (k % per_row) * (width + _GAP)
        top = _MARGIN + above + (k // per_row) * (_LINE + height + _GAP) + _LINE
        axes = figure.add_axes((left / whole, 1 - (top + height) / total, width / whole, height / total))
        axes.set_axis_off()
        axes.imshow(pixels if panel is None else panel.lit(pixels), aspect="auto", interpolation="antialiased")
        if panel is None:
            shown = _shortened(name, width, _SMALL)
            text(left, top - 0.07, shown, _SMALL, _GREY)
            continue
        share = panel.smooth(pixels.shape[1], pixels.shape[0])
        if share.min() < 0.5:
            axes.contour(share, levels=[0.5], colors=[_YELLOW], linewidths=1.1)
            drawn = True
        size = min(_WORD, (width - 0.45) * 72 / (0.7 * max(1, len(panel.word))))
        text(left, top - 0.07, panel.word, max(5.0, size), _INK, weight="bold")
        text(left + width, top - 0.07, panel.largest, _WORD - 1.5, _GREY, ha="right")
    text(_MARGIN, total - _MARGIN, _FOOTER + (_FOOTER_LINES if drawn else ""), _SMALL, _GREY)
    save_figure(figure, path)


def _layout(aspect: float, count: int) -> tuple[float, float, int, int]:
    """Return width and height of a panel, the number of panels in a row, and of rows.

    Args:
        aspect: width / height of the picture. That of a panel is the same.
        count: the number of panels.
    """
    aspect = max(0.1, min(aspect, 10.0))
    area = 6.5 if count <= 4 else max(0.5, 4.4 * min(1.0, 60 / count))  # in square inches
    width = math.sqrt(area * aspect)
    most = max(1, int((_WIDTH + _GAP) / (width + _GAP)))
    rows = math.ceil(count / most)
    return width, width / aspect, math.ceil(count / rows), rows


def _shortened(text: str, width: float, size: float) -> str:
    """Return a text of one line; ``width`` in inches."""
    most = int(width * 72 / (0.6 * size))
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def _wrapped(text: str, width: float, size: float) -> list[str]:
    """Return the lines of a text; ``width`` in inches."""
    return textwrap.wrap(text, max(10, int((width - 2 * _MARGIN) * 72 / (0.56 * size))))


def _kernel(cells: int, pixels: int) -> np.ndarray:
    """Return how much each cell adds to each pixel of one side of a picture, (pixels, cells); rows sum to 1."""
    at = (np.arange(pixels, dtype=np.float32)[:, None] + 0.5) * cells / pixels - 0.5
    near = np.exp(-0.5 * ((at - np.arange(cells, dtype=np.float32)) / _SMOOTH) ** 2)
    return near / near.sum(1, keepdims=True)
