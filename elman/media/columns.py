"""Which columns of a table hold what."""

from __future__ import annotations

from typing import NamedTuple

from elman.data.series import ColumnRoles, SeriesFormat


class Columns(NamedTuple):
    """The columns of tables with labelled inputs.

    Attributes:
        text, label, file: the columns with the text, the label, and the path of a file.
        group: rows with the same value are not divided between training and validation.
        series: the column that says which series a row is a step of.
        time: the column that orders the steps.
        separator: what separates several labels in a cell.
        reading: how series are read.
        skip_bad: skip rows that cannot be read.
        images: a folder or an archive in which pictures are found, instead of the folder of the table.
        skip_broken: leave out pictures and sounds that cannot be read.
        channel: the channel of sounds that is read, from 1; None for the mean of all.
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
    images: str | None = None
    skip_broken: bool = False
    channel: int | None = None

    def roles(self, series: bool = True) -> ColumnRoles:
        """Return the columns that are not channels; without ``series``, those of a table that is one series."""
        fixed = (self.label, *([self.group] if self.group else [])) if series else ()
        return ColumnRoles(self.series if series else None, self.time, fixed)
