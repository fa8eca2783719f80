"""Reports of benchmarks: a table on the terminal, JSON, or a table in a Markdown page."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from elman.benchmarks import BENCHMARKS, Row, rows
from elman.benchmarks.busy import busy_process
from elman.benchmarks.machine import describe, peak
from elman.data.output import json_line
from elman.errors import ElmanError, unknown_name

_COLUMNS = ("work", "size", "elman ms", "other ms", "other", "ratio", "of peak")


def report(name: str, rounds: int, as_json: bool, busy: bool, page: str | None) -> None:
    """Run a benchmark, print each row as it is measured, and report the whole table at the end.

    Args:
        name: a key of `BENCHMARKS`.
        rounds: number of measurements per row, at least 1.
        as_json: whether to print one JSON object to standard output at the end. The rows then go to standard error.
        busy: whether to measure beside a process that keeps one core busy.
        page: path of a Markdown page whose table of this benchmark is replaced, or None. The table stands
            between the lines ``<!-- elman bench NAME -->`` and ``<!-- end of NAME -->``, where NAME is ``name``,
            with ``--busy`` appended for ``busy``.

    Raises:
        ElmanError: if the name is unknown, ``rounds`` is below 1, or the page cannot be read or has no such lines.
    """
    if rounds < 1:
        raise ElmanError(f"--rounds: must be at least 1, not {rounds}")
    if name not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    if page is not None:
        _markers(Path(page), _title(name, busy))  # a page without the markers is an error before the measurement
    console = Console(stderr=as_json, highlight=False)
    console.print(f"[bold]{name}[/]: {BENCHMARKS[name]}\n{_about()}\nratio: other ms / elman ms; higher is better\n")
    measured: list[Row] = []
    widths = (36, 16, 9, 9, 20, 6, 7)
    console.print(_line(_COLUMNS, widths), markup=False)
    about = _about()  # measures the peak before the busy process starts
    with busy_process() if busy else nullcontext():
        for row in rows(name, rounds):
            measured.append(row)
            console.print(_line(_cells(row), widths), markup=False)
    if as_json:
        machine = {"machine": describe(), "peak_gflops": peak() / 1e9, "date": str(datetime.date.today())}
        records = [row.record() for row in measured]
        print(
            json_line({"benchmark": name, "busy": busy, **machine, "rounds": rounds, "rows": records}, "the benchmark")
        )
    if page is not None:
        _write(Path(page), _title(name, busy), rounds, about, measured)


def _title(name: str, busy: bool) -> str:
    """Return the name that the markers in a page contain."""
    return f"{name} --busy" if busy else name


def _about() -> str:
    """Describe the machine and its peak."""
    return f"{describe()}; peak {peak() / 1e9:.0f} GFLOP/s in float32"


def _cells(row: Row) -> tuple[str, ...]:
    """Format a row, one string per column."""

    def milliseconds(seconds: float) -> str:
        return "" if seconds != seconds else f"{1e3 * seconds:.3g}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"

    share = "" if row.share is None else f"{row.share:.0%}"
    times = milliseconds(row.pair.ours), milliseconds(row.pair.theirs)
    return row.work, row.size, *times, row.against, f"{row.pair.ratio:.2f}", share


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Align the cells of a row for the terminal."""
    return " ".join(
        cell.ljust(w) if k in (0, 1, 4) else cell.rjust(w)
        for k, (cell, w) in enumerate(zip(cells, widths, strict=True))
    )


def _markers(page: Path, name: str) -> tuple[int, int, str]:
    """Return where the table of a benchmark begins and ends in a page, and the text of the page."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ElmanError(f"{page}: cannot be read: {error.strerror}") from None
    begin, end = f"<!-- elman bench {name} -->", f"<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise ElmanError(f"{page}: the lines {begin} and {end} are missing; add them where the table should go")
    return text.index(begin) + len(begin), text.index(end), text


def _write(page: Path, name: str, rounds: int, about: str, measured: Sequence[Row]) -> None:
    """Replace the table of a benchmark in a page."""
    start, stop, text = _markers(page, name)
    lines = [
        f"\n`elman bench {name} --rounds {rounds}`, {datetime.date.today()}: {about}.\n",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *(f"| {' | '.join(_cells(row))} |" for row in measured),
    ]
    page.write_text(text[:start] + "\n".join(lines) + "\n" + text[stop:], encoding="utf-8")
