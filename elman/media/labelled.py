"""Texts, series and sounds with labels: tables, a file a class, folders."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars

from elman.data import series
from elman.data.archive import name_inside
from elman.data.labels import check_labels, merge_spellings, normalize_label, split_labels
from elman.data.series import ColumnRoles, SeriesFormat, TableSeries
from elman.data.source import InMemory, expand_home, is_system_file, printable, sources
from elman.data.tables import Rows, SkippedRows, column, is_table, list_column, read_rows, read_table, require_columns
from elman.data.text import read_text
from elman.data.ts import read_ts
from elman.errors import ElmanError
from elman.media.waves import SOUNDS, log_mel, read_sound, resample

_log = logging.getLogger("elman")

Medium = Literal["text", "series", "sound"]


class Labelled(NamedTuple):
    """Inputs with their labels.

    inputs: texts; series (T, C) float64, NaN where missing; or waves (N,) float32. labels: of each, one or several.
    groups: what must not be divided between training and test, "" where nothing says so. places: where each stands.
    channels: names of the columns of a series. rate: samples a second of the waves. reading: how series were read of
    tables; reasons: why columns of these were left out.
    """

    medium: Medium
    inputs: list
    labels: list[tuple[str, ...]]
    groups: list[str]
    places: list[str]
    channels: list[str]
    rate: int
    reading: SeriesFormat = SeriesFormat()
    reasons: dict[str, str] = {}

    def part(self, rows: Sequence[int]) -> Labelled:
        """Those examples alone."""
        return self._replace(
            inputs=[self.inputs[k] for k in rows],
            labels=[self.labels[k] for k in rows],
            groups=[self.groups[k] for k in rows],
            places=[self.places[k] for k in rows],
        )


class Columns(NamedTuple):
    """Which column holds what.

    series: the series that a row is a step of. separator: between several labels. reading: how series are read.
    skip_bad: leave out rows of tables that cannot be read.
    """

    text: str
    label: str
    file: str
    group: str | None
    series: str | None
    time: str | None
    separator: str | None
    reading: SeriesFormat = SeriesFormat()
    skip_bad: bool = False

    def roles(self, series: bool = True) -> ColumnRoles:
        """Those that are no channels; without ``series``, those of a table that is one series."""
        fixed = (self.label, *([self.group] if self.group else [])) if series else ()
        return ColumnRoles(self.series if series else None, self.time, fixed)


def read_labelled(data: Any, columns: Columns) -> Labelled:
    """The examples of files or folders, or of data in memory (`elman.data.source.sources`).

    - tables with a text and a label column; or with a file and a label column, sounds or tables of numbers
      beside the table; or with ``columns.series``, a row a step;
    - .ts files of series;
    - text files, one a class, an example a line: the file's name is the label;
    - a folder with a folder for each class, of texts, sounds or tables of numbers.

    Raises:
        ElmanError: a file cannot be read, a column is missing, an input is empty or has no label.
    """
    data = sources(data)
    if not data:
        raise ElmanError("no data: give one file or more")
    folders = [path for path in data if os.path.isdir(path)]
    if folders and len(folders) < len(data):
        raise ElmanError(f"{folders[0]}: a folder among files; give one or the other")
    if folders:
        found = _join([_folder(path, columns) for path in data])
    elif all(path.lower().removesuffix(".gz").endswith(".ts") for path in data):
        found = _join([_ts(path) for path in data])
    elif all(isinstance(path, InMemory) or is_table(path) for path in data):
        read = [(SkippedRows(path, columns.skip_bad), path) for path in data]
        tables = [(path, _rows_of(path, columns, left_out), left_out) for left_out, path in read]
        found = _series([(path, rows.table) for path, rows, _ in tables], columns) or _join(
            [_table(path, rows, left_out, columns) for path, rows, left_out in tables]
        )
    elif any(map(is_table, data)):
        raise ElmanError(f"{', '.join(map(printable, data))}: tables and other files; give one or the other")
    elif len(data) == 1:
        raise ElmanError(
            f"{printable(data[0])}: one text file has no labels; give one file a class, or a table (.csv, .tsv, "
            f".jsonl, .xlsx, .parquet) with {columns.text!r} and {columns.label!r} columns (--text, --label)"
        )
    else:
        found = _join([_class_file(path) for path in data])
    found = found._replace(labels=merge_spellings(found.labels))
    every = ", ".join(map(printable, data))
    if columns.separator is not None and all(len(label) < 2 for label in found.labels):
        _log.warning("%s: no example has several labels with %r between them", every, columns.separator)
    _check(found, columns, every)
    check_labels(found.labels, every)
    return found


class Series(NamedTuple):
    """Series without their labels: values (T, C) float64; places: where each stands; table: a row for each, where they
    come from a table of several."""

    values: list[np.ndarray]
    places: list[str]
    table: polars.DataFrame | None = None


def read_series(path: str, columns: Columns) -> Series:
    """The series in a file, without their labels, with the channels of ``columns.reading``.

    A .ts file, a table with a row a step or a row a series, as in training; any other table is one series.

    Raises:
        ElmanError: the file cannot be read, or has other channels.
    """
    wanted = columns.reading.channels
    (path,) = sources(path)
    if is_ts(path):
        read = read_ts(path, None, len(wanted))
        values = [series.reorder_channels(one.values, [], wanted, one.place) for one in read]
        return Series(values, [one.place for one in read])
    table = read_table(path)
    fixed = tuple(name for name in columns.roles().fixed if name in table.columns and name not in wanted)
    roles = columns.roles()._replace(fixed=fixed)
    if columns.time is not None and columns.series is None and columns.time not in table.columns:
        raise ElmanError(f"{path}: has no column {columns.time!r}; it has {', '.join(table.columns)}")
    found = _rows(path, table, roles, columns.reading)
    if not found.values:
        raise ElmanError(f"{path}: no rows")
    names = list(found.reading.channels)
    values = [
        series.reorder_channels(x, names, wanted, place) for x, place in zip(found.values, found.places, strict=True)
    ]
    if found.reading.wide:
        return Series(values, found.places, table)
    named = roles.series in table.columns
    return Series(values, found.places, polars.DataFrame({roles.series: found.ids}) if named else None)


def _rows(path: str, table: polars.DataFrame, roles: ColumnRoles, reading: SeriesFormat) -> TableSeries:
    """The series of a table that need no labels."""
    named = roles.series is not None and roles.series in table.columns
    by_row = roles._replace(series=roles.series if named else None)
    least, known = 2 if reading.wide else 3, reading._replace(wide=None)
    if series.is_wide(path, table, by_row._replace(time=None), known, least):
        return series.read_wide([(path, table)], by_row, reading)
    there = roles.time if roles.time in table.columns else None
    if named:
        require_columns(table, path, [roles.time] if roles.time else [])
    return series.read_long([(path, table)], by_row._replace(time=there), reading)


def frames(wave: np.ndarray, rate: int, wanted: int, bands: int) -> np.ndarray:
    """What a model reads of a sound: log-mel frames (T, bands) at the model's own rate."""
    return log_mel(resample(wave, rate, wanted), wanted, bands)


def is_ts(path: str) -> bool:
    """Whether a file is one of sktime's, by its name."""
    return path.lower().removesuffix(".gz").endswith(".ts")


def _series(tables: series.Tables, columns: Columns) -> Labelled | None:
    """The series of tables with a row a step, or a row a series; None where they hold something else."""
    c, (path, table) = columns, tables[0]
    plain = (c.text, c.file) == ("text", "file") and not {c.text, c.file} & set(table.columns)
    wide = bool(c.series or c.reading.wide or plain) and series.is_wide(path, table, c.roles(), c.reading)
    if not (wide or c.series):
        return None
    extra = [name for name in (c.series, c.label, c.group, c.time) if name]
    for path, table in tables:
        require_columns(table, path, extra)
    read = series.read_wide if wide else series.read_long
    found = read(tables, c.roles(), c.reading)
    if not wide and found.values and all(len(x) == 1 for x in found.values):
        raise ElmanError(
            f"{tables[0][0]}: every series has one row; if a row is a series, give --wide and columns t0, t1, ..."
        )
    groups = found.fixed[c.group] if c.group else [""] * len(found.values)
    labels, names = split_labels(found.fixed[c.label], c.separator), list(found.reading.channels)
    return Labelled("series", found.values, labels, groups, found.places, names, 0, found.reading, found.reasons)


def _rows_of(path: str, columns: Columns, left_out: SkippedRows) -> Rows:
    """The rows of a table; tuples in memory are (text, label)."""
    ordered = isinstance(path, InMemory) and path.positional
    return read_rows(path, {"text": columns.text, "label": columns.label} if ordered else None, left_out)


def _table(path: str, rows: Rows, left_out: SkippedRows, columns: Columns) -> Labelled:
    c, table = columns, rows.table
    if c.file != "file":
        require_columns(table, printable(path), {"file": c.file})
    source = c.file if c.file in table.columns and (c.file != "file" or c.text not in table.columns) else c.text
    name = {"text": source} if source == c.text else {"file": source}
    require_columns(table, printable(path), {**name, "label": c.label, **({"group": c.group} if c.group else {})})
    several = list_column(table, c.label)
    labels = (
        split_labels(column(table, c.label, printable(path)), c.separator)
        if several is None
        else [tuple(one) for one in several]
    )
    groups = column(table, c.group, printable(path)) if c.group else [""] * len(labels)
    places = [f"{printable(path)}, row {k}" for k in range(1, len(labels) + 1)]
    if source == c.text:
        if table[source].dtype.is_nested() or table[source].dtype == polars.Object:
            arrays = series.series_from_cells(table[source].to_list(), places, source)
            names = [str(k) for k in range(1, arrays[0].shape[1] + 1)] if arrays else []
            return Labelled("series", arrays, labels, groups, places, names, 0)
        found = Labelled("text", column(table, source, printable(path)), labels, groups, places, [], 0)
        return found.part(_filled(found, rows.lines, left_out, c.separator is not None or several is not None))
    beside = path.rpartition("/")[0]
    files = [
        expand_home(name) if "://" in name or os.path.isabs(expand_home(name)) or not beside else f"{beside}/{name}"
        for name in column(table, source, printable(path))
    ]
    if not files:
        raise ElmanError(f"{path}: no rows")
    return _files(files, labels, groups, places, columns)


def _filled(found: Labelled, lines: np.ndarray, left_out: SkippedRows, several: bool) -> list[int]:
    """The rows that have a text and a label; several: a row may have none."""
    kept = []
    for k, (text, label, line) in enumerate(zip(found.inputs, found.labels, lines.tolist(), strict=True)):
        where = f" (line {line})" if line else ""
        if not text.strip():
            left_out.add(f"row {k + 1}", f"the text is empty{where}")
        elif not several and not any(map(normalize_label, label)):
            left_out.add(f"row {k + 1}", f"no label{where}")
        else:
            kept.append(k)
    left_out.log(len(kept))
    return kept


def _files(
    files: list[str], labels: list[tuple[str, ...]], groups: list[str], places: list[str], columns: Columns
) -> Labelled:
    """Examples that are files: sounds, tables of numbers, or texts."""
    ending = Path(files[0]).suffix.lower()
    if ending in SOUNDS:
        waves = [read_sound(path) for path in files]
        rate = Counter(rate for _, rate in waves).most_common(1)[0][0]
        inputs = [resample(wave, own, rate) for wave, own in waves]
        return Labelled("sound", inputs, labels, groups, places, [], rate)
    if is_table(files[0]):
        tables = [(path, read_table(path, [columns.time] if columns.time else [])) for path in files]
        found = series.read_long(tables, columns.roles(series=False), columns.reading)
        for path, table in tables:
            if not len(table):
                raise ElmanError(f"{path}: no rows")
        names, reading = list(found.reading.channels), found.reading._replace(wide=None)
        return Labelled("series", found.values, labels, groups, places, names, 0, reading, found.reasons)
    return Labelled("text", [read_text(path) for path in files], labels, groups, places, [], 0)


def _folder(path: str, columns: Columns) -> Labelled:
    inside = sorted(one for one in Path(path).iterdir() if not is_system_file(one.name))
    classes = [one for one in inside if one.is_dir()]
    if not classes:
        raise ElmanError(
            f"{printable(path)}: no folder in it; give a folder with a folder for each class, or a table with a file "
            "and a label column"
        )
    pairs = []
    for one in classes:
        for file in sorted(f for f in one.iterdir() if not is_system_file(f.name)):
            if file.is_dir():
                raise ElmanError(
                    f"{printable(str(file))}: a folder in the folder of a class; its files would be left out"
                )
            pairs.append((str(file), printable(one.name)))
    if not pairs:
        raise ElmanError(f"{printable(path)}: the folders in it have no files")
    known = {label for _, label in pairs}
    for name in [printable(one.name) for one in inside if not one.is_dir() or printable(one.name) not in known]:
        _log.warning("%s: %s is not read: files belong into the folder of a class", printable(path), name)
    files = [name for name, _ in pairs]
    return _files(files, [(label,) for _, label in pairs], [""] * len(files), files, columns)


def _ts(path: str) -> Labelled:
    found = read_ts(path)
    names = [str(k) for k in range(1, found[0].values.shape[1] + 1)]
    places = [one.place for one in found]
    labels: list[tuple[str, ...]] = [(one.label or "",) for one in found]
    return Labelled("series", [one.values for one in found], labels, [""] * len(found), places, names, 0)


def _class_file(path: str) -> Labelled:
    lines = [(k, line) for k, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    label = printable(name_inside(path).removesuffix(".txt"))
    places = [f"{printable(path)}, line {k}" for k, _ in lines]
    return Labelled("text", [line for _, line in lines], [(label,)] * len(lines), [""] * len(lines), places, [], 0)


def _join(parts: list[Labelled]) -> Labelled:
    first = parts[0]
    for one in parts:
        if one.medium != first.medium:
            raise ElmanError(f"{one.places[0]}: {one.medium}, where {first.places[0]} is {first.medium}")
    rate, rates = first.rate, {one.rate for one in parts}
    inputs = [x if len(rates) == 1 else resample(x, one.rate, rate) for one in parts for x in one.inputs]
    if first.medium == "series":
        inputs = [
            series.reorder_channels(x, one.channels, first.channels, place) if x.shape[1] == len(one.channels) else x
            for one in parts
            for x, place in zip(one.inputs, one.places, strict=True)
        ]
    labels, groups, places = ([x for one in parts for x in getattr(one, n)] for n in ("labels", "groups", "places"))
    return Labelled(first.medium, inputs, labels, groups, places, first.channels, rate, first.reading, first.reasons)


def _check(found: Labelled, columns: Columns, place: str) -> None:
    several = columns.separator is not None or any(len(label) > 1 for label in found.labels)
    if not found.inputs:
        raise ElmanError(f"{place}: no example in it")
    for place, x, label in zip(found.places, found.inputs, found.labels, strict=True):
        if found.medium == "text" and not x.strip():
            raise ElmanError(f"{place}: the text is empty")
        if found.medium == "series":
            series.check_series(x, place, found.channels, columns.reading.missing)
            if x.shape[1] != len(found.channels):
                raise ElmanError(f"{place}: {x.shape[1]} channels; those before have {len(found.channels)}")
        if not (label or several):
            raise ElmanError(f"{place}: no label")
