"""Scenes of coloured shapes, each with the one caption that describes it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from elman.data.drawing import COLOURS, REACH, SHAPES, Draw, Outline, noise, paint, tint, to_bytes

#: The least free space between two objects, and between an object and the edge of the picture.
_GAP = 0.03
#: Two objects stand side by side, or one above the other, if the smaller offset is at most this part of the greater.
_CLEAR = 2 / 3


class SceneObject(NamedTuple):
    """An object of a scene. Lengths are fractions of the width and the height of the picture; y points down.

    Attributes:
        colour (str): A name in `elman.data.drawing.COLOURS`.
        shape (str): A name in `elman.data.drawing.SHAPES`.
        x (float): The centre, from the left edge.
        y (float): The centre, from the upper edge.
        radius (float): The size.
        box (tuple[float, float, float, float]): The bounding box: left, top, right, bottom.
    """

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    box: tuple[float, float, float, float]

    @property
    def name(self) -> str:
        """The phrase that names the object, such as ``red circle``."""
        return f"{self.colour} {self.shape}"


class Scene(NamedTuple):
    """A picture and what it shows.

    Attributes:
        pixels (numpy.ndarray): The picture, (size, size, 3) uint8.
        caption (str): The caption.
        objects (list[SceneObject]): The objects in the order of the caption.
    """

    pixels: np.ndarray
    caption: str
    objects: list[SceneObject]


class SceneQuestion(NamedTuple):
    """A question about a scene.

    Attributes:
        question (str): The question.
        answer (str): The answer.
        kind (str): A name in `KINDS`.
        objects (list[SceneObject]): The objects that the answer is about; none for an answer that there are none.
    """

    question: str
    answer: str
    kind: str
    objects: list[SceneObject]


def article(name: str) -> str:
    """Return a phrase with its indefinite article."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def relation(a: SceneObject, b: SceneObject) -> str:
    """Return how ``a`` stands to ``b``: ``left of``, ``right of``, ``above`` or ``below``."""
    dx, dy = b.x - a.x, b.y - a.y
    if abs(dx) > abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


def draw_scene(seed: int | Sequence[int], size: int = 64) -> Scene:
    """Draw a scene of one to three objects, no two of the same colour and shape.

    Of two objects, one is clearly left of or above the other. The caption names the objects in the order in which each
    is left of or above all that follow, and says which of the two relations holds between neighbours. Thus exactly one
    caption is right: ``a red circle left of a blue star above a green ring``.

    Args:
        seed (int | Sequence[int]): The seed, 0 or greater. The same seed gives the same scene in each size.
        size (int): The width and the height in pixels. Default: 64.

    Returns:
        Scene: The picture, its caption and its objects.

    Example::

        >>> draw_scene(4).caption
        'a purple ring left of a green ring above a red ring'
    """
    draw = Draw(seed)
    outlines: list[Outline] = []
    kinds = _kinds(draw, draw.choice((1, 2, 3)))
    while len(outlines) < len(kinds):
        outlines = _places([shape for _, shape in kinds], draw)
    objects = [
        SceneObject(colour, shape, o.x, o.y, o.radius, o.box())
        for (colour, shape), o in zip(kinds, outlines, strict=True)
    ]
    grain = noise(size, draw)
    pixels = tint(draw, 85, 150, 18) + grain * 22
    for thing, outline in zip(objects, outlines, strict=True):
        colour = np.array(COLOURS[thing.colour]) * draw.uniform(0.9, 1.08) + 5 * (2 * draw.fractions(3) - 1)
        paint(pixels, outline, colour + grain * 7)
    objects.sort(key=lambda thing: thing.x + thing.y)
    return Scene(to_bytes(pixels), _caption(objects), objects)


def _kinds(draw: Draw, count: int) -> list[tuple[str, str]]:
    """Choose different pairs of a colour and a shape, which often share one of the two."""
    kinds = [(draw.choice(tuple(COLOURS)), draw.choice(SHAPES))]
    while len(kinds) < count:
        colour, shape = draw.choice(tuple(COLOURS)), draw.choice(SHAPES)
        shared, like = draw.uniform(0, 1), draw.choice(kinds)
        kind = (like[0], shape) if shared < 0.3 else (colour, like[1]) if shared < 0.6 else (colour, shape)
        if kind not in kinds:
            kinds.append(kind)
    return kinds


def _places(shapes: Sequence[str], draw: Draw) -> list[Outline]:
    """Place shapes so that they are apart and the relation of each two is clear; return fewer if there is no place."""
    placed: list[Outline] = []
    for shape in shapes:
        for _ in range(20):
            radius = draw.uniform(0.1, 0.155)
            edge = radius * REACH + _GAP / 2
            x, y = draw.uniform(edge, 1 - edge), draw.uniform(edge, 1 - edge)
            if all(_is_clear(x, y, radius, other) for other in placed):
                placed.append(Outline(shape, x, y, radius, draw.uniform(-0.12, 0.12)))
                break
    return placed


def _is_clear(x: float, y: float, radius: float, other: Outline) -> bool:
    """Return whether an object would be apart from another, and clearly beside, above or below it."""
    dx, dy = abs(x - other.x), abs(y - other.y)
    apart = (radius + other.radius) * REACH + _GAP
    return dx * dx + dy * dy > apart * apart and min(dx, dy) <= _CLEAR * max(dx, dy)


def _caption(objects: Sequence[SceneObject]) -> str:
    """Describe objects in their order."""
    caption = article(objects[0].name)
    for a, b in pairwise(objects):
        caption += f" {relation(a, b)} {article(b.name)}"
    return caption
