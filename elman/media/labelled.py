"""Read inputs with labels from tables, a file for each class, or folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars

from elman.data import series
from elman.data.archive import name_inside
from elman.data.labels import check_labels, merge_spellings, normalize_label, split_labels
from elman.data.media_paths import folder_of, resolve
from elman.data.source import InMemory, is_system_file, printable, sources
from elman.data.tables import Rows, SkippedRows, column, is_table, list_column, read_rows, require_columns
from elman.data.text import read_text
from elman.data.ts import read_ts
from elman.errors import ElmanError
from elman.media import Content, get, medium_of
from elman.media.columns import Columns
from elman.media.series import SeriesForm, is_ts

_log = logging.getLogger("elman")


class Labelled(NamedTuple):
    """Inputs of one medium with their labels.

    Attributes:
        medium (str): the name of the medium.
        inputs (list): texts; series (T, C) float64, NaN where missing; `Clip` objects; ...
        labels: of each input, one or several.
        groups: inputs of one group are not divided between training and validation; "" where there are no groups.
        places: the origin of each input, for messages.
        form: how the medium read them; see `elman.media.Content`.
        tables (bool): whether they come from tables.
    """

    medium: str
    inputs: list
    labels: list[tuple[str, ...]]
    groups: list[str]
    places: list[str]
    form: Any = None
    tables: bool = False

    @property
    def content(self) -> Content:
        return Content(self.inputs, self.form)

    def part(self, rows: Sequence[int]) -> Labelled:
        """Return the examples with these numbers."""
        return self._replace(
            inputs=[self.inputs[k] for k in rows],
            labels=[self.labels[k] for k in rows],
            groups=[self.groups[k] for k in rows],
            places=[self.places[k] for k in rows],
        )


def read_labelled(data: Any, columns: Columns) -> Labelled:
    """Read labelled examples from files or folders, or from data in memory (`elman.data.source.sources`).

    - Tables with a text and a label column; or with a file and a label column, where the files (sounds, tables of
      numbers) are relative to the table; or with a step or a series in each row.
    - .ts files of series.
    - Text files, one per class, with one example per line: the file's name is the label.
    - A folder with a folder for each class.

    Args:
        data: what `elman.data.source.sources` takes.
        columns (Columns): which columns of tables hold what.

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
    elif all(map(is_ts, data)):
        found = _join([_ts(path) for path in data])
    elif all(isinstance(path, InMemory) or is_table(path) for path in data):
        read = [(SkippedRows(path, columns.skip_bad), path) for path in data]
        tables = [(path, _rows_of(path, columns, skipped), skipped) for skipped, path in read]
        found = _series([(path, rows.table) for path, rows, _ in tables], columns) or _join(
            [_table(path, rows, skipped, columns) for path, rows, skipped in tables]
        )
        found = found._replace(tables=True)
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


def _series(tables: series.Tables, columns: Columns) -> Labelled | None:
    """Return the series of tables with a step or a series in each row; None if they contain something else."""
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
    return Labelled(
        "series", found.values, labels, groups, found.places, SeriesForm(names, found.reading, found.reasons)
    )


def _rows_of(path: str, columns: Columns, skipped: SkippedRows) -> Rows:
    """Return the rows of a table; tuples in memory are (text, label)."""
    ordered = isinstance(path, InMemory) and path.positional
    return read_rows(path, {"text": columns.text, "label": columns.label} if ordered else None, skipped)


def _table(path: str, rows: Rows, skipped: SkippedRows, columns: Columns) -> Labelled:
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
            return Labelled("series", arrays, labels, groups, places, SeriesForm(names))
        found = Labelled("text", column(table, source, printable(path)), labels, groups, places)
        return found.part(_filled(found, rows.lines, skipped, c.separator is not None or several is not None))
    names = column(table, source, printable(path))
    files = resolve(names, folder_of(path), c.images)
    if not files:
        raise ElmanError(f"{path}: no rows")
    return _files(files, labels, groups, places, columns)


def _filled(found: Labelled, lines: np.ndarray, skipped: SkippedRows, several: bool) -> list[int]:
    """Return the rows with a text and a label; with ``several``, a row may have no label."""
    kept = []
    for k, (text, label, line) in enumerate(zip(found.inputs, found.labels, lines.tolist(), strict=True)):
        where = f" (line {line})" if line else ""
        if not text.strip():
            skipped.add(f"row {k + 1}", f"the text is empty{where}")
        elif not several and not any(map(normalize_label, label)):
            skipped.add(f"row {k + 1}", f"no label{where}")
        else:
            kept.append(k)
    skipped.log(len(kept))
    return kept


def _files(
    files: list[str], labels: list[tuple[str, ...]], groups: list[str], places: list[str], columns: Columns
) -> Labelled:
    """Read examples that are files of one medium."""
    medium = medium_of(files[0])
    inputs, form = medium.read_files(files, places, columns)
    found = Labelled(medium.name, inputs, labels, groups, places, form)
    return found.part([k for k, x in enumerate(inputs) if x is not None])


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
                    f"{printable(str(file))}: nested folders are not read; put files into the class folder"
                )
            pairs.append((str(file), printable(one.name)))
    if not pairs:
        raise ElmanError(f"{printable(path)}: the folders in it have no files")
    known = {label for _, label in pairs}
    for name in [printable(one.name) for one in inside if not one.is_dir() or printable(one.name) not in known]:
        _log.warning("%s: %s is not read: put files into a class folder", printable(path), name)
    files = [name for name, _ in pairs]
    return _files(files, [(label,) for _, label in pairs], [""] * len(files), files, columns)


def _ts(path: str) -> Labelled:
    found = read_ts(path)
    names = [str(k) for k in range(1, found[0].values.shape[1] + 1)]
    places = [one.place for one in found]
    labels: list[tuple[str, ...]] = [(one.label or "",) for one in found]
    return Labelled("series", [one.values for one in found], labels, [""] * len(found), places, SeriesForm(names))


def _class_file(path: str) -> Labelled:
    lines = [(k, line) for k, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    label = printable(name_inside(path).removesuffix(".txt"))
    places = [f"{printable(path)}, line {k}" for k, _ in lines]
    return Labelled("text", [line for _, line in lines], [(label,)] * len(lines), [""] * len(lines), places)


def _join(parts: list[Labelled]) -> Labelled:
    """Join examples of several sources, which must be of one medium."""
    first = parts[0]
    for part in parts:
        if part.medium != first.medium:
            raise ElmanError(f"{part.places[0]}: {part.medium}, but {first.places[0]} is {first.medium}")
    content = get(first.medium).join([part.content for part in parts], [part.places for part in parts])
    labels, groups, places = ([x for part in parts for x in getattr(part, n)] for n in ("labels", "groups", "places"))
    return Labelled(first.medium, content.inputs, labels, groups, places, content.form)


def _check(found: Labelled, columns: Columns, place: str) -> None:
    several = columns.separator is not None or any(len(label) > 1 for label in found.labels)
    if not found.inputs:
        raise ElmanError(f"{place}: no example in it")
    get(found.medium).check(found.content, found.places, columns)
    for place, label in zip(found.places, found.labels, strict=True):
        if not (label or several):
            raise ElmanError(f"{place}: no label")
