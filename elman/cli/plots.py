"""Plots. They need matplotlib: pip install 'elman[plot]'."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.errors import ElmanError

if TYPE_CHECKING:
    from elman.layers.recorder import Recorded

#: Fonts of scripts that matplotlib's own font lacks, of several systems.
_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "WenQuanYi Micro Hei", "PingFang SC", "Hiragino Sans",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip


def attention_picture(path: str, source: Sequence[str], target: Sequence[str], weights: np.ndarray) -> None:
    """Draw attention weights as a heat map, with a row for each target word.

    Args:
        path: the file; its extension is the format (.png, .svg, .pdf).
        source, target: the words.
        weights: (target, source).
    """
    figure = new_figure(1.5 + 0.42 * len(source), 1.2 + 0.34 * len(target))
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
    axes.set_xlabel("source")
    axes.set_ylabel("target")
    figure.colorbar(picture, ax=axes, label="weight", fraction=0.03, pad=0.02)
    save_figure(figure, path)


def alignment_picture(path: str, symbols: Sequence[str], weights: np.ndarray, seconds: float) -> None:
    """Draw which symbols of a text a model attends to while it speaks.

    Args:
        path: the file; its extension is the format.
        symbols: the symbols; "" for the end of a piece.
        weights: (steps, symbols).
        seconds: the duration of the speech.
    """
    figure = new_figure(2.5 + 0.9 * seconds, 1.5 + 0.13 * len(symbols))
    axes = figure.add_subplot()
    picture = axes.imshow(
        weights.T, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest",
        extent=(0.0, seconds, len(symbols) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_yticks(range(len(symbols)), [_shown(symbol) for symbol in symbols], fontsize=6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds")
    figure.colorbar(picture, ax=axes, label="weight", fraction=0.03, pad=0.02)
    save_figure(figure, path)


def confusion_picture(path: str, confusion: dict[str, dict[str, int]]) -> None:
    """Draw a confusion matrix as a heat map, with a row for each true label, normalised to the row."""
    names = list(confusion)
    counts = np.array([[confusion[true].get(predicted, 0) for predicted in names] for true in names])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.0 + 0.38 * len(names)
    figure = new_figure(side + 1.0, side)
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    shown = [_shown(name) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=60, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), shown)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= 30:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                dark = shares[row, column] > 0.5
                axes.text(
                    column, row, str(count), ha="center", va="center", fontsize=7, color="white" if dark else "black"
                )
    figure.colorbar(picture, ax=axes, label="share of the true label", fraction=0.03, pad=0.02)
    save_figure(figure, path)


def inside_picture(path: str, pieces: Sequence[str], layers: Sequence[Recorded]) -> None:
    """Draw the norm of dLoss/dh_t of each layer over t, and below it each gate and state, units by steps.

    Args:
        path: the file; its extension is the format.
        pieces: the text of each step.
        layers: what was recorded.
    """
    panels = [(one, name) for one in layers for name in one.values]
    steps = max(len(one.states) for one in layers)
    figure = new_figure(3.0 + 0.28 * steps, 2.6 + 1.1 * len(panels))
    axes = figure.subplots(
        1 + len(panels), 1, gridspec_kw={"height_ratios": [2.2, *[1.0] * len(panels)]}, squeeze=False
    )[:, 0]
    for one in layers:
        norms = one.gradients().cpu().numpy()
        axes[0].semilogy(range(len(norms)), np.maximum(norms, 1e-12), marker=".", label=one.layer)
    axes[0].set_ylabel("|dLoss/dh|")
    axes[0].grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    axes[0].set_xlim(-0.5, steps - 0.5)
    for place, (one, name) in zip(axes[1:], panels, strict=True):
        values = one.values[name].float().cpu().numpy().T
        gate = values.min() >= 0 and values.max() <= 1
        limit = 1.0 if gate else max(1e-6, float(np.abs(values).max()))
        place.imshow(
            values, aspect="auto", cmap="Greens" if gate else "RdBu_r", vmin=0.0 if gate else -limit, vmax=limit,
            interpolation="nearest",
        )  # fmt: skip
        place.set_xlim(-0.5, steps - 0.5)
        place.set_yticks([])
        place.set_ylabel(name)
        if name == next(iter(one.values)):
            place.set_title(one.layer, fontsize=7, loc="left")
        place.set_xticks([])
    if len(pieces) == steps:
        axes[-1].set_xticks(range(steps), [_shown(piece) for piece in pieces[:steps]], rotation=60, fontsize=7)
    else:
        axes[-1].set_xlabel("step")
    save_figure(figure, path)


def new_figure(width: float, height: float, constrained: bool = True) -> Any:
    """Return an empty matplotlib figure.

    Args:
        width, height: in inches.
        constrained: whether matplotlib lays it out, within 40 inches a side.

    Raises:
        ElmanError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ElmanError("pictures need matplotlib: pip install 'elman[plot]'") from None
    if not constrained:
        return Figure(figsize=(width, height), dpi=150)
    return Figure(figsize=(max(4.0, min(width, 40.0)), max(3.0, min(height, 40.0))), layout="constrained", dpi=150)


def fonts() -> list[str]:
    """Return matplotlib's font, and after it the installed ones of the scripts that it lacks."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _FONTS if name in installed)]


def save_figure(figure: Any, path: str) -> None:
    """Write a figure to a file, in the format of its extension; an error leaves no partial file.

    Raises:
        ElmanError: the format is unknown, or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    path = os.path.expanduser(path)
    name, ending = os.path.splitext(path)
    kinds = figure.canvas.get_supported_filetypes()
    if ending[1:].lower() not in kinds:
        raise ElmanError(f"{path}: unknown picture format; known are {', '.join('.' + k for k in sorted(kinds))}")
    partial = f"{name}.partial{ending}"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # it is drawn as a box
            figure.savefig(partial)
        os.replace(partial, path)
    except OSError as error:
        raise ElmanError(f"{path}: cannot be written: {error.strerror}") from None


def _shown(word: str) -> str:
    """Return a label with visible white space, and without mathematics between dollars."""
    word = word.strip() or word.replace(" ", "\u2423").replace("\n", "\u21b5").replace("\t", "\u21e5")
    return word.replace("$", r"\$")
