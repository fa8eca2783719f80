"""The inputs that a model is asked about, checked."""

from __future__ import annotations

import os
from typing import Any

from elman.data.source import to_memory
from elman.data.text import texts_in_memory
from elman.errors import ElmanError


def inputs_of(inputs: Any, text: bool, column: str = "text") -> list[Any]:
    """Return one input, or several, as a list; texts are checked.

    Args:
        inputs: one input or a list. Texts can also be a Series, an array or a DataFrame (pandas, polars, Arrow, a dict
            of columns): its column ``column``, or the only one.
        text (bool): whether the inputs are texts.

    Raises:
        ElmanError: an input is empty, or not text; a table has no such column.
    """
    single = isinstance(inputs, (str, os.PathLike)) or (hasattr(inputs, "shape") and not text)
    if text and not single and (table := to_memory(inputs)) is not None:
        given: list[Any] = texts_in_memory(table, column)
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
