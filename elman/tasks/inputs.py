"""The inputs that a model is asked about, checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import polars

from elman.data.media_paths import file_column
from elman.data.records import column
from elman.data.source import to_memory
from elman.data.text import texts_in_memory
from elman.errors import ElmanError


def pictures_of(inputs: Any, *columns: str) -> list[list[Any]] | None:
    """Return columns of a DataFrame, a Series or a dict of columns, pictures first; None for any other inputs.

    Args:
        inputs: what ``model.predict`` is given.
        *columns (str): the column of the pictures, and those of texts about them. A table with one column needs no name
            for the only one.

    Raises:
        ElmanError: a column is missing.
    """
    if isinstance(inputs, (str, bytes, os.PathLike, Sequence)) or callable(getattr(inputs, "read", None)):
        return None
    held = to_memory(inputs)
    if held is None or not isinstance(held.content, polars.DataFrame):
        return None
    table = held.content
    names = table.columns if len(columns) == len(table.columns) == 1 else list(columns)
    if missing := [name for name in names if name not in table.columns]:
        raise ElmanError(f"{held}: no column {missing[0]!r}, as in training; there are {', '.join(table.columns)}")
    return [file_column(table, names[0], held), *(column(table, name, held) for name in names[1:])]


def inputs_of(inputs: Any, text: bool, name: str = "text") -> list[Any]:
    """Return one input, or several, as a list; texts are checked.

    Args:
        inputs: one input or a list. Texts can also be a Series, an array or a DataFrame (pandas, polars, Arrow, a dict
            of columns): its column ``name``, or the only one.
        text (bool): whether the inputs are texts.

    Raises:
        ElmanError: an input is empty, or not text; a table has no such column.
    """
    single = isinstance(inputs, (str, os.PathLike)) or (hasattr(inputs, "shape") and not text)
    if text and not single and (table := to_memory(inputs)) is not None:
        given: list[Any] = texts_in_memory(table, name)
    else:
        given = [inputs] if single else list(inputs)
    for k, x in enumerate(given, 1):
        if not text:
            continue
        if not isinstance(x, str):
            raise ElmanError(f"input {k} of {len(given)}: a text is needed, not {type(x).__name__}")
        if not x.strip():
            raise ElmanError(f"input {k} of {len(given)} is empty")
        if any("\ud800" <= c <= "\udfff" for c in x):  # how Python represents bytes that are not UTF-8
            raise ElmanError(f"input {k} of {len(given)}: not UTF-8")
    return given
