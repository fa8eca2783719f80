"""Tables: .csv, .tsv, .jsonl and .parquet with named columns."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import PurePosixPath

import polars

from elman.data.text import read_bytes, read_text
from elman.errors import ElmanError

#: How a table's name ends, without what compresses it.
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_PACKED = (".gz", ".bz2", ".xz", ".zip", ".zst")


def is_table(path: str) -> bool:
    return _ending(path) in TABLES


def read_table(path: str, columns: Sequence[str] | None = None) -> polars.DataFrame:
    """The table in a file; cells of .csv and .tsv are text, quotes and line breaks inside them as usual.

    Raises:
        ElmanError: it cannot be read, or lacks one of the columns; those present are named.
    """
    ending = _ending(path)
    try:
        if ending == ".parquet":
            table = polars.read_parquet(io.BytesIO(read_bytes(path)))
        elif ending in (".jsonl", ".ndjson"):
            table = polars.read_ndjson(io.BytesIO(read_text(path).encode()), infer_schema_length=None)
        else:
            table = _separated(read_text(path), "\t" if ending == ".tsv" else ",")
    except polars.exceptions.PolarsError as error:
        raise ElmanError(f"{path}: not a {ending[1:]} table: {str(error).splitlines()[0]}") from None
    require(table, path, columns or ())
    return table


def require(table: polars.DataFrame, path: str, columns: Sequence[str]) -> None:
    """ElmanError where a table lacks one of the columns; those present are named."""
    for name in columns:
        if name not in table.columns:
            raise ElmanError(f"{path}: has no column {name!r}; it has {', '.join(table.columns)}")


def column(table: polars.DataFrame, name: str) -> list[str]:
    """The cells of a column as text; empty ones are ''."""
    try:
        return table[name].cast(polars.String).fill_null("").to_list()
    except polars.exceptions.PolarsError:
        raise ElmanError(f"column {name!r}: holds {table[name].dtype}, not text") from None


def lists(table: polars.DataFrame, name: str) -> list[list[str]] | None:
    """The cells of a column that holds lists, of text each; None where it does not hold lists."""
    found = table[name]
    if not isinstance(found.dtype, (polars.List, polars.Array)):
        return None
    return [[str(one) for one in cell or () if one is not None] for cell in found.to_list()]


def _separated(text: str, separator: str) -> polars.DataFrame:
    """A .csv or .tsv table. In a .tsv quotes may be just quotes: it is read so where they make no sense as others."""
    data = io.BytesIO(text.encode())
    try:
        table = polars.read_csv(data, separator=separator, infer_schema=False)
        cells = (table[name].str.contains("\t").any() for name in table.columns)
        if separator != "\t" or not any(cells):
            return table
    except polars.exceptions.PolarsError:
        if separator != "\t":
            raise
    data.seek(0)
    return polars.read_csv(data, separator=separator, infer_schema=False, quote_char=None)


def _ending(path: str) -> str:
    name = PurePosixPath(path.replace("\\", "/"))
    return (name.with_suffix("") if name.suffix.lower() in _PACKED else name).suffix.lower()
