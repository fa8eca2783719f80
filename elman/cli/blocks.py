"""Attention over a picture, shown in a terminal: small pictures of half blocks, or of characters without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import set_cell_size
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from elman.cli.pictures import Panel

if TYPE_CHECKING:
    from PIL.Image import Image

#: The pixels of a small picture in a terminal of less than 100 columns, and in a wider one; a character has two.
_PIXELS = (324, 484)
#: The least width and the greatest height of a small picture, and the gap between two, in pixels.
_NARROWEST, _HIGHEST, _GAP = 10, 40, 2
#: The colour that is mixed into what is attended to, and its largest share.
_GLOW, _SHARE = np.array([255.0, 210.0, 63.0], dtype=np.float32), 0.3
#: The upper half of a character in the colour of the text, the lower one in that of the background.
_HALF = "\u2580"
#: Characters from dark to bright.
_SHADES = " .:-=+*#%@"


def show_panels(console: Console, picture: Image, words: Sequence[Panel], name: str) -> None:
    """Print a picture, and beside it one for each word with the attention over it, in rows of the terminal's width.

    Args:
        console (Console): where to print. Without 256 colours, the picture consists of characters, and the others show
            the attention alone.
        picture (PIL.Image.Image): the picture.
        words (Sequence[Panel]): the words with their attention.
        name (str): what is written above the picture.
    """
    width, height = _size(picture.width / picture.height, console.width)
    pixels = np.asarray(picture.resize((width, height)))
    coloured = _has_colours(console)
    first = _in_colours(pixels) if coloured else _in_shades(_stretched(pixels))
    blocks = [[Text(set_cell_size(name, width), "dim"), *first]]
    for panel in words:
        number = f" {panel.largest}"
        title = Text(set_cell_size(panel.word, width - len(number)), "bold").append(number, "not bold dim")
        shown = _in_colours(_glowing(panel, pixels)) if coloured else _in_shades(panel.smooth(width, height))
        blocks.append([title, *shown])
    per_row = max(1, (console.width + _GAP) // (width + _GAP))
    for k in range(0, len(blocks), per_row):
        for parts in zip(*blocks[k : k + per_row], strict=True):
            console.print(Text(" " * _GAP).join(parts), soft_wrap=True)
        console.print()


def _size(aspect: float, widest: int) -> tuple[int, int]:
    """Return width and height of a small picture in pixels; the height is even."""
    width = math.sqrt(_PIXELS[widest >= 100] * aspect)
    width = max(_NARROWEST, min(width, _HIGHEST * aspect))
    columns = max(1, min(round(width), widest))
    return columns, 2 * max(1, min(round(columns / aspect / 2), _HIGHEST // 2))


def _has_colours(console: Console) -> bool:
    try:
        _HALF.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return not console.no_color and console.color_system in ("256", "truecolor")


def _glowing(panel: Panel, pixels: np.ndarray) -> np.ndarray:
    """Return pixels (height, width, 3) that are bright and yellowish where the attention is large."""
    share = _SHARE * panel.smooth(pixels.shape[1], pixels.shape[0])[..., None]
    return ((1 - share) * panel.lit(pixels) + share * _GLOW).astype(np.uint8)


def _in_colours(pixels: np.ndarray) -> list[Text]:
    """Return lines of half blocks for pixels (height, width, 3)."""
    lines = []
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        line = Text()
        for above, below in zip(upper, lower, strict=True):
            line.append(_HALF, Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        lines.append(line)
    return lines


def _in_shades(values: np.ndarray) -> list[Text]:
    """Return lines of characters for values (height, width) between 0 and 1."""
    values = (values[::2] + values[1::2]) / 2
    levels = (values * (len(_SHADES) - 1)).round().astype(int).clip(0, len(_SHADES) - 1)
    return [Text("".join(_SHADES[k] for k in row)) for row in levels.tolist()]


def _stretched(pixels: np.ndarray) -> np.ndarray:
    """Return the brightness of pixels (height, width, 3) from 0 to 1."""
    bright = pixels @ np.array([0.299, 0.587, 0.114])
    bright -= bright.min()
    return bright / max(1.0, float(bright.max()))
