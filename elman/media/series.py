"""Series of numbers as a medium: tables and .ts files to arrays (T, C) to standardised vectors."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import polars
from pydantic import BaseModel, Field, field_validator
from torch import Tensor, nn

from elman.config import Needs, Options, several
from elman.data import series
from elman.data.inputs import InputFile, InputLines, InputTable
from elman.data.padding import pad
from elman.data.series import ColumnRoles, Missing, SeriesFormat, TableSeries
from elman.data.source import sources
from elman.data.tables import is_table, read_table, require_columns
from elman.data.timestamps import DateOrder
from elman.data.ts import read_ts
from elman.errors import ElmanError
from elman.layers.naming import Named, named_rows
from elman.layers.standardize import Standardize
from elman.media.augment import vary_series
from elman.media.columns import Columns
from elman.media.medium import Content, Files, Source
from elman.media.numeric import Numeric
from elman.media.pretrained import KnownVectors

_log = logging.getLogger("elman")

_TABLES = Needs("series in tables", lambda c: c["series_tables"])
_SEVERAL = Needs("tables with several series", lambda c: c["several_series"])


class SeriesOptions(Options):
    """Options for inputs that are series of numbers."""

    heading = "Series"
    needs = (Needs("series", lambda c: c["medium"] == "series"),)

    series: Annotated[str | None, _SEVERAL] = Field(
        None, description="Column that says which series a row is a step of."
    )
    time: Annotated[str | None, _TABLES] = Field(
        None, description="Column that orders the steps of a series: numbers, times, dates, or names such as t1."
    )
    wide: Annotated[bool | None, _SEVERAL] = Field(
        None, description="A row of a table is a series with columns t0, t1, ... Default: by the column names."
    )
    channels: Annotated[list[str] | None, _TABLES] = Field(
        None, min_length=1, description="Columns that are channels: x,y. Default: all columns with numbers."
    )
    decimal: Annotated[Literal[".", ","] | None, _TABLES] = Field(
        None, description="Decimal mark of numbers in tables. Default: the point, unless only a comma is possible."
    )
    missing: Missing = Field(
        "refuse", description="Missing values: refuse; interpolate between steps; zero; or mask, which uses the mean "
        "and adds an input per channel that says which values are present."
    )  # fmt: skip

    channels_list = field_validator("channels", mode="before")(several)


class SeriesForm(NamedTuple):
    """How series were read.

    Attributes:
        channels (list[str]): the names of the channels.
        reading (SeriesFormat): how tables become series.
        reasons (dict[str, str]): why columns of the tables are not channels.
    """

    channels: list[str]
    reading: SeriesFormat = SeriesFormat()
    reasons: dict[str, str] = {}


class SeriesState(BaseModel):
    """The part of labels.json that is about series."""

    channels: list[str] = []
    left_out: list[str] = []
    date_order: DateOrder | None = None


@final
class Series(Numeric):
    """Series: arrays (T, C), padded, standardised.

    Args:
        options (SeriesOptions): the options.
        learnt (SeriesState): the channels, and how tables are read.
    """

    name, plural, kind = "series", "series", "series"
    positions: ClassVar = "steps"
    State = SeriesState

    def __init__(self, options: Any, learnt: SeriesState) -> None:
        super().__init__(options)
        self.learnt = learnt

    @classmethod
    def reads(cls, path: str) -> bool:
        return is_table(path)

    @classmethod
    def read_files(cls, paths: Sequence[str], places: Sequence[str], columns: Columns) -> Content:
        tables = [(path, read_table(path, [columns.time] if columns.time else [])) for path in paths]
        found = series.read_long(tables, columns.roles(series=False), columns.reading)
        for path, table in tables:
            if not len(table):
                raise ElmanError(f"{path}: no rows")
        reading = found.reading._replace(wide=None)
        return Content(found.values, SeriesForm(list(found.reading.channels), reading, found.reasons))

    @classmethod
    def join(cls, parts: Sequence[Content], places: Sequence[Sequence[str]]) -> Content:
        first: SeriesForm = parts[0].form
        values = [
            series.reorder_channels(x, part.form.channels, first.channels, place)
            if x.shape[1] == len(part.form.channels)
            else x
            for part, own in zip(parts, places, strict=True)
            for x, place in zip(part.inputs, own, strict=True)
        ]
        return Content(values, first)

    @classmethod
    def check(cls, content: Content, places: Sequence[str], columns: Columns) -> None:
        names = content.form.channels
        for x, place in zip(content.inputs, places, strict=True):
            series.check_series(x, place, names, columns.reading.missing)
            if x.shape[1] != len(names):
                raise ElmanError(f"{place}: {x.shape[1]} channels; those before have {len(names)}")

    @classmethod
    def same_columns(cls, columns: Columns, content: Content) -> Columns:
        reading = content.form.reading
        return columns if reading.left_out is None else columns._replace(reading=reading)

    @classmethod
    def facts(cls, content: Content) -> Mapping[str, Any]:
        reading: SeriesFormat = content.form.reading
        return {"series_tables": reading.left_out is not None, "several_series": reading.wide is not None}

    @classmethod
    def learn(cls, options: Any, content: Content) -> Self:
        form: SeriesForm = content.form
        _report(options, form)
        if form.reading.wide:
            options = options.model_copy(update={"wide": True})
        left_out = list(form.reading.left_out or ())
        return cls(options, SeriesState(channels=form.channels, left_out=left_out, date_order=form.reading.date_order))

    @classmethod
    def load(cls, options: Any, state: SeriesState, files: Files) -> Self:
        return cls(options, state)

    def state(self) -> SeriesState:
        return self.learnt

    def columns(self, columns: Columns) -> Columns:
        known = self.learnt
        reading = columns.reading._replace(
            channels=tuple(known.channels), left_out=tuple(known.left_out), date_order=known.date_order
        )
        return columns._replace(reading=reading)

    def encode(self, content: Content, places: Sequence[str], training: bool = False) -> list[np.ndarray]:
        pairs = zip(content.inputs, places, strict=True)
        ordered = [series.reorder_channels(x, content.form.channels, self.learnt.channels, place) for x, place in pairs]
        return self._rows(ordered)

    def _rows(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [series.fill_missing(np.asarray(x, dtype=np.float64), self.options.missing) for x in values]

    def read(self, given: Sequence[Any]) -> list[np.ndarray]:
        return [row for k, x in enumerate(given, 1) for row in self._read(x, f"input {k} of {len(given)}")]

    def _read(self, x: Any, place: str) -> list[np.ndarray]:
        """The rows of a path, a data frame or an array."""
        names, path = self.learnt.channels, os.fspath(x) if isinstance(x, (str, os.PathLike)) else None
        if hasattr(x, "columns"):  # a data frame
            (path,) = sources(x)
        if path is not None:
            found = read_series(path, self.columns(self.options.columns()))
            values, places = found.values, found.places
        else:
            try:
                array = series.as_numbers(x)
            except (TypeError, ValueError, OverflowError) as error:
                raise ElmanError(f"{place}: not a series of numbers: {error}") from None
            array = array[:, None] if array.ndim == 1 else array
            if array.ndim != 2:
                raise ElmanError(f"{place}: of shape {array.shape}; a series is (T, C)")
            values, places = [series.reorder_channels(array, [], names, place)], [place]
        for one, where in zip(values, places, strict=True):
            series.check_series(one, where, names, self.options.missing != "refuse")
        return self._rows(values)

    def in_file(self, argument: str, column: str | None, columns: Columns, whole: bool) -> InputFile | None:
        if column is not None:
            raise ElmanError("--column: applies to texts; a table of series is read as in training")
        found = read_series(argument, self.columns(columns))
        names = found.places if len(found.places) > 1 else [argument]
        if found.table is not None:
            return InputTable(argument, found.table, list(found.values), names)
        return InputLines(list(found.values), found.places, names)

    def batch(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        return pad(rows)

    def vary(self, rows: list[np.ndarray], source: nn.Module, draw: np.random.Generator) -> list[np.ndarray]:
        assert isinstance(source, Standardize)
        deviation = source.deviation.cpu().numpy()
        return [vary_series(x, deviation, draw) for x in rows]

    def source(self) -> Source:
        module = Standardize(len(self.learnt.channels), self.options.missing == "mask")
        return Source(module, module.size)

    @property
    def feature_names(self) -> list[tuple[str, str]]:
        kinds = ("value", "presence") if self.options.missing == "mask" else ("value",)
        return [(kind, channel) for kind in kinds for channel in self.learnt.channels]

    def named(self, source: nn.Module) -> list[Named]:
        assert isinstance(source, Standardize)
        return named_rows(self.learnt.channels, source.mean, source.deviation)

    def begin(self, source: nn.Module, rows: Sequence[np.ndarray]) -> list[KnownVectors]:
        assert isinstance(source, Standardize)
        source.fit(rows)
        return []

    def amount(self, content: Content) -> float:
        return sum(map(len, content.inputs))

    def describe(self) -> str:
        return f"series of {len(self.learnt.channels)} channels"


def _report(options: SeriesOptions, form: SeriesForm) -> None:
    """Log which columns of the data are not read, and what was assumed of them."""
    channels, reading, reasons = form
    if reasons and options.channels is None:
        shown = ", ".join(f"{name} ({why})" for name, why in reasons.items())
        _log.warning("left out, as no channels: %s; the channels are %s", shown, ", ".join(channels))
    if reading.date_order is not None:
        _log.warning("%s: dates are read with the %s first", options.time, reading.date_order)
    if reading.wide and options.wide is None:
        _log.warning("each row is a series of %s (--no-wide: it is not)", "; ".join(channels))


class FileSeries(NamedTuple):
    """The series in a file, without labels.

    Attributes:
        values: (T, C) float64 each.
        places: the origin of each, for messages.
        table: a row for each, where they come from a table of several.
    """

    values: list[np.ndarray]
    places: list[str]
    table: polars.DataFrame | None = None


def read_series(path: str, columns: Columns) -> FileSeries:
    """Read the series in a file, without their labels, with the channels of ``columns.reading``.

    A .ts file, or a table with a step or a series in each row, as in training; any other table is one series.

    Raises:
        ElmanError: the file cannot be read, or has other channels.
    """
    wanted = columns.reading.channels
    (path,) = sources(path)
    if is_ts(path):
        read = read_ts(path, None, len(wanted))
        values = [series.reorder_channels(one.values, [], wanted, one.place) for one in read]
        return FileSeries(values, [one.place for one in read])
    table = read_table(path)
    fixed = tuple(name for name in columns.roles().fixed if name in table.columns and name not in wanted)
    roles = columns.roles()._replace(fixed=fixed)
    if columns.time is not None and columns.series is None and columns.time not in table.columns:
        raise ElmanError(f"{path}: has no column {columns.time!r}; it has {', '.join(table.columns)}")
    found = _unlabelled(path, table, roles, columns.reading)
    if not found.values:
        raise ElmanError(f"{path}: no rows")
    names = list(found.reading.channels)
    values = [
        series.reorder_channels(x, names, wanted, place) for x, place in zip(found.values, found.places, strict=True)
    ]
    if found.reading.wide:
        return FileSeries(values, found.places, table)
    named = roles.series in table.columns
    return FileSeries(values, found.places, polars.DataFrame({roles.series: found.ids}) if named else None)


def _unlabelled(path: str, table: polars.DataFrame, roles: ColumnRoles, reading: SeriesFormat) -> TableSeries:
    """The series of a table that need no labels."""
    named = roles.series is not None and roles.series in table.columns
    by_row = roles._replace(series=roles.series if named else None)
    least, known = 2 if reading.wide else 3, reading._replace(wide=None)
    if series.is_wide(path, table, by_row._replace(time=None), known, least):
        return series.read_wide([(path, table)], by_row, reading)
    time = roles.time if roles.time in table.columns else None
    if named:
        require_columns(table, path, [roles.time] if roles.time else [])
    return series.read_long([(path, table)], by_row._replace(time=time), reading)


def is_ts(path: str) -> bool:
    """Return whether a file is in the .ts format of sktime, by its name."""
    return path.lower().removesuffix(".gz").endswith(".ts")
