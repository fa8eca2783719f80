"""Attention to pictures in the terminal, drawn with half blocks."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from elman.cli.blocks import show_panels
from elman.cli.pictures import panels
from tests.test_cli_pictures import written

pytest.importorskip("PIL")

from PIL import Image


def show(width: int, colours: str | None, size: tuple[int, int] = (200, 100), encoding: str = "utf-8") -> list[str]:
    """The lines of small pictures in a terminal."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width, color_system=colours, force_terminal=colours is not None, _environ={})  # type: ignore[arg-type]
    words = panels(written(" a big dog", (2, 3)).attention)
    show_panels(console, Image.effect_noise(size, 50).convert("RGB"), words, "picture.jpg")
    file.flush()
    return raw.getvalue().decode(encoding).splitlines()


def test_small_pictures_in_the_terminal() -> None:
    wide = show(300, "truecolor")
    assert len([line for line in wide if line]) == 1 + sum("\u2580" in line for line in wide)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in wide]
    assert plain[0].split() == ["picture.jpg", "a", "0.50", "big", "0.50", "dog", "0.50"]
    (width,) = {line.count("\u2580") for line in plain[1:-1]}
    height = 2 * (len(plain) - 2)
    assert width / 4 / height == pytest.approx(2, rel=0.1)
    assert re.search(r"\x1b\[38;2;\d+;\d+;\d+;48;2;\d+;\d+;\d+m\u2580", wide[1])
    narrow = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in show(40, "256")]
    assert all(len(line) <= 40 for line in narrow)
    assert sum("0.50" in line for line in narrow) == 3


@pytest.mark.parametrize(("colours", "encoding"), [(None, "utf-8"), ("standard", "utf-8"), ("truecolor", "ascii")])
def test_small_pictures_without_colours(colours: str | None, encoding: str) -> None:
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in show(200, colours, (100, 100), encoding)]
    assert "".join(shown).isascii()
    width = len(shown[1].rstrip("\n") + "  ") // 4 - 2
    attended = [line[width + 2 : 2 * width + 2] for line in shown[1:-1]]
    assert "@" in attended[0][width // 3 : 2 * width // 3 + 1]
    assert "@" not in attended[-1]


@pytest.mark.parametrize("size", [(2000, 50), (50, 2000), (9, 9)])
def test_small_pictures_of_any_shape(size: tuple[int, int]) -> None:
    for width in (12, 80):
        assert all(len(line) <= width for line in show(width, None, size))
