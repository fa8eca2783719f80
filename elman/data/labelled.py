"""Texts, series and sounds with labels: tables, a file a class, folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from elman.data import series
from elman.data.sound import SOUNDS, log_mel, read_sound, resample
from elman.data.tables import column, is_table, lists, read_table, require
from elman.data.text import read_text
from elman.errors import ElmanError

Medium = Literal["text", "series", "sound"]


class Labelled(NamedTuple):
    """Inputs with their labels.

    inputs: texts; series (T, C) float32; or waves (N,) float32. labels: each input's, one or several. groups: what
    must not be divided between training and test, "" where nothing says so. places: where each stands, for messages.
    channels: names of the columns of a series. rate: samples a second of the waves.
    """

    medium: Medium
    inputs: list
    labels: list[tuple[str, ...]]
    groups: list[str]
    places: list[str]
    channels: list[str]
    rate: int

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

    series: the series that a row is a step of. separator: between several labels.
    """

    text: str
    label: str
    file: str
    group: str | None
    series: str | None
    time: str | None
    separator: str | None


def read_labelled(data: Sequence[str], columns: Columns) -> Labelled:
    """The examples of files or folders.

    - tables with a text and a label column; or with a file and a label column, sounds or tables of numbers
      beside the table; or with ``columns.series``, a row a step;
    - .ts files of series;
    - text files, one a class, an example a line: the file's name is the label;
    - a folder with a folder for each class, of texts, sounds or tables of numbers.

    Raises:
        ElmanError: a file cannot be read, a column is missing, an input is empty or has no label.
    """
    if not data:
        raise ElmanError("no data: give one file or more")
    folders = [path for path in data if os.path.isdir(path)]
    if folders and len(folders) < len(data):
        raise ElmanError(f"{folders[0]}: a folder among files; give one or the other")
    if folders:
        found = _join([_folder(path) for path in data])
    elif all(path.lower().removesuffix(".gz").endswith(".ts") for path in data):
        found = _join([_ts(path) for path in data])
    elif all(map(is_table, data)):
        found = _join([_table(path, columns) for path in data])
    elif any(map(is_table, data)):
        raise ElmanError(f"{', '.join(data)}: tables and other files; give one or the other")
    elif len(data) == 1:
        raise ElmanError(
            f"{data[0]}: one text file has no labels; give one file a class, or a table (.csv, .tsv, .jsonl, .parquet) "
            f"with {columns.text!r} and {columns.label!r} columns (--text, --label)"
        )
    else:
        found = _join([_class_file(path) for path in data])
    _check(found, columns.separator is not None or any(len(label) > 1 for label in found.labels))
    return found


def read_input(path: str, medium: Medium) -> tuple[np.ndarray, list[str], int]:
    """One series or sound from its file: the values, the channels' names, the rate."""
    if medium == "sound":
        wave, rate = read_sound(path)
        return wave, [], rate
    values, names = series.read_one(path)
    return values, names, 0


def frames(wave: np.ndarray, rate: int, wanted: int, bands: int) -> np.ndarray:
    """What a model reads of a sound: log-mel frames (T, bands) at the model's own rate."""
    return log_mel(resample(wave, rate, wanted), wanted, bands)


def _table(path: str, columns: Columns) -> Labelled:
    c = columns
    extra = [c.group] if c.group else []
    if c.series:
        table = read_table(path, [c.series, c.label, *extra, *([c.time] if c.time else [])])
        values, fixed, channels, places = series.read_long(table, path, c.series, [c.label, *extra], c.time)
        groups = fixed[c.group] if c.group else [""] * len(values)
        return Labelled("series", values, _split(fixed[c.label], c.separator), groups, places, channels, 0)
    table = read_table(path)
    source = c.file if c.file in table.columns and (c.file != "file" or c.text not in table.columns) else c.text
    require(table, path, [source, c.label, *extra])
    several = lists(table, c.label)
    labels = _split(column(table, c.label), c.separator) if several is None else [tuple(one) for one in several]
    groups = column(table, c.group) if c.group else [""] * len(labels)
    places = [f"{path}, row {k}" for k in range(1, len(labels) + 1)]
    if source == c.text:
        return Labelled("text", column(table, source), labels, groups, places, [], 0)
    beside = path.rpartition("/")[0]
    files = [
        name if "://" in name or os.path.isabs(name) or not beside else f"{beside}/{name}"
        for name in column(table, source)
    ]
    if not files:
        raise ElmanError(f"{path}: no rows")
    return _files(files, labels, groups, places)


def _files(files: list[str], labels: list[tuple[str, ...]], groups: list[str], places: list[str]) -> Labelled:
    """Examples that are files: sounds, tables of numbers, or texts."""
    ending = Path(files[0]).suffix.lower()
    if ending in SOUNDS:
        waves = [read_sound(path) for path in files]
        rate = Counter(rate for _, rate in waves).most_common(1)[0][0]
        inputs = [resample(wave, own, rate) for wave, own in waves]
        return Labelled("sound", inputs, labels, groups, places, [], rate)
    if is_table(files[0]):
        found = [series.read_one(path) for path in files]
        wanted = found[0][1]
        inputs = [series.ordered(x, names, wanted, path) for path, (x, names) in zip(files, found, strict=True)]
        return Labelled("series", inputs, labels, groups, places, wanted, 0)
    return Labelled("text", [read_text(path) for path in files], labels, groups, places, [], 0)


def _folder(path: str) -> Labelled:
    classes = sorted(one for one in Path(path).iterdir() if one.is_dir() and not one.name.startswith("."))
    if not classes:
        raise ElmanError(
            f"{path}: no folder in it; give a folder with a folder for each class, or a table with a file and a label "
            "column"
        )
    pairs = [(str(f), c.name) for c in classes for f in sorted(c.iterdir()) if f.is_file() and f.name[0] != "."]
    if not pairs:
        raise ElmanError(f"{path}: the folders in it have no files")
    files = [name for name, _ in pairs]
    return _files(files, [(label,) for _, label in pairs], [""] * len(files), files)


def _ts(path: str) -> Labelled:
    values, labels, places = series.read_ts(path)
    names = [str(k) for k in range(1, values[0].shape[1] + 1)]
    return Labelled("series", values, [(label,) for label in labels], [""] * len(values), places, names, 0)


def _class_file(path: str) -> Labelled:
    lines = [(k, line) for k, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    name = Path(path).name
    label, places = name.removesuffix(".gz").removesuffix(".txt") or name, [f"{path}, line {k}" for k, _ in lines]
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
            series.ordered(x, one.channels, first.channels, place) if x.shape[1] == len(one.channels) else x
            for one in parts
            for x, place in zip(one.inputs, one.places, strict=True)
        ]
    labels, groups, places = ([x for one in parts for x in getattr(one, n)] for n in ("labels", "groups", "places"))
    return Labelled(first.medium, inputs, labels, groups, places, first.channels, rate)


def _split(labels: Sequence[str], separator: str | None) -> list[tuple[str, ...]]:
    if separator is None:
        return [(label.strip(),) if label.strip() else () for label in labels]
    return [tuple(part.strip() for part in label.split(separator) if part.strip()) for label in labels]


def _check(found: Labelled, several: bool) -> None:
    if not found.inputs:
        raise ElmanError("the data hold no example")
    for place, x, label in zip(found.places, found.inputs, found.labels, strict=True):
        if found.medium == "text" and not x.strip():
            raise ElmanError(f"{place}: the text is empty")
        if found.medium == "series":
            series.check(x, place, found.channels)
            if x.shape[1] != len(found.channels):
                raise ElmanError(f"{place}: {x.shape[1]} channels; those before have {len(found.channels)}")
        if not (label or several):
            raise ElmanError(f"{place}: no label")
