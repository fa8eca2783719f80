"""The terminal: text is printed as it is, and standard input and output have a known encoding."""

from __future__ import annotations

import io
import sys

from rich.console import Console


def console(stderr: bool = False) -> Console:
    """A console that prints text as it is: "[b]" in a path is no markup, ":x:" no picture.

    For styles there is `rich.text.Text`.
    """
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def open_streams() -> None:
    """Standard output writes what its encoding lacks as escapes, such as ``\\u2026``; standard input is UTF-8.

    Bytes of standard input that are not UTF-8 are kept as surrogates. A terminal keeps its own encoding for what is
    typed.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper) and not sys.stdin.isatty() and sys.stdin.encoding != "utf-8-sig":
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
