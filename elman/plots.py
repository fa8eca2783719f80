"""Pictures, for people who would rather look than read. They need matplotlib: pip install 'elman[plot]'."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.errors import ElmanError


def attention_picture(path: str, source: Sequence[str], target: Sequence[str], weights: np.ndarray) -> None:
    """A heat map: for each word that was written, a row, where the model looked in the source.

    ``weights`` (target, source). ``path``: its ending says the kind of picture (.png, .svg, .pdf).
    """
    figure = _figure(1.5 + 0.42 * len(source), 1.2 + 0.34 * len(target))
    axes = figure.add_subplot()
    picture = axes.imshow(
        weights, cmap="Blues", vmin=0.0, vmax=max(1e-6, float(weights.max(initial=0.0))), aspect="auto"
    )
    axes.set_xticks(
        range(len(source)), [_shown(word) for word in source], rotation=60, ha="left", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(target)), [_shown(word) for word in target])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel("read")
    axes.set_ylabel("written")
    figure.colorbar(picture, ax=axes, label="weight", fraction=0.03, pad=0.02)
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ElmanError("pictures need matplotlib: pip install 'elman[plot]'") from None
    return Figure(figsize=(max(4.0, min(width, 40.0)), max(3.0, min(height, 40.0))), layout="constrained", dpi=150)


def _save(figure: Any, path: str) -> None:
    """The picture, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    name, ending = os.path.splitext(path)
    kinds = figure.canvas.get_supported_filetypes()
    if ending[1:].lower() not in kinds:
        raise ElmanError(f"{path}: no picture of this kind; known are {', '.join('.' + k for k in sorted(kinds))}")
    partial = f"{name}.partial{ending}"
    try:
        figure.savefig(partial)
        os.replace(partial, path)
    except OSError as error:
        raise ElmanError(f"{path}: cannot be written: {error.strerror}") from None


def _shown(word: str) -> str:
    """A label that can be read: white space made visible, dollars not taken for mathematics."""
    word = word.strip() or word.replace(" ", "\u2423").replace("\n", "\u21b5").replace("\t", "\u21e5")
    return word.replace("$", r"\$")
