"""Draw coloured shapes on a noisy background, with the same pixels on every machine.

Only random bits, and operations that IEEE 754 defines to the last bit, decide the pixels: neither the random
distributions of NumPy, which may change between versions, nor functions like the sine, which depend on the processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")

#: The colours and their red, green and blue values.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40),
    "green": (45, 160, 60),
    "blue": (45, 80, 210),
    "yellow": (240, 220, 60),
    "purple": (140, 60, 170),
    "orange": (240, 120, 25),
    "white": (240, 240, 240),
    "black": (25, 25, 25),
}

_Polygon = tuple[tuple[float, float], ...]


def _cross(inner: float, outer: float) -> _Polygon:
    """Return the corners of a cross with arms of half width ``inner`` and length ``outer``."""
    arm: _Polygon = ((-inner, -outer), (inner, -outer), (inner, -inner))
    corners = list(arm)
    for _ in range(3):
        arm = tuple((-y, x) for x, y in arm)
        corners += arm
    return tuple(corners)


#: The corners of the shapes with straight edges, in radii from the centre; y points down.
_POLYGONS: dict[str, _Polygon] = {
    "square": ((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)),
    "triangle": ((0.0, -1.05), (1.0, 0.75), (-1.0, 0.75)),
    "star": (
        (0.0, -1.15), (0.2586, -0.356), (1.0937, -0.3554), (0.4185, 0.136), (0.676, 0.9304),
        (0.0, 0.44), (-0.676, 0.9304), (-0.4185, 0.136), (-1.0937, -0.3554), (-0.2586, -0.356),
    ),
    "cross": _cross(0.3, 1.05),
}  # fmt: skip
#: The inner and the outer radius of the round shapes.
_ROUND = {"circle": (0.0, 1.0), "ring": (0.55, 1.0)}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
#: The greatest distance of a point of a shape from its centre, in radii.
REACH = 1.16

#: Samples on each side of a pixel, which smooth the edges.
_SAMPLES = 4


class Draw:
    """Random numbers that are the same on every machine and with every version of NumPy.

    Args:
        seed (int | Sequence[int]): The seed, 0 or greater; or several, for a stream of its own.
    """

    def __init__(self, seed: int | Sequence[int]) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def fractions(self, *shape: int) -> np.ndarray:
        """Return an array of numbers between 0 and 1, without 1."""
        bits = np.asarray(self._bits.random_raw(int(np.prod(shape, dtype=np.int64))), dtype=np.uint64)
        return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between ``low`` and ``high``."""
        return low + (high - low) * float(self.fractions(1)[0])

    def choice(self, options: Sequence[_T]) -> _T:
        """Return one of the options."""
        return options[int(float(self.fractions(1)[0]) * len(options))]


class Outline:
    """A shape at a place in a picture of width and height 1; y points down.

    Args:
        shape (str): A name in `SHAPES`.
        x (float): The centre, from the left edge of the picture.
        y (float): The centre, from the upper edge.
        radius (float): The size: the distance of the points of a circle from its centre.
        tilt (float): The tangent of half the angle by which the shape is turned clockwise.
    """

    def __init__(self, shape: str, x: float, y: float, radius: float, tilt: float) -> None:
        self.shape, self.x, self.y, self.radius = shape, x, y, radius
        cosine, sine = (1 - tilt * tilt) / (1 + tilt * tilt), 2 * tilt / (1 + tilt * tilt)
        self.corners = [
            (x + radius * (cosine * u - sine * v), y + radius * (sine * u + cosine * v))
            for u, v in _POLYGONS.get(shape, ())
        ]

    def box(self) -> tuple[float, float, float, float]:
        """Return the bounding box: left, top, right, bottom."""
        if not self.corners:
            return self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius
        across, down = zip(*self.corners, strict=True)
        return min(across), min(down), max(across), max(down)

    def contains(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return which points lie inside of the shape; ``x`` and ``y`` are broadcast."""
        if not self.corners:
            inner, outer = (self.radius * part for part in _ROUND[self.shape])
            squared = (x - self.x) * (x - self.x) + (y - self.y) * (y - self.y)
            return (squared < outer * outer) & (squared >= inner * inner)
        inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
        for (x0, y0), (x1, y1) in zip(self.corners, self.corners[1:] + self.corners[:1], strict=True):
            if y0 != y1:  # the number of edges to the right of a point is odd inside
                inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * ((y - y0) / (y1 - y0)) + x0)
        return inside


def noise(size: int, draw: Draw) -> np.ndarray:
    """Return smooth noise with coarse and fine grain, (size, size, 3), around 0."""
    result, amplitude = np.zeros((size, size, 3)), 1.0
    for cells in (4, 8, 16, 32):
        grid = 2 * draw.fractions(cells + 1, cells + 1, 3) - 1
        place = (np.arange(size) + 0.5) * (cells / size)
        first = place.astype(np.int64)
        part = place - first
        rows = grid[first] * (1 - part)[:, None, None] + grid[first + 1] * part[:, None, None]
        result += amplitude * (rows[:, first] * (1 - part)[:, None] + rows[:, first + 1] * part[:, None])
        amplitude *= 0.6
    return result


def paint(pixels: np.ndarray, outline: Outline, colour: np.ndarray) -> None:
    """Paint a shape into a picture.

    Args:
        pixels (numpy.ndarray): The picture, (size, size, 3), which is changed.
        outline (Outline): The shape.
        colour (numpy.ndarray): The colour of each pixel, (size, size, 3).
    """
    size = len(pixels)
    left, top, right, bottom = outline.box()
    rows = slice(max(0, int(top * size)), min(size, int(bottom * size) + 1))
    columns = slice(max(0, int(left * size)), min(size, int(right * size) + 1))
    count = size * _SAMPLES
    x = (np.arange(columns.start * _SAMPLES, columns.stop * _SAMPLES) + 0.5) / count
    y = (np.arange(rows.start * _SAMPLES, rows.stop * _SAMPLES) + 0.5) / count
    inside = outline.contains(x[None, :], y[:, None])
    shape = (rows.stop - rows.start, _SAMPLES, columns.stop - columns.start, _SAMPLES)
    part = inside.reshape(shape).sum((1, 3))[..., None] / (_SAMPLES * _SAMPLES)
    pixels[rows, columns] = pixels[rows, columns] * (1 - part) + colour[rows, columns] * part


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Round a picture to whole numbers between 0 and 255, (size, size, 3) uint8."""
    return np.floor(np.clip(pixels, 0, 255) + 0.5).astype(np.uint8)


def tint(draw: Draw, low: float, high: float, spread: float) -> np.ndarray:
    """Return a greyish colour, (3,): a brightness between ``low`` and ``high``, and up to ``spread`` more or less."""
    return draw.uniform(low, high) + spread * (2 * draw.fractions(3) - 1)
