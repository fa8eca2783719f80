"""Views of a picture: the whole, or a part of it, also mirrored, as a square of pixels; and changes of its colours."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class View(NamedTuple):
    """A part of a picture.

    Attributes:
        name (str): differs between views that differ.
        mirrored (bool): whether left and right are exchanged.
        left, top, side: the part, in fractions of the picture's width and height.
    """

    name: str = "plain"
    mirrored: bool = False
    left: float = 0.0
    top: float = 0.0
    side: float = 1.0


#: The whole picture.
PLAIN = View()


def view_of(k: int, digest: str, mirror: bool, crop: float) -> View:
    """Return view k of a picture, always the same one.

    View 0 is the whole picture. The others leave out a part of each side, up to ``crop`` of it; those with odd numbers
    are mirrored too.

    Args:
        k (int): the number of the view.
        digest (str): the hash of the picture's file.
        mirror (bool): whether it may be mirrored.
        crop (float): the largest fraction of a side that is left out.
    """
    mirrored = mirror and k % 2 == 1
    if k == 0 or not (mirrored or crop):
        return PLAIN
    return _drawn(np.random.default_rng([k, int(digest[:12], 16)]), mirrored, crop, f"{k}-{crop:g}")


def _drawn(draw: np.random.Generator, mirrored: bool, crop: float, name: str = "") -> View:
    side = 1 - crop * draw.uniform(0.25, 1)
    left, top = draw.uniform(0, 1 - side, 2)
    return View(f"{'mirrored' if mirrored else 'cropped'}-{name}", mirrored, float(left), float(top), float(side))


def square(picture: Any, size: int, view: View = PLAIN) -> np.ndarray:
    """Return a view of a picture as pixels (size, size, 3) uint8: bicubic interpolation, antialiased.

    Args:
        picture (PIL.Image.Image): a picture in the mode RGB.
        size (int): pixels a side.
        view (View): the part. Default: the whole picture.
    """
    from PIL import Image

    width, height = picture.size
    box = (
        view.left * width,
        view.top * height,
        min((view.left + view.side) * width, width),
        min((view.top + view.side) * height, height),
    )
    resized = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box))
    return resized[:, ::-1] if view.mirrored else resized


def vary_pixels(pixels: np.ndarray, mirror: bool, crop: float, colours: bool, draw: np.random.Generator) -> np.ndarray:
    """Mirror, crop and recolour a picture at random.

    Args:
        pixels (ndarray): (size, size, 3) uint8.
        mirror (bool): whether it may be mirrored.
        crop (float): the largest fraction of a side that is left out.
        colours (bool): whether brightness, contrast and the strength of each colour may change.
        draw (Generator): the random number generator.
    """
    from PIL import Image

    view = _drawn(draw, bool(mirror and draw.random() < 0.5), crop)
    if crop:
        pixels = square(Image.fromarray(pixels), len(pixels), view)
    elif view.mirrored:
        pixels = pixels[:, ::-1]
    if not colours:
        return pixels
    gain = draw.uniform(0.8, 1.25) * draw.uniform(0.9, 1.1, 3)
    shift = draw.uniform(-20, 20)
    levels = np.arange(256.0)[:, None]
    table = np.clip((levels - 127.5) * gain + 127.5 + shift, 0, 255).round().astype(np.uint8)  # (256, 3)
    return table[pixels, np.arange(3)]
