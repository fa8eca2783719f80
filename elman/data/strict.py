"""JSON that is what it says: for files that a person or a failing disk may have changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pydantic_core

from elman.errors import ElmanError


def parse_json(text: str | bytes, source: str, infinity: bool = False) -> Any:
    """The value of a JSON text.

    Arguments:
        source: the file, for the message.
        infinity: whether Infinity is a number, as Python's json writes it; NaN is none either way.

    Raises:
        ElmanError: not JSON, an object that has a key twice, a number that is none, or arrays in arrays without end.
    """
    try:
        pydantic_core.from_json(text, allow_inf_nan=infinity)  # what is no UTF-8, too deep or no number ends here
        return json.loads(text, object_pairs_hook=_once, parse_constant=_number)
    except RecursionError:
        raise ElmanError(f"{source}: not JSON that can be read: nested too deeply") from None
    except ValueError as error:
        raise ElmanError(f"{source}: not JSON: {error}") from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _number(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is no number")
    return float(name)
