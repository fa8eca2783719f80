"""Benchmarks as tables: on the terminal, as JSON, in a page of the documentation."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from elman.benchmarks import BENCHMARKS, Row, rows
from elman.benchmarks.busy import neighbour
from elman.benchmarks.machine import describe, peak
from elman.data.output import json_line
from elman.errors import ElmanError, unknown_name

_COLUMNS = ("work", "size", "elman ms", "other ms", "other", "ratio", "of peak")


def report(name: str, rounds: int, as_json: bool, busy: bool, page: str | None) -> None:
    """Measures, shows what is measured line by line, and says or writes the whole at the end.

    ``busy``: beside another process that keeps one core busy; a page has a place of its own for that,
    ``NAME --busy``.
    """
    if rounds < 1:
        raise ElmanError(f"--rounds: should be at least 1, not {rounds}")
    if name not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    if page is not None:
        _marks(Path(page), _title(name, busy))  # a page without a place for it is found before the work
    console = Console(stderr=as_json, highlight=False)
    console.print(
        f"[bold]{name}[/]: {BENCHMARKS[name]}\n{_about()}\nratio: other's time over elman's; more is better\n"
    )
    measured: list[Row] = []
    widths = (36, 16, 9, 9, 20, 6, 7)
    console.print(_line(_COLUMNS, widths), markup=False)
    about = _about()  # before a neighbour takes a part of the machine
    with neighbour() if busy else nullcontext():
        for row in rows(name, rounds):
            measured.append(row)
            console.print(_line(_cells(row), widths), markup=False)
    if as_json:
        machine = {"machine": describe(), "peak_gflops": peak() / 1e9, "date": str(datetime.date.today())}
        rows_of = [row.record() for row in measured]
        print(
            json_line({"benchmark": name, "busy": busy, **machine, "rounds": rounds, "rows": rows_of}, "the benchmark")
        )
    if page is not None:
        _write(Path(page), _title(name, busy), rounds, about, measured)


def _title(name: str, busy: bool) -> str:
    return f"{name} --busy" if busy else name


def _about() -> str:
    return f"{describe()}; peak {peak() / 1e9:.0f} GFLOP/s in float32"


def _cells(row: Row) -> tuple[str, ...]:
    def milliseconds(seconds: float) -> str:
        return "" if seconds != seconds else f"{1e3 * seconds:.3g}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"

    share = "" if row.share is None else f"{row.share:.0%}"
    times = milliseconds(row.pair.ours), milliseconds(row.pair.theirs)
    return row.work, row.size, *times, row.against, f"{row.pair.ratio:.2f}", share


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return " ".join(
        cell.ljust(w) if k in (0, 1, 4) else cell.rjust(w)
        for k, (cell, w) in enumerate(zip(cells, widths, strict=True))
    )


def _marks(page: Path, name: str) -> tuple[int, int, str]:
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ElmanError(f"{page}: cannot be read: {error.strerror}") from None
    begin, end = f"<!-- elman bench {name} -->", f"<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise ElmanError(f"{page}: has no place for it; put the lines {begin} and {end} where the table goes")
    return text.index(begin) + len(begin), text.index(end), text


def _write(page: Path, name: str, rounds: int, about: str, measured: Sequence[Row]) -> None:
    start, stop, text = _marks(page, name)
    lines = [
        f"\n`elman bench {name} --rounds {rounds}`, {datetime.date.today()}: {about}.\n",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *(f"| {' | '.join(_cells(row))} |" for row in measured),
    ]
    page.write_text(text[:start] + "\n".join(lines) + "\n" + text[stop:], encoding="utf-8")
